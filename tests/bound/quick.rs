//! `verify --quick`: a profile fits the image that it was recorded from, not another, and not without what the runtime
//! needs; without a start it cannot be told.

use std::time::Duration;

use anyhow::{Result, ensure};
use camino::Utf8Path;
use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{
    machine::{Machine, Need},
    program::{self, Output, command},
    record::Record,
    test::Test,
};

const LIMIT: Duration = Duration::from_secs(300);
const IMAGE: &str = "localhost/nginx:1";

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    let needs = [Need::Bpf, Need::Engine, Need::Images];
    vec![
        Test::new("bound::quick_says_what_fits", &needs, quick),
        Test::new("bound::quick_wants_it_to_stay_up_and_healthy", &needs, stays_up),
        Test::new("bound::an_interrupt_leaves_nothing", &needs, interrupted),
    ]
}

fn quick(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let dir = scratch.join("out");
    let engine = machine.engine()?;
    let container = engine.name("quick");
    let session = Record::containers(machine, &dir, &[&container.name])?.start()?;
    let filter = format!("seccomp={}", machine.permissive());
    container.start(&["--security-opt", &filter, IMAGE])?;
    let network = format!("container:{}", container.name);
    let get = [
        "run",
        "--rm",
        "--network",
        &network,
        "localhost/busybox:1",
        "wget",
        "-q",
        "-O",
        "-",
        "http://127.0.0.1/",
    ];
    program::until("nginx answers", Duration::from_secs(60), || engine.docker(&get).is_ok())?;
    container.verb(&["stop"])?;
    session.finish()?.expect(0)?;

    let fits = run(machine, &dir, &["--image", IMAGE, "--for", "1"])?.expect(0)?;
    let document: Value = serde_json::from_str(&fits.stdout)?;
    ensure!(document["verdict"] == "fits", "{}", fits.text());
    ensure!(document["bound"]["reachable"].as_u64() > Some(60), "{}", fits.text());
    ensure!(document["start"]["verdict"] == "holds", "{}", fits.text());
    ensure!(document["floors"][0]["missing"].as_array().is_some_and(Vec::is_empty), "{document}");

    // redis needs calls that nginx does not
    let other = run(machine, &dir, &["--image", "localhost/redis:1", "--for", "1"])?.expect(1)?;
    let document: Value = serde_json::from_str(&other.stdout)?;
    ensure!(document["verdict"] == "does-not-fit", "{}", other.text());

    let rootfs = run(machine, &dir, &["--rootfs", "/", "--runtime", "runc:1.1.5"])?.expect(3)?;
    let document: Value = serde_json::from_str(&rootfs.stdout)?;
    ensure!(document["verdict"] == "could-not-tell", "{}", rootfs.text());

    // what the runtime needs is not there
    let less = scratch.join("less.json");
    let text = fs_err::read_to_string(dir.join("seccomp.json"))?;
    let mut filter: Value = serde_json::from_str(&text)?;
    for rule in filter["syscalls"].as_array_mut().into_iter().flatten() {
        if let Some(names) = rule["names"].as_array_mut() {
            names.retain(|name| name != "execve");
        }
    }
    fs_err::write(&less, filter.to_string())?;
    let refused = run(machine, &less, &["--rootfs", "/", "--runtime", "runc:1.1.5"])?.expect(1)?;
    let document: Value = serde_json::from_str(&refused.stdout)?;
    ensure!(document["floors"][0]["missing"][0] == "execve", "{}", refused.text());
    Ok(())
}

fn stays_up(machine: &Machine) -> Result<()> {
    let engine = machine.engine()?;
    let wait = "exec sleep 1000";
    let often = ["--health-interval=100ms", "--health-retries=1"];
    let healthy = [often[0], often[1], "--health-cmd=true"];
    let sick = [often[0], often[1], "--health-cmd=false"];
    for (options, script, status, says) in [
        (&[] as &[&str], "sleep 0.2; exit 3", 1, "the container did not stay up: status 3"),
        (&[], "sleep 0.2", 1, "the container did not stay up: status 0"),
        (&healthy, wait, 0, ""),
        (&sick, wait, 1, "its health check says `unhealthy`"),
    ] {
        let container = engine.name("stays");
        let mut words = vec!["create", "--name", &container.name, "--network=none"];
        words.extend(["--stop-timeout=0"]);
        words.extend(options);
        words.extend(["localhost/busybox:1", "sh", "-c", script]);
        engine.docker(&words)?;
        let place = ["--copy-of", &container.name, "--for", "2"];
        let said = run(machine, &machine.permissive(), &place)?.expect(status)?;
        let document: Value = serde_json::from_str(&said.stdout)?;
        let verdict = if status == 0 { "fits" } else { "does-not-fit" };
        let start = &document["start"];
        let told = start["failures"][0].as_str().or(start["down"].as_str()).unwrap_or_default();
        ensure!(document["verdict"] == verdict && told == says, "{script}: {}", said.text());
    }
    Ok(())
}

/// Interrupted while a container is there that is never started, and while its files are.
fn interrupted(machine: &Machine) -> Result<()> {
    let (scratch, engine) = (machine.scratch()?, machine.engine()?);
    let image = format!("localhost/{}:1", engine.name("left").name);
    engine.docker(&["tag", "localhost/nginx:1", &image])?;
    let tried = (|| {
        let profile = machine.permissive();
        let coverage = ["coverage", "--image", &image];
        let quick = ["verify", profile.as_str(), "--quick", "--image", &image, "--for", "100"];
        let files = || {
            let entries = fs_err::read_dir(scratch.path())?.filter_map(Result::ok);
            let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
            anyhow::Ok(names.filter(|name| name.starts_with("profiler-files-")).count())
        };
        let containers = || {
            let all = engine.docker(&["ps", "-a", "--format", "{{.Image}}"])?;
            anyhow::Ok(all.lines().filter(|line| *line == image).count())
        };
        let is_there = |moment: usize| match moment {
            0 => containers().is_ok_and(|number| number > 0),
            _ => files().is_ok_and(|number| number > 0),
        };
        for (moment, words, signal) in [
            (0, &coverage as &[&str], Signal::INT),
            (1, &coverage, Signal::TERM),
            (0, &quick, Signal::TERM),
            (1, &quick, Signal::INT),
        ] {
            let mut command = command(&machine.profiler, words);
            command.env("TMPDIR", scratch.path());
            let running = program::start(engine.environment(&mut command), &[])?;
            program::until("it has begun", Duration::from_secs(60), || is_there(moment))?;
            running.signal(signal);
            let output = running.wait(Duration::from_secs(60))?;
            let left = (files()?, containers()?);
            ensure!(left == (0, 0), "{words:?} left {left:?}\n{}", output.text());
            ensure!(output.status == 128 + signal.as_raw(), "{words:?}: {}", output.text());
        }
        Ok(())
    })();
    engine.docker(&["image", "rm", &image])?;
    tried
}

fn run(machine: &Machine, profile: &Utf8Path, options: &[&str]) -> Result<Output> {
    let words = ["verify", profile.as_str(), "--quick", "--format", "json"];
    let mut quick = command(&machine.profiler, words.iter().chain(options));
    program::run(machine.engine()?.environment(&mut quick), LIMIT)
}
