//! `usage` in recordings of a real engine's containers, held against what the container did and what the engine says of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::harness::{
    docker::Container,
    machine::{Machine, Need},
    program,
    record::{Record, Recorded},
    test::Test,
};

const NEEDS: [Need; 3] = [Need::Bpf, Need::Engine, Need::Tool("gcc", "gcc")];

/// Longer than the time between two looks.
const WHILE: Duration = Duration::from_millis(1_500);

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new("harden::a_container_that_writes_nothing", &NEEDS, nothing),
        Test::new("harden::what_is_written_where", &NEEDS, written),
        Test::new("harden::a_container_that_is_removed_at_its_end", &NEEDS, removed),
        Test::new("harden::containers_that_live_for_a_moment", &NEEDS, brief),
        Test::new("harden::an_executable_of_its_own", &NEEDS, executed),
        Test::new("harden::as_many_processes_as_there_were", &NEEDS, processes),
        Test::new("harden::sockets_and_peers", &NEEDS, sockets),
        Test::new("harden::every_user", &NEEDS, users),
        Test::new("harden::names_that_are_hostile", &NEEDS, hostile),
        Test::new("harden::a_root_that_is_read_only", &NEEDS, read_only),
    ]
}

/// What is in the recording of a container that is started with these options and runs a script, which says when it is ready, and is left to itself.
fn usage_of(
    machine: &Machine,
    container: &Container<'_>,
    options: &[&str],
    script: &str,
    during: impl FnOnce() -> Result<()>,
) -> Result<Value> {
    let scratch = machine.scratch()?;
    let image = machine.engine()?.fixture_image(machine)?;
    let session = Record::containers(machine, scratch.join("out"), &[&container.name])?.start()?;
    let words: Vec<&str> =
        options.iter().copied().chain([image.as_str(), "/bin/sh", "-c", script]).collect();
    container.start(&words)?;
    program::until("what it does at first", Duration::from_secs(60), || {
        container.log().is_ok_and(|log| log.contains("ready"))
    })?;
    std::thread::sleep(WHILE);
    during()?;
    usage(&session.interrupt()?)
}

fn usage(recorded: &Recorded) -> Result<Value> {
    let recording = recorded.recording()?;
    let run = recording.runs().next().context("a run")?;
    let usage = run["usage"].clone();
    ensure!(usage.is_object(), "no usage\n{}", recorded.output.text());
    ensure!(usage["looks"].as_u64() > Some(0), "it was not looked at: {usage:#}");
    Ok(usage)
}

/// The changes of a layer: what happened to each path.
fn changes(usage: &Value) -> Result<BTreeMap<String, String>> {
    ensure!(usage["root"]["kind"] == "layer", "the root is {:#}", usage["root"]);
    let changes = usage["root"]["changes"].as_array().context("changes")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(changes.iter().map(|one| (text(&one["path"]), text(&one["how"]))).collect())
}

fn expect_changes(usage: &Value, expected: &[(&str, &str)]) -> Result<()> {
    let expected: BTreeMap<String, String> =
        expected.iter().map(|(path, how)| ((*path).to_owned(), (*how).to_owned())).collect();
    let changes = changes(usage)?;
    ensure!(changes == expected, "seen {changes:#?}\nexpected {expected:#?}");
    Ok(())
}

fn nothing(machine: &Machine) -> Result<()> {
    let container = machine.engine()?.name("nothing");
    let options = ["--network=none", "-v", "/data", "--tmpfs", "/scratch"];
    let usage = usage_of(machine, &container, &options, "echo ready; exec sleep 100", || Ok(()))?;
    expect_changes(&usage, &[])?;
    let bare = machine.engine()?.name("bare");
    let options = ["--network=none"];
    expect_changes(
        &usage_of(machine, &bare, &options, "echo ready; exec sleep 100", || Ok(()))?,
        &[],
    )?;
    ensure!(usage["longest_gap_ms"].as_u64() < Some(1_500), "{usage:#}");
    let paths: Vec<_> = usage["mounts"].as_array().into_iter().flatten().collect();
    ensure!(paths.len() == 2, "mounts are {paths:?}");
    let users = usage["users"].as_array().context("users")?;
    ensure!(users.len() == 1 && users[0]["uid"] == 0 && users[0]["first"] == true, "{users:#?}");
    ensure!(usage.get("sockets").is_none(), "{usage:#}");
    Ok(())
}

/// What `docker diff` says: A, C or D of each path.
fn diff(container: &Container<'_>) -> Result<BTreeMap<String, char>> {
    let lines = container.verb(&["diff"])?;
    let pairs = lines.lines().filter_map(|line| line.split_once(' '));
    Ok(pairs.map(|(how, path)| (path.to_owned(), how.chars().next().unwrap_or('?'))).collect())
}

fn written(machine: &Machine) -> Result<()> {
    let container = machine.engine()?.name("written");
    let script = "b=/bin/busybox; $b mkdir -p /opt/odd; echo 12345 >/opt/odd/x; echo x >/tmp/gone; $b rm /tmp/gone; \
                  $b chmod 700 /bin/caps; $b mv /bin/refused /etc/renamed; $b rm /bin/fallback; echo >>/etc/passwd; \
                  echo v >/data/v; $b dd if=/dev/zero of=/scratch/big bs=1024 count=256 2>/dev/null; echo ready; exec sleep 100";
    let options = ["--network=none", "-v", "/data", "--tmpfs", "/scratch"];
    let mut told = BTreeMap::new();
    let usage = usage_of(machine, &container, &options, script, || {
        told = diff(&container)?;
        Ok(())
    })?;
    let expected = [
        ("/opt", "created"),
        ("/opt/odd", "created"),
        ("/opt/odd/x", "created"),
        ("/tmp", "visited"),
        ("/bin/caps", "changed"),
        ("/bin/refused", "removed"),
        ("/bin/fallback", "removed"),
        ("/etc/renamed", "created"),
        ("/etc/passwd", "changed"),
    ];
    expect_changes(&usage, &expected)?;
    let changes = changes(&usage)?;
    for (path, how) in &told {
        let is_below = |other: &String| other.starts_with(&format!("{path}/"));
        let agrees = match (how, changes.get(path).map(String::as_str)) {
            ('A', Some("created")) | ('D', Some("removed")) => true,
            ('C', Some("changed" | "visited")) => true,
            ('C', None) => changes.keys().any(is_below),
            ('A', None) => ["/data", "/scratch"].contains(&path.as_str()),
            _ => false,
        };
        ensure!(agrees, "docker diff says {how} {path}; seen {changes:#?}");
    }
    // it does not tell of a directory in which nothing is left
    for path in changes.keys().filter(|path| *path != "/tmp") {
        ensure!(told.contains_key(path), "docker diff does not say {path}: {told:#?}");
    }
    let all = usage["root"]["changes"].as_array().context("changes")?;
    let find = |path: &str| all.iter().find(|one| one["path"] == path).context("is there");
    ensure!(find("/opt/odd/x")?["bytes"] == 6, "{:#}", find("/opt/odd/x")?);
    ensure!(find("/opt/odd")?["bytes"] == 6, "{:#}", find("/opt/odd")?);
    ensure!(find("/bin/caps")?["mode"] == 0o700, "{:#}", find("/bin/caps")?);
    let mounts = usage["mounts"].as_array().context("mounts")?;
    let mount = |path: &str| mounts.iter().find(|one| one["path"] == path).context("is there");
    ensure!(mount("/scratch")?["filesystem"] == "tmpfs", "{mounts:#?}");
    ensure!(mount("/scratch")?["bytes"].as_u64() >= Some(256 << 10), "{mounts:#?}");
    ensure!(mount("/data")?.get("bytes").is_none(), "{mounts:#?}");
    Ok(())
}

/// It lives for a second and is gone: what it wrote is known, also what it wrote last.
fn removed(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let engine = machine.engine()?;
    let image = engine.fixture_image(machine)?;
    let container = engine.name("short");
    let script = "echo 1 >/first; sleep 1; echo 2 >/last";
    let session = Record::containers(machine, scratch.join("out"), &[&container.name])?
        .limit(Duration::from_secs(30))
        .start()?;
    container.run(&["--rm", "--network=none", &image, "/bin/sh", "-c", script])?.expect(0)?;
    let usage = usage(&session.finish()?)?;
    expect_changes(&usage, &[("/first", "created"), ("/last", "created")])
}

/// Each lives for a moment, and all of them are looked at.
fn brief(machine: &Machine) -> Result<()> {
    let engine = machine.engine()?;
    let image = engine.fixture_image(machine)?;
    for round in 0..5 {
        let scratch = machine.scratch()?;
        let container = engine.name("brief");
        let session = Record::containers(machine, scratch.join("out"), &[&container.name])?
            .limit(Duration::from_secs(30))
            .start()?;
        let script = "echo 1 >/first";
        container.run(&["--rm", "--network=none", &image, "/bin/sh", "-c", script])?.expect(0)?;
        let usage = usage(&session.finish()?).with_context(|| format!("round {round}"))?;
        expect_changes(&usage, &[("/first", "created")])?;
    }
    Ok(())
}

fn executed(machine: &Machine) -> Result<()> {
    let container = machine.engine()?.name("executed");
    let script = "b=/bin/busybox; $b cp $b /tmp/busybox; $b cp /etc/passwd /tmp/other; $b chmod 644 /tmp/other; \
                  echo ready; exec /tmp/busybox sleep 100";
    let options = ["--network=none"];
    let usage = usage_of(machine, &container, &options, script, || Ok(()))?;
    let all = usage["root"]["changes"].as_array().context("changes")?;
    let executed: BTreeSet<_> =
        all.iter().filter(|one| one["executed"] == true).map(|one| one["path"].as_str()).collect();
    ensure!(executed == [Some("/tmp/busybox")].into(), "{all:#?}");
    Ok(())
}

fn processes(machine: &Machine) -> Result<()> {
    let container = machine.engine()?.name("many");
    let script = "for i in $(/bin/busybox seq 300); do sleep 100 & done; exec 9</etc/passwd; echo ready; wait";
    let options = ["--network=none"];
    let usage = usage_of(machine, &container, &options, script, || Ok(()))?;
    let resources = &usage["resources"];
    ensure!(resources["pids"].as_u64() >= Some(300), "{resources:#}");
    ensure!(resources["memory_bytes"].as_u64() >= Some(1 << 20), "{resources:#}");
    ensure!(resources["open_files"].as_u64() >= Some(4), "{resources:#}");
    ensure!(resources["cpu_us"].as_u64() >= Some(10_000), "{resources:#}");
    Ok(())
}

/// The sockets, as `role protocol address:port program`.
fn told_sockets(usage: &Value) -> BTreeSet<String> {
    let all = usage["sockets"].as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let told = all.map(|one| {
        let [role, protocol, address] = ["role", "protocol", "address"].map(|key| text(&one[key]));
        format!("{role} {protocol} {address}:{} {}", one["port"], text(&one["program"]["exe"]))
    });
    told.collect()
}

fn sockets(machine: &Machine) -> Result<()> {
    let engine = machine.engine()?;
    let (server, client) = (engine.name("server"), engine.name("client"));
    let script = "/bin/binds 5353 & echo ready; exec /bin/busybox httpd -f -p 80";
    let mut of_client = Value::Null;
    let of_server = usage_of(machine, &server, &[], script, || {
        let address = server.address()?;
        let script = format!("echo ready; sleep 100 | /bin/busybox nc {address} 80");
        of_client = usage_of(machine, &client, &[], &script, || Ok(()))?;
        let expected = format!("connected tcp {address}:80 busybox");
        ensure!(told_sockets(&of_client) == [expected].into(), "{of_client:#}");
        Ok(())
    })?;
    let told = told_sockets(&of_server);
    ensure!(told.contains("listening udp 0.0.0.0:5353 binds"), "{told:?}");
    let http: Vec<_> = told.iter().filter(|one| one.contains(":80 busybox")).collect();
    ensure!(http.len() == 1 && told.len() == 2, "{told:?}");
    Ok(())
}

fn users(machine: &Machine) -> Result<()> {
    let container = machine.engine()?.name("users");
    let script = "/bin/busybox su -s /bin/sh user -c 'exec sleep 100' & echo ready; exec sleep 100";
    let options = ["--network=none"];
    let usage = usage_of(machine, &container, &options, script, || Ok(()))?;
    let users = usage["users"].as_array().context("users")?;
    let told: BTreeSet<_> = users
        .iter()
        .map(|one| (one["uid"].as_u64(), one["gid"].as_u64(), one["first"] == true))
        .collect();
    let expected = [(Some(0), Some(0), true), (Some(1_000), Some(1_000), false)].into();
    ensure!(told.is_superset(&expected), "{users:#?}");
    // su on its way
    ensure!(told.difference(&expected).all(|(uid, ..)| *uid == Some(0)), "{users:#?}");
    Ok(())
}

fn hostile(machine: &Machine) -> Result<()> {
    let container = machine.engine()?.name("hostile");
    let script = "cd /tmp; d=$(printf 'a\\nb\"\\033[31m\\377'); echo >\"$d\"; /bin/busybox ln -s / link; \
                  n=$(printf '%0200d' 0); for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19; do \
                  /bin/busybox mkdir $n && cd $n; done; echo >x; echo ready; exec sleep 100";
    let options = ["--network=none"];
    let usage = usage_of(machine, &container, &options, script, || Ok(()))?;
    let changes = changes(&usage)?;
    let name = "/tmp/a\nb\"\u{1b}[31m\\xff";
    ensure!(changes.contains_key(name), "{:#?}", changes.keys().take(5).collect::<Vec<_>>());
    ensure!(changes.keys().any(|path| path.len() > 3_800 && path.ends_with("/x")), "no long path");
    ensure!(!changes.keys().any(|path| path.starts_with("/tmp/link/")), "a link was followed");
    Ok(())
}

fn read_only(machine: &Machine) -> Result<()> {
    let container = machine.engine()?.name("readonly");
    let options = ["--network=none", "--read-only"];
    let usage = usage_of(machine, &container, &options, "echo ready; exec sleep 100", || Ok(()))?;
    ensure!(usage["root"]["kind"] == "read-only", "{usage:#}");
    Ok(())
}
