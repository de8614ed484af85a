//! `profiler record`: from what was typed to a plan, and from the outcome to files and a summary.

use std::{
    ffi::OsStr,
    fs::File,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use profiler::{
    model::{
        policy,
        recording::{Missing, Phase, Recording},
    },
    session::{self, ContainerPlan, Event, Outcome, Plan, store},
    target::docker::{Docker, Endpoint, Environment},
};

use crate::{
    args::{EnterArgs, RecordArgs},
    exit, output,
    tell::{self, Teller},
};

/// How long the engine may take to answer a question.
const ENGINE_TIMEOUT: Duration = Duration::from_secs(30);

/// Losses of these tables make a profile unsound; of others, less well explained.
const UNSOUND_LOSSES: [&str; 3] = ["syscalls", "scopes", "capabilities"];

/// Records, writes the results, and prints the summary.
pub fn run(args: RecordArgs, debug: bool) -> Result<ExitCode> {
    if args.containers.is_empty() && args.command.is_empty() {
        bail!(
            "nothing to record\nhint: profiler record --container NAME, or profiler record -- COMMAND"
        );
    }
    if args.containers.iter().any(String::is_empty) {
        bail!("`--container` needs a name\nhint: docker ps");
    }
    let name = result_name(&args);
    let dir = args.output.clone().unwrap_or_else(|| Path::new("profiles").join(&name));
    let several = args.containers.len() > 1;
    let _prepared = store::prepare(&dir)?;
    let ready = args.ready_fd.map(open_ready).transpose()?;
    let plan = Plan { name, command: args.command.clone(), duration: args.duration, ready, debug };

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut teller = Teller::new();
    let outcome = runtime.block_on(async {
        if args.containers.is_empty() {
            return anyhow::Ok(session::record_command(plan, |event| teller.event(&event)).await?);
        }
        let endpoint = Endpoint::resolve(args.docker_host.as_deref(), &Environment::of_process())?;
        let docker = Docker::connect(&endpoint, ENGINE_TIMEOUT).await?;
        let containers = ContainerPlan {
            names: args.containers.clone(),
            wait: !args.no_wait,
            restart: args.restart,
        };
        let tell = |event: Event| teller.event(&event);
        Ok(session::record_containers(plan, containers, &docker, tell).await?)
    });
    teller.end();
    write(&outcome?, &dir, several)
}

/// Serves the hidden `__enter`.
pub fn enter(args: &EnterArgs) -> Result<ExitCode> {
    let error = session::enter(&args.command);
    let program = args.command.first().map(|word| word.to_string_lossy()).unwrap_or_default();
    tell::error(&anyhow::Error::new(error).context(format!("cannot execute `{program}`")));
    Ok(exit::CANNOT_EXECUTE.into())
}

fn write(outcome: &Outcome, dir: &Path, several: bool) -> Result<ExitCode> {
    for recorded in &outcome.recordings {
        let dir = if several { dir.join(file_name(&recorded.name)) } else { dir.to_owned() };
        output::write(&recorded.recording, &dir, &policy::Options::default())?;
    }
    for name in &outcome.never_ran {
        tell::error(&anyhow::anyhow!(
            "container `{name}` did not run while it was recorded\nhint: start it while profiler waits, or check its name with `docker ps --all`"
        ));
    }
    let complete = outcome.never_ran.is_empty()
        && outcome.recordings.iter().all(|recorded| is_complete(&recorded.recording));
    Ok(match outcome.command_status {
        Some(status) if status != 0 => ExitCode::from(u8::try_from(status).unwrap_or(1)),
        _ if !complete => exit::INCOMPLETE.into(),
        _ => ExitCode::SUCCESS,
    })
}

/// Whether the target ran, and everything that it did while it was recorded is in the recording.
fn is_complete(recording: &Recording) -> bool {
    let ran = recording.syscalls.iter().any(|fact| fact.phase == Phase::Workload);
    ran && !recording.runs.values().flat_map(|run| &run.missing).any(|missing| match missing {
        Missing::Lost { what, .. } => UNSOUND_LOSSES.contains(&what.as_str()),
        Missing::Engine => true,
        _ => false,
    })
}

fn open_ready(fd: u32) -> Result<File> {
    File::options()
        .write(true)
        .open(format!("/proc/self/fd/{fd}"))
        .with_context(|| {
            format!(
                "cannot write to file descriptor `{fd}` of `--ready-fd`\nhint: open it first: profiler record --ready-fd {fd} ... {fd}>FILE"
            )
        })
}

/// What the result is called when nobody says.
fn result_name(args: &RecordArgs) -> String {
    let program = || {
        let program = args.command.first().map(PathBuf::from).unwrap_or_default();
        program.file_name().unwrap_or(OsStr::new("command")).to_string_lossy().into_owned()
    };
    let name = args.name.clone().or_else(|| args.containers.first().cloned());
    file_name(&name.unwrap_or_else(program))
}

/// A name that is one harmless path component: what is not a letter, digit, `.`, `_` or `-` becomes
/// `_`, and so does a leading dot.
fn file_name(name: &str) -> String {
    let mut safe: String = name
        .trim_start_matches('/')
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' })
        .take(128)
        .collect();
    if safe.is_empty() || safe.starts_with('.') {
        safe.insert(0, '_');
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside_their_directory() {
        assert_eq!(file_name("backend"), "backend");
        assert_eq!(file_name("/backend"), "backend");
        assert_eq!(file_name("../../etc"), "_.._.._etc");
        assert_eq!(file_name(".."), "_..");
        assert_eq!(file_name("a b\n\x1b[31m"), "a_b___31m");
        assert_eq!(file_name(""), "_");
        assert_eq!(file_name(&"x".repeat(4096)).len(), 128);
    }
}
