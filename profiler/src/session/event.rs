//! What a session tells while it runs.

use std::time::Duration;

use crate::model::recording::TargetKind;

/// As many characters of a name or path are told.
const BRIEF: usize = 128;

/// The beginning of hostile text, for a sentence that is to stay short.
pub(super) fn brief(text: &str) -> String {
    let mut told: String = text.chars().take(BRIEF).collect();
    if told.len() < text.len() {
        told.push_str("...");
    }
    told
}

/// The first few names, quoted, and how many more there are.
pub(super) fn brief_list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const FEW: usize = 4;
    let mut names = names.into_iter();
    let told: Vec<String> =
        names.by_ref().take(FEW).map(|one| format!("`{}`", brief(one))).collect();
    match names.count() {
        0 => told.join(", "),
        more => format!("{} and {more} more", told.join(", ")),
    }
}

/// Something a person or a script may want to know at once. Names are hostile text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Everything is attached, and the target is not there yet.
    Waiting {
        /// What it is.
        kind: TargetKind,
        /// As the user wrote it.
        name: String,
    },
    /// Everything is attached; the target's calls are recorded from now on.
    Recording {
        /// What it is.
        kind: TargetKind,
        /// As the user wrote it.
        name: String,
    },
    /// The target started and was caught before its first call.
    Caught {
        /// What it is.
        kind: TargetKind,
        /// As the user wrote it.
        name: String,
    },
    /// The target ended.
    Ended {
        /// What it is.
        kind: TargetKind,
        /// As the user wrote it.
        name: String,
    },
    /// There is no socket for labels.
    NoSocket {
        /// Why.
        error: String,
    },
    /// The command's cgroup could not be removed.
    Leftover {
        /// Why.
        error: String,
    },
    /// Something is not as well as it could be.
    Warning {
        /// What, and what follows.
        text: String,
    },
    /// A step of a verification.
    Step {
        /// What is done now.
        text: String,
    },
    /// The engine closed its event stream.
    EngineGone {
        /// In its own words.
        reason: String,
    },
    /// A tick.
    Progress {
        /// Since armed.
        elapsed: Duration,
        /// Since the last new finding.
        quiet: Duration,
        /// Distinct calls of hand-over and workload so far.
        syscalls: usize,
        /// Distinct capabilities granted to the workload so far.
        capabilities: usize,
        /// Distinct calls that a filter answered so far.
        denials: usize,
    },
}
