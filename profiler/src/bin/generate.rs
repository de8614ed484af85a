//! `profiler generate`: the same files as a recording writes, from recordings alone.

use std::{io::Write as _, path::Path, process::ExitCode};

use anyhow::{Context as _, Result};
use profiler::{
    ingest,
    model::{merge, policy, recording::Recording},
};

use crate::{args::GenerateArgs, output};

/// The profile to record under.
const PERMISSIVE: &str = profiler::model::seccomp::PERMISSIVE;

/// Reads and joins recordings, and writes their profile.
pub fn run(args: &GenerateArgs) -> Result<ExitCode> {
    let recordings: Vec<Recording> =
        args.recordings.iter().map(|path| read(path)).collect::<Result<_>>()?;
    let recording = merge::merge(recordings)?;
    let options = policy::Options { learn_denied: args.learn_denied };
    output::write(&recording, &args.output, &options)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the profile to record under.
pub fn permissive() -> Result<ExitCode> {
    std::io::stdout().write_all(PERMISSIVE.as_bytes()).context("cannot write to stdout")?;
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> Result<Recording> {
    let text = std::fs::read_to_string(path).with_context(|| {
        format!(
            "cannot read `{}`\nhint: name recordings that `profiler record` wrote: profiler generate DIR/recording.json -o DIR",
            path.display()
        )
    })?;
    ingest::recording::parse(&text).with_context(|| format!("cannot use `{}`", path.display()))
}
