//! Benchmarks: ratios within one run, never thresholds in tests.

use anyhow::Result;

use crate::{
    apt,
    sh::{cmd, root},
};

/// What can be measured.
#[derive(clap::Subcommand)]
pub enum Bench {
    /// Nanoseconds per call: untraced, empty program, recorded, bystander; strace and bpftrace beside.
    Syscall,
    /// Seconds and memory for merging 1,000 and 10,000 recordings.
    Merge,
}

/// Builds and runs a benchmark; the table goes to stdout.
///
/// # Errors
/// When it cannot be built or run.
pub fn run(bench: &Bench) -> Result<()> {
    let (name, packages): (_, &[&str]) = match bench {
        Bench::Syscall => ("syscall", &["strace", "bpftrace"]),
        Bench::Merge => ("merge", &[]),
    };
    apt::ensure(packages)?;
    cmd("cargo")
        .args(["build", "--release", "--locked", "--package", "profiler-tests", "--bin", "bench"])
        .args(["--package", "profiler", "--bin", "profiler"])
        .dir(root())
        .run()?;
    print!("{}", cmd(root().join("target/release/bench")).arg(name).stdout()?);
    println!();
    Ok(())
}
