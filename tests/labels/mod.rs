//! Test labels: what the target does under a label carries it, and no other.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::harness::{evidence::Recording, test::Test};

mod exact;
mod examples;
mod socket;

/// The tests of this group.
pub fn tests() -> Vec<Test> {
    [exact::tests(), socket::tests(), examples::tests()].into_iter().flatten().collect()
}

/// The labels under which the workload made an x86_64 call.
fn of(recording: &Recording, nr: u32) -> BTreeSet<String> {
    let facts = recording
        .facts("syscalls")
        .filter(|fact| fact["abi"] == "x86_64" && fact["phase"] == "workload" && fact["nr"] == nr);
    carried(facts)
}

/// The labels under which facts were seen.
fn carried<'a>(facts: impl Iterator<Item = &'a Value>) -> BTreeSet<String> {
    facts
        .flat_map(|fact| fact["seen"].as_object().into_iter().flatten())
        .flat_map(|(_, seen)| seen["tests"].as_array().into_iter().flatten())
        .filter_map(|label| label.as_str().map(str::to_owned))
        .collect()
}

fn set<const N: usize>(labels: [&str; N]) -> BTreeSet<String> {
    labels.into_iter().map(str::to_owned).collect()
}
