//! A finding, and the edits that mend it.

use crate::model::lint::{Lint, Severity};

/// A trap in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which.
    pub lint: Lint,
    /// How bad here.
    pub severity: Severity,
    /// What is wrong, for people: one line. Hostile text.
    pub message: String,
    /// JSON pointer from where the profile begins: `/syscalls/3/args`; empty for the whole of it.
    pub pointer: String,
    /// What mends it without letting more pass than the message says.
    pub fix: Option<Edit>,
}

/// A change of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// Take out the rule with this index.
    RemoveRule(usize),
    /// Add a rule after all others.
    AppendRule {
        /// The names.
        names: Vec<&'static str>,
        /// `SCMP_ACT_*`.
        action: &'static str,
        /// The error of `SCMP_ACT_ERRNO`.
        errno_ret: Option<u32>,
    },
}

impl Finding {
    pub(super) fn new(
        lint: Lint,
        severity: Severity,
        pointer: impl Into<String>,
        message: impl Into<String>,
    ) -> Finding {
        Finding { lint, severity, message: message.into(), pointer: pointer.into(), fix: None }
    }

    pub(super) fn fix(self, edit: Edit) -> Finding {
        Finding { fix: Some(edit), ..self }
    }
}

/// `a`, `a and b`, `a, b, c and 4 more`.
pub(super) fn some_of<S: AsRef<str>>(names: &[S]) -> String {
    const SHOWN: usize = 6;
    let name = |name: &S| format!("`{}`", name.as_ref().chars().take(64).collect::<String>());
    match names {
        [one] => name(one),
        [first @ .., last] if names.len() <= SHOWN => {
            let first: Vec<String> = first.iter().map(name).collect();
            format!("{} and {}", first.join(", "), name(last))
        }
        _ => {
            let first: Vec<String> = names.iter().take(SHOWN).map(name).collect();
            format!("{} and {} more", first.join(", "), names.len() - first.len())
        }
    }
}
