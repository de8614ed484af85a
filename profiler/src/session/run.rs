//! The circumstances of a run, and what follows from evidence about what it could not see.

use std::{ffi::OsString, io::Read as _, path::Path, time::SystemTime};

use fs_err as fs;
use rustix::{
    system::uname,
    time::{ClockId, clock_gettime},
};

use crate::{
    kernel::cgroup,
    model::recording::{
        Container, Host, Missing, Phase, Recording, Run, RunId, SCHEMA_VERSION, SeccompSetting,
        Target, TargetKind,
    },
    model::usage::Usage,
    observe::evidence::Evidence,
    session::error::SessionError,
};

/// `io_uring_setup`, on every architecture.
const IO_URING_SETUP: u32 = 425;

/// Where a run stands in time.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: SystemTime,
    armed_ns: u64,
    /// What this process's time namespace adds to CLOCK_MONOTONIC; the kernel side counts without it.
    offset_ns: i64,
}

impl Clock {
    /// Starts now.
    pub fn start() -> Self {
        let offsets = fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
        let offset_ns = monotonic_offset_ns(&offsets);
        Clock { started: SystemTime::now(), armed_ns: monotonic_ns(offset_ns), offset_ns }
    }

    /// CLOCK_MONOTONIC at the start, as `bpf_ktime_get_ns` counts.
    pub fn armed_ns(&self) -> u64 {
        self.armed_ns
    }

    /// Since the start.
    pub fn elapsed(&self) -> std::time::Duration {
        std::time::Duration::from_nanos(monotonic_ns(self.offset_ns).saturating_sub(self.armed_ns))
    }
}

/// The clock as the kernel has it, from what it is in this time namespace.
fn monotonic_ns(offset_ns: i64) -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let ns = now.tv_sec * 1_000_000_000 + now.tv_nsec;
    u64::try_from(ns - offset_ns).unwrap_or(0)
}

/// From `/proc/PID/timens_offsets`: `monotonic SECONDS NANOSECONDS`. A kernel without time namespaces has no such file.
fn monotonic_offset_ns(offsets: &str) -> i64 {
    let words = |line: &str| {
        let mut words = line.strip_prefix("monotonic")?.split_whitespace();
        let (seconds, ns): (i64, i64) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        seconds.checked_mul(1_000_000_000)?.checked_add(ns)
    };
    offsets.lines().find_map(words).unwrap_or(0)
}

/// What is known of a run beside its evidence.
pub struct Circumstances {
    /// What was observed.
    pub target: Target,
    /// When.
    pub clock: Clock,
    /// The command line, of the tests or of the target.
    pub command: Vec<OsString>,
    /// How it ended, as a shell would report it.
    pub command_status: Option<i32>,
    /// The container's settings.
    pub container: Option<Container>,
    /// What the session knows to be missing.
    pub missing: Vec<Missing>,
    /// What its containers used beside calls and capabilities.
    pub usage: Option<Usage>,
}

/// Draws a run id.
pub fn new_id() -> Result<RunId, SessionError> {
    let path = Path::new("/dev/urandom");
    let mut bytes = [0; 8];
    fs::File::open(path)
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|source| SessionError::Io { verb: "read", path: path.to_owned(), source })?;
    Ok(format!("{:016x}", u64::from_ne_bytes(bytes)))
}

/// A recording of one run.
pub fn recording(id: RunId, circumstances: Circumstances, evidence: Evidence) -> Recording {
    let Circumstances { target, clock, command, command_status, container, mut missing, usage } =
        circumstances;
    missing.extend(evidence.missing.iter().cloned());
    let late = missing.contains(&Missing::Startup);
    missing.extend(implied(&evidence, target.kind, container.as_ref(), late));
    missing.sort();
    missing.dedup();
    // Where the engine's filter denies nothing, what was refused was refused by one of the target's own; that is looked for only
    // by the way, and not all the time.
    let own_only = container.as_ref().is_some_and(|container| !denies(container));
    let denials = evidence.denials.into_iter().filter(|fact| fact.killed || !own_only).collect();
    let run = Run {
        started_unix_s: clock
            .started
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs()),
        duration_ms: u64::try_from(clock.elapsed().as_millis()).unwrap_or(u64::MAX),
        profiler_version: env!("CARGO_PKG_VERSION").to_owned(),
        command: command.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
        command_status,
        host: host(),
        container,
        missing,
        inner_cgroups: evidence.inner_cgroups,
        usage,
    };
    Recording {
        schema_version: SCHEMA_VERSION,
        target,
        runs: [(id, run)].into(),
        syscalls: evidence.syscalls,
        capabilities: evidence.capabilities,
        denials,
        arguments: evidence.arguments,
    }
}

/// What the evidence itself says is missing; a late start lacks the hand-over anyway.
fn implied(
    evidence: &Evidence,
    kind: TargetKind,
    container: Option<&Container>,
    late: bool,
) -> Vec<Missing> {
    let mut missing = Vec::new();
    let seen_in = |phase| evidence.syscalls.iter().any(|fact| fact.phase == phase);
    let is_cgroup = kind == TargetKind::Cgroup;
    let has_runtime = container.is_some() || is_cgroup && evidence.has_runtime;
    if has_runtime && !late && !seen_in(Phase::Handover) {
        missing.push(Missing::Handover);
    }
    // nobody says what filter a cgroup has, but what it refused
    let refused = || evidence.denials.iter().any(|fact| fact.phase != Phase::Setup);
    if container.is_some_and(denies) || is_cgroup && refused() {
        missing.push(Missing::Filtered);
    }
    let sets_up_ring = |fact: &crate::model::recording::SyscallFact| {
        fact.nr == IO_URING_SETUP && fact.phase == Phase::Workload
    };
    if evidence.syscalls.iter().any(sets_up_ring) {
        missing.push(Missing::IoUring);
    }
    missing
}

/// Whether a container's filter refuses anything, as far as is known.
pub fn denies(container: &Container) -> bool {
    matches!(container.seccomp, SeccompSetting::EngineDefault | SeccompSetting::Custom)
}

fn host() -> Host {
    let uname = uname();
    Host {
        kernel: uname.release().to_string_lossy().into_owned(),
        machine: uname.machine().to_string_lossy().into_owned(),
        cgroups: cgroup::detect(Path::new("/"))
            .map_or_else(|_| "unknown".to_owned(), |setup| setup.layout.name().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_namespace_is_known_by_its_offset() {
        let offsets = "monotonic      -86400 500000000\nboottime            7         0\n";
        assert_eq!(monotonic_offset_ns(offsets), -86_399_500_000_000);
        assert_eq!(monotonic_offset_ns("monotonic           0         0\n"), 0);
        assert_eq!(monotonic_offset_ns(""), 0);
    }
}
