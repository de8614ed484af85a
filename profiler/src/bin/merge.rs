//! `profiler merge`: recordings of shards, replicas, jobs and kernels into one.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use clap::Args;
use profiler::{ingest, model::merge::Merger, model::recording::Recording, render, session::store};

/// Recordings of one target, of however many shards, replicas, jobs and kernels, are joined in any order; a run that is in
/// several is counted once.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  profiler merge shard-*/recording.json -o recording.json

Exit status: 0 done; 2 usage or environment.")]
pub struct MergeArgs {
    /// Recordings, or result directories that hold one
    #[arg(required = true, value_name = "RECORDING")]
    pub recordings: Vec<PathBuf>,

    /// Write the joined recording to FILE
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,

    /// Take recordings of different targets for recordings of one
    #[arg(long)]
    pub force: bool,
}

/// Reads, adds and drops one recording after the other, and writes what they come to.
pub fn run(args: &MergeArgs) -> Result<ExitCode> {
    let mut merger = if args.force { Merger::of_any_target() } else { Merger::default() };
    for path in &args.recordings {
        merger.add(read(path)?).with_context(|| format!("cannot add `{}`", path.display()))?;
    }
    let text = render::json::recording(&merger.finish()?);
    let dir = args.output.parent().unwrap_or(Path::new(""));
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let name = args.output.file_name().and_then(|name| name.to_str());
    let name =
        name.context("`-o` needs a file\nhint: profiler merge RECORDING... -o recording.json")?;
    store::write(dir, &[(name, text)])?;
    Ok(ExitCode::SUCCESS)
}

/// Reads a recording, or that of a result directory.
pub fn read(path: &Path) -> Result<Recording> {
    let file = if path.is_dir() { path.join("recording.json") } else { path.to_owned() };
    let text = std::fs::read_to_string(&file).with_context(|| {
        format!(
            "cannot read `{}`\nhint: name recordings that `profiler record` wrote: profiler generate DIR/recording.json -o DIR",
            path.display()
        )
    })?;
    ingest::recording::parse(&text).with_context(|| format!("cannot use `{}`", path.display()))
}
