//! `profiler generate`: the same files as a recording writes, from recordings alone.

use std::{io::Write as _, path::Path, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use profiler::{
    ingest,
    model::{merge, policy, purpose::Purpose, recording::Recording},
};

use crate::{args::GenerateArgs, output};

/// The profile to record under.
const PERMISSIVE: &str = profiler::model::seccomp::PERMISSIVE;

/// Reads and joins recordings, and writes their profile.
pub fn run(args: &GenerateArgs) -> Result<ExitCode> {
    let recordings: Vec<Recording> =
        args.recordings.iter().map(|path| read(path)).collect::<Result<_>>()?;
    let recording = merge::merge(recordings)?;
    let no_new_privileges =
        (args.no_new_privileges || args.new_privileges).then_some(args.no_new_privileges);
    let has_runtime = recording.runs.values().any(|run| run.container.is_some());
    if no_new_privileges.is_some() && args.runtime.is_none() && !has_runtime {
        bail!(
            "no runtime started `{}`, so there is none to use no-new-privileges\n\
             hint: add --runtime any",
            recording.target.name
        );
    }
    let purpose = Purpose { runtime: args.runtime.clone(), no_new_privileges };
    let options = policy::Options { learn_denied: args.learn_denied, purpose };
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
