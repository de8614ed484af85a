//! A call for which a filter ends the thread or the process is a denial, on every kernel, although nothing returns.

use anyhow::{Result, ensure};
use camino::Utf8Path;
use serde_json::json;

use crate::harness::{
    machine::{Machine, Need},
    record::Record,
    syscalls::{self, NATIVE},
    test::Test,
};

const NEEDS: [Need; 2] = [Need::Bpf, Need::Tool("gcc", "gcc")];

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    ["process", "thread"]
        .map(|what| {
            let name = format!("command::a_killed_{what}_is_a_denial");
            Test::new(name, &NEEDS, move |machine| {
                let refused = machine.fixture("refused")?;
                killed(machine, &refused, what, NATIVE, syscalls::number("vmsplice")?)
            })
            .on_every_machine()
        })
        .into()
}

/// `refused` makes vmsplice, which is number `nr` of `abi`.
pub fn killed(machine: &Machine, refused: &Utf8Path, what: &str, abi: &str, nr: u32) -> Result<()> {
    let scratch = machine.scratch()?;
    let recorded = Record::new(machine, scratch.join("out"))
        .workload([refused.as_str(), what, &nr.to_string()])
        .run()?
        .expect(0)?;
    ensure!(recorded.output.stdout == "killed\n", "it says {}", recorded.output.stdout);
    let recording = recorded.recording()?;
    let denials: Vec<_> = recording.facts("denials").collect();
    let [denial] = denials.as_slice() else { anyhow::bail!("not one denial: {denials:?}") };
    for (key, value) in [
        ("nr", json!(nr)),
        ("abi", json!(abi)),
        ("phase", json!("workload")),
        ("killed", json!(true)),
    ] {
        ensure!(denial[key] == value, "`{key}` is {}, not {value}", denial[key]);
    }
    let seen: Vec<_> =
        denial["seen"].as_object().into_iter().flat_map(|seen| seen.values()).collect();
    let [seen] = seen.as_slice() else { anyhow::bail!("not one run: {denial}") };
    ensure!(seen["count"] == 1, "it was killed once, the recording says {}", seen["count"]);
    ensure!(
        seen["arguments"] == json!([0x111, 0x222, 0x333, 0x444, 0x555, 0x666]),
        "the arguments are {}",
        seen["arguments"]
    );
    let program = &seen["sighting"]["programs"][0];
    ensure!(refused.file_name() == program["comm"].as_str(), "the program is {program}");
    ensure!(!recording.names("workload")?.contains("vmsplice"), "the call was not made");
    recorded.says("killed")
}
