//! A result on its way out: joined with what is committed, then the files of a target's directory, then its summary.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context as _, Result};
use fs_err as fs;
use profiler::{
    ingest,
    model::{
        merge, policy,
        profile::Profile,
        recording::{Phase, Recording, Verdict},
        syscall, union,
    },
    render::bundle,
    session::store,
};

use crate::tell;

/// What becomes of the result that a directory has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// It is replaced.
    Replace,
    /// It is joined: nothing that it allows is lost.
    Grow,
    /// It is replaced, and what it allowed and the new one does not is told.
    Prune,
}

/// The evidence and the profile that a directory has. A profile is committed, a recording is not: either may be missing,
/// and the profile may allow more than the recording accounts for.
struct Known {
    recording: Option<Recording>,
    profile: Option<Profile>,
}

impl Known {
    fn read(dir: &Path) -> Result<Known> {
        Ok(Known {
            recording: text(&dir.join("recording.json"))?
                .map(|text| ingest::recording::parse(&text))
                .transpose()
                .with_context(|| {
                    format!("cannot use `{}`", dir.join("recording.json").display())
                })?,
            profile: text(&dir.join("profile.json"))?
                .map(|text| ingest::profile::parse(&text))
                .transpose()
                .with_context(|| format!("cannot use `{}`", dir.join("profile.json").display()))?,
        })
    }
}

fn text(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error)
            .context("cannot join with what is there\nhint: write elsewhere with `-o DIR`"),
    }
}

/// Whether what a directory has can be joined with, before anything is recorded.
pub fn check(dir: &Path, committed: Committed) -> Result<()> {
    if committed != Committed::Replace {
        Known::read(dir)?;
    }
    Ok(())
}

/// Derives the profile of a recording, writes all files into `dir`, and prints the summary.
pub fn write(
    recording: &Recording,
    dir: &Path,
    options: &policy::Options,
    committed: Committed,
) -> Result<()> {
    let (recording, profile) = match committed {
        Committed::Replace => (recording.clone(), policy::derive(recording, options)),
        Committed::Grow => grown(recording, &Known::read(dir)?, options)?,
        Committed::Prune => {
            let profile = policy::derive(recording, options);
            pruned(recording, &profile, &Known::read(dir)?)?;
            (recording.clone(), profile)
        }
    };
    let files = bundle::bundle(&recording, &profile, &dir.to_string_lossy());
    store::write(dir, &files)?;
    store::remove_stale(dir, &files, &bundle::NAMES)?;
    tell::summary(&recording, &profile, dir, &files);
    Ok(())
}

fn grown(
    recording: &Recording,
    known: &Known,
    options: &policy::Options,
) -> Result<(Recording, Profile)> {
    let recording = merge::merge(known.recording.iter().chain([recording]).cloned())?;
    let fresh = policy::derive(&recording, options);
    let Some(committed) = &known.profile else { return Ok((recording, fresh)) };
    let (calls, capabilities) = union::unseen(committed, &fresh);
    let calls = calls.into_iter().map(|rule| format!("{} {}", rule.abi, rule.name));
    let capabilities = capabilities.into_iter().map(|rule| format!("CAP_{}", rule.name));
    let kept: Vec<String> = calls.chain(capabilities).collect();
    if !kept.is_empty() {
        tell::note(&format!(
            "kept of the committed profile, though no run at hand has it: {} (`--prune` removes it)",
            kept.join(", ")
        ));
    }
    let profile = union::union(committed, &fresh)?;
    Ok((recording, profile))
}

/// Tells what goes, and how many of the runs at hand did not have it.
fn pruned(recording: &Recording, fresh: &Profile, known: &Known) -> Result<()> {
    let Some(committed) = &known.profile else { return Ok(()) };
    union::union(committed, fresh)?; // refuses another target
    let all = merge::merge(known.recording.iter().chain([recording]).cloned())?;
    let (calls, capabilities) = union::unseen(committed, fresh);
    for rule in calls {
        let facts = all.syscalls.iter().filter(|fact| {
            fact.phase != Phase::Setup
                && fact.abi == rule.abi
                && syscall::display(fact.abi, fact.nr) == rule.name
        });
        let seen = facts.flat_map(|fact| fact.seen.keys()).collect();
        gone(&format!("{} {}", rule.abi, rule.name), &seen, &all);
    }
    for rule in capabilities {
        let number = profiler::model::capability::number(&rule.name);
        let facts = all.capabilities.iter().filter(|fact| {
            fact.phase == Phase::Workload
                && fact.verdict == Verdict::Granted
                && Some(fact.capability) == number
        });
        let seen = facts.flat_map(|fact| fact.seen.keys()).collect();
        gone(&format!("CAP_{}", rule.name), &seen, &all);
    }
    Ok(())
}

fn gone(what: &str, seen: &BTreeSet<&String>, all: &Recording) {
    let runs = all.runs.len();
    tell::note(&format!("pruned {what}: {} of {runs} runs have not seen it", runs - seen.len()));
}
