//! The wrappers in `examples/`, each on a real recording, and where nothing records.

use std::time::Duration;

use anyhow::{Result, ensure};
use camino::Utf8Path;

use super::{of, set};
use crate::harness::{
    machine::{Machine, Need},
    program,
    record::{Record, Recorded},
    test::Test,
};

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    let needs = [Need::Bpf, Need::Tool("gcc", "gcc")];
    let python = Need::Tool("/usr/bin/pytest-3", "python3-pytest");
    let nextest = Need::Tool("cargo-nextest", "cargo-nextest");
    vec![
        Test::new("labels::example_shell", &needs, shell),
        Test::new("labels::example_pytest", &[needs.as_slice(), &[python]].concat(), pytest),
        Test::new(
            "labels::example_nextest",
            &[needs.as_slice(), &[nextest]].concat(),
            nextest_runner,
        ),
    ]
}

/// Runs a test suite under the recorder, and once more without it.
fn run(
    machine: &Machine,
    dir: &Utf8Path,
    suite: &[&str],
    env: &[(&str, &str)],
) -> Result<Recorded> {
    let mut record = Record::new(machine, dir.join("out"))
        .current_dir(dir)
        .limit(Duration::from_secs(300))
        .env("PROFILER", machine.profiler.as_str())
        .workload(suite);
    let mut alone = program::command(suite[0], &suite[1..]);
    alone.current_dir(dir).env("PROFILER", "/bin/false").env_remove("PROFILER_SOCKET");
    for (name, value) in env {
        record = record.env(name, value);
        alone.env(name, value);
    }
    let recorded = record.run()?.expect(0)?;
    program::run(&mut alone, Duration::from_secs(300))?.expect(0)?;
    Ok(recorded)
}

fn expect(recorded: &Recorded, first: &str, second: &str) -> Result<()> {
    let recording = recorded.recording()?;
    for (nr, labels) in [(278, set([first])), (178, set([second])), (331, set([first, second]))] {
        let found = of(&recording, nr);
        ensure!(found == labels, "{nr} carries {found:?}, not {labels:?}");
    }
    Ok(())
}

fn shell(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let label = machine.root.join("examples/shell/label");
    let calls = machine.fixture("calls")?;
    let script =
        "$1 first $2 -q 278 331; $1 'the second' $2 -q 178 331; $1 fails $2 -q -x 7 || [ $? = 7 ]";
    let suite = ["/bin/sh", "-ec", script, "sh", label.as_str(), calls.as_str()];
    expect(&run(machine, scratch.path(), &suite, &[])?, "first", "the second")
}

fn pytest(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    fs_err::copy(machine.root.join("examples/pytest/conftest.py"), scratch.join("conftest.py"))?;
    let calls = machine.fixture("calls")?;
    let tests = format!(
        "import subprocess, pytest\n\
         def test_first():\n    subprocess.check_call(['{calls}', '-q', '278', '331'])\n\
         @pytest.mark.parametrize('name', ['a\\nb'])\n\
         def test_second(name):\n    subprocess.check_call(['{calls}', '-q', '178', '331'])\n"
    );
    fs_err::write(scratch.join("test_app.py"), tests)?;
    let suite = ["/usr/bin/pytest-3", "-q", "-p", "no:cacheprovider", "test_app.py"];
    let recorded = run(machine, scratch.path(), &suite, &[("PYTHONDONTWRITEBYTECODE", "1")])?;
    expect(&recorded, "test_app.py::test_first", "test_app.py::test_second[a\\nb]")
}

fn nextest_runner(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let calls = machine.fixture("calls")?;
    fs_err::write(
        scratch.join("Cargo.toml"),
        "[package]\nname = \"app\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[lib]\npath = \"app.rs\"\n[workspace]\n",
    )?;
    let test = |name: &str, own: u32| {
        format!(
            "#[test]\nfn {name}() {{\n    let made = std::process::Command::new(\"{calls}\").args([\"-q\", \"{own}\", \"331\"]).status();\n    assert!(made.unwrap().success());\n}}\n"
        )
    };
    fs_err::write(scratch.join("app.rs"), test("first", 278) + &test("second", 178))?;
    let label = machine.root.join("examples/nextest/label");
    let suite = ["cargo", "nextest", "run", "--offline", "--test-threads", "1"];
    let env = [
        ("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER", label.as_str()),
        ("CARGO_TARGET_DIR", &*scratch.join("target").into_string()),
    ];
    expect(&run(machine, scratch.path(), &suite, &env)?, "app first", "app second")
}
