//! What `generate --runtime` makes starts there, and only there.

use std::{
    env,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;

use crate::harness::{
    evidence::Emitted,
    machine::{Machine, Need},
    program::{self, Output},
    record::Record,
    test::Test,
};

/// Packages may have to be fetched.
const LIMIT: Duration = Duration::from_secs(300);
/// One checkout has one root for each release.
static ROOTS: Mutex<()> = Mutex::new(());

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    let engine = [
        Need::Bpf,
        Need::Engine,
        Need::Tool("strace", "strace"),
        Need::Tool("busybox", "busybox-static"),
    ];
    vec![
        Test::new("floors::a_profile_starts_under_what_it_is_for", &engine, for_another),
        Test::new("floors::a_command_gets_any_runtime", &engine, of_a_command),
    ]
}

fn for_another(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let runc = scratch.join("runc");
    record(machine, &runc)?;
    let json = fs_err::read_to_string(runc.join("recording.json"))?;
    ensure!(json.contains("\"runtime\": \"runc\""), "this engine's containers are started by runc");
    // The same calls, told of crun: as evidence of crun's own they are worth nothing, and for runc none is left.
    let crun = scratch.join("crun");
    fs_err::create_dir(&crun)?;
    fs_err::write(crun.join("recording.json"), as_crun(&json)?)?;

    let recorded = generate(machine, &runc, &[])?;
    starts(machine, &recorded, &["runc@bookworm"])?;

    let for_crun = generate(machine, &runc, &["--runtime", "crun"])?;
    starts(machine, &for_crun, &["crun@bookworm", "crun@trixie"])?;
    fails(machine, &for_crun, &["runc@bookworm"])?;

    let for_runc = generate(machine, &crun, &["--runtime", "runc"])?;
    starts(machine, &for_runc, &["runc@bookworm", "runc@trixie"])?;
    fails(machine, &for_runc, &["crun@bookworm"])?;

    let any = generate(machine, &runc, &["--runtime", "any"])?;
    starts(machine, &any, &["bookworm", "trixie"])?;

    let later = generate(machine, &runc, &["--runtime", "runc:1.1.5", "--no-new-privs"])?;
    starts(machine, &later, &["runc@bookworm", "--no-new-privileges"])?;
    fails(machine, &later, &["runc@bookworm"])?;
    let (fewer, more) = (allowed(&later)?, allowed(&recorded)?);
    ensure!(fewer < more, "{fewer} calls with no-new-privileges, {more} without");
    let compose = fs_err::read_to_string(later.with_file_name("compose.yaml"))?;
    ensure!(compose.contains("no-new-privileges:true"), "{compose}");
    Ok(())
}

fn of_a_command(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let out = scratch.join("out");
    let calls = machine.fixture("calls")?;
    Record::new(machine, &out).workload([calls.as_str(), "-q", "278"]).run()?.expect(0)?;
    let own = generate(machine, &out, &[])?;
    fails(machine, &own, &["crun@bookworm"])?;
    let any = generate(machine, &out, &["--runtime", "any"])?;
    starts(machine, &any, &["bookworm", "trixie"])
}

/// A container of the engine, under the permissive profile.
fn record(machine: &Machine, dir: &Utf8Path) -> Result<()> {
    let engine = machine.engine()?;
    let container = engine.name("floors");
    let image = engine.fixture_image(machine)?;
    let seccomp = format!("seccomp={}", machine.permissive());
    let session =
        Record::containers(machine, dir, &[&container.name])?.args(["--name", "app"]).start()?;
    container
        .run(&["--network=none", "--security-opt", &seccomp, &image, "/bin/calls", "-q", "278"])?
        .expect(0)?;
    session.finish()?.expect(0)?;
    Ok(())
}

fn as_crun(json: &str) -> Result<String> {
    let mut recording: Value = serde_json::from_str(json)?;
    for run in recording["runs"].as_object_mut().into_iter().flat_map(|runs| runs.values_mut()) {
        run["container"]["runtime"] = "crun".into();
        run["container"]["runtime_version"] = "1.8.1".into();
    }
    Ok(recording.to_string())
}

/// The seccomp file that `generate` makes of the recording in `dir`.
fn generate(machine: &Machine, dir: &Utf8Path, options: &[&str]) -> Result<Utf8PathBuf> {
    let out = dir.join(format!("for{}", options.concat().replace(['-', ':', '.'], "")));
    let file = dir.join("recording.json");
    let args = ["generate", file.as_str(), "-o", out.as_str()];
    program::run(program::command(&machine.profiler, args).args(options), LIMIT)?.expect(0)?;
    Ok(out.join("seccomp.json"))
}

fn allowed(seccomp: &Utf8Path) -> Result<usize> {
    let dir = seccomp.parent().unwrap_or(seccomp);
    Ok(Emitted::new(dir).seccomp()?.allowed().len())
}

fn starts(machine: &Machine, seccomp: &Utf8Path, runtimes: &[&str]) -> Result<()> {
    attempt(machine, seccomp, runtimes)?.expect(0).map(drop)
}

fn fails(machine: &Machine, seccomp: &Utf8Path, runtimes: &[&str]) -> Result<()> {
    let output = attempt(machine, seccomp, runtimes)?.expect(1)?;
    ensure!(output.stderr.contains(&format!("error: under `{seccomp}`")), "{}", output.text());
    Ok(())
}

/// `XTASK_BIN` is what `cargo xtask test` was started as.
fn attempt(machine: &Machine, seccomp: &Utf8Path, runtimes: &[&str]) -> Result<Output> {
    let xtask =
        env::var("XTASK_BIN").map_or_else(|_| machine.root.join("target/debug/xtask"), Into::into);
    ensure!(xtask.is_file(), "no `{xtask}`\nhint: cargo build -p xtask");
    let _alone = ROOTS.lock().unwrap_or_else(PoisonError::into_inner);
    let args = ["floors", "--try", seccomp.as_str()];
    program::run(program::command(&xtask, args).args(runtimes), LIMIT)
}
