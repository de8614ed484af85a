//! What two policies decide differently, for people and for machines.
//!
//! Owns four forms of one report: a terminal's, Markdown for a comment on a change, JSON, and SARIF. Each escapes what
//! others control in the way of its own format.

mod groups;
mod human;
pub mod json;
pub mod markdown;
pub mod sarif;

pub use human::write;

use crate::model::diff::{Allowed, Diff, Verdict};

/// Everything that a report says.
#[derive(Debug)]
pub struct Report<'a> {
    /// What was compared.
    pub compared: Vec<Compared<'a>>,
    /// What was accepted and is not different.
    pub unused: Vec<&'a Allowed>,
}

/// Two policies that were compared.
#[derive(Debug)]
pub struct Compared<'a> {
    /// Their differences.
    pub diff: &'a Diff,
    /// What the gate says of each.
    pub verdicts: Vec<Verdict>,
    /// The file that holds the new one, where there is one.
    pub file: Option<Source<'a>>,
}

/// A file with a policy.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Its path. Hostile text.
    pub path: &'a str,
    /// What is in it.
    pub text: &'a str,
}

impl Report<'_> {
    /// How many differences the gate fails.
    #[must_use]
    pub fn failing(&self) -> usize {
        let verdicts = self.compared.iter().flat_map(|compared| &compared.verdicts);
        verdicts.filter(|v| matches!(v, Verdict::Fails | Verdict::Expired(_))).count()
    }
}
