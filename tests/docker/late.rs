//! Containers that already run, and processes that join one.

use std::{thread, time::Duration};

use anyhow::{Result, ensure};

use crate::{
    docker::NEEDS,
    harness::{machine::Machine, program, record::Record, test::Test},
};

const BUSY: &str = "/bin/calls -q 278; while :; do /bin/calls -q 276; sleep 0.2; done";

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new("docker::running_container_lacks_its_start", &NEEDS, running),
        Test::new("docker::restart_shows_the_start", &NEEDS, restart),
        Test::new("docker::exec_and_health_check_belong", &NEEDS, joins),
        Test::new("docker::exec_into_a_running_container_belongs", &NEEDS, late_exec),
    ]
}

fn running(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let engine = machine.engine()?;
    let image = engine.fixture_image(machine)?;
    let container = engine.name("runs");
    container.start(&["--network=none", &image, "/bin/sh", "-c", BUSY])?;
    thread::sleep(Duration::from_millis(500));
    let started = container.inspect()?["State"]["StartedAt"].clone();
    let session = Record::containers(machine, scratch.join("out"), &[&container.name])?
        .args(["--duration", "2s"])
        .start()?;
    let line = format!("recording container `{}`", container.name);
    session.expect_line(&line)?;
    let recorded = session.finish()?;
    ensure!([0, 3].contains(&recorded.output.status), "{}", recorded.output.text());
    let recording = recorded.recording()?;
    recording.expect_numbers(&[276])?;
    ensure!(
        !recording.numbers("x86_64", "workload").contains(&278),
        "278 was made before the recording"
    );
    for missing in ["startup", "shutdown"] {
        ensure!(recording.missing().contains(missing), "{missing} is not said to be missing");
    }
    recorded.says("--restart")?;
    let profile = fs_err::read_to_string(recorded.emitted().path("profile.json"))?;
    ensure!(
        profile.contains("startup"),
        "profile.json does not say that start-up was not seen\n{profile}"
    );
    ensure!(
        container.inspect()?["State"]["StartedAt"] == started,
        "the container was restarted unasked"
    );
    Ok(())
}

fn restart(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let engine = machine.engine()?;
    let image = engine.fixture_image(machine)?;
    let container = engine.name("renew");
    container.start(&["--network=none", "--stop-timeout=0", &image, "/bin/sh", "-c", BUSY])?;
    let started = || container.inspect().map(|seen| seen["State"]["StartedAt"].clone());
    let before = started()?;
    let done = scratch.join("done");
    let session = Record::containers(machine, scratch.join("out"), &[&container.name])?
        .args(["--restart"])
        .workload(["/bin/sh", "-c", &format!("until [ -e {done} ]; do sleep 0.1; done")])
        .start()?;
    program::until("the restart", Duration::from_secs(60), || {
        started().is_ok_and(|started| started != before)
    })?;
    thread::sleep(Duration::from_secs(2));
    fs_err::write(&done, "")?;
    let recorded = session.finish()?.expect(0)?;
    let recording = recorded.recording()?;
    recording.expect_numbers(&[278, 276])?;
    ensure!(!recording.missing().contains("startup"), "the start was seen");
    container.expect_running()
}

fn joins(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let engine = machine.engine()?;
    let image = engine.fixture_image(machine)?;
    let container = engine.name("joins");
    let seccomp = format!("seccomp={}", machine.permissive());
    let session = Record::containers(machine, scratch.join("out"), &[&container.name])?.start()?;
    container.start(&[
        "--network=none",
        "--security-opt",
        &seccomp,
        "--stop-timeout=0",
        "--health-cmd=/bin/calls -q 276",
        "--health-interval=500ms",
        &image,
        "/bin/sleep",
        "1000",
    ])?;
    container.exec(&["/bin/calls", "-q", "275"])?.expect(0)?;
    program::until("a health check", Duration::from_secs(20), || {
        container.inspect().is_ok_and(|seen| {
            seen["State"]["Health"]["Log"].as_array().is_some_and(|log| log.len() > 1)
        })
    })?;
    container.verb(&["stop"])?;
    let recorded = session.finish()?.expect(0)?;
    let recording = recorded.recording()?;
    recording.expect_numbers(&[275, 276])?;
    // What runc does to join the container's namespaces and cgroup is not the container's.
    let workload = recording.names("workload")?;
    for call in ["setns", "mount", "pivot_root", "seccomp"] {
        ensure!(!workload.contains(call), "`{call}` of the runtime is in the workload");
    }
    Ok(())
}

fn late_exec(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let engine = machine.engine()?;
    let image = engine.fixture_image(machine)?;
    let container = engine.name("exec");
    container.start(&["--network=none", "--stop-timeout=0", &image, "/bin/sleep", "1000"])?;
    let script = format!("docker exec {} /bin/calls -q 275", container.name);
    let recorded = Record::containers(machine, scratch.join("out"), &[&container.name])?
        .workload(["/bin/sh", "-c", &script])
        .run()?;
    ensure!([0, 3].contains(&recorded.output.status), "{}", recorded.output.text());
    recorded.recording()?.expect_numbers(&[275])
}
