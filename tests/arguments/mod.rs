//! Arguments: what is recorded of them is what the programs give, bit for bit, up to the bound and beyond it.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};

use crate::harness::{evidence::Recording, test::Test};

mod bounded;
mod values;

/// The tests of this group.
pub fn tests() -> Vec<Test> {
    [values::tests(), bounded::tests()].into_iter().flatten().collect()
}

/// What was watched of a call, by index; empty for any.
type Values = Vec<(u64, u64)>;

/// A call of an ABI and one combination that it was made with.
type Fact = (String, u64, Values);

/// All that the workload was seen to do.
fn facts(recording: &Recording) -> Result<BTreeSet<Fact>> {
    let workload = recording.facts("arguments").filter(|fact| fact["phase"] == "workload");
    workload
        .map(|fact| {
            let abi = fact["abi"].as_str().context("an ABI")?.to_owned();
            let values = fact["values"].as_array().context("a list")?.iter();
            let values = values
                .map(|one| Some((one["index"].as_u64()?, one["value"].as_u64()?)))
                .collect::<Option<Values>>();
            Ok((abi, fact["nr"].as_u64().context("a number")?, values.context("values")?))
        })
        .collect()
}

/// What one call was seen with.
pub fn of(recording: &Recording, abi: &str, nr: u64) -> Result<BTreeSet<Values>> {
    let facts = facts(recording)?.into_iter();
    Ok(facts.filter(|fact| (fact.0.as_str(), fact.1) == (abi, nr)).map(|fact| fact.2).collect())
}

/// Fails unless the workload was seen to do this and no more.
fn expect(recording: &Recording, expected: BTreeSet<Fact>) -> Result<()> {
    let seen = facts(recording)?;
    let (more, less): (Vec<_>, Vec<_>) =
        (seen.difference(&expected).collect(), expected.difference(&seen).collect());
    ensure!(more.is_empty() && less.is_empty(), "not given: {more:x?}, not recorded: {less:x?}");
    ensure!(!recording.missing().contains("lost"), "losses: {:?}", recording.missing());
    Ok(())
}
