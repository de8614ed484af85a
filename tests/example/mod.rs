//! The application of `examples/taskapp`, by the verb that records, hardens and compares it. The verb judges: it fails when the suite does not
//! pass under the profiles, when a process keeps what it must not have, or when a planted violation passes. Here it is held against what it wrote.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::harness::{
    evidence::Emitted,
    leftovers::expect_whole_files,
    machine::{Machine, Need},
    program,
    test::Test,
};

const NEEDS: [Need; 6] = [
    Need::Bpf,
    Need::Engine,
    Need::Compose,
    Need::Images,
    Need::Tool("pytest-3", "python3-pytest"),
    Need::Tool("nsenter", "util-linux"),
];
const LIMIT: Duration = Duration::from_secs(600);
const SERVICES: [&str; 3] = ["backend", "db", "frontend"];

/// The tests of this group.
pub fn tests() -> Vec<Test> {
    // The project's name is the verb's, and what it measures is worth nothing beside others.
    vec![
        Test::new("example::taskapp", &NEEDS, taskapp).alone(),
        Test::new("example::taskapp_profiles_are_committed", &[], committed),
    ]
}

fn taskapp(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let engine = machine.engine()?;
    let xtask = std::env::var("XTASK_BIN")
        .map_or_else(|_| machine.root.join("target/debug/xtask"), Into::into);
    ensure!(xtask.is_file(), "no `{xtask}`\nhint: cargo build -p xtask");
    let before = engine.containers()?;
    let profiles = scratch.join("profiles");
    let args = ["example", "taskapp", "--rounds", "1", "--output", profiles.as_str()];
    let mut command = program::command(&xtask, args);
    engine.environment(&mut command).env("PROFILER_BIN", &machine.profiler);
    let output = program::run(&mut command, LIMIT)?.expect(0)?;

    let passed = output.stdout.lines().filter(|line| line.contains(" passed in ")).count();
    ensure!(passed >= 3, "the suite did not run three times:\n{}", output.text());
    for service in SERVICES {
        let dir = profiles.join(service);
        expect_whole_files(&dir)?;
        let allowed = Emitted::new(&dir).seccomp()?.allowed().len();
        let row = output.stdout.lines().find(|line| line.starts_with("| system calls that pass"));
        let row = row.with_context(|| output.text())?;
        ensure!(row.split([' ', '|']).any(|word| word == allowed.to_string()), "{allowed}: {row}");
    }
    let planted = output.stdout.lines().filter(|line| line.starts_with("| backend: "));
    let refused = planted.filter(|line| line.contains("| passes | E")).count();
    ensure!(refused >= 3, "little was refused that passes with defaults:\n{}", output.stdout);
    ensure!(engine.containers()? == before, "containers are left");
    let volumes = engine.docker(&["volume", "ls", "-q"])?;
    ensure!(!volumes.contains("taskapp-example"), "volumes are left: {volumes}");
    Ok(())
}

/// What is committed is what its own policy gives.
fn committed(machine: &Machine) -> Result<()> {
    for service in SERVICES {
        let dir = machine.root.join("profiles/examples/taskapp").join(service);
        let scratch = machine.scratch()?;
        for file in ["profile.json", "seccomp.json", "compose.yaml", "kubernetes.yaml"] {
            ensure!(dir.join(file).is_file(), "no `{file}` of {service}");
        }
        let mut lint = program::command(&machine.profiler, ["lint"]);
        lint.arg(dir.join("seccomp.json")).current_dir(scratch.path());
        program::run(&mut lint, LIMIT)?.expect(0).context(service)?;
        let text = fs_err::read_to_string(dir.join("profile.json"))?;
        ensure!(
            text.contains("test_tasks.py::test_create_and_read") || service == "db",
            "{service}: no tests are named"
        );
    }
    Ok(())
}
