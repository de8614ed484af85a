//! All checks over one container.

use crate::model::{
    arch::Abi,
    audit::{
        Check, Facts, Known, Scan, Severity, Unknown,
        pod::{Policy, Violation},
    },
    profile::Profile,
    seccomp::KernelVersion,
};

/// The machine that it runs on, as far as a filter's decisions depend on it.
#[derive(Debug, Clone, Copy)]
pub struct Machine {
    /// Its own ABI.
    pub native: Abi,
    /// Its kernel.
    pub kernel: KernelVersion,
}

/// What is known beside the facts of one container.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// The machine.
    pub machine: Machine,
    /// What a recording shows to be needed.
    pub profile: Option<&'a Profile>,
    /// What a scanner found in the image.
    pub scan: Option<&'a Scan>,
}

/// What a check looks at.
pub(super) struct Subject<'a> {
    pub facts: &'a Facts,
    pub inputs: Inputs<'a>,
}

/// What a check says.
pub(super) enum Answer {
    /// It asks for nothing here.
    Moot,
    /// All is well; and by what one sees it.
    Passed(String),
    /// It is not.
    Found {
        severity: Severity,
        message: String,
        evidence: Vec<String>,
        /// What a recording shows could go.
        tighten: Option<String>,
    },
}

impl Answer {
    pub(super) fn found(severity: Severity, message: impl Into<String>) -> Answer {
        Answer::Found { severity, message: message.into(), evidence: Vec::new(), tighten: None }
    }

    pub(super) fn with(self, more: impl IntoIterator<Item = String>) -> Answer {
        match self {
            Answer::Found { severity, message, mut evidence, tighten } => {
                evidence.extend(more);
                Answer::Found { severity, message, evidence, tighten }
            }
            other => other,
        }
    }

    pub(super) fn tighten(self, what: Option<String>) -> Answer {
        match self {
            Answer::Found { severity, message, evidence, .. } => {
                Answer::Found { severity, message, evidence, tighten: what }
            }
            other => other,
        }
    }
}

/// `1 file`, `2 files`.
pub(super) fn count(number: usize, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// All is well.
    Passed,
    /// It is not, and how bad that is.
    Found(Severity),
    /// Nobody could tell.
    Unknown,
}

/// What a check says of a container.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// The check.
    pub check: &'static Check,
    /// The container, service or pod. Hostile text.
    pub subject: String,
    /// How it ended.
    pub state: State,
    /// In words: one line. Hostile text.
    pub message: String,
    /// By what one sees it. Hostile text.
    pub evidence: Vec<String>,
    /// What a recording shows could go. Hostile text.
    pub tighten: Option<String>,
}

/// Everything that the checklist says of a container, by identifier.
#[must_use]
pub fn audit(facts: &Facts, inputs: Inputs<'_>) -> Vec<Finding> {
    let subject = Subject { facts, inputs };
    let examined = |check: &'static Check| finding(check, &facts.name, (check.examine)(&subject));
    Check::ALL.iter().filter_map(examined).collect()
}

/// What the Pod Security Standards say of a pod.
#[must_use]
pub fn pod_findings(name: &str, violations: &[Violation]) -> Vec<Finding> {
    let of = |id: &str, policy: Policy, severity: Severity| {
        let broken = violations.iter().filter(|it| it.policy == policy);
        let evidence: Vec<String> =
            broken.map(|it| format!("{}: {}", it.control, it.what)).collect();
        let answer = if evidence.is_empty() {
            Answer::Passed(format!("follows the controls of `{}`", policy.name()))
        } else {
            let mut controls: Vec<&str> =
                violations.iter().filter(|it| it.policy == policy).map(|it| it.control).collect();
            controls.dedup();
            let told = format!("breaks {}", controls.join(", "));
            Answer::found(severity, told).with(evidence)
        };
        finding(Check::by_id(id)?, name, Ok(answer))
    };
    [
        of("PA037", Policy::Baseline, Severity::Error),
        of("PA038", Policy::Restricted, Severity::Warning),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What of a file may run containers and was not looked at.
#[must_use]
pub fn unread_finding(name: &str, why: &Unknown) -> Option<Finding> {
    finding(Check::by_id("PA039")?, name, Err(why.clone()))
}

fn finding(check: &'static Check, subject: &str, answer: Known<Answer>) -> Option<Finding> {
    let (state, message, evidence, tighten) = match answer {
        Ok(Answer::Moot) => return None,
        Ok(Answer::Passed(message)) => (State::Passed, message, Vec::new(), None),
        Ok(Answer::Found { severity, message, evidence, tighten }) => {
            (State::Found(severity), message, evidence, tighten)
        }
        Err(Unknown(why)) => (State::Unknown, why, Vec::new(), None),
    };
    Some(Finding { check, subject: subject.to_owned(), state, message, evidence, tighten })
}
