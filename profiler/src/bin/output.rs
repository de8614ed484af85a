//! A result on its way out: joined with what is committed, then the files of a target's directory, then its summary.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail};
use profiler::{
    ingest,
    model::{
        harden::{Harden, Kind},
        merge, policy,
        profile::{Arguments, CapabilityRule, Profile, SyscallRule},
        recording::Recording,
        union,
    },
    render::{bundle, compose},
    session::store::{self, Place},
    target::compose::Project,
};

use crate::{stack, tell};

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

/// What the user asked for.
#[derive(Debug, Default)]
pub struct Choices {
    /// The arguments aside.
    pub options: policy::Options,
    /// Which arguments the profile looks into; when absent, those that the committed one does.
    pub arguments: Option<Arguments>,
    /// The advice to carry; when absent, that which the committed one has.
    pub harden: Option<BTreeSet<Kind>>,
    /// What compose says of the project's files, whose directory is the one from which it takes paths; when absent, that is this
    /// process's, and the names of the files are those that the override at hand has.
    pub project: Option<Project>,
    /// The arguments up to the command, when this records.
    pub given: Option<Vec<String>>,
}

impl Choices {
    /// What is derived in place of a committed profile, or without one.
    fn options(&self, committed: Option<&Profile>) -> policy::Options {
        let known = committed.map(|profile| profile.made_for.arguments);
        let arguments = self.arguments.or(known).unwrap_or_default();
        let harden = self.harden.clone().or_else(|| committed.map(kinds)).unwrap_or_default();
        policy::Options { arguments, harden, ..self.options.clone() }
    }

    /// What is derived to be joined with a committed profile: advice of the kinds that it has, no more and no less.
    fn growing(&self, committed: &Profile) -> policy::Options {
        policy::Options { harden: kinds(committed), ..self.options(Some(committed)) }
    }
}

fn kinds(profile: &Profile) -> BTreeSet<Kind> {
    profile.harden.as_ref().map(Harden::kinds).unwrap_or_default()
}

/// The evidence and the profile that a directory has. A profile is committed, a recording is not: either may be missing,
/// and the profile may allow more than the recording accounts for.
struct Known {
    recording: Option<Recording>,
    profile: Option<Profile>,
}

impl Known {
    fn read(place: &Place) -> Result<Known> {
        let dir = &place.path();
        Ok(Known {
            recording: text(place, "recording.json")?
                .map(|text| ingest::recording::parse(&text))
                .transpose()
                .with_context(|| {
                    format!("cannot use `{}`", dir.join("recording.json").display())
                })?,
            profile: text(place, "profile.json")?
                .map(|text| ingest::profile::parse(&text))
                .transpose()
                .with_context(|| format!("cannot use `{}`", dir.join("profile.json").display()))?,
        })
    }
}

fn text(place: &Place, name: &str) -> Result<Option<String>> {
    let path = place.path().join(name);
    place.read(name).with_context(|| {
        format!("cannot join with `{}`\nhint: write elsewhere with `-o DIR`", path.display())
    })
}

/// Whether a directory takes a result, and what it has can be joined with, before anything is recorded.
pub fn check(place: &Place, committed: Committed) -> Result<()> {
    let dir = place.path();
    let has = |name: &&str| dir.join(name).exists();
    if has(&"seccomp.json") && !["profile.json", "recording.json"].iter().any(has) {
        bail!(
            "`{}` has a seccomp.json and no profile.json, by which it could grow\n\
             hint: write elsewhere with `-o DIR`, and compare: profiler diff",
            dir.display()
        );
    }
    if committed != Committed::Replace {
        Known::read(place)?;
    }
    Ok(())
}

/// Refuses a directory in which one of these files is not of such a result: it would be replaced.
pub fn check_own(place: &Place, names: &[&str]) -> Result<()> {
    if let Some(name) = names.iter().find(|name| is_foreign(place, name)) {
        bail!(
            "`{}` is not of such a result, and would be replaced\nhint: write elsewhere with `-o DIR`",
            place.path().join(name).display()
        );
    }
    Ok(())
}

/// A link is none: it is replaced, and what it leads to stays.
fn is_foreign(place: &Place, name: &str) -> bool {
    place.read(name).is_ok_and(|text| text.is_some_and(|text| !bundle::is_own(name, &text)))
}

/// Derives the profile of a recording, writes all files into `place`, and prints the summary. Gives the evidence back, that of
/// the directory included where it was joined.
pub fn write(
    recording: &Recording,
    place: &Place,
    choices: &Choices,
    committed: Committed,
) -> Result<Recording> {
    check(place, committed)?;
    let (recording, profile) = match committed {
        Committed::Replace => {
            (recording.clone(), policy::derive(recording, &choices.options(None)))
        }
        Committed::Grow => grown(recording, &Known::read(place)?, choices)?,
        Committed::Prune => {
            let known = Known::read(place)?;
            let profile = policy::derive(recording, &choices.options(known.profile.as_ref()));
            pruned(recording, &profile, &known)?;
            (recording.clone(), profile)
        }
    };
    let dir = &place.path();
    let seen = stack::seen_from(choices.project.as_ref().map(Project::directory), dir);
    let mut files = bundle::bundle(&recording, &profile, &seen.to_string_lossy());
    let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
    check_own(place, &names)?;
    let (here, there) = choices.project.as_ref().map(stack::bases).unzip();
    let there = there.flatten().or_else(|| stack::known_base(place));
    if let Some(base) = &there {
        stack::name_base(&mut files, base);
    }
    store::write(place.clone(), &files)?;
    let stale: Vec<&str> =
        bundle::NAMES.into_iter().filter(|name| !is_foreign(place, name)).collect();
    store::remove_stale(place.clone(), &files, &stale)?;
    let base = here.or(there).unwrap_or(compose::ANY_BASE.to_owned());
    tell::summary(&recording, &profile, dir, &files, &base, choices.given.as_deref());
    Ok(recording)
}

fn grown(recording: &Recording, known: &Known, choices: &Choices) -> Result<(Recording, Profile)> {
    let recording = merge::merge(known.recording.iter().chain([recording]).cloned())?;
    let Some(committed) = &known.profile else {
        let fresh = policy::derive(&recording, &choices.options(None));
        return Ok((recording, fresh));
    };
    let fresh = policy::derive(&recording, &choices.growing(committed));
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
    let (asked, stays) = (fresh.made_for.arguments, profile.made_for.arguments);
    if asked > stays {
        tell::note(&format!(
            "the committed profile was made with `--arguments {}` and stays as wide, though `{}` was asked for: it only grows (`--prune` replaces it)",
            stays.name(),
            asked.name()
        ));
    }
    let asked = choices.harden.clone().unwrap_or_default();
    let lost: Vec<&str> = asked.difference(&kinds(committed)).map(|kind| kind.name()).collect();
    if !lost.is_empty() {
        tell::note(&format!(
            "the committed profile was made without `--harden={}` and stays so: it only grows (`--prune` replaces it)",
            lost.join(",")
        ));
    }
    Ok((recording, profile))
}

/// Tells what goes, and how many of the runs at hand did not have it.
fn pruned(recording: &Recording, fresh: &Profile, known: &Known) -> Result<()> {
    let Some(committed) = &known.profile else { return Ok(()) };
    union::union(committed, fresh)?; // refuses another target
    let all = merge::merge(known.recording.iter().chain([recording]).cloned())?;
    let alone = |run| policy::derive(&merge::of_run(&all, run), &policy::Options::default());
    let each: Vec<Profile> = all.runs.keys().map(alone).collect();
    let tell = |what: String, lacks: &dyn Fn(&Profile) -> bool| {
        let unseen = each.iter().filter(|profile| lacks(profile)).count();
        tell::note(&format!("pruned {what}: {unseen} of {} runs have not seen it", each.len()));
    };
    let (calls, capabilities) = union::unseen(committed, fresh);
    for rule in calls {
        let is_it = |known: &SyscallRule| (known.abi, &known.name) == (rule.abi, &rule.name);
        tell(format!("{} {}", rule.abi, rule.name), &|p| !p.syscalls.iter().any(is_it));
    }
    for rule in capabilities {
        let is_it = |known: &CapabilityRule| known.name == rule.name;
        tell(format!("CAP_{}", rule.name), &|p| !p.capabilities.required.iter().any(is_it));
    }
    Ok(())
}
