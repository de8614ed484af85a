//! Benchmarks: ratios within one run, never thresholds in tests. Owns the tables in docs/performance.md.

mod table;

use anyhow::{Context as _, Result, ensure};

use crate::{
    apt,
    sh::{cmd, root, say},
};

const DOCS: &str = "docs/performance.md";

/// Arguments of `bench`.
#[derive(clap::Args)]
pub struct Args {
    /// What is measured.
    what: What,
    /// Put the table into docs/performance.md.
    #[arg(long)]
    write_docs: bool,
    /// Hold the ratios against the table in docs/performance.md; one that is worse by more than a fifth is a failure.
    #[arg(long)]
    compare: bool,
}

/// What can be measured.
#[derive(Clone, Copy, clap::ValueEnum)]
enum What {
    /// Nanoseconds per call: untraced, empty program, recorded, bystander; strace, perf trace and bpftrace beside.
    Syscall,
    /// Ways that would cost less than an empty program on `sys_enter`: what they cost, and what they lose.
    Below,
    /// The recorder itself: time until it is armed, memory, the processor at rest.
    Footprint,
    /// Requests a second of redis, nginx and PostgreSQL in containers, recorded against not.
    Servers,
    /// Seconds and memory for merging 100, 1,000 and 10,000 recordings.
    Merge,
}

impl What {
    /// The marks of its tables in the docs.
    const fn marks(self) -> &'static [&'static str] {
        match self {
            What::Syscall => &["syscall"],
            What::Below => &["below", "below, once"],
            What::Footprint => &["footprint"],
            What::Servers => &["servers"],
            What::Merge => &["merge"],
        }
    }

    const fn packages(self) -> &'static [&'static str] {
        match self {
            What::Syscall => &["strace", "bpftrace", "linux-perf"],
            What::Below => &["gcc", "libc6-dev", "libseccomp2"],
            What::Servers => &["curl", "wrk"],
            What::Footprint | What::Merge => &[],
        }
    }
}

/// Builds and runs a benchmark; the table goes to stdout.
///
/// # Errors
/// When it cannot be built or run, when docs/performance.md has no place for its table, and when a ratio is worse than
/// that table's by more than a fifth and `--compare` asks.
pub fn run(args: &Args) -> Result<()> {
    let marks = args.what.marks();
    let name = marks[0];
    let docs = fs_err::read_to_string(root().join(DOCS))?;
    let find =
        |mark| table::find(&docs, mark).with_context(|| format!("no table `{mark}` in {DOCS}"));
    let before = marks.iter().map(|mark| find(mark)).collect::<Result<Vec<_>>>()?;
    apt::ensure(args.what.packages())?;
    cmd("cargo")
        .args(["build", "--release", "--locked", "--package", "profiler-tests", "--bin", "bench"])
        .args(["--package", "profiler", "--bin", "profiler"])
        .dir(root())
        .run()?;
    let mut bench = cmd(root().join("target/release/bench")).arg(name);
    if let What::Servers = args.what {
        for (variable, value) in engine()? {
            bench = bench.env(&variable, value);
        }
    }
    let after = bench.stdout()? + "\n";
    print!("{after}");
    let tables: Vec<String> = after.split("\n\n").map(|t| format!("{}\n", t.trim_end())).collect();
    ensure!(tables.len() == marks.len(), "{} tables, not {}", tables.len(), marks.len());
    if args.write_docs {
        let put =
            |docs: String, (before, after): (&&str, &String)| table::put(&docs, before, after);
        let docs = before.iter().zip(&tables).fold(docs.clone(), put);
        fs_err::write(root().join(DOCS), docs)?;
    }
    if args.compare {
        let compared = table::compare(&before.concat(), &after);
        ensure!(!compared.is_empty(), "no ratio of `{name}` is in both tables");
        say(format_args!("against {DOCS}:"));
        for row in &compared {
            say(row);
        }
        let worse = compared.iter().filter(|row| row.is_worse()).count();
        ensure!(worse == 0, "{worse} of {} ratios are worse by more than a fifth", compared.len());
    }
    Ok(())
}

/// Brings the Docker engine up; what its client needs in the environment.
fn engine() -> Result<Vec<(String, String)>> {
    cmd(std::env::current_exe()?).args(["engines", "up", "docker"]).dir(root()).run()?;
    let env = fs_err::read_to_string(root().join("target/engines/docker/env"))?;
    let pairs = env.lines().filter_map(|line| line.split_once('='));
    Ok(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}
