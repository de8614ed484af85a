//! What an audit found: for people, for programs, as SARIF for what shows findings beside the code, and as Markdown for a change or
//! a ticket.
//!
//! Nothing is decided here. Everything that is shown is hostile but the words of the catalogue.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    model::audit::{Check, Finding, Severity, State},
    report::{
        diff::{
            markdown::code,
            sarif::{plain, uri},
        },
        escape,
        style::{BAD, COMMAND, FAINT, GOOD, HEADING, WARNING, paint},
        text,
    },
};

/// Where the documentation of the checks is.
const DOCS: &str = "docs/audit.md";
/// The longest text of others that is shown to people.
const TEXT_CHARS: usize = 400;

/// The version of the document; a reader refuses a larger one.
pub const SCHEMA_VERSION: u32 = 1;

/// What was audited, and what was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Audited {
    /// The file that it stands in; `None` for a container of an engine. Hostile text.
    pub file: Option<String>,
    /// The line of the file on which it begins, from 1; 1 where that is not known.
    pub line: usize,
    /// The container, service or pod. Hostile text.
    pub subject: String,
    /// What the checklist says of it.
    pub findings: Vec<Finding>,
}

/// The JSON form; more fields may come, none goes.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(title = "audit", description = "What `profiler audit --format json` prints.")]
pub struct Document {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Every check of every container, by container and identifier.
    pub checks: Vec<Row>,
}

/// What one check says of one container.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Row {
    /// The file that it stands in; absent for a container of an engine. Hostile text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The container, service or pod. Hostile text.
    pub subject: String,
    /// `PA001`.
    pub id: &'static str,
    /// `root`.
    pub name: &'static str,
    /// `passed`, `found`, or `unknown` where nobody could tell.
    pub state: &'static str,
    /// How bad it is; only of what was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// In words. Hostile text.
    pub message: String,
    /// By what one sees it. Hostile text.
    pub evidence: Vec<String>,
    /// What the recording shows could go. Hostile text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tighten: Option<String>,
    /// The controls that ask for it.
    pub controls: &'static [&'static str],
}

/// The findings as a document.
#[must_use]
pub fn document(audited: &[Audited]) -> Document {
    let rows = audited.iter().flat_map(|one| {
        one.findings.iter().map(|finding| {
            let (state, severity) = match finding.state {
                State::Passed => ("passed", None),
                State::Found(severity) => ("found", Some(severity)),
                State::Unknown => ("unknown", None),
            };
            Row {
                file: one.file.clone(),
                subject: finding.subject.clone(),
                id: finding.check.id,
                name: finding.check.name,
                state,
                severity,
                message: finding.message.clone(),
                evidence: finding.evidence.clone(),
                tighten: finding.tighten.clone(),
                controls: finding.check.controls,
            }
        })
    });
    Document { schema_version: SCHEMA_VERSION, checks: rows.collect() }
}

/// Writes the document.
///
/// # Errors
/// When `out` takes no more.
pub fn json(audited: &[Audited], out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}", escape::json(&serde_json::to_string_pretty(&document(audited))?))
}

/// Writes what was found, the worst first, and what nobody could tell; with `all`, also what passed.
///
/// # Errors
/// When `out` takes no more.
pub fn human(audited: &[Audited], all: bool, out: &mut impl Write) -> io::Result<()> {
    for one in audited {
        let file = one.file.as_ref().map(|file| format!("{}: ", escape::line(file)));
        let name =
            format!("{}{}", file.unwrap_or_default(), escape::short(&one.subject, TEXT_CHARS));
        writeln!(out, "{}", paint(HEADING, &name))?;
        for finding in worst_first(&one.findings) {
            line(finding, all, out)?;
        }
        writeln!(out)?;
    }
    writeln!(out, "{}; see {DOCS}", counts(audited))
}

fn line(finding: &Finding, all: bool, out: &mut impl Write) -> io::Result<()> {
    let check = finding.check;
    let message = escape::short(&finding.message, TEXT_CHARS);
    let head = |style, word: &str| paint(style, &format!("{word}[{}]:", check.id));
    match finding.state {
        State::Found(severity) => {
            let style = match severity {
                Severity::Error => BAD,
                Severity::Warning => WARNING,
                Severity::Note => FAINT,
            };
            let controls = match check.controls {
                [] => String::new(),
                controls => paint(FAINT, &format!(" ({})", controls.join("; "))),
            };
            writeln!(out, "  {} {message}{controls}", head(style, severity.name()))?;
            for evidence in &finding.evidence {
                writeln!(out, "      {}", escape::short(evidence, TEXT_CHARS))?;
            }
            if let Some(tighten) = &finding.tighten {
                let told = format!("recorded: {}", escape::short(tighten, TEXT_CHARS));
                writeln!(out, "      {}", paint(COMMAND, &told))?;
            }
            Ok(())
        }
        State::Unknown => {
            writeln!(out, "  {} {}: {message}", head(FAINT, "could not tell"), check.name)
        }
        State::Passed if all => {
            writeln!(out, "  {} {}: {message}", head(GOOD, "passed"), check.name)
        }
        State::Passed => Ok(()),
    }
}

/// The worst first, then what nobody could tell, then what passed; each by identifier.
fn worst_first(findings: &[Finding]) -> Vec<&Finding> {
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|finding| match finding.state {
        State::Found(Severity::Error) => 0,
        State::Found(Severity::Warning) => 1,
        State::Found(Severity::Note) => 2,
        State::Unknown => 3,
        State::Passed => 4,
    });
    sorted
}

fn counts(audited: &[Audited]) -> String {
    let of = |state: State| {
        let findings = audited.iter().flat_map(|one| &one.findings);
        findings.filter(|finding| finding.state == state).count()
    };
    format!(
        "{}, {}, {}, {} could not be told, {} passed",
        text::count(of(State::Found(Severity::Error)), "error"),
        text::count(of(State::Found(Severity::Warning)), "warning"),
        text::count(of(State::Found(Severity::Note)), "note"),
        of(State::Unknown),
        of(State::Passed)
    )
}

/// Writes GitHub's Markdown. Text of others stands in code spans only.
///
/// # Errors
/// When `out` takes no more.
pub fn markdown(audited: &[Audited], out: &mut impl Write) -> io::Result<()> {
    for one in audited {
        let file = one.file.as_ref().map(|file| format!("{} ", code(file)));
        writeln!(out, "### {}{}\n", file.unwrap_or_default(), code(&one.subject))?;
        let mut rest = String::new();
        for finding in worst_first(&one.findings) {
            let check = finding.check;
            match finding.state {
                State::Found(severity) => {
                    let controls = match check.controls {
                        [] => String::new(),
                        controls => format!(" ({})", controls.join("; ")),
                    };
                    writeln!(
                        out,
                        "- **{severity}** {} {}: {}{controls}",
                        check.id,
                        check.name,
                        code(&finding.message)
                    )?;
                    for evidence in &finding.evidence {
                        writeln!(out, "  - {}", code(evidence))?;
                    }
                    if let Some(tighten) = &finding.tighten {
                        writeln!(out, "  - recorded: {}", code(tighten))?;
                    }
                }
                State::Unknown | State::Passed => {
                    let word =
                        if finding.state == State::Passed { "passed" } else { "could not tell" };
                    let _ = writeln!(
                        rest,
                        "- {word}: {} {}: {}",
                        check.id,
                        check.name,
                        code(&finding.message)
                    );
                }
            }
        }
        if !rest.is_empty() {
            writeln!(
                out,
                "\n<details><summary>Passed, or could not be told</summary>\n\n{rest}\n</details>"
            )?;
        }
        writeln!(out)?;
    }
    writeln!(out, "{}", counts(audited))
}

/// Writes SARIF 2.1.0: what was found. What nobody could tell is there as `open`, which is no failure.
/// Source: <https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>.
///
/// # Errors
/// When `out` takes no more.
pub fn sarif(audited: &[Audited], version: &str, out: &mut impl Write) -> io::Result<()> {
    let rule = |check: &Check| {
        json!({
            "id": check.id,
            "name": check.name,
            "shortDescription": {"text": check.about},
            "help": {"text": format!("{DOCS}, {} {}", check.id, check.name)},
            "defaultConfiguration": {"level": check.severity.name()},
            "properties": {"tags": check.controls},
        })
    };
    let results = audited
        .iter()
        .flat_map(|one| one.findings.iter().filter_map(|finding| result(one, finding)));
    let document = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "profiler",
                "version": version,
                "rules": Check::ALL.iter().map(rule).collect::<Vec<_>>(),
            }},
            "results": results.collect::<Vec<_>>(),
        }],
    });
    writeln!(out, "{}", escape::json(&serde_json::to_string_pretty(&document)?))
}

fn result(one: &Audited, finding: &Finding) -> Option<Value> {
    let (kind, level) = match finding.state {
        State::Found(severity) => ("fail", severity.name()),
        State::Unknown => ("open", "none"),
        State::Passed => return None,
    };
    let mut message = plain(&finding.message);
    for evidence in finding.evidence.iter().chain(&finding.tighten) {
        message.push_str("; ");
        message.push_str(&plain(evidence));
    }
    // Code hosts refuse a result that is at no file: a container of an engine stands for one.
    let file = one.file.as_deref().unwrap_or(&finding.subject);
    let location = json!({
        "physicalLocation": {"artifactLocation": {"uri": uri(file)}, "region": {"startLine": one.line}},
        "logicalLocations": [{"fullyQualifiedName": escape::line(&finding.subject)}],
    });
    Some(json!({
        "ruleId": finding.check.id,
        "ruleIndex": Check::ALL.iter().position(|check| check.id == finding.check.id),
        "kind": kind,
        "level": level,
        "message": {"text": message},
        "locations": [location],
    }))
}
