//! Containers as targets: one that is under the profile and ones that are not, copies and their originals, compose.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use camino::Utf8PathBuf;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{
    enforce::flags,
    harness::{
        docker::{Container, Engine},
        machine::{Machine, Need, Scratch},
        program,
        record::{Record, Recorded},
        syscalls,
        test::Test,
    },
    scope::tree,
    verify::runs::{Said, command, run, said, without},
};

pub const NEEDS: [Need; 3] = [Need::Bpf, Need::Engine, Need::Tool("gcc", "gcc")];

/// Calls that the container makes at its start, the first four of which are taken away.
pub const NUMBERS: [u32; 5] = [16, 40, 134, 187, 93];

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    let compose = [NEEDS.as_slice(), &[Need::Compose]].concat();
    vec![
        Test::new("verify::a_container_under_another_filter_is_noticed", &NEEDS, noticed),
        Test::new("verify::what_enters_without_a_filter_is_noticed_however_short", &NEEDS, enters),
        Test::new("verify::a_copy_lacks_each_of_four_calls", &NEEDS, copies),
        Test::new("verify::the_original_is_put_back", &NEEDS, put_back),
        Test::new("verify::what_befalls_a_container_is_noticed", &NEEDS, befalls),
        Test::new("verify::a_service_of_compose_is_verified", &compose, compose_service),
    ]
}

/// What the container runs: some calls, and then it waits.
fn words() -> Vec<String> {
    let numbers = NUMBERS.iter().map(u32::to_string);
    ["/bin/calls".to_owned(), "-q".to_owned(), "-s".to_owned()].into_iter().chain(numbers).collect()
}

/// A container of this kind that does not run, and its profile.
fn recorded<'a>(
    machine: &Machine,
    engine: &'a Engine,
    scratch: &Scratch,
) -> Result<(Container<'a>, Recorded)> {
    recorded_under(machine, engine, scratch, machine.permissive().as_str(), &[])
}

/// The same, recorded under another filter, and with these calls by a `docker exec`.
pub fn recorded_under<'a>(
    machine: &Machine,
    engine: &'a Engine,
    scratch: &Scratch,
    filter: &str,
    exec: &[&str],
) -> Result<(Container<'a>, Recorded)> {
    let image = engine.fixture_image(machine)?;
    let container = engine.name("verify");
    let seccomp = format!("seccomp={filter}");
    // its first process has no handler: whoever waited for it to end by a signal would wait longer than for any answer
    let options = ["--network=none", "--stop-timeout=200", "--security-opt", &seccomp, &image];
    let words = words();
    let mut all = vec!["create", "--name", &container.name];
    all.extend(options);
    all.extend(words.iter().map(String::as_str));
    engine.docker(&all)?;
    let session = Record::containers(machine, scratch.join("out"), &[&container.name])?.start()?;
    container.verb(&["start"])?;
    if !exec.is_empty() {
        container.exec(&[&["/bin/calls", "-q"], exec].concat())?.expect(0)?;
    }
    container.verb(&["stop", "--time=0"])?;
    Ok((container, session.finish()?.expect(0)?))
}

fn noticed(machine: &Machine) -> Result<()> {
    let (scratch, engine) = (machine.scratch()?, machine.engine()?);
    let (_, recorded) = recorded(machine, engine, &scratch)?;
    let image = engine.fixture_image(machine)?;
    let own = flags(&recorded)?;
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    let words = words();
    let verify = |options: &[&str], profile: &Utf8PathBuf| {
        let container = engine.name("verify");
        let mut all = vec!["--network=none", "--stop-timeout=0"];
        all.extend(options);
        all.push(&image);
        all.extend(words.iter().map(String::as_str));
        container.start(&all)?;
        let said = run(machine, profile, &["--container", &container.name], &["true"])?;
        container.expect_running()?;
        anyhow::Ok(said)
    };
    let under = verify(&own, &recorded.dir)?.expect(0, "holds")?;
    ensure!(under.json["in_force"]["evidence"] == "kernel", "{}", under.json);
    for (options, fault) in [
        (&["--security-opt", "seccomp=unconfined", "--cap-drop=ALL"] as &[&str], "unfiltered"),
        (&["--cap-drop=ALL"], "another-filter"),
        (&[own.as_slice(), &["--cap-add=NET_RAW"]].concat(), "capabilities"),
    ] {
        let said = verify(options, &recorded.dir)?.expect(1, "fails")?;
        ensure!(said.faults() == [fault], "{fault}: {}", said.json);
        ensure!(said.json["status"].is_null(), "no tests are run then: {}", said.json);
    }
    // one call less is another filter, and that call is named
    let gone = syscalls::name(NUMBERS[0])?;
    let less = without(&recorded.dir, &[&gone], scratch.join("less"))?;
    let said = verify(&own, &less)?.expect(1, "fails")?;
    let example = said.json["in_force"]["faults"][0]["examples"][0].as_str().unwrap_or_default();
    ensure!(example == format!("x86_64 {gone}: EPERM in the profile, allow in force"), "{example}");
    Ok(())
}

/// One that is paused at first is let go and looked at; one that something joins unfiltered, or that is removed, was not
/// under the profile the whole time.
fn befalls(machine: &Machine) -> Result<()> {
    let (scratch, engine) = (machine.scratch()?, machine.engine()?);
    let (_, recorded) = recorded(machine, engine, &scratch)?;
    let image = engine.fixture_image(machine)?;
    let own = flags(&recorded)?;
    let container = engine.name("verify");
    let mut all = vec!["--network=none", "--stop-timeout=0"];
    all.extend(own.iter().map(String::as_str));
    all.push(&image);
    let words = words();
    all.extend(words.iter().map(String::as_str));
    container.start(&all)?;
    let (pid, procs) = inside(&container)?;
    let verify = |line: &str| {
        let place = ["--container", container.name.as_str()];
        run(machine, &recorded.dir, &place, &["sh", "-c", line])
    };

    container.verb(&["pause"])?;
    let line = format!(
        "docker unpause {} && sleep 2 && grep State /proc/{pid}/status >&2",
        container.name
    );
    let said = verify(&line)?.expect(0, "holds")?;
    ensure!(said.json["in_force"]["evidence"] == "kernel", "{}", said.json);
    ensure!(said.output.stderr.contains("State:\tS"), "{}", said.output.text());

    // a process of the host that executes nothing, as the runtime's do for a moment
    let fifo = scratch.join("fifo");
    let line = format!(
        "mkfifo {fifo}; (read pid rest < /proc/self/stat; echo $pid > {procs}; read end < {fifo}) & sleep 8; echo > {fifo}; wait"
    );
    let said = verify(&line)?.expect(1, "fails")?;
    ensure!(said.faults() == ["unfiltered"], "{}", said.json);
    ensure!(said.json["in_force"]["faults"][0]["program"] == "sh", "{}", said.json);

    let said = verify("docker rm -f $PROFILER_CONTAINER >&2")?.expect(1, "fails")?;
    ensure!(said.faults() == ["gone"] && said.json["status"] == 0, "{}", said.json);
    Ok(())
}

/// The process of a container that runs, and the file by which others are moved to its cgroup.
fn inside(container: &Container<'_>) -> Result<(String, Utf8PathBuf)> {
    let pid = container.inspect()?["State"]["Pid"].to_string();
    let groups = fs_err::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/")).context("a cgroup")?;
    Ok((pid, tree::root()?.join(group).join("cgroup.procs")))
}

/// Every process that enters is counted and its filter read, though it is gone before anybody could look; one without is
/// noticed whether it executes something there, was there before it was moved, or is an exec that is given no filter.
fn enters(machine: &Machine) -> Result<()> {
    let (scratch, engine) = (machine.scratch()?, machine.engine()?);
    let (_, recorded) = recorded(machine, engine, &scratch)?;
    let image = engine.fixture_image(machine)?;
    let own = flags(&recorded)?;
    let container = engine.name("verify");
    let mut all = vec!["--network=none", "--stop-timeout=0"];
    all.extend(own.iter().map(String::as_str));
    all.push(&image);
    let words = words();
    all.extend(words.iter().map(String::as_str));
    container.start(&all)?;
    let name = container.name.as_str();
    let verify =
        |line: &str| run(machine, &recorded.dir, &["--container", name], &["sh", "-c", line]);

    let said = verify(&format!("for each in 1 2 3; do docker exec {name} /bin/calls -q 39; done"))?
        .expect(0, "holds")?;
    ensure!(entered(&said) == (3, 3), "{}", said.json);
    let place = ["--copy-of", name, "--replace"];
    let words = ["sh", "-c", "docker exec $PROFILER_CONTAINER /bin/calls -q 39"];
    let said = run(machine, &recorded.dir, &place, &words)?.expect(0, "holds")?;
    ensure!(entered(&said) == (2, 2), "{}", said.json);

    let (pid, procs) = inside(&container)?; // it was started again
    let executes = format!("sh -c 'echo $$ > {procs}; exec nsenter -t {pid} -m /bin/calls -q 39'");
    let moved = format!(
        "nsenter -t {pid} -m /bin/calls -q -s 39 & child=$!; until grep -q -s ^calls /proc/$child/comm; do :; done; \
        echo $child > {procs}; kill -9 $child; wait"
    );
    for line in [executes, moved] {
        for round in 0..3 {
            let said = verify(&line)?.expect(1, "fails")?;
            ensure!(said.faults() == ["unfiltered"], "{round}: {line}: {}", said.json);
        }
    }
    Ok(())
}

/// How many entered, and of how many the filter was read.
fn entered(said: &Said) -> (u64, u64) {
    let number = |key: &str| said.json["in_force"][key].as_u64().unwrap_or(0);
    (number("entered"), number("read"))
}

fn copies(machine: &Machine) -> Result<()> {
    let (scratch, engine) = (machine.scratch()?, machine.engine()?);
    let (container, recorded) = recorded(machine, engine, &scratch)?;
    let place = ["--copy-of", container.name.as_str()];
    let finds = ["sh", "-c", "docker inspect -f '{{.State.Running}}' $PROFILER_CONTAINER >&2"];
    let whole = run(machine, &recorded.dir, &place, &finds)?.expect(0, "holds")?;
    ensure!(whole.output.stderr.contains("\ntrue\n"), "{}", whole.output.text());
    for number in &NUMBERS[..4] {
        let name = syscalls::name(*number)?;
        let less = without(&recorded.dir, &[&name], scratch.join(&name))?;
        let said = run(machine, &less, &place, &["true"])?.expect(1, "fails")?;
        ensure!(said.denied(false) == [name.as_str()], "{name}: {}", said.json);
    }
    let status =
        run(machine, &recorded.dir, &place, &["sh", "-c", "exit 7"])?.expect(1, "fails")?;
    ensure!(status.json["status"] == 7, "{}", status.json);
    Ok(())
}

fn put_back(machine: &Machine) -> Result<()> {
    let (scratch, engine) = (machine.scratch()?, machine.engine()?);
    let (container, recorded) = recorded(machine, engine, &scratch)?;
    container.verb(&["start"])?;
    let started = |container: &Container<'_>| -> Result<Value> {
        container.expect_running()?;
        Ok(container.inspect()?["State"]["StartedAt"].clone())
    };
    let first = started(&container)?;
    let place = ["--copy-of", container.name.as_str()];
    let refused = program::run(
        &mut command(machine, &recorded.dir, &place, &["true"]),
        Duration::from_secs(60),
    )?;
    ensure!(refused.status == 2 && refused.stderr.contains("--replace"), "{}", refused.text());
    ensure!(started(&container)? == first, "it was not touched");

    let replace = [place.as_slice(), &["--replace"]].concat();
    let down = format!("docker inspect -f '{{{{.State.Running}}}}' {} >&2", container.name);
    let replaced =
        run(machine, &recorded.dir, &replace, &["sh", "-c", &down])?.expect(0, "holds")?;
    ensure!(replaced.output.stderr.contains("\nfalse\n"), "{}", replaced.output.text());
    let second = started(&container)?;
    ensure!(second != first, "it was started again");

    let file = scratch.join("id");
    let told = format!("echo $PROFILER_CONTAINER > {file}; exec sleep 100");
    let mut long = command(machine, &recorded.dir, &replace, &["sh", "-c", &told]);
    let running = program::start(&mut long, &[])?;
    program::until("the tests run", Duration::from_secs(60), || {
        fs_err::read_to_string(&file).is_ok_and(|id| id.ends_with('\n'))
    })?;
    running.signal(Signal::INT);
    let interrupted = said(running.wait(Duration::from_secs(60))?)?.expect(1, "fails")?;
    ensure!(interrupted.json["interrupted"] == true, "{}", interrupted.json);
    ensure!(started(&container)? != second, "it was started again");
    let copy = fs_err::read_to_string(&file)?;
    let gone = engine.try_docker(&["inspect", copy.trim()])?;
    ensure!(gone.status != 0, "the copy is still there");

    // killed, it leaves both as they are, and the next run puts them in order
    fs_err::remove_file(&file)?;
    let pid = scratch.join("pid");
    let told = format!("echo $$ > {pid}; {told}");
    let mut long = command(machine, &recorded.dir, &replace, &["sh", "-c", &told]);
    let running = program::start(&mut long, &[])?;
    program::until("the tests run", Duration::from_secs(60), || {
        fs_err::read_to_string(&file).is_ok_and(|id| id.ends_with('\n'))
    })?;
    running.signal(Signal::KILL);
    running.wait(Duration::from_secs(60))?;
    let pid: i32 = fs_err::read_to_string(&pid)?.trim().parse()?;
    kill_process(Pid::from_raw(pid).context("a process")?, Signal::KILL)?;
    let copy = fs_err::read_to_string(&file)?;
    ensure!(container.inspect()?["State"]["Running"] == false, "it is stopped");
    run(machine, &recorded.dir, &replace, &["sh", "-c", &down])?.expect(0, "holds")?;
    started(&container)?;
    let gone = engine.try_docker(&["inspect", copy.trim()])?;
    ensure!(gone.status != 0, "the killed run's copy is still there");
    Ok(())
}

fn compose_service(machine: &Machine) -> Result<()> {
    let (scratch, engine) = (machine.scratch()?, machine.engine()?);
    let (_, recorded) = recorded(machine, engine, &scratch)?;
    let image = engine.fixture_image(machine)?;
    let file = scratch.join("compose.yaml");
    let words = serde_json::to_string(&words())?;
    fs_err::write(
        &file,
        format!(
            "services:\n  one:\n    image: {image}\n    network_mode: none\n    stop_grace_period: 0s\n    command: {words}\n"
        ),
    )?;
    let place = ["--compose", file.as_str(), "--service", "one"];
    let held = run(machine, &recorded.dir, &place, &["true"])?.expect(0, "holds")?;
    ensure!(held.json["in_force"]["evidence"] == "kernel", "{}", held.json);
    // compose 2 refuses an option that is there twice
    let evidence = recorded.dir.join("recording.json");
    let set = scratch.join("set");
    let words = ["generate", evidence.as_str(), "-o", set.as_str(), "--no-new-privileges"];
    program::run(&mut program::command(&machine.profiler, words), Duration::from_secs(30))?
        .expect(0)?;
    let known = fs_err::read_to_string(&file)?;
    fs_err::write(&file, known + "    security_opt: [\"no-new-privileges:true\"]\n")?;
    run(machine, &set, &place, &["true"])?.expect(0, "holds")?;
    let gone = syscalls::name(NUMBERS[0])?;
    let less = without(&recorded.dir, &[&gone], scratch.join("less"))?;
    let id = scratch.join("id");
    let told = format!("echo $PROFILER_CONTAINER > {id}");
    let said = run(machine, &less, &place, &["sh", "-c", &told])?.expect(1, "fails")?;
    ensure!(said.denied(false) == [gone.as_str()], "{}", said.json);
    let copy = fs_err::read_to_string(&id)?;
    ensure!(
        engine.try_docker(&["inspect", copy.trim()])?.status != 0,
        "the service is still there"
    );
    Ok(())
}
