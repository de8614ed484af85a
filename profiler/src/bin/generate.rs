//! `profiler generate`: the same files as a recording writes, from recordings alone.

use std::{io::Write as _, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use profiler::model::{coverage, merge::Merger, policy, purpose::Purpose};

use crate::{args::GenerateArgs, merge, output, stack};

/// The profile to record under.
const PERMISSIVE: &str = profiler::model::seccomp::PERMISSIVE;

/// Reads and joins recordings, and writes their profile.
pub fn run(args: &GenerateArgs) -> Result<ExitCode> {
    let mut merger = Merger::default();
    for path in &args.recordings {
        merger.add(merge::read(path)?)?;
    }
    let recording = merger.finish()?;
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
    let purpose =
        Purpose { runtime: args.runtime.clone(), no_new_privileges, ..Purpose::default() };
    let options = policy::Options {
        learn_denied: args.learn_denied,
        purpose,
        portable: args.portable,
        arch: args.arch,
        ..policy::Options::default()
    };
    let choices = output::Choices {
        options,
        arguments: args.narrow.choice(),
        harden: args.harden.kinds(),
        ..output::Choices::default()
    };
    if choices.harden.is_some() && !recording.target.kind.is_container() {
        return Err(crate::hardening::only_of_containers(&recording.target));
    }
    let (dir, committed) = args.into.destination(args.output.as_deref());
    let dir =
        dir.context("no directory to write to\nhint: profiler generate RECORDING... -o DIR")?;
    let recording = output::write(&recording, &dir.into(), &choices, committed)?;
    stack::renew(dir)?;
    Ok(args.least.status(&coverage::coverage(&recording)))
}

/// Prints the profile to record under.
pub fn permissive() -> Result<ExitCode> {
    std::io::stdout().write_all(PERMISSIVE.as_bytes()).context("cannot write to stdout")?;
    Ok(ExitCode::SUCCESS)
}
