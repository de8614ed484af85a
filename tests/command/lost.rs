//! A table that is full: what did not fit is counted and told, and what has a place of its own stays exact.

use anyhow::{Context as _, Result, ensure};

use crate::harness::{
    machine::{Machine, Need},
    record::Record,
    syscalls::{self, NATIVE},
    test::Test,
};

const NEEDS: [Need; 2] = [Need::Bpf, Need::Tool("gcc", "gcc")];

/// Numbers without a cell of their own, more than the table for such has entries.
const NUMBERS: std::ops::Range<u32> = 600..5600;
const ENTRIES: usize = 4096;

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![Test::new("command::a_full_table_is_told", &NEEDS, full).on_every_machine()]
}

fn full(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let calls = machine.fixture("calls")?;
    let [tee, vmsplice, exit_group] = ["tee", "vmsplice", "exit_group"].map(syscalls::number);
    let (tee, vmsplice, exit_group) = (tee?, vmsplice?, exit_group?);
    let mut words = vec![calls.into_string(), "-q".to_owned(), tee.to_string()];
    words.extend(NUMBERS.map(|nr| nr.to_string()));
    words.push(vmsplice.to_string());
    let recorded = Record::new(machine, scratch.join("out")).workload(words).run()?.expect(3)?;
    let recording = recorded.recording()?;
    let (sparse, dense): (Vec<u32>, Vec<u32>) =
        recording.numbers(NATIVE, "workload").into_iter().partition(|nr| *nr >= NUMBERS.start);
    ensure!(
        dense.len() == 3 && [tee, vmsplice, exit_group].iter().all(|nr| dense.contains(nr)),
        "calls with cells of their own: {dense:?}"
    );
    ensure!(sparse.len() <= ENTRIES && !sparse.is_empty(), "{} did fit", sparse.len());
    let missing = recording.runs().flat_map(|run| run["missing"].as_array().into_iter().flatten());
    let lost = missing
        .filter(|missing| missing["kind"] == "lost" && missing["what"] == "syscalls")
        .find_map(|missing| missing["count"].as_u64())
        .context("no loss is told")?;
    ensure!(sparse.len() + lost as usize == NUMBERS.len(), "{} fit, {lost} lost", sparse.len());
    recorded.says(&format!("{lost} entries of table `syscalls` did not fit"))
}
