//! What a recording could not see, said to people, with what they can do about it.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    model::recording::{Missing, Recording, Run},
    report::{escape, next},
};

/// Something that the reader should know before relying on the profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Warning {
    /// What is so, and what follows from it.
    pub(super) text: String,
    /// What to do, a line each; a command stands at the end of its line.
    pub(super) hints: Vec<String>,
    /// The profile stands without it.
    pub(super) minor: bool,
}

/// One warning for each thing that is missing, grave ones first.
///
/// What one run missed and another saw is not missing. Losses and io_uring are facts of any run.
///
/// `given` are the arguments that the recorder was given, where they are known.
pub(super) fn warnings(
    recording: &Recording,
    given: Option<&[String]>,
    dir: &str,
    permissive_profile: &str,
) -> Vec<Warning> {
    let mut found = Vec::new();
    let mut lost: BTreeMap<&str, u64> = BTreeMap::new();
    let mut unread: BTreeSet<&str> = BTreeSet::new();
    for missing in all_missing(recording) {
        match missing {
            Missing::Unread { program } => {
                unread.insert(program);
            }
            Missing::Lost { what, count } => {
                let sum = lost.entry(what).or_default();
                *sum = sum.saturating_add(*count);
            }
            missing => found.push(one(missing, recording, given, dir, permissive_profile)),
        }
    }
    found.extend(lost.into_iter().map(|(what, count)| lost_entries(what, count)));
    if !unread.is_empty() {
        found.push(unread_files(&unread));
    }
    if let Some(status) = next::newest(recording).and_then(|run| run.command_status)
        && status != 0
    {
        found.push(failed_command(status));
    }
    let inner = recording.runs.values().map(|run| run.inner_cgroups).max().unwrap_or(0);
    if inner > 0 {
        found.push(inner_cgroups(inner));
    }
    found.sort_by_key(|warning| warning.minor);
    found
}

/// Every value once, in the model's order, losses of each run apart.
fn all_missing(recording: &Recording) -> Vec<&Missing> {
    let runs: Vec<&Run> = recording.runs.values().collect();
    let mut found: Vec<&Missing> = Vec::new();
    for missing in runs.iter().flat_map(|run| &run.missing) {
        let of_any_run = matches!(
            missing,
            Missing::Lost { .. }
                | Missing::Skipped { .. }
                | Missing::IoUring
                | Missing::Engine
                | Missing::Left { .. }
                | Missing::Unread { .. }
        );
        let in_all =
            || runs.iter().all(|run| run.missing.iter().any(|other| same_kind(missing, other)));
        let repeated = !matches!(missing, Missing::Lost { .. } | Missing::Unread { .. })
            && found.iter().any(|known| same_kind(known, missing));
        if !repeated && (of_any_run || in_all()) {
            found.push(missing);
        }
    }
    found.sort();
    found
}

fn same_kind(one: &Missing, other: &Missing) -> bool {
    std::mem::discriminant(one) == std::mem::discriminant(other)
}

fn one(
    missing: &Missing,
    recording: &Recording,
    given: Option<&[String]>,
    dir: &str,
    permissive: &str,
) -> Warning {
    let warning = |minor: bool, text: &str, hints: Vec<String>| Warning {
        text: text.to_owned(),
        hints,
        minor,
    };
    match missing {
        Missing::Startup => warning(
            false,
            "start-up was not seen: the target already ran when the recording began, so what it needs to start is not in the profile",
            if recording.target.kind.is_container() {
                vec![
                    format!(
                        "restart it under observation: {}",
                        next::record_again(recording, given, dir, true)
                    ),
                    "or remove it, run the same without `--restart`, and start it while profiler waits"
                        .to_owned(),
                ]
            } else {
                vec![format!(
                    "stop it, and start it while profiler waits: {}",
                    next::record_again(recording, given, dir, false)
                )]
            },
        ),
        Missing::Filtered => {
            let mut hints =
                vec!["start it so that nothing is denied, then record again".to_owned()];
            hints.extend(next::permissive(recording, permissive));
            warning(
                false,
                "the target ran under a filter that denies: what it does when such a call succeeds was not seen",
                hints,
            )
        }
        Missing::Capabilities { reason } => warning(
            false,
            &format!("capability checks were not seen: {}", escape::line(reason)),
            vec!["see what this kernel offers: profiler doctor".to_owned()],
        ),
        Missing::IoUring => warning(
            false,
            "the target sets up io_uring: its operations are no system calls, so they are neither recorded nor held by a seccomp filter",
            vec![
                "turn io_uring off in the target, or accept that the profile does not cover it"
                    .to_owned(),
            ],
        ),
        Missing::Engine => warning(
            false,
            "the engine went away during the recording: containers that started after that were not found",
            vec![format!(
                "start the engine, then record again: {}",
                next::record_again(recording, given, dir, false)
            )],
        ),
        Missing::Handover => {
            let mut hints = vec!["to see them, start it under the permissive profile".to_owned()];
            hints.extend(next::permissive(recording, permissive));
            warning(
                true,
                "the target ran without a filter, so the runtime's own calls between filter and entry point are taken from the list for its version",
                hints,
            )
        }
        Missing::Shutdown => warning(
            true,
            "shut-down was not seen: the target still ran when the recording ended",
            vec!["let the tests end by stopping the target".to_owned()],
        ),
        Missing::Lost { what, count } => lost_entries(what, *count),
        Missing::Unread { program } => unread_files(&BTreeSet::from([program.as_str()])),
        Missing::Skipped { count } => {
            let times = if *count == 1 { "once".to_owned() } else { format!("{count} times") };
            warning(
                false,
                &format!(
                    "the kernel did not run the recorder's programs {times}: a call may be missing"
                ),
                vec!["record again, and merge the recordings".to_owned()],
            )
        }
        Missing::Left { count } => {
            let processes =
                if *count == 1 { "1 process".to_owned() } else { format!("{count} processes") };
            warning(
                false,
                &format!(
                    "{processes} left the target's cgroup: what was done elsewhere is not in the profile"
                ),
                vec!["let the target start its programs itself, without `systemd-run --scope`, `su -` or a log-in".to_owned()],
            )
        }
    }
}

fn inner_cgroups(count: u64) -> Warning {
    let cgroups = if count == 1 { "1 cgroup".to_owned() } else { format!("{count} cgroups") };
    Warning {
        text: format!(
            "{cgroups} made inside the target's, or by it elsewhere, for containers in it for one: what ran there counts as the target's"
        ),
        hints: vec![],
        minor: true,
    }
}

fn unread_files(programs: &BTreeSet<&str>) -> Warning {
    let names: Vec<String> =
        programs.iter().map(|program| format!("`{}`", escape::line(program))).collect();
    Warning {
        text: format!(
            "root executed {}, and nobody could read any more which capabilities the file has: those that it forces (`getcap`) are not in the profile",
            names.join(", ")
        ),
        hints: vec!["record again".to_owned()],
        minor: false,
    }
}

fn lost_entries(what: &str, count: u64) -> Warning {
    let entries = if count == 1 { "1 entry".to_owned() } else { format!("{count} entries") };
    let what = escape::line(what).into_owned();
    if what == "attribution" {
        return Warning {
            text: format!(
                "{entries} of table `{what}` did not fit: who made some calls first is not known; the calls are all there"
            ),
            hints: vec![],
            minor: true,
        };
    }
    if what == "arguments" {
        return Warning {
            text: format!(
                "{entries} of table `{what}` did not fit: some calls count as made with any; the calls are all there"
            ),
            hints: vec![],
            minor: true,
        };
    }
    if what == "stacks" {
        let stacks = if count == 1 { "1 stack".to_owned() } else { format!("{count} stacks") };
        return Warning {
            text: format!(
                "{stacks} could not be kept or named, mostly of processes that were gone too soon, or whose files could not be read in time; the calls are all there"
            ),
            hints: vec![],
            minor: true,
        };
    }
    if what == "files" {
        let files =
            if count == 1 { "1 more file".to_owned() } else { format!("{count} more files") };
        return Warning {
            text: format!(
                "root executed {files} whose capabilities could not be read: those that they force (`getcap`) are not in the profile"
            ),
            hints: vec!["record again".to_owned()],
            minor: false,
        };
    }
    if what == "counts" {
        let calls = if count == 1 { "1 call".to_owned() } else { format!("{count} calls") };
        return Warning {
            text: format!("{calls} found no room to be counted; the calls are all there"),
            hints: vec![],
            minor: true,
        };
    }
    Warning {
        text: format!("{entries} of table `{what}` did not fit: the evidence is incomplete"),
        hints: vec![
            "record parts of the tests one after the other and merge the recordings".to_owned(),
        ],
        minor: false,
    }
}

fn failed_command(status: i32) -> Warning {
    Warning {
        text: format!(
            "the command ended with status {status}: tests that failed may not have reached all of the target"
        ),
        hints: vec![],
        minor: false,
    }
}
