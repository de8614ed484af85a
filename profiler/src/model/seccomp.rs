//! Seccomp files as the engines read them: OCI's `linux.seccomp`, and the supersets of Docker and podman.
//!
//! Owns the strict shape of such a file and whether it denies anything. What it does with a call is in
//! [`crate::model::effective`]. It is for reading only. Writing goes through `render`, whose type has no
//! Docker-only keys: runtimes behind containerd and CRI-O drop those silently, and a conditional rule becomes
//! unconditional.

use std::fmt;

use serde::{Deserialize, Deserializer, de::Error as _};

use crate::model::recording::SeccompSetting;

/// The profile to record under, `profiles/permissive.json`: loads visibly, denies nothing, logs nothing.
pub const PERMISSIVE: &str = include_str!("../../../profiles/permissive.json");

/// A seccomp file. Unknown keys are refused.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SeccompFile {
    /// What happens to a call that no rule names.
    pub default_action: Action,
    /// The error of `defaultAction`; the runtimes' own default is EPERM. Docker 20.10 ignores it.
    #[serde(default)]
    pub default_errno_ret: Option<u32>,
    /// podman only: the same by name or in digits; comes before `defaultErrnoRet`.
    #[serde(default)]
    pub default_errno: Option<String>,
    /// `SCMP_ARCH_*`; an architecture that is not listed is killed by libseccomp.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub architectures: Vec<String>,
    /// Docker only: the architectures that come with a native one.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub arch_map: Vec<ArchMap>,
    /// Flags of seccomp(2).
    #[serde(default, deserialize_with = "null_is_empty")]
    pub flags: Vec<String>,
    /// Socket of a user space listener.
    #[serde(default)]
    pub listener_path: Option<String>,
    /// Opaque text for that listener.
    #[serde(default)]
    pub listener_metadata: Option<String>,
    /// The rules.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub syscalls: Vec<Rule>,
}

/// Docker only: a native architecture and what is allowed beside it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ArchMap {
    /// `SCMP_ARCH_*`.
    pub architecture: String,
    /// `SCMP_ARCH_*`.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub sub_architectures: Vec<String>,
}

/// One action for a set of names.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Rule {
    /// The names.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub names: Vec<String>,
    /// Docker before 17.x: a single name.
    #[serde(default)]
    pub name: Option<String>,
    /// What happens.
    pub action: Action,
    /// The error of `SCMP_ACT_ERRNO`, the message of `SCMP_ACT_TRACE`.
    #[serde(default)]
    pub errno_ret: Option<u32>,
    /// podman only: the same by name or in digits; comes before `errnoRet`.
    #[serde(default)]
    pub errno: Option<String>,
    /// Conditions on arguments; the rule applies when they hold.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub args: Vec<Arg>,
    /// For people.
    #[serde(default)]
    pub comment: Option<String>,
    /// Docker only: the rule is dropped unless all of this holds.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub includes: Filter,
    /// Docker only: the rule is dropped when any of this holds.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub excludes: Filter,
}

/// A condition on one argument.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Arg {
    /// 0 to 5.
    pub index: u32,
    /// The value compared with, or the mask.
    pub value: u64,
    /// The second value of a masked comparison.
    #[serde(default)]
    pub value_two: u64,
    /// How they are compared.
    pub op: Op,
}

/// How an argument is compared with a value. The comparison is unsigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
pub enum Op {
    /// It is not the value.
    #[serde(rename = "SCMP_CMP_NE")]
    Ne,
    /// It is less.
    #[serde(rename = "SCMP_CMP_LT")]
    Lt,
    /// It is less or equal.
    #[serde(rename = "SCMP_CMP_LE")]
    Le,
    /// It is the value.
    #[serde(rename = "SCMP_CMP_EQ")]
    Eq,
    /// It is greater or equal.
    #[serde(rename = "SCMP_CMP_GE")]
    Ge,
    /// It is greater.
    #[serde(rename = "SCMP_CMP_GT")]
    Gt,
    /// Its bits under the mask `value` are `valueTwo`.
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEq,
}

/// Docker's conditions on a rule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Filter {
    /// Capabilities, with `CAP_`.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub caps: Vec<String>,
    /// Architectures in libseccomp's spelling: `amd64`, `arm64`.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub arches: Vec<String>,
    /// The oldest kernel.
    #[serde(default)]
    pub min_kernel: Option<KernelVersion>,
}

impl Filter {
    /// Whether it asks for nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Filter::default()
    }
}

/// The two numbers of a kernel version that Docker compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
    /// The 6 of 6.18.
    pub major: u32,
    /// The 18 of 6.18.
    pub minor: u32,
}

impl KernelVersion {
    /// Reads the beginning of `uname -r`, such as `6.18.44-cloud-amd64`.
    #[must_use]
    pub fn of_release(release: &str) -> Option<KernelVersion> {
        let (major, rest) = release.split_once('.')?;
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        Some(KernelVersion { major: major.parse().ok()?, minor: digits.parse().ok()? })
    }
}

impl<'de> Deserialize<'de> for KernelVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        KernelVersion::of_release(&text)
            .ok_or_else(|| D::Error::custom(format!("`{text}` is no kernel version like `4.8`")))
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What a filter does with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
pub enum Action {
    /// Let it pass.
    #[serde(rename = "SCMP_ACT_ALLOW")]
    Allow,
    /// Let it pass and write an audit record.
    #[serde(rename = "SCMP_ACT_LOG")]
    Log,
    /// Answer with an error.
    #[serde(rename = "SCMP_ACT_ERRNO")]
    Errno,
    /// End the thread.
    #[serde(rename = "SCMP_ACT_KILL")]
    Kill,
    /// End the thread.
    #[serde(rename = "SCMP_ACT_KILL_THREAD")]
    KillThread,
    /// End the process.
    #[serde(rename = "SCMP_ACT_KILL_PROCESS")]
    KillProcess,
    /// Raise SIGSYS.
    #[serde(rename = "SCMP_ACT_TRAP")]
    Trap,
    /// Ask a tracer; ENOSYS when there is none.
    #[serde(rename = "SCMP_ACT_TRACE")]
    Trace,
    /// Ask a user space listener.
    #[serde(rename = "SCMP_ACT_NOTIFY")]
    Notify,
}

impl Action {
    /// Whether the call reaches the kernel whatever anyone else says.
    #[must_use]
    pub const fn passes(self) -> bool {
        matches!(self, Action::Allow | Action::Log)
    }
}

impl SeccompFile {
    /// A file without rules.
    #[must_use]
    pub const fn new(default_action: Action) -> SeccompFile {
        SeccompFile {
            default_action,
            default_errno_ret: None,
            default_errno: None,
            architectures: Vec::new(),
            arch_map: Vec::new(),
            flags: Vec::new(),
            listener_path: None,
            listener_metadata: None,
            syscalls: Vec::new(),
        }
    }

    /// Whether any call can be kept from the kernel by a rule or by the default.
    ///
    /// Rules that Docker would drop count too: what they depend on may change with the container.
    #[must_use]
    pub fn denies(&self) -> bool {
        !self.default_action.passes() || self.syscalls.iter().any(|rule| !rule.action.passes())
    }

    /// What a recording made under this file is worth.
    #[must_use]
    pub fn setting(&self) -> SeccompSetting {
        if self.denies() { SeccompSetting::Custom } else { SeccompSetting::Permissive }
    }
}

impl Rule {
    /// The names, by whichever key the file gives them.
    pub fn all_names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().chain(&self.name).map(String::as_str)
    }
}

/// Go writes an empty list as `null`.
fn null_is_empty<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}
