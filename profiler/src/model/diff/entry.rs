//! One difference, and all of them.

use std::{borrow::Cow, fmt};

use crate::model::{arch::Abi, diff::Users, facts::Risk, syscall};

/// What is different between two policies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diff {
    /// What the old one is called. Hostile text.
    pub old: String,
    /// What the new one is called. Hostile text.
    pub new: String,
    /// The differences: settings first, then calls by ABI and name, then capabilities, then what is beyond both.
    pub entries: Vec<Entry>,
    /// What was not compared, and why. For people.
    pub notes: Vec<String>,
}

impl Diff {
    /// Adds what grows in `other`, the same comparison in another context, and does not grow here. The entry says in which.
    pub fn grow(&mut self, other: Diff, context: &str) {
        for mut entry in other.entries {
            let is_known = |known: &Entry| known.grows && known.subject == entry.subject;
            if entry.grows && !self.entries.iter().any(is_known) {
                entry.change.new.push_str(&format!(", {context}"));
                self.entries.push(entry);
            }
        }
    }
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is about.
    pub subject: Subject,
    /// What became of it.
    pub change: Change,
    /// It lets something through that was refused before.
    pub grows: bool,
    /// How risky its subject is.
    pub risk: Risk,
    /// Why, in a sentence of ours.
    pub risk_reason: String,
    /// Who needs it; of something that is gone, who did.
    pub users: Users,
}

/// What a difference is about. Its `Display` is the name by which an allow file accepts it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// That there is a policy at all.
    Policy,
    /// What happens to a call that no rule names.
    Default,
    /// An ABI, or an architecture without a table as the file spells it. Hostile text.
    Architecture(String),
    /// Flags of seccomp(2).
    Flags,
    /// The user space listener.
    Listener,
    /// The setting `no-new-privileges`.
    NoNewPrivileges,
    /// Whether the list of capabilities is known.
    Capabilities,
    /// A call.
    Syscall {
        /// Number space.
        abi: Abi,
        /// The name, or `syscall_NR`.
        name: Cow<'static, str>,
    },
    /// A capability, without `CAP_`.
    Capability(String),
    /// A setting beyond calls, by its name in [`crate::model::harden::settings`].
    Harden(String),
}

impl Subject {
    /// A call by number.
    #[must_use]
    pub fn syscall(abi: Abi, nr: u32) -> Subject {
        Subject::Syscall { abi, name: syscall::display(abi, nr) }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Policy => f.write_str("policy"),
            Subject::Default => f.write_str("default"),
            Subject::Architecture(name) => write!(f, "architecture/{name}"),
            Subject::Flags => f.write_str("flags"),
            Subject::Listener => f.write_str("listener"),
            Subject::NoNewPrivileges => f.write_str("no-new-privileges"),
            Subject::Capabilities => f.write_str("capabilities"),
            Subject::Syscall { abi, name } => write!(f, "syscall/{abi}/{name}"),
            Subject::Capability(name) => write!(f, "capability/{name}"),
            Subject::Harden(name) => write!(f, "harden/{name}"),
        }
    }
}

/// What became of the subject. `old` and `new` say in words what was and is done; hostile text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// The kind.
    pub kind: Kind,
    /// What was done.
    pub old: String,
    /// What is done now.
    pub new: String,
}

/// The kinds of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// It never passed, and passes now, perhaps for some arguments only.
    Added,
    /// It passed, and never does now.
    Removed,
    /// It passes for more arguments.
    Wider,
    /// It passes for fewer arguments.
    Narrower,
    /// It passes for other arguments only.
    Disjoint,
    /// It passes for arguments that it did not, and does not for others that it did; or that cannot be said.
    Changed,
    /// It passes as before; what happens otherwise, or how it passes, is different.
    Action,
}

impl Kind {
    /// The word for it in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Added => "added",
            Kind::Removed => "removed",
            Kind::Wider => "arguments-wider",
            Kind::Narrower => "arguments-narrower",
            Kind::Disjoint => "arguments-disjoint",
            Kind::Changed => "arguments-changed",
            Kind::Action => "action-changed",
        }
    }
}
