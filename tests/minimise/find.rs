//! What is found, and in how many runs.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{
    NEEDS,
    planted::{self, LIMIT, Report},
};
use crate::harness::{
    machine::Machine,
    program,
    record::Record,
    syscalls::{self, RARE},
    test::Test,
};

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new("minimise::three_calls_and_a_capability_in_a_quarter", &NEEDS, quarter),
        Test::new("minimise::a_flaky_one_is_kept", &NEEDS, flaky),
        Test::new("minimise::of_arguments_what_is_needed_stays", &NEEDS, arguments),
    ]
}

/// Calls that the kernel has, and for anyone: they say neither ENOSYS nor EPERM. None is known to be done without.
fn needed(count: usize) -> impl Iterator<Item = u32> {
    let absent = [134, 174, 177, 178, 181, 182, 183, 184, 185, 236];
    let for_root = [300];
    let is_refused = move |nr: &u32| absent.contains(nr) || for_root.contains(nr);
    RARE.into_iter().filter(move |nr| !is_refused(nr) && *nr < 424).take(count)
}

fn quarter(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let (needs, given) = (machine.fixture("needs")?, scratch.join("given"));
    fs_err::write(&given, "")?;
    let given = format!("@{given}");
    // fspick is asked for, and done without; the three planted below are never asked for.
    let mut words = vec![needs.to_string(), format!("+{}", scratch.join("log")), given];
    words.push(format!("?{}", syscalls::number("fspick")?));
    words.extend(needed(70).map(|nr| nr.to_string()));
    let command: Vec<&str> = words.iter().map(String::as_str).collect();
    let planted = ["bpf", "kexec_load", "ptrace"];
    let profile = planted::profile(machine, scratch.path(), &command, &planted, &["SYS_TIME"])?;
    let out = scratch.join("out");
    let mut search =
        planted::minimise(machine, &profile, &["--syscalls", "-o", out.as_str()], &command);
    let report = Report::of(program::run(&mut search, LIMIT)?)?;

    for entry in planted.iter().chain(&["fspick", "CAP_SYS_TIME"]) {
        ensure!(report.verdict(entry) == "not-needed", "{entry}: {}", report.line(entry));
    }
    ensure!(report.line("ptrace")["made"] == false, "{}", report.line("ptrace"));
    ensure!(report.line("fspick")["made"] == true, "{}", report.line("fspick"));
    let chown = report.line("CAP_CHOWN");
    ensure!(chown["verdict"] == "needed", "{chown}");
    ensure!(chown["output"].as_str().is_some_and(|said| said.contains("given")), "{chown}");
    for nr in needed(70) {
        let name = syscalls::name(nr)?;
        let verdict = report.verdict(&name);
        ensure!(["used", "needed", "guard"].contains(&verdict), "{name}: {verdict}");
    }
    let calls = planted::read(&profile)?.syscalls.len();
    ensure!(calls >= 80, "{calls} calls are no 80");
    let (runs, one_by_one) = (report.number("runs"), report.number("one_by_one"));
    ensure!(one_by_one >= 80 && runs * 4 <= one_by_one, "{runs} runs of {one_by_one}");

    // What is left is a result as any other, with the proofs in it, and the tests pass under it.
    let explained = program::run(
        &mut program::command(&machine.profiler, ["explain", out.as_str(), "CAP_CHOWN"]),
        LIMIT,
    )?;
    ensure!(explained.stdout.contains("tests fail without it: needs: "), "{}", explained.text());
    let verified = program::run(
        &mut program::command(
            &machine.profiler,
            ["verify", out.as_str(), "--format", "json", "--"].iter().chain(&command),
        ),
        LIMIT,
    )?;
    // What is refused is what the tests do without: fspick, and what they were found to need as little.
    let verified: Value = serde_json::from_str(&verified.expect(0)?.stdout)?;
    ensure!(verified["status"] == 0 && verified["verdict"] == "holds", "{verified}");
    let refused = verified["denials"].as_array().context("denials")?;
    let names: Vec<&str> = refused.iter().filter_map(|denial| denial["name"].as_str()).collect();
    ensure!(names.contains(&"fspick"), "{names:?}");
    ensure!(names.iter().all(|name| report.verdict(name) == "not-needed"), "{names:?}");
    let left = planted::read(&out)?;
    ensure!(!left.syscalls.iter().any(|rule| planted.contains(&rule.name.as_str())));
    ensure!(left.capabilities.required.iter().all(|rule| rule.name != "SYS_TIME"));
    let filter = fs_err::read_to_string(out.join("seccomp.json"))?;
    ensure!(!filter.contains("ptrace") && filter.contains("\"ioctl\""), "{filter}");
    Ok(())
}

fn flaky(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let needs = machine.fixture("needs")?;
    // Known for being done without, so it is tried.
    let flaky = format!("~{}:{}", syscalls::number("pidfd_open")?, scratch.join("counter"));
    let command = [needs.as_str(), &flaky];
    let profile = planted::profile(machine, scratch.path(), &command, &["ptrace"], &[])?;
    let out = scratch.join("out");
    let args = ["--syscalls", "-o", out.as_str()];
    let report = Report::of(program::run(
        &mut planted::minimise(machine, &profile, &args, &command),
        LIMIT,
    )?)?;
    for (entry, verdict) in [
        ("pidfd_open", "flaky"),
        ("ptrace", "not-needed"),
        ("pwrite64", "used"),
        ("exit_group", "not-tried"),
    ] {
        ensure!(report.verdict(entry) == verdict, "{entry}: {}", report.line(entry));
    }

    // Nothing is written over without a word.
    let home =
        ["minimise", profile.as_str(), "--syscalls", "-o", profile.as_str(), "--", "/bin/true"];
    let refused = program::run(&mut program::command(&machine.profiler, home), LIMIT)?;
    crate::badinput::refuse::expect_refusal(&refused, &["--into", "planted"])
}

/// One family is needed; of another the program takes no for an answer.
fn arguments(machine: &Machine) -> Result<()> {
    let program = "import socket as s\ns.socket(s.AF_INET)\ntry: s.socket(s.AF_NETLINK)\nexcept OSError: pass";
    let command = ["/usr/bin/python3", "-ISc", program];
    let scratch = machine.scratch()?;
    let (recorded, out) = (scratch.join("recorded"), scratch.join("out"));
    let record = Record::new(machine, recorded.clone()).args(["--arguments", "strict"]);
    record.workload(command).run()?.expect(0)?;
    let args = ["--arguments", "--repeats", "1", "-o", out.as_str()];
    let report = Report::of(program::run(
        &mut planted::minimise(machine, &recorded, &args, &command),
        LIMIT,
    )?)?;
    let entry = |family: u8, kind: u8| {
        format!("socket[0&0xffffffff={family:#x} 1&0xfff7f7ff={kind:#x} 2&0xffffffff=0x0]")
    };
    let (inet, netlink) = (entry(2, 1), entry(16, 1));
    ensure!(report.verdict(&inet) == "needed", "{inet}: {}", report.json);
    ensure!(report.verdict(&netlink) == "not-needed", "{netlink}: {}", report.json);
    let said = report.line(&inet)["output"].as_str().unwrap_or_default();
    ensure!(!said.is_empty(), "why {inet} is needed is not told");
    // and what is left refuses the one and allows the other
    let left = planted::read(&out)?;
    let socket = left.syscalls.iter().find(|rule| rule.name == "socket").context("socket")?;
    let families: Vec<u64> = socket
        .arguments
        .iter()
        .flatten()
        .filter_map(|one| one.values.iter().find(|value| value.index == 0))
        .map(|value| value.value)
        .collect();
    ensure!(families == [2], "{families:?}");
    Ok(())
}
