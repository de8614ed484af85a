//! `--counts`: how often each call was made.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

use crate::harness::{
    evidence::Recording,
    machine::{Machine, Need},
    record::Record,
    test::Test,
};

const GETPPID: u64 = 110;

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![Test::new(
        "command::counts_are_exact_under_load",
        &[Need::Bpf, Need::Tool("gcc", "gcc")],
        under_load,
    )]
}

/// Eight threads at once, each with a call of its own; two of these have no place in the dense table.
fn under_load(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let flood = machine.fixture("flood")?;
    let record = |dir: &str, total: &str, args: &[&str]| {
        let own = ["274", "275", "276", "277", "278", "324", "700", "70000"];
        let words = [&[flood.as_str(), total][..], &own].concat();
        Record::new(machine, scratch.join(dir)).args(args).workload(words)
    };
    let mut expected: BTreeMap<u64, u64> =
        [274, 275, 276, 277, 278, 324, 700, 70000].map(|nr| (nr, 1)).into();
    expected.insert(GETPPID, 800_000);
    for (dir, args) in
        [("once", &["--counts"][..]), ("twice", &["--counts", "--attach-twins=both"])]
    {
        let with = record(dir, "800000", args).run()?.expect(0)?;
        let mut counts = counts(&with.recording()?);
        counts.retain(|nr, _| expected.contains_key(nr));
        ensure!(counts == expected, "attached {dir}: counted {counts:?}");
        with.says("800000 getppid")?;
    }

    let without = record("without", "8", &[]).run()?.expect(0)?;
    let counts = self::counts(&without.recording()?);
    ensure!(counts.is_empty(), "counts that nobody wanted: {counts:?}");
    Ok(())
}

/// How often the workload made each call.
pub fn counts(recording: &Recording) -> BTreeMap<u64, u64> {
    let workload = recording.facts("syscalls").filter(|fact| fact["phase"] == "workload");
    let counted = workload.filter_map(|fact| {
        let seen = fact["seen"].as_object()?.values().next()?;
        Some((fact["nr"].as_u64()?, seen["count"].as_u64()?))
    });
    counted.collect()
}
