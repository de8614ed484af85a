//! What a program calls only when something has failed is told apart, whatever the compiler made of it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::harness::{
    machine::{Machine, Need},
    program::{self, command},
    test::Test,
};

const LIMIT: Duration = Duration::from_secs(300);

/// Each call of the fixture, and whether it is on error paths only.
const CALLS: [(&str, bool); 5] = [
    ("acct", true),
    ("vhangup", true),
    ("settimeofday", true),
    ("quotactl", false),
    ("swapoff", false),
];

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    let levels = ["-O0", "-O1", "-O2", "-Os"];
    let test = |level: &'static str| {
        let name = format!("bound::error_paths_at_{}", &level[1..]);
        Test::new(name, &[Need::Tool("gcc", "gcc")], move |machine| apart(machine, level))
    };
    levels.into_iter().map(test).collect()
}

fn apart(machine: &Machine, level: &str) -> Result<()> {
    let scratch = machine.scratch()?;
    let (source, program) = (machine.root.join("tests/fixtures/errors.c"), scratch.join("errors"));
    let words = [level, "-o", program.as_str(), source.as_str()];
    program::run(&mut command("gcc", words), LIMIT)?.expect(0)?;
    let words = ["coverage", "--rootfs", "/", "--format", "json", "--program", program.as_str()];
    let output = program::run(&mut command(&machine.profiler, words), LIMIT)?.expect(0)?;
    let surface: Value = serde_json::from_str(&output.stdout).with_context(|| output.text())?;
    let lists = ["unseen", "unseen_and_denied"].map(|list| surface[list].as_array());
    let calls: Vec<&Value> = lists.into_iter().flatten().flatten().collect();
    for (name, on_error_paths) in CALLS {
        let found = calls.iter().find(|call| call["name"] == name && call["abi"] == "x86_64");
        let found = found.with_context(|| format!("{name} is reachable: {surface}"))?;
        ensure!(
            found["on_error_paths"].as_bool().unwrap_or(false) == on_error_paths,
            "{level}: {found}"
        );
    }
    // what every program does needs no error
    for name in ["openat", "mmap", "write", "exit_group"] {
        let found = calls.iter().find(|call| call["name"] == name);
        ensure!(found.is_some_and(|call| call["on_error_paths"].is_null()), "{name}: {found:?}");
    }
    Ok(())
}
