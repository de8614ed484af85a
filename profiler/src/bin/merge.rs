//! `profiler merge`: recordings of shards, replicas, jobs and kernels into one.

use std::{
    mem::ManuallyDrop,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use clap::Args;
use profiler::{
    ingest,
    model::{coverage, merge::Merger, recording::Recording},
    render, report,
    session::store,
};

use crate::{input, tell};

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

/// Joins the recordings and writes what they come to.
pub fn run(args: &MergeArgs) -> Result<ExitCode> {
    // the process ends soon: freeing millions of small strings one by one would take a tenth of the time
    let joined = ManuallyDrop::new(join(&args.recordings, args.force)?);
    let text = render::json::merged(&joined);
    let coverage = format!("coverage: {}", report::coverage::line(&coverage::coverage(&joined)));
    let dir = args.output.parent().unwrap_or(Path::new(""));
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let name = args.output.file_name().and_then(|name| name.to_str());
    let name =
        name.context("`-o` needs a file\nhint: profiler merge RECORDING... -o recording.json")?;
    store::write(dir, &[(name, text)])?;
    tell::note(&coverage);
    Ok(ExitCode::SUCCESS)
}

/// Joins files on all processors: each joins a part of them, and then the parts are joined.
pub fn join(paths: &[PathBuf], force: bool) -> Result<Recording> {
    let merger = || if force { Merger::of_any_target() } else { Merger::default() };
    let part = &|paths: &[PathBuf]| -> Result<Recording> {
        let mut merger = merger();
        for path in paths {
            merger.add(read(path)?).with_context(|| format!("cannot add `{}`", path.display()))?;
        }
        Ok(merger.finish()?)
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let size = paths.len().div_ceil(threads).max(1);
    if paths.len() <= threads {
        return part(paths);
    }
    let parts: Vec<Result<Recording>> = std::thread::scope(|scope| {
        let started: Vec<_> =
            paths.chunks(size).map(|paths| scope.spawn(move || part(paths))).collect();
        let panicked = |_| Err(anyhow::anyhow!("a thread of the merge panicked"));
        started.into_iter().map(|thread| thread.join().unwrap_or_else(panicked)).collect()
    });
    let mut merger = merger();
    for part in parts {
        merger.add(part?)?;
    }
    Ok(merger.finish()?)
}

/// Reads a recording, or that of a result directory.
pub fn read(path: &Path) -> Result<Recording> {
    let file = if path.is_dir() { path.join("recording.json") } else { path.to_owned() };
    let hint =
        "name recordings that `profiler record` wrote: profiler generate DIR/recording.json -o DIR";
    let text = input::text(&file, hint)?;
    ingest::recording::parse(&text).with_context(|| format!("cannot use `{}`", path.display()))
}
