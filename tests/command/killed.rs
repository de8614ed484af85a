//! A call for which a filter ends the thread or the process is a denial, on every kernel, although nothing returns.

use anyhow::{Result, ensure};
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
            Test::new(name, &NEEDS, move |machine| killed(machine, what)).on_every_machine()
        })
        .into()
}

fn killed(machine: &Machine, what: &str) -> Result<()> {
    let scratch = machine.scratch()?;
    let refused = machine.fixture("refused")?;
    let nr = syscalls::number("vmsplice")?;
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
        ("abi", json!(NATIVE)),
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
    ensure!(program["comm"] == "refused", "the program is {program}");
    ensure!(!recording.names("workload")?.contains("vmsplice"), "the call was not made");
    recorded.says("killed")
}
