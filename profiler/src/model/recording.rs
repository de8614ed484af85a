//! The evidence: what one or more runs of a target asked of the kernel.
//!
//! A recording is a set of facts, each with the runs that saw it. Joining two recordings is a union
//! of both, so it is commutative, associative and idempotent. Nothing here decides what is allowed.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{arch::Abi, arguments::Masked, usage::Usage};

/// The version written to `recording.json`; a larger one is refused on reading.
pub const SCHEMA_VERSION: u32 = 1;

/// Identifies one run across merges: 16 hex digits, drawn when the run starts.
pub type RunId = String;

/// The evidence of the runs of one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recording {
    /// [`SCHEMA_VERSION`] of the writer.
    pub schema_version: u32,
    /// What was observed.
    pub target: Target,
    /// When, where and under what conditions, per run.
    pub runs: BTreeMap<RunId, Run>,
    /// Calls that entered the kernel.
    pub syscalls: Vec<SyscallFact>,
    /// Capability checks that the kernel made on behalf of the target.
    pub capabilities: Vec<CapabilityFact>,
    /// Calls that a seccomp filter answered before they entered the kernel.
    pub denials: Vec<DenialFact>,
    /// With which arguments watched calls were made ([`crate::model::arguments`]).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<ArgumentFact>,
}

/// What is observed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// The kind of target.
    pub kind: TargetKind,
    /// Its name: the container's, the service's, or the command's file name. Hostile text.
    pub name: String,
}

/// The kinds of target.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum TargetKind {
    /// A command started by the recorder, in a cgroup of its own.
    Command,
    /// A container of an engine.
    Container,
    /// The containers of one service of a compose project.
    Service,
    /// An existing cgroup.
    Cgroup,
}

impl TargetKind {
    /// In words, for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            TargetKind::Command => "command",
            TargetKind::Container => "container",
            TargetKind::Service => "service",
            TargetKind::Cgroup => "cgroup",
        }
    }

    /// Whether what runs is in containers of an engine, which a runtime starts.
    #[must_use]
    pub const fn is_container(self) -> bool {
        matches!(self, TargetKind::Container | TargetKind::Service)
    }
}

/// The circumstances of one run. Never part of a committed file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Start, in seconds since the epoch.
    pub started_unix_s: u64,
    /// From armed to stopped.
    pub duration_ms: u64,
    /// Version of the recorder.
    pub profiler_version: String,
    /// The command line of the tests or of the workload, if there was one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Exit status of that command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_status: Option<i32>,
    /// The machine.
    pub host: Host,
    /// How the container was run; absent for commands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    /// What this run could not see. Sorted, without duplicates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Missing>,
    /// Cgroups that were made inside the target's, or by it elsewhere, for containers in it for one: what ran in them counts
    /// as the target's.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub inner_cgroups: u64,
    /// What its containers used beside calls and capabilities; absent for other targets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

/// The machine that a run was made on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// `uname -r`.
    pub kernel: String,
    /// `uname -m`.
    pub machine: String,
    /// How cgroups are mounted: `unified`, `hybrid` or `legacy`.
    pub cgroups: String,
}

/// What the engine says about the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// `docker` or `podman`.
    pub engine: String,
    /// The engine's version.
    pub engine_version: String,
    /// The OCI runtime, `runc` or `crun`, as the engine names it.
    pub runtime: String,
    /// Its version, `1.1.5`; empty when the engine does not say.
    pub runtime_version: String,
    /// Image reference as configured. Hostile text.
    pub image: String,
    /// Image id, `sha256:...`.
    pub image_id: String,
    /// The container's ids, one for each incarnation that was seen.
    pub ids: Vec<String>,
    /// `no-new-privileges` was set.
    pub no_new_privileges: bool,
    /// `--privileged` was set.
    pub privileged: bool,
    /// `Config.User`; empty means root.
    pub user: String,
    /// Which filter the container ran under.
    pub seccomp: SeccompSetting,
    /// The capabilities that it was started with, without `CAP_`, sorted; what could be granted at all.
    pub capabilities: Vec<String>,
    /// Compose's service name, from the labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compose_service: Option<String>,
    /// docker-compose 1 made it, from the labels.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub compose_1: bool,
}

/// The filter that a target ran under while it was recorded.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum SeccompSetting {
    /// No filter: hand-over cannot be told from set-up.
    Unconfined,
    /// The engine's built-in default: denies.
    EngineDefault,
    /// A profile that denies something.
    Custom,
    /// A profile whose every action lets the call pass.
    Permissive,
}

/// Something that a run could not see.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Missing {
    /// The target already ran when the recording began.
    Startup,
    /// The recording ended while the target still ran, so its shut-down was not seen.
    Shutdown,
    /// The kernel offers no way to observe capability checks; `reason` says what was tried.
    Capabilities {
        /// Why, for people.
        reason: String,
    },
    /// The target ran unconfined: the runtime's calls between filter and entry point were not seen.
    Handover,
    /// The target ran under a filter that denies: what it does after a refused call was not seen.
    Filtered,
    /// Operations of io_uring are not syscalls; the target set up a ring.
    IoUring,
    /// A bounded table was full, `count` times.
    Lost {
        /// Which table: `syscalls`, `capabilities`, `denials`, `attribution`, `scopes`, `threads`, `stacks`,
        /// `arguments`, `files`, `counts`.
        what: String,
        /// How many entries were not stored.
        count: u64,
    },
    /// The kernel did not run a program of ours `count` times, because it ran on the same processor already: for any process of the host
    /// or, where programs are attached twice, for a task in scope.
    Skipped {
        /// How often.
        count: u64,
    },
    /// The engine went away; containers that started later were not found.
    Engine,
    /// Root executed a file whose capabilities could not be read: the process and the file were gone, or out of reach.
    Unread {
        /// File name of the executable, empty when unknown. Hostile text.
        program: String,
    },
    /// Processes left the target's cgroup, `count` of them: what they did elsewhere was not seen.
    Left {
        /// How many.
        count: u64,
    },
}

/// The part of a thread's life in which something happened.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The runtime, before the filter is loaded.
    Setup,
    /// The runtime, filter loaded, before the entry point's execve.
    Handover,
    /// The entry point and all that follows from it.
    Workload,
}

/// A call that entered the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SyscallFact {
    /// Number space of `nr`.
    pub abi: Abi,
    /// The number, without x32's bit 30. May be one that no table names.
    pub nr: u32,
    /// When in the thread's life.
    pub phase: Phase,
    /// Which runs saw it, and who made it.
    pub seen: BTreeMap<RunId, Sighting>,
}

/// How a run saw something: first when, done by whom, in which tests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sighting {
    /// Milliseconds since the run was armed; absent when the side table was full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_ms: Option<u64>,
    /// Of a call: how often it was made. Absent when it was not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Who did it; empty when the side table was full.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub programs: BTreeSet<Program>,
    /// The labels that were in force (`profiler mark`). Hostile text.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub tests: BTreeSet<String>,
    /// It was done while no label was in force, too. False where `tests` is empty, which says the same.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub outside: bool,
    /// Of a call: the functions from which it was made first, innermost first, `read+0x14 (libc.so.6)`; or `unknown`.
    /// Empty when it was not wanted. Hostile text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stack: Vec<String>,
}

/// A program as the kernel knows it. Hostile text, at most 15 and 63 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// The thread's name, which the program can set.
    pub comm: String,
    /// File name of the executable, without its directory; empty when unknown.
    pub exe: String,
}

/// What the kernel answered to a capability check.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The thread has the capability.
    Granted,
    /// It has not.
    Denied,
}

/// How the kernel asked: told by the function that made the check.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum AuditClass {
    /// A real check, whose denial would be audited (`capable`, `ns_capable`, ...).
    Audited,
    /// A probe that no denial follows from: `ns_capable_noaudit`, `has_capability_noaudit`, ..., and a real check in a call
    /// that does the very same without the capability, as setuid(2) to the id that the process has.
    Noaudit,
    /// Memory accounting asks for CAP_SYS_ADMIN on every mmap, brk and exec.
    Memory,
    /// No check at all: the call keeps, raises or gains the capability, and cannot without (capset(2),
    /// PR_CAP_AMBIENT_RAISE, an execve of a file with capabilities).
    Implied,
    /// No check at all: capset(2) wrote back the whole permitted set, which may be what was read before.
    Retained,
}

/// Whose user namespace the capability was asked for.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum UserNamespace {
    /// The host's initial one.
    Host,
    /// The target's own, which is not the host's.
    Own,
    /// Another one.
    Other,
}

/// A capability check, with what is needed to tell a need from a probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CapabilityFact {
    /// Capability number, `CAP_CHOWN` is 0.
    pub capability: u8,
    /// When in the thread's life.
    pub phase: Phase,
    /// What the kernel answered.
    pub verdict: Verdict,
    /// How it asked.
    pub audit: AuditClass,
    /// For which user namespace.
    pub user_namespace: UserNamespace,
    /// The check was made with credentials that the kernel lent the thread (overlayfs).
    pub overridden: bool,
    /// The enclosing syscall.
    pub abi: Abi,
    /// Its number.
    pub nr: u32,
    /// The kernel function that asked, `inet_bind_sk`; empty when it could not be named.
    pub asked_by: String,
    /// Outcomes and sighting, per run.
    pub seen: BTreeMap<RunId, CheckSighting>,
}

/// How the syscalls around one kind of check ended in one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckSighting {
    /// How many checks.
    pub checks: u64,
    /// How many of the enclosing syscalls returned success.
    pub succeeded: u64,
    /// How many returned an error.
    pub failed: u64,
    /// How many enclosing syscalls were not seen to end.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unsettled: u64,
    /// When and by whom.
    pub sighting: Sighting,
}

/// Calls that a filter answered in place of the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DenialFact {
    /// Number space of `nr`.
    pub abi: Abi,
    /// The number, without x32's bit 30.
    pub nr: u32,
    /// When in the thread's life.
    pub phase: Phase,
    /// The error that the caller got, positive (`1` is EPERM); 0 when the filter claimed success, sent SIGSYS, or killed.
    pub errno: i32,
    /// The filter ended the thread or its process.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub killed: bool,
    /// Which runs saw it, how often, and who made it.
    pub seen: BTreeMap<RunId, DenialSighting>,
}

/// One kind of denial in one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DenialSighting {
    /// How often.
    pub count: u64,
    /// The six argument registers of a first one, in order, whether the call has so many or not. Pointers among them
    /// differ from run to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<[u64; 6]>,
    /// When and by whom.
    pub sighting: Sighting,
}

/// The arguments with which a call was made: together, one combination of values.
///
/// A call that a run saw and that has no such fact of the run, in that phase, was not watched by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArgumentFact {
    /// Number space of `nr`.
    pub abi: Abi,
    /// The number, without x32's bit 30.
    pub nr: u32,
    /// When in the thread's life.
    pub phase: Phase,
    /// What the watched arguments were, by index. Empty: there were more combinations than are kept, so that any may
    /// have been among them.
    pub values: Vec<Masked>,
    /// Which runs saw it, and in which tests.
    pub seen: BTreeMap<RunId, Sighting>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
pub(super) fn is_zero(count: &u64) -> bool {
    *count == 0
}
