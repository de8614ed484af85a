//! The same workload gives the same committed bytes, from a recording or from its file.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::harness::{
    evidence::Emitted,
    machine::{Machine, Need},
    program,
    record::Record,
    test::Test,
};

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new("command::twice_gives_the_same_bytes", &[Need::Bpf], twice),
        Test::new("command::generate_gives_the_same_bytes", &[Need::Bpf], generate),
        Test::new("command::recordings_merge", &[Need::Bpf], merge),
    ]
}

fn twice(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let mut results = Vec::new();
    for run in ["first", "second"] {
        let recorded = Record::new(machine, scratch.join(run))
            .workload(["/bin/ls", "-l", "/usr/share/doc/libc6"])
            .run()?
            .expect(0)?;
        results.push(recorded.emitted());
    }
    results[0].expect_same(&results[1])
}

fn generate(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let recorded = Record::new(machine, scratch.join("out"))
        .workload(["/bin/ls", "-l", "/etc"])
        .run()?
        .expect(0)?;
    let (file, out) = (recorded.emitted().path("recording.json"), scratch.join("again"));
    program::run(
        &mut program::command(&machine.profiler, ["generate", file.as_str(), "-o", out.as_str()]),
        Duration::from_secs(20),
    )?
    .expect(0)?;
    recorded.emitted().expect_same(&Emitted::new(&out))
}

fn merge(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let calls = machine.fixture("calls")?;
    for (run, nr) in [("one", "278"), ("two", "276")] {
        Record::new(machine, scratch.join(run))
            .workload([calls.as_str(), "-q", nr])
            .run()?
            .expect(0)?;
    }
    let generate = |first: &str, second: &str, out: &str| {
        let (first, second) = (
            scratch.join(first).join("recording.json"),
            scratch.join(second).join("recording.json"),
        );
        let out = scratch.join(out);
        let args = ["generate", first.as_str(), second.as_str(), "-o", out.as_str()];
        program::run(&mut program::command(&machine.profiler, args), Duration::from_secs(20))?
            .expect(0)?;
        anyhow::Ok(Emitted::new(&out))
    };
    let (forth, back) = (generate("one", "two", "forth")?, generate("two", "one", "back")?);
    let allowed = forth.seccomp()?.allowed();
    ensure!(allowed.contains("vmsplice") && allowed.contains("tee"), "merged: {allowed:?}");
    forth.expect_same(&back)
}
