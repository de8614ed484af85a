//! The policy: what is allowed, and why. This is what is reviewed and committed.
//!
//! Owns the schema of `profile.json`. It holds no timestamps, counts, process ids or host names, and every
//! list in it is sorted, so that the same evidence gives the same bytes. It derives nothing: `policy` does.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{
    arch::Abi,
    arguments::Masked,
    floor::{RuntimeUse, When},
    harden::Harden,
    recording::{SeccompSetting, Target},
};

/// The version written to `profile.json`; a larger one is refused on reading.
pub const SCHEMA_VERSION: u32 = 1;

/// What a target may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// [`SCHEMA_VERSION`] of the writer.
    pub schema_version: u32,
    /// What it was recorded from.
    pub target: Target,
    /// Under what conditions it was recorded, and so holds.
    pub made_for: MadeFor,
    /// The ABIs that the filter admits; calls of any other end the process. Sorted.
    pub architectures: Vec<Abi>,
    /// The calls that are allowed, by ABI and name.
    pub syscalls: Vec<SyscallRule>,
    /// Calls that a filter refused while recording, by ABI, name and error. Not allowed by being here.
    pub denied: Vec<DeniedCall>,
    /// The capabilities.
    pub capabilities: Capabilities,
    /// What a reader must know, in a fixed order.
    pub notes: Vec<Note>,
    /// Advice beyond calls and capabilities, where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub harden: Option<Harden>,
}

/// The conditions under which the profile holds, and those of the recording.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MadeFor {
    /// The OCI runtimes that it is for, and how they are used; empty for commands. Sorted.
    pub runtimes: Vec<RuntimeUse>,
    /// The filters that the target ran under while it was recorded; empty for commands. Sorted.
    pub recorded_under: Vec<SeccompSetting>,
    /// Which arguments it looks into: the user's choice. Of profiles that were joined the wider one; what only the narrower allows keeps
    /// its conditions. When absent, the default.
    #[serde(default)]
    pub arguments: Arguments,
}

/// How narrow a policy is within a call. From wide to narrow.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Arguments {
    /// A call is allowed with any arguments: what was recorded never fails by an argument, and all that the call reaches is open.
    Off,
    /// Known attack surface is cut off: what no run used of it is refused, within the calls that are allowed.
    #[default]
    AttackSurface,
    /// Only what was seen: an argument that no test used is refused, harmless or not.
    Strict,
}

impl Arguments {
    /// As `--arguments` takes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Arguments::Off => "off",
            Arguments::AttackSurface => "attack-surface",
            Arguments::Strict => "strict",
        }
    }
}

/// Where a container of a profile gets `no-new-privileges` from. The later, the surer it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoNewPrivileges {
    /// It has it not.
    Nowhere,
    /// From whatever set it while recording.
    AsRecorded,
    /// From the renderings: it was asked for.
    Here,
}

impl std::fmt::Display for NoNewPrivileges {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            NoNewPrivileges::Nowhere => "not set",
            NoNewPrivileges::AsRecorded => "set as it was recorded",
            NoNewPrivileges::Here => "set",
        })
    }
}

impl Profile {
    /// How many calls of an ABI are allowed; to be held against [`crate::model::baseline::docker_default`].
    #[must_use]
    pub fn allowed_calls(&self, abi: Abi) -> usize {
        self.syscalls.iter().filter(|rule| rule.abi == abi && rule.allows()).count()
    }

    /// The capabilities that an engine has to add, by name: those required, without what [`Harden::not_added`] names.
    #[must_use]
    pub fn added_capabilities(&self) -> BTreeSet<&str> {
        let mut names = self.required_capabilities();
        let no_new_privileges = self.made_for.no_new_privileges();
        for name in self.harden.iter().flat_map(|harden| harden.not_added(no_new_privileges)) {
            names.remove(name);
        }
        names
    }

    /// Where `no-new-privileges` is set.
    #[must_use]
    pub fn no_new_privileges(&self) -> NoNewPrivileges {
        let advice = self.harden.as_ref().and_then(|harden| harden.no_new_privileges.as_ref());
        let is_asked_for = advice.is_some_and(|advice| advice.is_advised() && !advice.already)
            || self.notes.iter().any(|note| note.kind == NoteKind::NoNewPrivileges);
        match (self.made_for.no_new_privileges(), is_asked_for) {
            (false, _) => NoNewPrivileges::Nowhere,
            (true, false) => NoNewPrivileges::AsRecorded,
            (true, true) => NoNewPrivileges::Here,
        }
    }

    /// The capabilities that are required, by name.
    #[must_use]
    pub fn required_capabilities(&self) -> BTreeSet<&str> {
        self.capabilities.required.iter().map(|rule| rule.name.as_str()).collect()
    }
}

impl MadeFor {
    /// Whether all of them set `no-new-privileges`.
    #[must_use]
    pub fn no_new_privileges(&self) -> bool {
        !self.runtimes.is_empty() && self.runtimes.iter().all(|usage| usage.no_new_privileges)
    }
}

/// An allowed call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SyscallRule {
    /// Number space.
    pub abi: Abi,
    /// The kernel's name, or `syscall_NR` for a number that no table names.
    pub name: String,
    /// Why; never empty. Sorted. A call that is always allowed has no other reason: whether a run makes it
    /// depends on timing.
    pub reasons: Vec<SyscallReason>,
    /// It is allowed with one of these; absent: with any arguments. Sorted. At most 512, of which at most 3 have `but`. Empty:
    /// it was made, and is refused so that callers take another call, into whose arguments a filter can look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<Vec<Combination>>,
}

impl SyscallRule {
    /// Whether it allows the call with any arguments at all.
    #[must_use]
    pub fn allows(&self) -> bool {
        self.arguments.as_ref().is_none_or(|combinations| !combinations.is_empty())
    }
}

/// Arguments with which a call is allowed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Combination {
    /// All of these hold. By index, each once.
    pub values: Vec<Masked>,
    /// And none of these: at most 16 values, all of one argument and of 32 bits; of ioctl(2) only. Sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub but: Vec<Masked>,
    /// A run saw it. Otherwise it is there for what C libraries and runtimes do by themselves, and harmless.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub seen: bool,
    /// Tests in which it was made. Sorted. Hostile text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tests: Vec<String>,
    /// Tests failed without it (`profiler minimise`): the last line that they wrote. Hostile text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needed: Option<String>,
}

/// Why a call is allowed.
// No unit variants: serde would let them carry unknown keys.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum SyscallReason {
    /// The target made it.
    Workload {
        /// Executables that made it; empty when that was not seen. Sorted. Hostile text.
        programs: Vec<String>,
        /// Tests in which it was made (`profiler mark`). Sorted. Hostile text.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tests: Vec<String>,
    },
    /// The OCI runtime made it after it had loaded the filter.
    Handover {
        /// The runtime.
        runtime: String,
        /// Its version; empty when the engine did not say.
        version: String,
        /// This version was measured to do without. It is allowed all the same: the runtime meant something by it, such as giving
        /// standard output to the container's user, and a start that works does not show what is missing then.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        optional: bool,
    },
    /// The OCI runtime is known to need it, and the recording does not show it: it could not see that part, or the
    /// profile is for another runtime than the recorded one.
    Floor {
        /// The runtime that was measured.
        runtime: String,
        /// The version that was measured.
        version: String,
        /// The `no-new-privileges` setting that it was measured for.
        no_new_privileges: bool,
        /// What it starts with it: the container, or a process that joins it (exec, health checks).
        #[serde(default, skip_serializing_if = "When::is_start")]
        when: When,
        /// The runtime and version in use, when those were not measured themselves.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stands_in_for: Option<String>,
    },
    /// Whoever loads the filter starts the target with it.
    Launch {},
    /// Tests rarely make it, and nothing works without.
    AlwaysAllowed {},
    /// Nobody was seen to make it. Another C library, kernel or architecture makes it in place of what was seen; there is no
    /// other reason beside this one.
    Portable {
        /// The calls that it stands in for; empty when C libraries make it by themselves. Sorted.
        of: Vec<String>,
    },
    /// A filter refused it while recording, and denials were to be learned.
    Denied {
        /// Executables that asked for it. Sorted. Hostile text.
        programs: Vec<String>,
        /// Tests in which it was refused. Sorted. Hostile text.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tests: Vec<String>,
    },
    /// Tests failed without it (`profiler minimise`).
    Needed {
        /// The last line that they wrote. Hostile text.
        output: String,
    },
}

/// Leaves out a runtime's word that it does without, where another use of it does not.
pub fn settle(reasons: &mut BTreeSet<SyscallReason>) {
    let needing: Vec<(String, String)> = reasons
        .iter()
        .filter_map(|reason| match reason {
            SyscallReason::Handover { runtime, version, optional: false } => {
                Some((runtime.clone(), version.clone()))
            }
            _ => None,
        })
        .collect();
    reasons.retain(|reason| match reason {
        SyscallReason::Handover { runtime, version, optional: true } => {
            !needing.iter().any(|(name, of)| name == runtime && of == version)
        }
        _ => true,
    });
}

/// A call that a filter refused while recording.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeniedCall {
    /// Number space.
    pub abi: Abi,
    /// The kernel's name, or `syscall_NR`.
    pub name: String,
    /// The error that the caller got; 0 when the filter claimed success.
    pub errno: i32,
    /// The filter ended the thread or its process.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub killed: bool,
    /// Executables that asked for it. Sorted. Hostile text.
    pub programs: Vec<String>,
    /// Tests in which it was refused. Sorted. Hostile text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tests: Vec<String>,
}

/// What is known about capabilities.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Capabilities {
    /// Whether every run could see capability checks. If not, nothing may be dropped on the strength of this list.
    pub known: bool,
    /// Needed: to be added back after dropping all. By name.
    pub required: Vec<CapabilityRule>,
    /// Granted, but no call is known to have succeeded by it; not added. By name.
    pub probed: Vec<CapabilityRule>,
    /// Asked for and refused; not added. By name.
    pub denied: Vec<CapabilityRule>,
    /// Asked for by the OCI runtime only, which has it from the engine; not added. By name.
    pub runtime: Vec<CapabilityRule>,
}

/// A capability, with what asked for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CapabilityRule {
    /// Without `CAP_`; `CAPABILITY_NR` for a number without a name.
    pub name: String,
    /// Why it is in its list; never empty. Sorted.
    pub reasons: Vec<CapabilityReason>,
    /// Tests failed without it (`profiler minimise`): the last line that they wrote. Hostile text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needed: Option<String>,
}

/// A call during which the kernel asked for a capability.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CapabilityReason {
    /// Number space.
    pub abi: Abi,
    /// The kernel's name, or `syscall_NR`.
    pub syscall: String,
    /// How the call ended.
    pub outcome: Outcome,
    /// Executables that made it. Sorted. Hostile text.
    pub programs: Vec<String>,
    /// Tests in which it was made. Sorted. Hostile text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tests: Vec<String>,
}

/// How the calls around a capability check ended.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// At least one succeeded.
    Succeeded,
    /// No end was seen. Counts as success: wrong in that direction costs minimality, not the tests.
    NotObserved,
    /// All failed.
    Failed,
}

/// Something that a reader must know.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Note {
    /// What it is about, for machines.
    pub kind: NoteKind,
    /// For people: one line, or two with a `hint: `. May quote hostile text.
    pub text: String,
}

/// What a note is about, most important first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum NoteKind {
    /// The recording saw no call of the workload at all.
    Empty,
    /// Start-up was not seen.
    Startup,
    /// The target ran under a filter that denies.
    Filtered,
    /// Calls have no name, so that no seccomp file can allow them.
    UnnamedSyscalls,
    /// A bounded table was full.
    Lost,
    /// The engine went away.
    Engine,
    /// Capability checks could not be seen.
    Capabilities,
    /// The runtime's own calls could not be seen.
    Handover,
    /// The profile is for another runtime than the recorded one, or for one that was not measured.
    Runtime,
    /// io_uring operations cannot be seen.
    IoUring,
    /// Shut-down was not seen.
    Shutdown,
    /// Runs differ in `no-new-privileges`.
    NoNewPrivileges,
    /// Processes left the target's cgroup.
    Left,
    /// It allows more than what was recorded, for other libraries, kernels or architectures.
    Portable,
    /// A call was made with more combinations of arguments than are kept, so any are allowed.
    AnyArguments,
    /// Conditions on arguments that can be gone round, or that programs may not expect.
    Arguments,
}
