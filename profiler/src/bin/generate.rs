//! `profiler generate`: the same files as a recording writes, from recordings alone.

use std::{io::Write as _, process::ExitCode};

use anyhow::{Context as _, Result};
use profiler::model::{merge::Merger, policy};

use crate::{args::GenerateArgs, merge, output};

/// The profile to record under.
const PERMISSIVE: &str = profiler::model::seccomp::PERMISSIVE;

/// Reads and joins recordings, and writes their profile.
pub fn run(args: &GenerateArgs) -> Result<ExitCode> {
    let mut merger = Merger::default();
    for path in &args.recordings {
        merger.add(merge::read(path)?)?;
    }
    let options = policy::Options { learn_denied: args.learn_denied };
    let (dir, committed) = args.into.destination(args.output.as_deref());
    let dir =
        dir.context("no directory to write to\nhint: profiler generate RECORDING... -o DIR")?;
    output::write(&merger.finish()?, dir, &options, committed)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the profile to record under.
pub fn permissive() -> Result<ExitCode> {
    std::io::stdout().write_all(PERMISSIVE.as_bytes()).context("cannot write to stdout")?;
    Ok(ExitCode::SUCCESS)
}
