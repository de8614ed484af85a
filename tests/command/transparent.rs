//! The command does not notice the recorder, and neither does its caller: streams, status, signals, readiness, traces.

use std::{thread, time::Duration};

use anyhow::{Result, ensure};
use rustix::process::Signal;

use crate::harness::{
    leftovers::{Leftovers, expect_whole_files},
    machine::{Machine, Need},
    program,
    record::{Record, Session},
    test::Test,
};

const NEEDS: [Need; 1] = [Need::Bpf];
const LOOK: [Need; 2] = [Need::Bpf, Need::Tool("bpftool", "bpftool")];

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new("command::streams_pass_through", &NEEDS, streams),
        Test::new("command::status_passes_through", &NEEDS, status),
        Test::new("command::environment_and_directory_are_the_callers", &NEEDS, environment),
        Test::new("command::interrupt_ends_normally", &LOOK, interrupt).alone(),
        Test::new("command::terminal_interrupt_ends_normally", &LOOK, terminal_interrupt).alone(),
        Test::new("command::termination_is_passed_on", &NEEDS, termination),
        Test::new("command::ready_only_when_armed", &NEEDS, ready),
        Test::new("command::ready_descriptor_stays_with_profiler", &NEEDS, ready_descriptor),
        Test::new("command::nothing_stays", &LOOK, nothing_stays).alone(),
        Test::new("command::nothing_stays_after_a_kill", &LOOK, killed).alone(),
    ]
}

fn streams(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let input = "line\n".repeat(100_000);
    let recorded = Record::new(machine, scratch.join("out"))
        .input(input.clone())
        .workload(["/bin/sh", "-c", "cat; echo to-stderr >&2"])
        .run()?
        .expect(0)?;
    ensure!(
        recorded.output.stdout == input,
        "stdout is not what the command wrote: {} bytes",
        recorded.output.stdout.len()
    );
    recorded.says("to-stderr\n")
}

fn status(machine: &Machine) -> Result<()> {
    for (script, expected) in
        [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143), ("kill -SEGV $$", 139)]
    {
        let scratch = machine.scratch()?;
        let recorded = Record::new(machine, scratch.join("out"))
            .workload(["/bin/sh", "-c", script])
            .run()?
            .expect(expected)?;
        let recording = recorded.recording()?;
        let told = recording.runs().next().map(|run| run["command_status"].clone());
        ensure!(told == Some(expected.into()), "command_status is {told:?}, not {expected}");
        recorded.emitted().seccomp()?;
    }
    Ok(())
}

fn environment(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let recorded = Record::new(machine, scratch.join("out"))
        .env("PROFILER_TEST_VALUE", "a b\nc")
        .current_dir(scratch.path())
        .workload([
            "/bin/sh",
            "-c",
            "pwd; printf '%s|%s' \"$PROFILER_TEST_VALUE\" \"$1\"; umask; ulimit -n",
            "sh",
            "*",
        ])
        .run()?
        .expect(0)?;
    let direct = program::run(
        program::command("/bin/sh", ["-c", "umask; ulimit -n"]).current_dir(scratch.path()),
        Duration::from_secs(10),
    )?;
    let expected = format!("{}\na b\nc|*{}", scratch.path(), direct.stdout);
    ensure!(recorded.output.stdout == expected, "{:?} is not {expected:?}", recorded.output.stdout);
    Ok(())
}

fn interrupt(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let before = Leftovers::now()?;
    let session =
        Record::new(machine, scratch.join("out")).workload(["/bin/sleep", "1000"]).start()?;
    thread::sleep(Duration::from_millis(500));
    let recorded = session.interrupt()?;
    // The command dies of the signal that it is passed: 130, or the recording is simply done: 0.
    ensure!([0, 130].contains(&recorded.output.status), "status {}", recorded.output.text());
    recorded.recording()?.expect_numbers(&[230])?; // clock_nanosleep
    recorded.emitted().committed()?;
    expect_whole_files(&recorded.dir)?;
    before.expect_none()
}

/// Until the command says that it is.
fn until_ready(session: &Session) -> Result<()> {
    let is_ready = || session.running.stdout().contains("ready\n");
    program::until("the command", Duration::from_secs(30), is_ready)
}

fn terminal_interrupt(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let before = Leftovers::now()?;
    let session = Record::new(machine, scratch.join("out"))
        .workload(["/bin/sh", "-c", "trap 'exit 5' INT; echo ready; while :; do sleep 0.1; done"])
        .start()?;
    until_ready(&session)?;
    session.running.signal_group(Signal::INT);
    let recorded = session.finish()?.expect(5)?;
    recorded.emitted().committed()?;
    before.expect_none()
}

fn termination(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let session = Record::new(machine, scratch.join("out"))
        .workload([
            "/bin/sh",
            "-c",
            "trap 'echo asked to end; exit 0' TERM; echo ready; while :; do sleep 0.1; done",
        ])
        .start()?;
    until_ready(&session)?;
    session.running.signal(Signal::TERM);
    let recorded = session.finish()?.expect(0)?;
    ensure!(
        recorded.output.stdout == "ready\nasked to end\n",
        "the command was not asked to end\n{}",
        recorded.output.text()
    );
    recorded.emitted().committed()?;
    Ok(())
}

fn ready(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let session =
        Record::new(machine, scratch.join("out")).workload(["/bin/sleep", "0.5"]).start()?;
    session.expect_line("recording command `sleep`")?;
    session.finish()?.expect(0)?;
    Ok(())
}

/// A file is written at the caller's offset, and the command does not get the descriptor.
fn ready_descriptor(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let (file, out) = (scratch.join("file"), scratch.join("out"));
    let script = format!(
        "exec 7>{file}; echo before >&7; {} record --ready-fd 7 -o {out} -- /bin/sh -c 'ls /proc/$$/fd'; echo after >&7",
        machine.profiler
    );
    let output =
        program::run(&mut program::command("sh", ["-euc", &script]), Duration::from_secs(60))?
            .expect(0)?;
    ensure!(
        output.stdout.lines().all(|fd| fd != "7"),
        "the command inherits it:\n{}",
        output.stdout
    );
    let written = fs_err::read_to_string(&file)?;
    ensure!(written == "before\n\nafter\n", "the file holds {written:?}");
    Ok(())
}

fn nothing_stays(machine: &Machine) -> Result<()> {
    let before = Leftovers::now()?;
    for script in ["true", "exit 3", "sleep 0.2 & exit 0", "kill -KILL $$"] {
        let scratch = machine.scratch()?;
        let recorded =
            Record::new(machine, scratch.join("out")).workload(["/bin/sh", "-c", script]).run()?;
        expect_whole_files(&recorded.dir)?;
    }
    before.expect_none()
}

/// SIGKILL cannot be caught, and the whole group gets it. The kernel frees the programs, and the recorder's warden, which is of
/// another group, removes the cgroup.
fn killed(machine: &Machine) -> Result<()> {
    let before = Leftovers::now()?;
    let scratch = machine.scratch()?;
    let session =
        Record::new(machine, scratch.join("out")).workload(["/bin/sleep", "1000"]).start()?;
    session.running.signal_group(Signal::KILL);
    session.finish()?.expect(137)?;
    let after =
        Record::new(machine, scratch.join("next")).workload(["/bin/true"]).run()?.expect(0)?;
    expect_whole_files(&after.dir)?;
    before.expect_none()
}
