//! Interrupted, and killed: the same command goes on, and comes to what it would have come to.

use anyhow::{Result, ensure};
use camino::Utf8Path;
use rustix::process::Signal;
use serde_json::Value;

use super::{
    NEEDS,
    planted::{self, LIMIT, Report},
};
use crate::{
    badinput::refuse::expect_refusal,
    harness::{machine::Machine, program, syscalls, test::Test},
};

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![Test::new("minimise::killed_and_resumed_it_gives_the_same_answer", &NEEDS, resumed)]
}

/// The runs that a search has made so far.
fn runs(out: &Utf8Path) -> Vec<Value> {
    let text = fs_err::read_to_string(out.join("minimise.json")).unwrap_or_default();
    let state: Value = serde_json::from_str(&text).unwrap_or_default();
    state["runs"].as_array().cloned().unwrap_or_default()
}

fn resumed(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let (needs, log) = (machine.fixture("needs")?, scratch.join("log"));
    let begun = format!("+{log}");
    let done_without = format!("?{}", syscalls::number("fspick")?);
    let command = [needs.as_str(), &begun, ",100", &done_without, "16", "46"];
    let profile = planted::profile(machine, scratch.path(), &command, &["bpf", "ptrace"], &[])?;
    let (whole, parts) = (scratch.join("whole"), scratch.join("parts"));
    let search = |out: &Utf8Path| {
        let args = ["--syscalls", "-o", out.as_str()];
        planted::minimise(machine, &profile, &args, &command)
    };
    let answer = Report::of(program::run(&mut search(&whole), LIMIT)?)?;
    let all = runs(&whole);
    ensure!(all.len() > 6, "{} runs are too few to be interrupted", all.len());

    fs_err::write(&log, "")?;
    let mut known = 0;
    for (signal, after) in [(Signal::INT, 2), (Signal::KILL, 5)] {
        let running = program::start(&mut search(&parts), &[])?;
        program::until("some runs", LIMIT, || runs(&parts).len() >= after)?;
        running.signal(signal);
        let output = running.wait(LIMIT)?;
        if signal == Signal::INT {
            expect_refusal(&output, &["interrupted after", "goes on from there"])?;
        } else {
            ensure!(output.status == 128 + 9, "{}", output.text());
        }
        let now = runs(&parts);
        ensure!(now.len() >= after && now.len() < all.len(), "{} runs", now.len());
        known = now.len();
    }
    let output = program::run(&mut search(&parts), LIMIT)?;
    let says = format!("{known} runs are known");
    ensure!(output.stderr.contains(&says), "not {says:?}\n{}", output.text());
    let again = Report::of(output)?;
    ensure!(
        again.json["entries"] == answer.json["entries"],
        "{} is not {}",
        again.json,
        answer.json
    );
    let removed =
        |runs: &[Value]| -> Vec<Value> { runs.iter().map(|run| run["removed"].clone()).collect() };
    ensure!(removed(&runs(&parts)) == removed(&all), "other runs than without interruptions");
    // Two were cut off.
    let begun = fs_err::metadata(&log)?.len();
    ensure!(begun <= all.len() as u64 + 2, "{begun} runs for {}", all.len());

    // A finished one is told again, without a run.
    Report::of(program::run(&mut search(&parts), LIMIT)?)?;
    ensure!(fs_err::metadata(&log)?.len() == begun, "a run was made again");
    // Runs of another command say nothing.
    let args = ["--syscalls", "-o", parts.as_str()];
    let other =
        program::run(&mut planted::minimise(machine, &profile, &args, &["/bin/true"]), LIMIT)?;
    expect_refusal(&other, &["another command", "minimise.json"])
}
