//! Driving `profiler verify` and reading what it says as JSON.

use std::{process::Command, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;

use crate::harness::{
    docker::Engine,
    machine::Machine,
    program::{self, Output},
};

const LIMIT: Duration = Duration::from_secs(200);

/// A `profiler verify` to be run, with `--format json`.
pub fn command(machine: &Machine, profile: &Utf8Path, args: &[&str], tests: &[&str]) -> Command {
    let mut command = program::command(&machine.profiler, ["verify", profile.as_str()]);
    command.args(["--format", "json"]).args(args).arg("--").args(tests);
    if let Ok(engine) = machine.engine() {
        engine.environment(&mut command);
    }
    command
}

/// What it said.
pub struct Said {
    /// Status and both streams.
    pub output: Output,
    /// The document.
    pub json: Value,
}

/// Runs it to its end.
pub fn run(machine: &Machine, profile: &Utf8Path, args: &[&str], tests: &[&str]) -> Result<Said> {
    said(program::run(&mut command(machine, profile, args, tests), LIMIT)?)
}

/// Reads what it said: the document is the last thing on standard output, after what a command itself wrote.
pub fn said(output: Output) -> Result<Said> {
    let at = if output.stdout.starts_with('{') { Some(0) } else { output.stdout.find("\n{") };
    let Some(at) = at else { bail!("no document\n{}", output.text()) };
    let json = serde_json::from_str(&output.stdout[at..]).with_context(|| output.text())?;
    Ok(Said { output, json })
}

impl Said {
    /// Fails unless status and verdict are these.
    pub fn expect(self, status: i32, verdict: &str) -> Result<Said> {
        ensure!(
            self.output.status == status && self.json["verdict"] == verdict,
            "status {} and verdict {}, not {status} and {verdict}\n{}",
            self.output.status,
            self.json["verdict"],
            self.output.text()
        );
        Ok(self)
    }

    /// Names of the denials that are not expected, or are.
    pub fn denied(&self, expected: bool) -> Vec<String> {
        let denials = self.json["denials"].as_array().into_iter().flatten();
        denials
            .filter(|denial| denial["expected"].is_null() != expected)
            .filter_map(|denial| denial["name"].as_str().map(str::to_owned))
            .collect()
    }

    /// Kinds of what was wrong with the filter.
    pub fn faults(&self) -> Vec<String> {
        let faults = self.json["in_force"]["faults"].as_array().into_iter().flatten();
        faults.filter_map(|fault| fault["kind"].as_str().map(str::to_owned)).collect()
    }
}

/// A profile like that of `dir`, without these calls, in a directory of its own.
pub fn without(dir: &Utf8Path, names: &[&str], to: Utf8PathBuf) -> Result<Utf8PathBuf> {
    let mut profile: Value =
        serde_json::from_str(&fs_err::read_to_string(dir.join("profile.json"))?)?;
    let rules = profile["syscalls"].as_array_mut().context("a profile has calls")?;
    let before = rules.len();
    rules.retain(|rule| !names.iter().any(|name| rule["name"] == *name));
    ensure!(rules.len() + names.len() == before, "not all of {names:?} are in {dir}");
    fs_err::create_dir_all(&to)?;
    fs_err::write(to.join("profile.json"), profile.to_string())?;
    Ok(to)
}

/// A network of the test's own, gone when it is dropped.
pub struct Network<'a> {
    engine: &'a Engine,
    /// Its name.
    pub name: String,
}

impl<'a> Network<'a> {
    /// Makes it.
    pub fn new(engine: &'a Engine, what: &str) -> Result<Self> {
        let name = engine.name(what).name.clone();
        engine.docker(&["network", "create", &name])?;
        Ok(Network { engine, name })
    }
}

impl Drop for Network<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.engine.docker(&["network", "rm", &self.name]) {
            eprintln!("network `{}` stays: {error:#}", self.name);
        }
    }
}
