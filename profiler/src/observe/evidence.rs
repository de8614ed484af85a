//! What an observer hands back: facts of the model, and what it had to leave out.

use crate::model::recording::{CapabilityFact, DenialFact, Missing, SyscallFact};

/// The evidence of one target in one run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Calls, sorted by number space, number and phase.
    pub syscalls: Vec<SyscallFact>,
    /// Capability checks, sorted.
    pub capabilities: Vec<CapabilityFact>,
    /// Denied calls, sorted.
    pub denials: Vec<DenialFact>,
    /// Losses, and capability checks when they could not be observed.
    pub missing: Vec<Missing>,
}

/// What has been found so far, cheap enough to ask several times a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Distinct calls in hand-over and workload.
    pub syscalls: usize,
    /// Distinct capabilities that were granted to the workload by a real check.
    pub capabilities: usize,
    /// Distinct kinds of capability check of the workload.
    pub checks: usize,
    /// Distinct calls that a filter answered.
    pub denials: usize,
}
