//! Containers that come, restart, come again and end while they are recorded.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Result, ensure};

use crate::{
    docker::NEEDS,
    harness::{
        leftovers::{Leftovers, expect_whole_files},
        machine::{Machine, Need},
        program,
        record::Record,
        relay::Relay,
        syscalls::RARE,
        test::Test,
    },
};

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    let look = [NEEDS.as_slice(), &[Need::Tool("bpftool", "bpftool")]].concat();
    vec![
        Test::new("docker::first_call_in_100_of_100_starts", &NEEDS, hundred_starts),
        Test::new("docker::first_call_of_every_restart", &NEEDS, restarts),
        Test::new("docker::successor_of_a_renamed_container", &NEEDS, renamed),
        Test::new("docker::workload_that_leaves_by_setns", &NEEDS, leaves),
        Test::new("docker::waits_and_says_so", &NEEDS, waits),
        Test::new("docker::ends_with_the_container", &look, ends_with_it).alone(),
        Test::new("docker::status_of_the_tests_passes_through", &NEEDS, status),
        Test::new("docker::two_containers_two_results", &NEEDS, two),
        Test::new("docker::a_result_that_cannot_be_written_costs_no_other", &NEEDS, unwritable),
        Test::new("docker::container_that_dies_at_once", &NEEDS, dies_at_once),
        Test::new("docker::container_that_cannot_start", &NEEDS, cannot_start),
        Test::new("docker::engine_that_goes_away", &look, engine_gone).alone(),
    ]
}

/// Ten recordings, each waiting for a container that is made ten times; in each of the hundred starts the very first
/// call of the container's program is another one.
fn hundred_starts(machine: &Machine) -> Result<()> {
    let engine = machine.engine()?;
    let image = engine.fixture_image(machine)?;
    let mut missed = Vec::new();
    for (round, numbers) in RARE.chunks(10).enumerate() {
        let scratch = machine.scratch()?;
        let container = engine.name("first");
        let numbers_given = numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
        let script = format!(
            "for nr in {numbers_given}; do docker run --rm --name {} --network none --security-opt seccomp={} {image} /bin/calls -q $nr; done",
            container.name,
            machine.permissive(),
        );
        let recorded = Record::containers(machine, scratch.join("out"), &[&container.name])?
            .workload(["/bin/sh", "-ec", &script])
            .run()?
            .expect(0)?;
        let recording = recorded.recording()?;
        let seen = recording.numbers("x86_64", "workload");
        missed.extend(
            numbers
                .iter()
                .filter(|nr| !seen.contains(nr))
                .map(|nr| format!("{nr} of round {round}")),
        );
        let expected: BTreeSet<u32> = numbers.iter().copied().chain([231]).collect();
        let foreign: Vec<_> = seen.difference(&expected).collect();
        ensure!(foreign.is_empty(), "calls that the program did not make: {foreign:?}");
        let ids = recording
            .runs()
            .next()
            .map_or(0, |run| run["container"]["ids"].as_array().map_or(0, Vec::len));
        ensure!(ids == numbers.len(), "{ids} incarnations in the recording, not {}", numbers.len());
        ensure!(!recording.missing().contains("startup"), "start-up is said to be missing");
    }
    ensure!(missed.is_empty(), "{} of 100 first calls were missed: {missed:?}", missed.len());
    Ok(())
}

fn restarts(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let engine = machine.engine()?;
    let image = engine.fixture_image(machine)?;
    let container = engine.name("again");
    let seccomp = format!("seccomp={}", machine.permissive());
    let done = scratch.join("done");
    // without tests it ends with the container, and a restart may take long
    let session = Record::containers(machine, scratch.join("out"), &[&container.name])?
        .workload(["/bin/sh", "-c", &format!("until [ -e {done} ]; do sleep 0.1; done")])
        .start()?;
    // The first number that has no mark yet.
    let script = "for nr in 278 276 275 277; do [ -e /tmp/$nr ] || break; done; /bin/calls -q $nr; echo >/tmp/$nr; exec sleep 1000";
    container.start(&[
        "--network=none",
        "--security-opt",
        &seccomp,
        &image,
        "/bin/sh",
        "-c",
        script,
    ])?;
    for nr in ["276", "275", "277"] {
        container.verb(&["restart", "-t", "0"])?;
        program::until("the restarted program's mark", Duration::from_secs(20), || {
            container.exec(&["ls", &format!("/tmp/{nr}")]).is_ok_and(|ls| ls.status == 0)
        })?;
    }
    fs_err::write(&done, "")?;
    let recorded = session.finish()?.expect(0)?;
    recorded.recording()?.expect_numbers(&[278, 276, 275, 277])
}

/// The container is renamed, another one takes its name, and then the old one ends.
fn renamed(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let engine = machine.engine()?;
    let image = engine.fixture_image(machine)?;
    let container = engine.name("new");
    let old = engine.name("old");
    let session = Record::containers(machine, scratch.join("out"), &[&container.name])?
        .limit(Duration::from_secs(40))
        .start()?;
    container.start(&[
        "--network=none",
        &image,
        "/bin/sh",
        "-c",
        "/bin/calls -q 278; sleep 1000",
    ])?;
    engine.docker(&["rename", &container.name, &old.name])?;
    container.start(&["--network=none", &image, "/bin/sh", "-c", "sleep 6; /bin/calls -q 276"])?;
    old.remove();
    let recorded = session.finish()?.expect(0)?;
    recorded.recording()?.expect_numbers(&[278, 276])
}

/// A container that may see the host's processes goes into the host's mount namespace: its calls there are its own.
fn leaves(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let engine = machine.engine()?;
    let image = engine.fixture_image(machine)?;
    let container = engine.name("leaves");
    let seccomp = format!("seccomp={}", machine.permissive());
    let calls = machine.fixture("calls")?;
    let host = std::process::id().to_string();
    let session = Record::containers(machine, scratch.join("out"), &[&container.name])?
        .limit(Duration::from_secs(20))
        .start()?;
    container
        .run(&[
            "--network=none",
            "--pid=host",
            "--cap-add=SYS_ADMIN",
            "--cap-add=SYS_PTRACE",
            "--security-opt",
            &seccomp,
            &image,
            "/bin/busybox",
            "nsenter",
            "-t",
            &host,
            "-m",
            calls.as_str(),
            "-q",
            "278",
        ])?
        .expect(0)?;
    session.finish()?.recording()?.expect_numbers(&[278, 308])
}

fn waits(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let engine = machine.engine()?;
    let image = engine.fixture_image(machine)?;
    let container = engine.name("late");
    let session = Record::containers(machine, scratch.join("out"), &[&container.name])?.start()?;
    let line = format!("waiting for container `{}`", container.name);
    session.expect_line(&line)?;
    container.run(&["--network=none", &image, "/bin/calls", "-q", "278"])?.expect(0)?;
    let recorded = session.finish()?.expect(0)?;
    recorded.recording()?.expect_numbers(&[278])
}

fn ends_with_it(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let engine = machine.engine()?;
    let image = engine.fixture_image(machine)?;
    let container = engine.name("short");
    let before = Leftovers::now()?;
    let session = Record::containers(machine, scratch.join("out"), &[&container.name])?
        .limit(Duration::from_secs(20))
        .start()?;
    container.run(&["--network=none", &image, "/bin/sleep", "1"])?.expect(0)?;
    let recorded = session.finish()?.expect(0)?;
    ensure!(!recorded.recording()?.missing().contains("shutdown"), "the shut-down was seen");
    expect_whole_files(&recorded.dir)?;
    before.expect_none()
}

fn status(machine: &Machine) -> Result<()> {
    let engine = machine.engine()?;
    let image = engine.fixture_image(machine)?;
    for expected in [0, 9] {
        let scratch = machine.scratch()?;
        let container = engine.name("status");
        let script = format!(
            "docker run --rm --name {} --network none {image} /bin/true; echo tests ran; exit {expected}",
            container.name
        );
        let recorded = Record::containers(machine, scratch.join("out"), &[&container.name])?
            .workload(["/bin/sh", "-c", &script])
            .run()?
            .expect(expected)?;
        ensure!(recorded.output.stdout.contains("tests ran\n"), "{}", recorded.output.text());
        recorded.emitted().committed()?;
    }
    Ok(())
}

fn two(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let engine = machine.engine()?;
    let image = engine.fixture_image(machine)?;
    let (one, other) = (engine.name("one"), engine.name("other"));
    let run = |name: &str, nr: &str| {
        format!("docker run --rm --name {name} --network none {image} /bin/calls -q {nr}")
    };
    let script = format!("{} & {}; wait", run(&one.name, "278"), run(&other.name, "276"));
    let recorded = Record::containers(machine, scratch.join("out"), &[&one.name, &other.name])?
        .workload(["/bin/sh", "-c", &script])
        .run()?
        .expect(0)?;
    for (name, own, foreign) in [(&one.name, 278, 276), (&other.name, 276, 278)] {
        let dir = recorded.dir.join(name);
        expect_whole_files(&dir)?;
        let recording = crate::harness::evidence::Recording::read(&dir)?;
        recording.expect_numbers(&[own])?;
        ensure!(
            !recording.numbers("x86_64", "workload").contains(&foreign),
            "{name} made no {foreign}"
        );
        ensure!(
            recording.json["target"]["name"] == **name,
            "target is {}",
            recording.json["target"]
        );
    }
    ensure!(!recorded.dir.join("recording.json").exists(), "two results have no common file");
    Ok(())
}

/// One of two directories is lost while the tests run: the other gets its result, and the status is the tests' if they
/// failed.
fn unwritable(machine: &Machine) -> Result<()> {
    let engine = machine.engine()?;
    let image = engine.fixture_image(machine)?;
    for (tests, expected) in [("exit 0", 2), ("exit 7", 7)] {
        let scratch = machine.scratch()?;
        let out = scratch.join("out");
        let (one, other) = (engine.name("one"), engine.name("other"));
        let run = |name: &str| {
            format!("docker run --rm --name {name} --network none {image} /bin/calls -q 278")
        };
        let lost = out.join(&one.name);
        let script = format!(
            "{}; {}; rmdir {lost}; echo x > {lost}; {tests}",
            run(&one.name),
            run(&other.name)
        );
        let recorded = Record::containers(machine, &out, &[&one.name, &other.name])?
            .workload(["/bin/sh", "-c", &script])
            .run()?
            .expect(expected)?;
        recorded.says(lost.as_str())?;
        expect_whole_files(&out.join(&other.name))?;
        crate::harness::evidence::Recording::read(&out.join(&other.name))?
            .expect_numbers(&[278])?;
    }
    Ok(())
}

fn dies_at_once(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let engine = machine.engine()?;
    let image = engine.fixture_image(machine)?;
    let container = engine.name("dies");
    let session = Record::containers(machine, scratch.join("out"), &[&container.name])?
        .limit(Duration::from_secs(20))
        .start()?;
    container.run(&["--network=none", &image, "/bin/calls", "-q", "-x", "1", "278"])?.expect(1)?;
    let recorded = session.finish()?;
    recorded.recording()?.expect_numbers(&[278, 231])?;
    recorded.emitted().committed()?;
    expect_whole_files(&recorded.dir)
}

/// A program that is not there: the container is made and never starts. The recorder goes on waiting for one that does.
fn cannot_start(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let engine = machine.engine()?;
    let image = engine.fixture_image(machine)?;
    let container = engine.name("never");
    let session = Record::containers(machine, scratch.join("out"), &[&container.name])?
        .limit(Duration::from_secs(20))
        .start()?;
    container.run(&["--network=none", &image, "/no/such/program"])?.expect(127)?;
    std::thread::sleep(Duration::from_secs(1));
    container.remove();
    let recorded = session.interrupt()?;
    // A profile of nothing holds nothing: whoever asked must notice.
    ensure!(recorded.output.status == 3, "{}", recorded.output.text());
    recorded.says("no call of the workload was seen")
}

fn engine_gone(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let engine = machine.engine()?;
    let image = engine.fixture_image(machine)?;
    let container = engine.name("orphan");
    let before = Leftovers::now()?;
    let relay = Relay::start(engine.host(), &scratch.join("engine.sock"))?;
    let mut session = Record::containers(machine, scratch.join("out"), &[&container.name])?
        .env("DOCKER_HOST", relay.host())
        .limit(Duration::from_secs(30))
        .start()?;
    container.start(&[
        "--network=none",
        &image,
        "/bin/sh",
        "-c",
        "/bin/calls -q 278; exec sleep 1000",
    ])?;
    std::thread::sleep(Duration::from_secs(1));
    relay.stop();
    std::thread::sleep(Duration::from_secs(3));
    if !session.running.has_ended() {
        session.running.signal(rustix::process::Signal::INT);
    }
    let recorded = session.finish()?.expect(3)?;
    recorded.recording()?.expect_numbers(&[278])?;
    ensure!(
        recorded.recording()?.missing().contains("engine"),
        "the recording does not say that the engine went away"
    );
    recorded.says("engine")?;
    recorded.emitted().committed()?;
    expect_whole_files(&recorded.dir)?;
    before.expect_none()
}
