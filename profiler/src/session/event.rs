//! What a session tells while it runs.

use std::time::Duration;

/// Something a person or a script may want to know at once. Names are hostile text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Everything is attached, and the container is not there yet.
    Waiting {
        /// As the user wrote it.
        name: String,
    },
    /// Everything is attached; the target's calls are recorded from now on.
    Recording {
        /// `container` or `command`.
        kind: &'static str,
        /// As the user wrote it.
        name: String,
    },
    /// The container started and was caught before its first call.
    Caught {
        /// As the user wrote it.
        name: String,
    },
    /// The container ended.
    Ended {
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
