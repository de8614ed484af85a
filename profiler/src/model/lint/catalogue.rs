//! The catalogue: identifiers never change their meaning, and none is used again.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How bad a finding is. Ordered, the least first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know; may be meant.
    Note,
    /// Not what it reads like under some engine, runtime or library.
    Warning,
    /// Not what it reads like anywhere, or nothing runs under it.
    Error,
}

impl Severity {
    /// The word used in files, on the command line and on the terminal.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A trap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lint {
    /// A name that no kernel and no libseccomp has.
    UnknownName,
    /// A name that the libseccomp in use does not know.
    IgnoredName,
    /// A denied call gets EPERM where its callers go on only after ENOSYS.
    FallbackErrno,
    /// A key that another engine drops.
    EngineKey,
    /// Two rules with different actions for one call.
    TwoActions,
    /// A rule that changes nothing.
    NoEffect,
    /// Comparisons of one argument that overlap.
    OverlappingComparisons,
    /// One argument twice in one rule.
    RepeatedIndex,
    /// Processes cannot end, or return from a signal handler.
    MissingExit,
    /// Architectures that are missing, or that a runtime refuses.
    Architectures,
    /// The runtime needs a call that the filter denies.
    RuntimeCannotStart,
    /// A capability that no allowed call can use.
    CapabilityWithoutEffect,
    /// Conditions that never hold together.
    UnreachableRule,
    /// clone is filtered by its flags, and clone3 is open.
    Clone3Open,
    /// socket is filtered by its arguments, and socketcall is open.
    SocketcallOpen,
}

impl Lint {
    /// Every lint, by identifier.
    pub const ALL: [Lint; 15] = [
        Lint::UnknownName,
        Lint::IgnoredName,
        Lint::FallbackErrno,
        Lint::EngineKey,
        Lint::TwoActions,
        Lint::NoEffect,
        Lint::OverlappingComparisons,
        Lint::RepeatedIndex,
        Lint::MissingExit,
        Lint::Architectures,
        Lint::RuntimeCannotStart,
        Lint::CapabilityWithoutEffect,
        Lint::UnreachableRule,
        Lint::Clone3Open,
        Lint::SocketcallOpen,
    ];

    /// `PS001`.
    #[must_use]
    pub const fn id(self) -> &'static str {
        self.row().0
    }

    /// `unknown-name`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.row().1
    }

    /// What it is about, for people: one line.
    #[must_use]
    pub const fn about(self) -> &'static str {
        self.row().2
    }

    const fn row(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Lint::UnknownName => (
                "PS001",
                "unknown-name",
                "no kernel and no libseccomp knows the name; engines ignore it",
            ),
            Lint::IgnoredName => (
                "PS002",
                "ignored-name",
                "libseccomp does not know the name yet, so the rule does nothing",
            ),
            Lint::FallbackErrno => (
                "PS003",
                "fallback-errno",
                "callers do without the call only if it fails with ENOSYS",
            ),
            Lint::EngineKey => {
                ("PS004", "engine-key", "other engines drop the key and load the rest")
            }
            Lint::TwoActions => {
                ("PS005", "two-actions", "rules have different actions for one call")
            }
            Lint::NoEffect => ("PS006", "no-effect", "the rule changes nothing"),
            Lint::OverlappingComparisons => (
                "PS007",
                "overlapping-comparisons",
                "libseccomp up to 2.6.0 can weaken overlapping 64-bit comparisons",
            ),
            Lint::RepeatedIndex => (
                "PS008",
                "repeated-index",
                "runc takes conditions on the same argument for alternatives",
            ),
            Lint::MissingExit => {
                ("PS009", "missing-exit", "a process that cannot end or return loops or crashes")
            }
            Lint::Architectures => (
                "PS010",
                "architectures",
                "calls of an architecture that is not listed end the process",
            ),
            Lint::RuntimeCannotStart => (
                "PS011",
                "runtime-cannot-start",
                "the runtime itself runs under the filter before the entry point",
            ),
            Lint::CapabilityWithoutEffect => {
                ("PS012", "capability-without-effect", "no allowed call can use the capability")
            }
            Lint::UnreachableRule => {
                ("PS013", "unreachable-rule", "the conditions on the rule never hold together")
            }
            Lint::Clone3Open => {
                ("PS014", "clone3-open", "clone3 does what the filter on clone forbids")
            }
            Lint::SocketcallOpen => {
                ("PS015", "socketcall-open", "32-bit programs make any socket by socketcall")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_in_order_and_each_has_a_section() {
        let docs = include_str!("../../../../docs/lint.md");
        for (index, lint) in Lint::ALL.into_iter().enumerate() {
            assert_eq!(lint.id(), format!("PS{:03}", index + 1));
            assert!(docs.contains(&format!("\n## {} {}\n", lint.id(), lint.name())), "{lint:?}");
        }
    }
}
