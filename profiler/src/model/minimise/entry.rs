//! What can be left out of a profile, and a profile without it.
//!
//! A call is one entry on all ABIs: a seccomp file has no rules for one of them.

use std::{collections::BTreeSet, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{
    arguments::Masked,
    capability,
    profile::{Combination, Profile, SyscallReason, SyscallRule},
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
    /// A call with these arguments. As text `socket[0&0xffffffff=0x2]`.
    Arguments {
        /// The kernel's name.
        call: String,
        /// The conditions, at least one.
        values: Vec<Masked>,
    },
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Entry::Capability(name) => write!(f, "CAP_{name}"),
            Entry::Syscall(name) => f.write_str(name),
            Entry::Arguments { call, values } => {
                let each = |it: &Masked| format!("{}&{:#x}={:#x}", it.index, it.mask, it.value);
                let values: Vec<String> = values.iter().map(each).collect();
                write!(f, "{call}[{}]", values.join(" "))
            }
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
            None if let Some(entry) = with_arguments(&text) => Ok(entry),
            _ => Err(format!("`{text}` is neither a call nor a capability")),
        }
    }
}

/// `socket[0&0xffffffff=0x2 1&0x7ff=0x1]`.
fn with_arguments(text: &str) -> Option<Entry> {
    let (call, rest) = text.split_once('[')?;
    let number = |text: &str| u64::from_str_radix(text.strip_prefix("0x")?, 16).ok();
    let value = |text: &str| {
        let (index, rest) = text.split_once('&')?;
        let (mask, value) = rest.split_once('=')?;
        Some(Masked { index: index.parse().ok()?, mask: number(mask)?, value: number(value)? })
    };
    let values = rest.strip_suffix(']')?.split(' ').map(value).collect::<Option<Vec<_>>>()?;
    let entry = Entry::Arguments { call: call.to_owned(), values };
    // each has one text
    (is_call(call) && entry.to_string() == text).then_some(entry)
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

/// What is tried beside capabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wanted {
    /// Calls.
    pub syscalls: bool,
    /// The arguments with which calls were seen.
    pub arguments: bool,
}

/// The entries of a profile: capabilities, and what else is asked for. Sorted, each once.
#[must_use]
pub fn candidates(profile: &Profile, wanted: Wanted) -> Vec<Candidate> {
    let mut all = Vec::new();
    // Without evidence about capabilities none are dropped, so there is nothing to leave out.
    for rule in profile.capabilities.required.iter().filter(|_| profile.capabilities.known) {
        let entry = Entry::Capability(rule.name.clone());
        all.push(Candidate { entry, standing: Standing::Try });
    }
    let allowed = || profile.syscalls.iter().filter(|rule| rule.allows());
    let names: BTreeSet<&str> = allowed().map(|rule| rule.name.as_str()).collect();
    for name in names {
        let of_name = || allowed().filter(|rule| rule.name == name);
        let kept = of_name().flat_map(|rule| &rule.reasons).filter_map(kept).next();
        let kept = if syscall::is_unnamed(name) { Some(Kept::Unnamed) } else { kept };
        let standing = kept.map_or(Standing::Try, Standing::Keep);
        if wanted.syscalls {
            all.push(Candidate { entry: Entry::Syscall(name.to_owned()), standing });
        }
        // what was not seen is there whatever tests show
        let combinations = of_name().flat_map(|rule| rule.arguments.iter().flatten());
        let seen = combinations.filter(|it| wanted.arguments && it.seen && !it.values.is_empty());
        let values: BTreeSet<&Vec<Masked>> = seen.map(|it| &it.values).collect();
        all.extend(values.into_iter().map(|values| Candidate {
            entry: Entry::Arguments { call: name.to_owned(), values: values.clone() },
            standing,
        }));
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
    for rule in &mut fewer.syscalls {
        let call = &rule.name;
        let is_left = |it: &Combination| {
            !is_removed(Entry::Arguments { call: call.clone(), values: it.values.clone() })
        };
        rule.arguments.iter_mut().for_each(|all| all.retain(is_left));
    }
    let refused = |rule: &SyscallRule| {
        let before =
            profile.syscalls.iter().find(|it| (it.abi, &it.name) == (rule.abi, &rule.name));
        !rule.allows() && before.is_some_and(SyscallRule::allows)
    };
    fewer.syscalls.retain(|rule| !refused(rule) && !is_removed(Entry::Syscall(rule.name.clone())));
    let lists = &mut fewer.capabilities;
    lists.required.retain(|rule| !is_removed(Entry::Capability(rule.name.clone())));
    fewer
}
