//! `cargo xtask test`: every test of the project, with the set-up that it needs.
//!
//! Owns the order, the set-up and the sum. What a test does is its own business; what cannot run here says so itself.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    apt,
    sh::{cmd, root, say},
};

/// What the tests compile with, compare with and look with.
const PACKAGES: [&str; 25] = [
    "bpftool",
    "busybox-static",
    "curl",
    "gcc",
    "gcc-aarch64-linux-gnu",
    "git",
    "gosu",
    "iproute2",
    "lib32gcc-12-dev",
    "libc6-dev",
    "libc6-dev-arm64-cross",
    "libc6-dev-i386",
    "libfaketime",
    "mawk",
    "musl-tools",
    "openssh-client",
    "openssl",
    "procps",
    "python3",
    "python3-pytest",
    "python3-seccomp",
    "qemu-user-static",
    "strace",
    "stress-ng",
    "xz-utils",
];

/// Arguments of `test`.
#[derive(clap::Args)]
pub struct Args {
    /// Only tests whose name contains this.
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// List the tests and run none.
    #[arg(long)]
    list: bool,
    /// Leave the engines up that this run has started.
    #[arg(long)]
    keep_engines: bool,
}

/// Sums over test binaries.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sum {
    passed: u64,
    failed: u64,
    skipped: u64,
}

/// Runs the verb. The last line printed is `N passed, N failed, N skipped`.
///
/// # Errors
/// When the set-up fails, something does not compile, or a test fails.
pub fn run(args: &Args) -> Result<()> {
    let before = if args.list { Engines::Untouched } else { set_up()? };
    let outcome = run_all(args);
    if before == Engines::Started && !args.keep_engines {
        engines("down")?;
    }
    let (sum, broken) = outcome?;
    if args.list {
        return Ok(());
    }
    println!("{} passed, {} failed, {} skipped", sum.passed, sum.failed, sum.skipped);
    if sum.failed > 0 || !broken.is_empty() {
        bail!(
            "failed: {}",
            if broken.is_empty() { "see above".to_owned() } else { broken.join(", ") }
        );
    }
    Ok(())
}

/// Whether engines are this run's to stop.
#[derive(PartialEq, Eq)]
enum Engines {
    Untouched,
    Started,
}

/// Packages and engines, as far as this user can have them. Without root the tests say why they are skipped.
fn set_up() -> Result<Engines> {
    if !rustix::process::geteuid().is_root() {
        say("not root: packages and engines are taken as they are");
        return Ok(Engines::Untouched);
    }
    apt::ensure(&PACKAGES)?;
    let was_up = engines("status")?.lines().all(|line| line.contains(": up"));
    engines("up")?;
    Ok(if was_up { Engines::Untouched } else { Engines::Started })
}

fn engines(action: &str) -> Result<String> {
    cmd(std::env::current_exe()?).args(["engines", action]).dir(root()).stdout()
}

/// Runs the tests of the default members and then the suite; the sum, and what failed other than by a test.
fn run_all(args: &Args) -> Result<(Sum, Vec<&'static str>)> {
    let filter: Vec<&str> = args.filter.as_deref().into_iter().collect();
    let list: &[&str] = if args.list { &["--list"] } else { &[] };
    let mut sum = Sum::default();
    let mut broken = Vec::new();

    // What users run is what is tested.
    cmd("cargo").args(["build", "--release", "-p", "profiler"]).dir(root()).run()?;
    let mut unit = cargo(&["test", "--no-fail-fast", "--"]);
    unit.args(&filter).args(list);
    let mut suite = cargo(&["test", "-p", "profiler-tests", "--test", "suite", "--"]);
    suite.args(&filter).args(list).env("PROFILER_BIN", release_binary());
    suite.env("XTASK_BIN", std::env::current_exe()?);
    for (what, command) in [("cargo test", unit), ("the suite", suite)] {
        let (own, success) = run_one(command).with_context(|| format!("cannot run {what}"))?;
        if !success && own.failed == 0 {
            broken.push(what);
        }
        sum.passed += own.passed;
        sum.failed += own.failed;
        sum.skipped += own.skipped;
    }
    Ok((sum, broken))
}

fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(args).current_dir(root()).stdin(Stdio::null());
    command
}

fn release_binary() -> String {
    let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".to_owned());
    root().join(target).join("release/profiler").into_string()
}

/// Runs test binaries, shows what they print, and adds up their results.
fn run_one(mut command: Command) -> Result<(Sum, bool)> {
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let mut sum = Sum::default();
    let stdout = child.stdout.take().context("standard output is piped")?;
    for line in BufReader::new(stdout).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        sum.add(&line);
        println!("{line}");
    }
    Ok((sum, child.wait()?.success()))
}

impl Sum {
    /// Adds a line of the form `test result: ok. 3 passed; 0 failed; 1 ignored; ...`; others are nothing to it.
    fn add(&mut self, line: &str) {
        let Some(result) = line.trim_start().strip_prefix("test result: ") else { return };
        for part in result.split([';', '.']) {
            let mut words = part.split_whitespace();
            let (Some(Ok(count)), Some(what)) = (words.next().map(str::parse::<u64>), words.next())
            else {
                continue;
            };
            match what {
                "passed" => self.passed += count,
                "failed" => self.failed += count,
                "ignored" => self.skipped += count,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_all_binaries_are_added() {
        let mut sum = Sum::default();
        for line in [
            "running 4 tests",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.00s",
            "test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 12.31s",
            "a test that prints test result: ok. 5 passed;",
        ] {
            sum.add(line);
        }
        assert_eq!(sum, Sum { passed: 13, failed: 2, skipped: 1 });
    }
}
