//! What stands in `minimise.json` while a search goes on: for what it is, and every run that was made.
//!
//! Everything else follows from these, so a search that was interrupted goes on with the run that comes next, and one that is
//! asked for more (calls, proofs, repeats) uses what there is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::minimise::Entry;

/// The version written to `minimise.json`; a larger one is refused on reading.
pub const SCHEMA_VERSION: u32 = 1;

/// The most bytes of a run's output that are kept: its end.
pub const MAX_OUTPUT: usize = 4096;

/// The file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// [`SCHEMA_VERSION`] of the writer.
    pub schema_version: u32,
    /// For what the runs were made.
    pub fingerprint: Fingerprint,
    /// The id of the container that ran and is stopped while its copies run; absent where none is. A search that was killed
    /// leaves it stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    /// In the order in which they ended.
    pub runs: Vec<Run>,
}

/// What a run's result depends on. Runs for another one say nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fingerprint {
    /// SHA-256 of the profile as it is written, in hexadecimal digits.
    pub profile: String,
    /// What runs under the profile, in words.
    pub target: String,
    /// The tests. Hostile text.
    pub command: Vec<String>,
}

/// The tests, run once under the profile without some of its entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// What was left out. Sorted, each once.
    pub removed: Vec<Entry>,
    /// Whether the tests passed, and the target held.
    pub passed: bool,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// Which entries of the profile were used or, where left out, asked for; absent where nobody watched. Sorted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<Vec<Entry>>,
    /// The end of what a failing run wrote, at most [`MAX_OUTPUT`] bytes; empty for one that passed. Hostile text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub output: String,
}

impl Run {
    /// It failed, though nothing was seen to ask for anything that was left out.
    #[must_use]
    pub fn is_unexplained(&self) -> bool {
        let asked = |made: &Vec<Entry>| self.removed.iter().any(|entry| made.contains(entry));
        !self.passed
            && !self.removed.is_empty()
            && self.made.as_ref().is_some_and(|made| !asked(made))
    }
}
