//! One line of what `doctor` says about a host. Plain data that every part can fill in; nothing is examined here.

use schemars::JsonSchema;
use serde::Serialize;

/// The outcome of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CheckState {
    /// It is there.
    Ok,
    /// It is there with a limit, or something optional is not.
    Warning,
    /// It is not there, and recording needs it.
    Missing,
    /// It could not be told, mostly for want of permission.
    Unknown,
}

impl CheckState {
    /// The word used in files and on the terminal.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            CheckState::Ok => "ok",
            CheckState::Warning => "warning",
            CheckState::Missing => "missing",
            CheckState::Unknown => "unknown",
        }
    }
}

/// What was looked at, what was found, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Check {
    /// What was looked at: `kernel`, `BTF`, `docker engine`.
    pub name: String,
    /// The outcome.
    pub state: CheckState,
    /// What was found. May hold text that others control.
    pub detail: String,
    /// What to do, where there is something to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Check {
    /// A check without a hint.
    #[must_use]
    pub fn new(name: impl Into<String>, state: CheckState, detail: impl Into<String>) -> Self {
        Check { name: name.into(), state, detail: detail.into(), hint: None }
    }

    /// The same with what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
