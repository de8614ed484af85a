//! `verify --quick`: a profile fits the image that it was recorded from, not another, and not without what the runtime
//! needs; without a start it cannot be told.

use std::time::Duration;

use anyhow::{Result, ensure};
use camino::Utf8Path;
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
    vec![Test::new("bound::quick_says_what_fits", &needs, quick)]
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

fn run(machine: &Machine, profile: &Utf8Path, options: &[&str]) -> Result<Output> {
    let words = ["verify", profile.as_str(), "--quick", "--format", "json"];
    let mut quick = command(&machine.profiler, words.iter().chain(options));
    program::run(machine.engine()?.environment(&mut quick), LIMIT)
}
