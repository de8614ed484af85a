//! Classes of risk, and the class of anything that can be named.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{capability, syscall};

/// How bad it is when a taken process has it. Ordered, the least first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Risk {
    /// Acts on what the process has already, or only asks.
    Low,
    /// Widens what can be reached, or reaches kernel code that is rarely used.
    Moderate,
    /// Reaches other processes or host-wide state, or kernel code with a record of exploits.
    High,
    /// With the capability that it asks for, or by itself, the host is the caller's.
    Critical,
}

impl Risk {
    /// Every class, the least first.
    pub const ALL: [Risk; 4] = [Risk::Low, Risk::Moderate, Risk::High, Risk::Critical];

    /// The word used in files, on the command line and on the terminal.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Risk::Low => "low",
            Risk::Moderate => "moderate",
            Risk::High => "high",
            Risk::Critical => "critical",
        }
    }

    /// What the class means, for people.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Risk::Low => "acts on what the process has already, or only asks",
            Risk::Moderate => {
                "widens what can be reached, or reaches kernel code that is rarely used"
            }
            Risk::High => {
                "reaches other processes or host-wide state, or kernel code with a record of exploits"
            }
            Risk::Critical => {
                "with the capability that it asks for, or by itself, the host is the caller's"
            }
        }
    }
}

impl fmt::Display for Risk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The class of a call, by the kernel's name. A number that no table names is [`Risk::High`]: nobody knows what it does.
#[must_use]
pub fn of_call(name: &str) -> Risk {
    syscall(name).map_or(Risk::High, |facts| facts.risk)
}

/// The class of a capability, with or without `CAP_`. One that has no name is [`Risk::High`], too.
#[must_use]
pub fn of_capability(name: &str) -> Risk {
    capability(name).map_or(Risk::High, |facts| facts.risk)
}
