//! Commands under a profile, without an engine.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use camino::Utf8PathBuf;

use crate::{
    harness::{
        machine::{Machine, Need, Scratch},
        program,
        record::Record,
        syscalls,
        test::Test,
    },
    verify::runs::{command, run, said, without},
};

const NEEDS: [Need; 2] = [Need::Bpf, Need::Tool("gcc", "gcc")];

/// Calls that the fixture makes; none is one that gets ENOSYS, which callers do without.
const NUMBERS: [u32; 5] = [16, 40, 49, 93, 187];

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new("verify::a_command_lacks_each_of_five_calls", &NEEDS, five),
        Test::new("verify::a_command_is_confined", &NEEDS, confined),
        Test::new("verify::what_would_be_refused_is_told", &NEEDS, log_only),
        Test::new("verify::what_callers_do_without_is_expected", &NEEDS, fallback),
        Test::new("verify::a_command_that_is_killed_is_told", &NEEDS, killed),
        Test::new("verify::what_does_not_stop_is_not_held", &NEEDS, vfork),
        Test::new("verify::what_a_command_leaves_behind_is_told", &NEEDS, left),
    ]
}

/// The profile of the fixture with these calls.
fn recorded(
    machine: &Machine,
    scratch: &Scratch,
    numbers: &[u32],
) -> Result<(Utf8PathBuf, Vec<String>)> {
    let mut words = vec![machine.fixture("calls")?.into_string(), "-q".to_owned()];
    words.extend(numbers.iter().map(u32::to_string));
    let dir = scratch.join("out");
    Record::new(machine, &dir).workload(&words).run()?.expect(0)?;
    Ok((dir, words))
}

fn five(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let (dir, words) = recorded(machine, &scratch, &NUMBERS)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let whole = run(machine, &dir, &[], &words)?.expect(0, "holds")?;
    ensure!(whole.denied(true).is_empty() && whole.denied(false).is_empty(), "{}", whole.json);
    for number in NUMBERS {
        let name = syscalls::name(number)?;
        let less = without(&dir, &[&name], scratch.join(&name))?;
        let said = run(machine, &less, &[], &words)?.expect(1, "fails")?;
        ensure!(said.denied(false) == [name.as_str()], "{name}: {}", said.json);
        let denial = &said.json["denials"][0];
        ensure!(denial["answer"] == "EPERM" && denial["programs"][0] == "calls", "{denial}");
        ensure!(denial["arguments"][0] == u64::MAX, "every argument was -1: {denial}");
        ensure!(said.json["status"] == 0, "the command's own status: {}", said.json);
    }
    let name = syscalls::name(NUMBERS[0])?;
    let allowed = run(machine, &scratch.join(&name), &["--allow-denied", &name], &words)?;
    ensure!(allowed.expect(0, "holds")?.denied(true) == [name.as_str()], "{name} was named");
    Ok(())
}

/// What the command itself sees: a filter, and no capabilities.
fn confined(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let dir = scratch.join("out");
    let words = ["cat", "/proc/self/status"];
    Record::new(machine, &dir).workload(words).run()?.expect(0)?;
    let said = run(machine, &dir, &[], &words)?.expect(0, "holds")?;
    for line in ["Seccomp:\t2", "CapBnd:\t0000000000000000", "CapPrm:\t0000000000000000"] {
        ensure!(said.output.stdout.contains(line), "no {line:?}\n{}", said.output.text());
    }
    let failed = run(machine, &dir, &[], &["cat", "/absent"])?;
    ensure!(failed.json["status"] == 1 && failed.output.status == 1, "{}", failed.json);
    // it lives long enough for its threads to be looked at
    let sleep = scratch.join("sleep");
    Record::new(machine, &sleep).workload(["sleep", "0.6"]).run()?.expect(0)?;
    let said = run(machine, &sleep, &[], &["sleep", "0.6"])?.expect(0, "holds")?;
    ensure!(said.json["in_force"]["evidence"] == "kernel", "{}", said.json);
    Ok(())
}

fn log_only(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let (dir, words) = recorded(machine, &scratch, &NUMBERS[..3])?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let gone = syscalls::name(NUMBERS[1])?;
    let less = without(&dir, &[&gone], scratch.join("less"))?;
    let said = run(machine, &less, &["--log-only"], &words)?.expect(1, "fails")?;
    ensure!(said.denied(false) == [gone.as_str()], "{}", said.json);
    ensure!(said.json["mode"] == "log-only" && said.json["status"] == 0, "{}", said.json);
    run(machine, &dir, &["--log-only"], &words)?.expect(0, "holds")?;
    Ok(())
}

/// close_range is answered ENOSYS, as on a kernel that has none.
fn fallback(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let (dir, words) = recorded(machine, &scratch, &[436, NUMBERS[0]])?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let less = without(&dir, &["close_range"], scratch.join("less"))?;
    let said = run(machine, &less, &[], &words)?.expect(0, "holds")?;
    ensure!(said.denied(true) == ["close_range"], "{}", said.json);
    ensure!(said.json["denials"][0]["expected"] == "fallback", "{}", said.json);
    Ok(())
}

/// A profile that refuses one call that nobody makes.
fn lenient(scratch: &Scratch) -> Result<Utf8PathBuf> {
    let filter = scratch.join("lenient.json");
    fs_err::write(
        &filter,
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{"names": ["vmsplice"], "action": "SCMP_ACT_ERRNO"}]}"#,
    )?;
    Ok(filter)
}

/// It comes to its stop long after the question for its filter was given up. Held there, it would never end.
fn vfork(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let fixture = machine.fixture("vfork")?;
    let mut verify = command(machine, &lenient(&scratch)?, &[], &[fixture.as_str(), "2"]);
    let said = said(program::run(&mut verify, Duration::from_secs(60))?)?.expect(0, "holds")?;
    ensure!(said.output.stdout.contains("went on"), "{}", said.output.text());
    Ok(())
}

fn left(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let line = "setsid sleep 20 >/dev/null 2>&1 & exit 0";
    let said = run(machine, &lenient(&scratch)?, &[], &["sh", "-c", line])?;
    let said = said.expect(3, "incomplete")?;
    let incident = said.json["incidents"][0].as_str().context("an incident")?;
    ensure!(
        incident == "left running by the command, under the filter: `sleep` (processes: 1)",
        "{incident}"
    );
    ensure!(said.json["missing"][0] == "shutdown", "{}", said.json);
    Ok(())
}

fn killed(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let filter = scratch.join("kill.json");
    fs_err::write(
        &filter,
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{"names": ["vmsplice"], "action": "SCMP_ACT_KILL_PROCESS"}]}"#,
    )?;
    let calls = machine.fixture("calls")?;
    let nr = syscalls::number("vmsplice")?.to_string();
    let said = run(machine, &filter, &[], &[calls.as_str(), "-q", &nr])?.expect(1, "fails")?;
    ensure!(said.json["killed"] == true && said.json["status"] == 128 + 31, "{}", said.json);
    ensure!(said.denied(false) == ["vmsplice"], "{}", said.json);
    Ok(())
}
