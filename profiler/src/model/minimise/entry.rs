//! What can be left out of a profile, and a profile without it.
//!
//! A call is one entry on all ABIs: a seccomp file has no rules for one of them.

use std::{collections::BTreeSet, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{
    capability,
    profile::{Profile, SyscallReason},
    syscall,
};

/// One thing that a profile grants. As text `CAP_CHOWN`, or a call's name.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum Entry {
    /// A required capability, without `CAP_`.
    Capability(String),
    /// A call, by the kernel's name.
    Syscall(String),
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Entry::Capability(name) => write!(f, "CAP_{name}"),
            Entry::Syscall(name) => f.write_str(name),
        }
    }
}

impl From<Entry> for String {
    fn from(entry: Entry) -> String {
        entry.to_string()
    }
}

impl TryFrom<String> for Entry {
    type Error = String;

    fn try_from(text: String) -> Result<Entry, String> {
        match text.strip_prefix("CAP_") {
            Some(name) if capability::is_canonical(name) => Ok(Entry::Capability(name.to_owned())),
            None if is_call(&text) => Ok(Entry::Syscall(text)),
            _ => Err(format!("`{text}` is neither a call nor a capability")),
        }
    }
}

fn is_call(name: &str) -> bool {
    crate::model::arch::Abi::ALL.iter().any(|&abi| syscall::parse(abi, name).is_some())
}

/// An entry and whether runs are made for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The entry.
    pub entry: Entry,
    /// Whether it is tried.
    pub standing: Standing,
}

/// Whether an entry is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is.
    Try,
    /// It is kept as it is.
    Keep(Kept),
}

/// Why an entry is kept without a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kept {
    /// It is allowed whatever tests show.
    AlwaysAllowed,
    /// It is there for other libraries and kernels than those of the tests.
    Portable,
    /// The target is started by it.
    Launch,
    /// The OCI runtime needs it, in this version or another.
    Runtime,
    /// No table names it, so no seccomp file allows it anyway.
    Unnamed,
}

impl Kept {
    /// In words.
    #[must_use]
    pub const fn why(self) -> &'static str {
        match self {
            Kept::AlwaysAllowed => {
                "always allowed: tests rarely make it, and nothing works without"
            }
            Kept::Portable => "it is there for other C libraries and kernels than the tests' own",
            Kept::Launch => "whoever loads the filter starts the target with it",
            Kept::Runtime => "the runtime needs it to start or to join the container",
            Kept::Unnamed => "no table names it, so no filter can allow it",
        }
    }
}

/// The entries of a profile: capabilities, and calls where asked for. Sorted, each once.
#[must_use]
pub fn candidates(profile: &Profile, syscalls: bool) -> Vec<Candidate> {
    let mut all = Vec::new();
    // Without evidence about capabilities none are dropped, so there is nothing to leave out.
    for rule in profile.capabilities.required.iter().filter(|_| profile.capabilities.known) {
        let entry = Entry::Capability(rule.name.clone());
        all.push(Candidate { entry, standing: Standing::Try });
    }
    let names: BTreeSet<&str> = profile.syscalls.iter().map(|rule| rule.name.as_str()).collect();
    for name in names.into_iter().filter(|_| syscalls) {
        let of_name = profile.syscalls.iter().filter(|rule| rule.name == name);
        let kept = of_name.flat_map(|rule| &rule.reasons).filter_map(kept).next();
        let kept = if syscall::is_unnamed(name) { Some(Kept::Unnamed) } else { kept };
        let standing = kept.map_or(Standing::Try, Standing::Keep);
        all.push(Candidate { entry: Entry::Syscall(name.to_owned()), standing });
    }
    all.sort_by(|a, b| a.entry.cmp(&b.entry));
    all
}

fn kept(reason: &SyscallReason) -> Option<Kept> {
    match reason {
        SyscallReason::AlwaysAllowed {} => Some(Kept::AlwaysAllowed),
        SyscallReason::Portable { .. } => Some(Kept::Portable),
        SyscallReason::Launch {} => Some(Kept::Launch),
        SyscallReason::Handover { .. } | SyscallReason::Floor { .. } => Some(Kept::Runtime),
        SyscallReason::Workload { .. }
        | SyscallReason::Denied { .. }
        | SyscallReason::Needed { .. } => None,
    }
}

/// The profile without these entries; everything else stays.
#[must_use]
pub fn without(profile: &Profile, removed: &BTreeSet<Entry>) -> Profile {
    let mut fewer = profile.clone();
    let is_removed = |entry: Entry| removed.contains(&entry);
    fewer.syscalls.retain(|rule| !is_removed(Entry::Syscall(rule.name.clone())));
    let lists = &mut fewer.capabilities;
    lists.required.retain(|rule| !is_removed(Entry::Capability(rule.name.clone())));
    fewer
}
