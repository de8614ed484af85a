//! The report for programs.

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    model::{
        diff::{Allowed, Subject, Verdict},
        facts::Risk,
    },
    report::{diff::Report, escape},
};

/// The version of the document; a reader refuses a larger one.
pub const SCHEMA_VERSION: u32 = 1;

/// The document.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(title = "diff", description = "What `profiler diff --format json` prints.")]
pub struct Document {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// How many differences fail.
    pub failing: usize,
    /// What was compared.
    pub compared: Vec<ComparedPolicies>,
    /// What was accepted and is not different.
    pub unused: Vec<Acceptance>,
}

/// Two policies. All text is hostile.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ComparedPolicies {
    /// What the old one is called.
    pub old: String,
    /// What the new one is called.
    pub new: String,
    /// What is different.
    pub entries: Vec<Difference>,
    /// What was not compared, and why.
    pub notes: Vec<String>,
}

/// One difference.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Difference {
    /// The name by which an allow file accepts it.
    pub entry: String,
    /// The ABI of a call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub abi: Option<&'static str>,
    /// The name of the call, capability, architecture or setting beyond calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `added`, `removed`, `arguments-wider`, `arguments-narrower`, `arguments-disjoint`, `arguments-changed`,
    /// `action-changed`.
    pub change: &'static str,
    /// What was done, in words.
    pub old: String,
    /// What is done now, in words.
    pub new: String,
    /// It lets something through that was refused before.
    pub grows: bool,
    /// `low`, `moderate`, `high`, `critical`.
    pub risk: Risk,
    /// Why.
    pub risk_reason: String,
    /// Executables that need it.
    pub programs: Vec<String>,
    /// Tests that were running.
    pub tests: Vec<String>,
    /// It lets more pass, and of all tests only one has shown the need.
    pub one_test_only: bool,
    /// Other reasons, in words.
    pub others: Vec<String>,
    /// `passes`, `fails`, `accepted`, `expired`.
    pub verdict: &'static str,
    /// What accepts it, or did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acceptance: Option<Acceptance>,
}

/// An entry of an allow file.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Acceptance {
    /// What it accepts.
    pub entry: String,
    /// Why.
    pub reason: String,
    /// The last day on which it does.
    pub expires: String,
}

impl From<&Allowed> for Acceptance {
    fn from(allowed: &Allowed) -> Acceptance {
        Acceptance {
            entry: allowed.entry.clone(),
            reason: allowed.reason.clone(),
            expires: allowed.expires.to_string(),
        }
    }
}

/// The report as a document.
#[must_use]
pub fn document(report: &Report<'_>) -> Document {
    let compared = report.compared.iter().map(|compared| {
        let entries =
            compared.diff.entries.iter().zip(&compared.verdicts).map(|(entry, verdict)| {
                let (abi, name) = match &entry.subject {
                    Subject::Syscall { abi, name } => (Some(abi.name()), Some(name.to_string())),
                    Subject::Capability(name)
                    | Subject::Architecture(name)
                    | Subject::Harden(name) => (None, Some(name.clone())),
                    _ => (None, None),
                };
                let (verdict, acceptance) = match verdict {
                    Verdict::Passes => ("passes", None),
                    Verdict::Fails => ("fails", None),
                    Verdict::Accepted(allowed) => ("accepted", Some(allowed.into())),
                    Verdict::Expired(allowed) => ("expired", Some(allowed.into())),
                };
                Difference {
                    entry: entry.subject.to_string(),
                    abi,
                    name,
                    change: entry.change.kind.name(),
                    old: entry.change.old.clone(),
                    new: entry.change.new.clone(),
                    grows: entry.grows,
                    risk: entry.risk,
                    risk_reason: entry.risk_reason.clone(),
                    programs: entry.users.programs.clone(),
                    tests: entry.users.tests.clone(),
                    one_test_only: entry.grows && entry.users.tests.len() == 1,
                    others: entry.users.others.clone(),
                    verdict,
                    acceptance,
                }
            });
        ComparedPolicies {
            old: compared.diff.old.clone(),
            new: compared.diff.new.clone(),
            entries: entries.collect(),
            notes: compared.diff.notes.clone(),
        }
    });
    Document {
        schema_version: SCHEMA_VERSION,
        failing: report.failing(),
        compared: compared.collect(),
        unused: report.unused.iter().map(|&allowed| allowed.into()).collect(),
    }
}

/// The document as text, in which no character acts.
///
/// # Errors
/// None that can happen: strings and numbers have a JSON form.
pub fn render(report: &Report<'_>) -> Result<String, serde_json::Error> {
    let text = serde_json::to_string_pretty(&document(report))?;
    Ok(escape::json(&text) + "\n")
}
