//! What changes around a recording: the engine comes back, the cgroup goes, the clock jumps.

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::NEEDS;
use crate::{
    harness::{
        evidence::Recording,
        machine::{Machine, Need},
        program,
        record::Record,
        relay::Relay,
        test::Test,
    },
    scope::tree,
};

const LIMIT: Duration = Duration::from_secs(30);

/// Where Debian has it.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    let engine = [&NEEDS[..], &[Need::Engine]].concat();
    let timens = Need::File("/proc/self/ns/time", "a kernel with CONFIG_TIME_NS");
    let namespace = [&NEEDS[..], &[Need::Tool("unshare", "util-linux"), timens]].concat();
    let clock = [&NEEDS[..], &[Need::File(FAKETIME, "apt-get install libfaketime")]].concat();
    vec![
        Test::new("faults::an_engine_that_comes_back", &engine, engine_back),
        Test::new("faults::a_command_that_removes_its_own_cgroup", &NEEDS, own_cgroup),
        Test::new("faults::a_wall_clock_that_jumps", &clock, wall_clock),
        Test::new("faults::a_time_namespace", &namespace, time_namespace),
    ]
}

/// What is told when the engine is away.
const NOT_FOUND: &str = "containers that start now are not found";

/// What a container does before, while and after its engine is away is recorded; that the engine was away is told.
fn engine_back(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let engine = machine.engine()?;
    let image = engine.fixture_image(machine)?;
    let container = engine.name("outlives");
    let socket = scratch.join("engine.sock");
    let relay = Relay::start(engine.host(), &socket)?;
    let done = scratch.join("done");
    let session = Record::containers(machine, scratch.join("out"), &[&container.name])?
        .env("DOCKER_HOST", relay.host())
        .workload(["/bin/sh", "-c", &format!("until [ -e {done} ]; do sleep 0.05; done")])
        .start()?;
    let seccomp = format!("seccomp={}", machine.permissive());
    let sleep: [&str; 6] =
        ["--network=none", "--security-opt", &seccomp, &image, "/bin/sleep", "1000"];
    container.start(&sleep)?;
    let call =
        |nr: &str| -> Result<()> { container.exec(&["/bin/calls", "-q", nr])?.expect(0).map(drop) };
    let started = format!("container `{}` started: recording", container.name);
    program::until("its start is noticed", LIMIT, || session.running.stderr().contains(&started))
        .with_context(|| session.running.stderr())?;
    call("278")?;
    relay.stop();
    program::until("it notices", LIMIT, || session.running.stderr().contains(NOT_FOUND))
        .with_context(|| session.running.stderr())?;
    call("276")?;
    let _back = Relay::start(engine.host(), &socket)?;
    call("277")?;
    fs_err::write(&done, "")?;
    let recorded = session.finish()?.expect(3)?;
    let recording = recorded.recording()?;
    recording.expect_numbers(&[278, 276, 277])?;
    ensure!(recording.missing().contains("engine"), "{:?}", recording.missing());
    recorded.says(NOT_FOUND)?;
    recorded.emitted().committed().map(drop)
}

/// A shell leaves the cgroup that was made for it, and removes it.
fn own_cgroup(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let (root, calls) = (tree::root()?, machine.fixture("calls")?);
    let script = format!(
        "{calls} -q 278; own=$(sed -n s/^0:://p /proc/self/cgroup); echo $$ > {root}/cgroup.procs
         until rmdir {root}$own; do sleep 0.05; done; {calls} -q 276"
    );
    let recorded = Record::new(machine, scratch.join("out"))
        .workload(["sh", "-c", &script])
        .run()?
        .expect(0)?;
    let recording = recorded.recording()?;
    recording.expect_numbers(&[278])?;
    ensure!(recording.missing().contains("left"), "{:?}", recording.missing());
    recorded.says("1 process left the target's cgroup")?;
    ensure!(!recorded.output.stderr.contains("cannot remove"), "{}", recorded.output.text());
    recorded.emitted().committed().map(drop)
}

/// What a recording says of time holds: vmsplice was made after a rest of 300 ms, within the run.
fn expect_time(recording: &Recording, began: Instant) -> Result<()> {
    let took = u64::try_from(began.elapsed().as_millis())?;
    let run = recording.runs().next().context("a run")?;
    let duration = run["duration_ms"].as_u64().context("a duration")?;
    ensure!((300..=took).contains(&duration), "it took {duration} ms, of {took} ms");
    let fact = recording.facts("syscalls").find(|fact| fact["nr"] == 278).context("vmsplice")?;
    let first = |seen: &Value| seen["first_ms"].as_u64();
    let first = fact["seen"].as_object().and_then(|seen| seen.values().find_map(first));
    let first = first.context("when it was made first")?;
    ensure!((300..=duration).contains(&first), "made at {first} ms of {duration} ms");
    Ok(())
}

const REST: &str = "sleep 0.3";

/// It begins ten years ahead, goes back by thirty and then to what it is. Only the recorder is told so.
fn wall_clock(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let (calls, stamp) = (machine.fixture("calls")?, scratch.join("stamp"));
    fs_err::write(&stamp, "+10y\n")?;
    let set = |offset: &str| format!("echo {offset} > {stamp}.new; mv {stamp}.new {stamp}");
    let script = format!(
        "unset LD_PRELOAD; {}; {REST}; {calls} -q 278; {}; {calls} -q 276; {REST}",
        set("-20y"),
        set("+0")
    );
    let began = Instant::now();
    let recorded = Record::new(machine, scratch.join("out"))
        .env("LD_PRELOAD", FAKETIME)
        .env("FAKETIME_TIMESTAMP_FILE", &stamp)
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .workload(["/bin/sh", "-c", &script])
        .run()?
        .expect(0)?;
    let recording = recorded.recording()?;
    recording.expect_numbers(&[278, 276])?;
    ensure!(recording.missing().is_empty(), "{:?}", recording.missing());
    let run = recording.runs().next().context("a run")?;
    let nine_years_on = SystemTime::now() + Duration::from_secs(9 * 365 * 86_400);
    let nine_years_on = nine_years_on.duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    ensure!(run["started_unix_s"].as_u64() > Some(nine_years_on), "it has the machine's clock");
    expect_time(&recording, began)
}

/// Where the recorder's clock is not the kernel's.
fn time_namespace(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let calls = machine.fixture("calls")?;
    for offset in ["100000", "1"] {
        let began = Instant::now();
        let monotonic = format!("--monotonic={offset}");
        let recorded = Record::new(machine, scratch.join(offset))
            .under(["unshare", "--time", "--fork", &monotonic])
            .workload(["/bin/sh", "-c", &format!("{REST}; {calls} -q 278")])
            .run()?
            .expect(0)?;
        expect_time(&recorded.recording()?, began).with_context(|| monotonic)?;
    }
    Ok(())
}
