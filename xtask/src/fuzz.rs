//! `cargo xtask fuzz`: libFuzzer on each parser, built with the one stable toolchain.
//!
//! Owns how the targets of `fuzz/` are built and run, and their bounds. Which parsers there are, and what must hold of what
//! they take, is `profiler::fuzz`. It reads seeds where they are, and writes below `target/fuzz` only.

use std::thread;

use anyhow::{Context as _, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};

use crate::{
    apt,
    sh::{cmd, root, say},
};

/// What `cargo fuzz run -s none` passes: coverage for libFuzzer, which needs no nightly compiler; a sanitizer would.
const RUSTFLAGS: [&str; 8] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cdebug-assertions",
    "-Coverflow-checks",
];

/// Bounds on one input: its bytes, and how long a parser may take for it and what of memory. The inputs' order is the same each
/// time, for the same seeds.
const BOUNDS: [&str; 4] = ["-max_len=32768", "-timeout=10", "-rss_limit_mb=1024", "-seed=1"];

/// Seeds for every target, read only. Those of one target are in `fuzz/seeds`.
const SEEDS: [&str; 2] = ["profiler/tests/data", "tests/corpus"];

/// Arguments of `fuzz`.
#[derive(clap::Args)]
pub struct Args {
    /// Only these; `fuzz/fuzz_targets` has them.
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// How long each runs.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
}

/// Runs the verb: as many targets at a time as there are processors.
///
/// # Errors
/// When a target does not build, or finds an input that panics, takes too long or too much memory: the message has its path.
pub fn run(args: &Args) -> Result<()> {
    let known = known()?;
    if let Some(other) = args.targets.iter().find(|target| !known.contains(target)) {
        bail!("there is no target `{other}`\nhint: cargo xtask fuzz {}", known.join(" "));
    }
    let targets = if args.targets.is_empty() { &known } else { &args.targets };
    let built = build(targets)?;
    let at_once = thread::available_parallelism().map_or(1, usize::from);
    let mut failed = Vec::new();
    for targets in targets.chunks(at_once) {
        let outcomes: Vec<Result<String>> = thread::scope(|scope| {
            let built = &built;
            let started: Vec<_> = targets
                .iter()
                .map(|target| scope.spawn(move || fuzz(built, target, args.seconds)))
                .collect();
            let panicked = |_| bail!("a thread of the fuzzer's panicked");
            started.into_iter().map(|thread| thread.join().unwrap_or_else(panicked)).collect()
        });
        for (target, outcome) in targets.iter().zip(outcomes) {
            match outcome {
                Ok(done) => say(format_args!("fuzz: {target}: {done}")),
                Err(error) => failed.push(format!("`{target}`: {error:#}")),
            }
        }
    }
    if !failed.is_empty() {
        bail!("{}", failed.join("\n"));
    }
    Ok(())
}

/// The names of the targets.
fn known() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in root().join("fuzz/fuzz_targets").read_dir_utf8()? {
        names.extend(entry?.path().file_stem().map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

/// Builds the targets; the directory that has them.
fn build(targets: &[String]) -> Result<Utf8PathBuf> {
    if !cmd("c++").arg("--version").succeeds() {
        apt::ensure(&["g++"])?; // libFuzzer is C++
    }
    let version = cmd("rustc").arg("-vV").stdout()?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("`rustc -vV` names no host")?;
    let out = root().join("target/fuzz/build");
    say("fuzz: building");
    // With `--target`, what runs while building is not instrumented.
    cmd("cargo")
        .args(["build", "--quiet", "--locked", "--target", host, "--target-dir", out.as_str()])
        .args(targets.iter().flat_map(|target| ["--bin", target]))
        .env("CARGO_ENCODED_RUSTFLAGS", RUSTFLAGS.join("\x1f"))
        .dir(root().join("fuzz"))
        .run()?;
    Ok(out.join(host).join("debug"))
}

/// Runs a target; how much it has done.
fn fuzz(built: &Utf8Path, target: &str, seconds: u32) -> Result<String> {
    let work = root().join("target/fuzz");
    let (corpus, found) = (work.join("corpus").join(target), work.join("found").join(target));
    fs_err::create_dir_all(&corpus)?;
    fs_err::create_dir_all(&found)?;
    let own = root().join("fuzz/seeds").join(target);
    let seeds = SEEDS.map(|seeds| root().join(seeds)).into_iter().chain(Some(own));
    let program = built.join(target);
    let output = cmd(&program)
        .args(BOUNDS)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={found}/"))
        .arg(&corpus) // the first is written to, the others are not
        .args(seeds.filter(|seeds| seeds.exists()))
        .capture()?;
    let text = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        let done = text.lines().rfind(|line| line.starts_with("Done "));
        return Ok(done.context("it does not say that it is done")?.to_owned());
    }
    let input = text.lines().find_map(|line| line.split_once("Test unit written to "));
    let input = input.with_context(|| format!("{}, without an input: {text}", output.status))?.1;
    let said = text.lines().find(|line| line.contains("panicked at") || line.contains("ERROR:"));
    bail!(
        "`{input}`: {}\nhint: {program} {input}",
        said.unwrap_or("it does not say why").trim_start_matches("==")
    )
}
