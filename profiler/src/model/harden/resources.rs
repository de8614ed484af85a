//! Limits: from peaks to numbers that a second recording gives again.
//!
//! Owns the margins. A limit is far above what was seen, rounded up to a power of two; it stops a container that runs away and not one that
//! works a little more than in the tests.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Evidence, MOST, mib, up_to_power};
use crate::model::{
    recording::Run,
    usage::{Resources, Usage},
};

/// The memory limit is this many times the peak at least, to a power of two MiB.
pub const MEMORY_MARGIN: u64 = 2;
/// The same, of memory that cannot be given back, where the kernel keeps no peak and only looks tell.
pub const LOOKED_AT_MARGIN: u64 = 4;
/// The limit of processes and threads is this many times the most at least, to a power of two: many kernels keep no peak of them.
pub const PIDS_MARGIN: u64 = 4;
/// The limit of descriptors is this many times the most that a process had open at least, to a power of two.
pub const FILES_MARGIN: u64 = 4;

/// The runtime is in the container's cgroup while it starts it, with so much memory, in MiB, and so many threads.
const LEAST_MEMORY_MIB: u64 = 32;
const LEAST_PIDS: u64 = 64;
/// Docker takes no reservation below 6 MiB.
const LEAST_RESERVED_MIB: u64 = 8;
/// A server may ask at its start for many more than it needs in a test, and end when it is refused.
const LEAST_FILES: u64 = 16_384;
/// Of a processor, in thousandths.
const QUARTER: u64 = 250;
/// Clocks of processors differ by so much, in thousandths of one.
const CPU_NOISE: u64 = 50;

/// What a container may take. What is absent is not limited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Memory, in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u64>,
    /// Memory that is there for it, in MiB: the peak, to a power of two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved_mib: Option<u64>,
    /// Processes and threads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u64>,
    /// Descriptors of a process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_files: Option<u64>,
    /// Processors, in thousandths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_millis: Option<u64>,
    /// Processors that are there for it, in thousandths: what a run took on average, to a quarter of one, or a power of two of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved_cpu_millis: Option<u64>,
    /// docker-compose 1 starts it, which takes no limit of processes in `deploy`, and leaves the rest of that to a swarm.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub compose_1: bool,
    /// What could not be advised, and why.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub not_because: BTreeSet<String>,
}

impl Limits {
    /// Whether the numbers are ones that an engine takes.
    #[must_use]
    pub fn is_well_formed(&self) -> bool {
        let numbers = [
            self.memory_mib,
            self.reserved_mib,
            self.pids,
            self.open_files,
            self.cpu_millis,
            self.reserved_cpu_millis,
        ];
        numbers.into_iter().flatten().all(|number| (1..=MOST).contains(&number))
    }
}

/// `in_memory` is what goes from the root to a tmpfs, in bytes.
pub(super) fn advise(evidence: &Evidence<'_>, in_memory: u64) -> Limits {
    let containers = evidence.recording.runs.values().filter_map(|run| run.container.as_ref());
    let compose_1 = containers.into_iter().any(|container| container.compose_1);
    let mut limits = Limits { compose_1, ..Limits::default() };
    if let Some(gap) = evidence.gap() {
        limits.not_because.insert(gap);
        return limits;
    }
    let all = |of: &dyn Fn(&Resources) -> Option<u64>| {
        let each = evidence.usages.iter().map(|usage: &&Usage| of(&usage.resources));
        each.collect::<Option<Vec<u64>>>()?.into_iter().max()
    };
    let unknown = |what: &str| format!("{what} of a run: the kernel did not say");
    let scaled = |peak: u64, margin: u64| {
        let bytes = peak.saturating_mul(margin);
        up_to_power(mib(bytes), LEAST_MEMORY_MIB)
    };
    let anonymous = all(&|seen| seen.anonymous_bytes);
    let held = anonymous.unwrap_or(0).saturating_add(in_memory);
    limits.memory_mib = match (all(&|seen| seen.memory_bytes), anonymous) {
        (Some(peak), _) => Some(scaled(peak.max(held), MEMORY_MARGIN)),
        (None, Some(_)) => Some(scaled(held, LOOKED_AT_MARGIN)),
        (None, None) => None,
    };
    limits.reserved_mib = all(&|seen| seen.memory_bytes.or(seen.anonymous_bytes))
        .map(|peak| up_to_power(mib(peak), LEAST_RESERVED_MIB));
    if let (Some(most), Some(reserved)) = (limits.memory_mib, limits.reserved_mib.as_mut()) {
        *reserved = most.min(*reserved);
    }
    let pids = all(&|seen| seen.pids);
    limits.pids = pids.map(|peak| up_to_power(peak.saturating_mul(PIDS_MARGIN), LEAST_PIDS));
    let files = all(&|seen| seen.open_files);
    limits.open_files =
        files.map(|most| up_to_power(most.saturating_mul(FILES_MARGIN), LEAST_FILES));
    limits.cpu_millis = all(&|seen| seen.cpu_millis).map(cpu);
    limits.reserved_cpu_millis = average(evidence)
        .map(|average| QUARTER * up_to_power(average.div_ceil(QUARTER), 1))
        .map(|reserved| reserved.min(limits.cpu_millis.unwrap_or(MOST)));
    for (what, known) in [
        ("memory", limits.memory_mib),
        ("processes", limits.pids),
        ("open files", limits.open_files),
        ("processors", limits.cpu_millis),
    ] {
        if known.is_none() {
            limits.not_because.insert(unknown(what));
        }
    }
    limits
}

/// Of the run that took the most, in thousandths of a processor; `None` where one does not tell.
fn average(evidence: &Evidence<'_>) -> Option<u64> {
    let of = |run: &Run| {
        let us = run.usage.as_ref()?.resources.cpu_us?;
        Some(us / run.duration_ms.max(1))
    };
    let each = evidence.recording.runs.values().map(of).collect::<Option<Vec<u64>>>()?;
    each.into_iter().max()
}

/// Engines refuse more than the machine has, which a recording does not say: as many as were busy are there.
fn cpu(busiest: u64) -> u64 {
    const WHOLE: u64 = 1000;
    (busiest.saturating_sub(CPU_NOISE).div_ceil(WHOLE).max(1) * WHOLE).min(MOST)
}

/// Thousandths of processors as engines take them, `1.5`.
#[must_use]
pub fn processors(millis: u64) -> String {
    let (whole, part) = (millis / 1000, millis % 1000);
    match format!("{part:03}").trim_end_matches('0') {
        "" => whole.to_string(),
        part => format!("{whole}.{part}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_have_no_more_digits_than_they_need() {
        for (millis, text) in [(500, "0.5"), (1000, "1"), (1500, "1.5"), (12_250, "12.25")] {
            assert_eq!(processors(millis), text);
        }
    }
}
