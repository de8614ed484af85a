//! The bound: exact up to it, any beyond it, for that call alone and under that label alone.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use serde_json::json;

use super::{Values, expect, of};
use crate::harness::{
    evidence::Recording,
    machine::{Machine, Need, Scratch},
    record::Record,
    test::Test,
};

const NEEDS: [Need; 2] = [Need::Bpf, Need::Tool("gcc", "gcc")];

/// madvise(2) of nothing, whose advice may be anything, and its argument.
const MADVISE: u64 = 28;
const ADVICE: u64 = 2;

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new("arguments::the_bound_is_thirty_two", &NEEDS, bound).on_every_kernel(),
        Test::new("arguments::what_cannot_be_read_is_any", &NEEDS, unreadable).on_every_kernel(),
        Test::new("arguments::labels_have_their_own", &NEEDS, labels),
        Test::new("arguments::random_ones_cost_no_other_call", &NEEDS, hostile).on_every_kernel(),
    ]
}

/// Records a shell script, in which `$1` is the fixture and `$2` the profiler.
fn record(machine: &Machine, script: &str) -> Result<Recording> {
    let scratch = machine.scratch()?;
    of_script(machine, &scratch, script)?.run()?.expect(0)?.recording()
}

fn of_script(machine: &Machine, scratch: &Scratch, script: &str) -> Result<Record> {
    let calls = machine.fixture("calls")?;
    let words = ["/bin/sh", "-ec", script, "sh", calls.as_str(), machine.profiler.as_str()];
    Ok(Record::new(machine, scratch.join("out")).workload(words))
}

fn advice(values: impl IntoIterator<Item = u64>) -> BTreeSet<Values> {
    values.into_iter().map(|value| vec![(ADVICE, value)]).collect()
}

fn bound(machine: &Machine) -> Result<()> {
    let calls = machine.fixture("calls")?;
    let values = |count: u64| (0..count).map(|value| 0x100 + value * 7);
    for (count, exact) in [(32, true), (33, false)] {
        let scratch = machine.scratch()?;
        let mut words = vec![calls.to_string(), "-q".to_owned()];
        // each a second time, when all are there
        for _ in 0..2 {
            words.extend(values(count).map(|value| format!("{MADVISE}:0,0,{value:x}")));
        }
        words.push("i219:0,0,5".to_owned());
        words.push("135:ffffffff".to_owned());
        let recorded =
            Record::new(machine, scratch.join("out")).workload(words).run()?.expect(0)?;
        let own = if exact { advice(values(count)) } else { [vec![]].into() };
        let expected = own
            .into_iter()
            .map(|values| ("x86_64".to_owned(), MADVISE, values))
            .chain([
                ("ia32".to_owned(), 219, vec![(ADVICE, 5)]),
                ("x86_64".to_owned(), 135, vec![(0, 0xffff_ffff)]),
            ])
            .collect();
        expect(&recorded.recording()?, expected)?;
    }
    Ok(())
}

/// No address of a program is that high.
fn unreadable(machine: &Machine) -> Result<()> {
    let script = "\"$1\" -q p435:10000000,8 435:ffffffffffff0000,8";
    let seen = of(&record(machine, script)?, "x86_64", 435)?;
    ensure!(seen == [vec![]].into(), "clone3 is recorded with {seen:x?}");
    Ok(())
}

fn labels(machine: &Machine) -> Result<()> {
    // under `two` there are too many, elsewhere not
    let script = "\"$1\" -q 28:0,0,a1; \"$2\" mark one; \"$1\" -q 28:0,0,a1 28:0,0,a2; \
                  \"$2\" mark two; \"$1\" -q 28:0,0,a2; \"$1\" -q -n 40 28:0,0,b0; \"$2\" mark --end";
    let recording = record(machine, script)?;
    let facts = recording
        .facts("arguments")
        .filter(|fact| fact["nr"] == MADVISE && fact["phase"] == "workload");
    let seen: BTreeSet<(String, String)> = facts
        .flat_map(|fact| {
            let value = fact["values"][0]["value"].to_string();
            let runs = fact["seen"].as_object().into_iter().flatten();
            runs.map(move |(_, seen)| {
                let told = json!([seen["tests"], seen["outside"], seen["programs"][0]["exe"]]);
                (value.clone(), told.to_string())
            })
        })
        .collect();
    let expected = [
        ("161", r#"[["one"],true,"calls"]"#),
        ("162", r#"[["one"],null,"calls"]"#),
        ("null", r#"[["two"],null,"calls"]"#),
    ]
    .map(|(value, told)| (value.to_owned(), told.to_owned()));
    ensure!(seen == expected.into(), "recorded is {seen:?}");
    Ok(())
}

/// Four processes with random arguments at once, beside two that always give the same.
fn hostile(machine: &Machine) -> Result<()> {
    let random = "28:0,0,0 i219:0,0,0 16:ffffffff,0 x514:ffffffff,0 72:ffffffff,0 41:63,1,0";
    let same = "10:1,0,7 54:ffffffff,1,2 i366:ffffffff,3,4";
    let script = format!(
        "for i in 1 2 3 4; do \"$1\" -q -n 20000 {random} & done; for i in 1 2; do for k in 1 2 3 4 5; do \"$1\" -q {same}; done & done; wait"
    );
    let scratch = machine.scratch()?;
    // in such a storm a kernel that skips programs always skips some
    let recorded = of_script(machine, &scratch, &script)?.run_once()?;
    let recording = recorded.expect_what_runs()?.recording()?;
    ensure!(!recording.missing().contains("lost"), "losses: {:?}", recording.missing());
    for (abi, nr) in [("x86_64", 28), ("ia32", 219), ("x86_64", 16), ("x32", 514), ("x86_64", 41)] {
        let seen = of(&recording, abi, nr)?;
        ensure!(seen == [vec![]].into(), "{abi} {nr} is recorded with {seen:x?}");
    }
    for (abi, nr, values) in
        [("x86_64", 54, vec![(1, 1), (2, 2)]), ("ia32", 366, vec![(1, 3), (2, 4)])]
    {
        let seen = of(&recording, abi, nr)?;
        ensure!(seen == [values].into(), "{abi} {nr} is recorded with {seen:x?}");
    }
    let protections = of(&recording, "x86_64", 10)?;
    ensure!(protections.contains(&vec![(2, 4)]), "mprotect is recorded with {protections:x?}");
    Ok(())
}
