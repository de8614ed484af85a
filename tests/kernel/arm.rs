//! What is aarch64's own: 32-bit programs of ARM beside native ones, and commands under the filter that was made of them. Only
//! `cargo xtask vm aarch64` runs it.

use anyhow::{Result, ensure};
use camino::Utf8PathBuf;

use crate::{
    arguments::of,
    command,
    harness::{
        machine::{Machine, Need, Scratch},
        record::{Record, Recorded},
        syscalls::{self, NATIVE},
        test::Test,
    },
    verify::runs::{run, without},
};

const NEEDS: [Need; 1] = [Need::Bpf];

/// 32-bit ARM's numbers of vmsplice, and of calls that every C library makes there.
const VMSPLICE: u32 = 343;
const EXIT_GROUP: u32 = 248;
const WRITE: u32 = 4;
const SET_TLS: u32 = 0x0f_0005;
const SOCKET: u32 = 281;

/// The execve by which a program begins is always the machine's own.
const BOTH: [&str; 2] = ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"];

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    type Body = fn(&Machine) -> Result<()>;
    let tests: [(&str, Body); 7] = [
        ("a_static_program_of_32_bits", small),
        ("a_real_32_bit_program", real),
        ("both_in_one_shell", both),
        ("arguments_of_both", arguments),
        ("a_killed_process_of_32_bits_is_a_denial", killed),
        ("a_command_lacks_a_call", lacking),
        ("a_command_of_32_bits_is_confined", confined),
    ];
    if !cfg!(target_arch = "aarch64") {
        return Vec::new();
    }
    tests
        .into_iter()
        .map(|(name, run)| Test::new(format!("arm::{name}"), &NEEDS, run).on_every_machine())
        .collect()
}

/// A program of 32 bits, built by `cargo xtask vm`.
fn of_arm(machine: &Machine, name: &str) -> Utf8PathBuf {
    machine.root.join("target/fixtures").join(name)
}

fn record(machine: &Machine, scratch: &Scratch, words: &[&str]) -> Result<Recorded> {
    Record::new(machine, scratch.join("out")).workload(words).run()?.expect(0)
}

fn expect_architectures(recorded: &Recorded, expected: &[&str]) -> Result<()> {
    let seccomp = recorded.emitted().seccomp()?;
    let listed = seccomp.architectures();
    ensure!(listed == expected, "the architectures are {listed:?}, not {expected:?}");
    Ok(())
}

/// Every call, and none beside, with a number that no table names.
fn small(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let calls = of_arm(machine, "calls32");
    let recorded = record(machine, &scratch, &[calls.as_str(), "-q", "343", "999"])?;
    let recording = recorded.recording()?;
    let arm = recording.numbers("arm", "workload");
    ensure!(arm == [VMSPLICE, EXIT_GROUP, 999].into(), "the calls of arm are {arm:?}");
    let native = recording.numbers(NATIVE, "workload");
    ensure!(native.is_empty(), "a 32-bit program made native calls: {native:?}");
    expect_architectures(&recorded, &BOTH)
}

/// One that is linked to a C library, which calls what is ARM's own.
fn real(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let real32 = of_arm(machine, "real32");
    let recorded = record(machine, &scratch, &[real32.as_str(), "343:1,2,3,4"])?;
    let recording = recorded.recording()?;
    let arm = recording.numbers("arm", "workload");
    for nr in [VMSPLICE, EXIT_GROUP, WRITE, SET_TLS] {
        ensure!(arm.contains(&nr), "{nr} is not in {arm:?}");
    }
    let native = recording.numbers(NATIVE, "workload");
    ensure!(native.is_empty(), "a 32-bit program made native calls: {native:?}");
    let allowed = recorded.emitted().seccomp()?.allowed();
    ensure!(allowed.contains("set_tls"), "set_tls is not among {allowed:?}");
    expect_architectures(&recorded, &BOTH)
}

/// The same number means another call in each.
fn both(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let (calls, calls32) = (machine.fixture("calls")?, of_arm(machine, "calls32"));
    let script = format!("{calls} -q 75; {calls32} -q 343; {calls} -q 76");
    let recorded = record(machine, &scratch, &["/bin/sh", "-c", &script])?;
    let recording = recorded.recording()?;
    let arm = recording.numbers("arm", "workload");
    ensure!(arm == [VMSPLICE, EXIT_GROUP].into(), "the calls of arm are {arm:?}");
    let native = recording.numbers(NATIVE, "workload");
    for nr in syscalls::numbers(&["vmsplice", "splice", "execve", "exit_group"])? {
        ensure!(native.contains(&nr), "{nr} is not in {native:?}");
    }
    ensure!(!native.contains(&VMSPLICE) && !native.contains(&EXIT_GROUP), "{native:?}");
    expect_architectures(&recorded, &BOTH)
}

/// No family is 0x63 or 0x64. 32-bit programs have the upper halves of registers to themselves.
fn arguments(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let (calls, calls32) = (machine.fixture("calls")?, of_arm(machine, "calls32"));
    let socket = syscalls::number("socket")?;
    let script =
        format!("{calls} -q {socket}:100000063,1,2; {calls32} -q {SOCKET}:64,1,2 {SOCKET}:63,1,2");
    let recording = record(machine, &scratch, &["/bin/sh", "-c", &script])?.recording()?;
    for (abi, nr, families) in [(NATIVE, socket, [0x63].as_slice()), ("arm", SOCKET, &[0x63, 0x64])]
    {
        let seen = of(&recording, abi, nr.into())?;
        let expected = families.iter().map(|family| vec![(0, *family), (1, 1), (2, 2)]).collect();
        ensure!(seen == expected, "{abi}: {seen:x?}, not {expected:x?}");
    }
    Ok(())
}

fn killed(machine: &Machine) -> Result<()> {
    command::killed::killed(machine, &of_arm(machine, "refused32"), "process", "arm", VMSPLICE)
}

/// It runs under its own profile, and is told which call it lacks under one without.
fn lacking(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let calls = machine.fixture("calls")?;
    let nr = syscalls::number("vmsplice")?.to_string();
    let words = [calls.as_str(), "-q", &nr];
    record(machine, &scratch, &words)?;
    let dir = scratch.join("out");
    let whole = run(machine, &dir, &[], &words)?.expect(0, "holds")?;
    ensure!(whole.denied(false).is_empty(), "{}", whole.json);
    let less = without(&dir, &["vmsplice"], scratch.join("less"))?;
    let said = run(machine, &less, &[], &words)?.expect(1, "fails")?;
    ensure!(said.denied(false) == ["vmsplice"], "{}", said.json);
    let denial = &said.json["denials"][0];
    ensure!(denial["arguments"][0] == u64::MAX, "every argument was -1: {denial}");
    Ok(())
}

/// libseccomp compiles the filter for both, and a call that only the other one made is refused.
fn confined(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let (calls, calls32) = (machine.fixture("calls")?, of_arm(machine, "calls32"));
    let script = format!("{calls} -q 76; {calls32} -q 343");
    let words = ["/bin/sh", "-c", &script];
    record(machine, &scratch, &words)?;
    let dir = scratch.join("out");
    let whole = run(machine, &dir, &[], &words)?.expect(0, "holds")?;
    ensure!(whole.denied(false).is_empty(), "{}", whole.json);
    // 375 is 32-bit ARM's setns, which nobody called
    let other = format!("{calls} -q 76; {calls32} -q 343 375");
    let said = run(machine, &dir, &[], &["/bin/sh", "-c", &other])?.expect(1, "fails")?;
    ensure!(said.denied(false) == ["setns"], "{}", said.json);
    ensure!(said.json["denials"][0]["abi"] == "arm", "{}", said.json);
    Ok(())
}
