//! Findings, for people, for programs, and as SARIF for what shows them beside the code.

use std::io::{self, Write};

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use crate::{
    model::lint::{Finding, Lint, Severity},
    report::{
        diff::sarif::{plain, uri},
        escape,
        style::{BAD, COMMAND, FAINT, GOOD, HEADING, WARNING, paint},
        text,
    },
};

/// Where the documentation of a lint is.
const DOCS: &str = "docs/lint.md";

/// A finding with its place in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Found {
    /// The file, as it was named. Hostile text.
    pub file: String,
    /// The line on which the rule begins, from 1; absent where it is about the whole file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// JSON pointer into the file.
    pub pointer: String,
    /// `PS001`.
    pub id: String,
    /// `unknown-name`.
    pub name: String,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong. Hostile text.
    pub message: String,
    /// `--fix` mends it.
    pub fixable: bool,
}

impl Found {
    /// `finding` in `file`; `prefix` is the pointer to where the profile begins.
    #[must_use]
    pub fn new(finding: &Finding, file: &str, prefix: &str, line: Option<usize>) -> Found {
        Found {
            file: file.to_owned(),
            line,
            pointer: format!("{prefix}{}", finding.pointer),
            id: finding.lint.id().to_owned(),
            name: finding.lint.name().to_owned(),
            severity: finding.severity,
            message: finding.message.clone(),
            fixable: finding.fix.is_some(),
        }
    }
}

/// The JSON form; more fields may come, none goes.
#[derive(Serialize, JsonSchema)]
#[schemars(title = "lint", description = "What `profiler lint --format json` prints.")]
pub struct Document<'a> {
    /// By file and place.
    pub findings: &'a [Found],
}

/// Writes a line for each finding, and their number. `fixed`: the number that `--fix` has mended.
///
/// # Errors
/// When `out` takes no more.
pub fn human(found: &[Found], fixed: usize, out: &mut impl Write) -> io::Result<()> {
    for finding in found {
        let style = match finding.severity {
            Severity::Error => BAD,
            Severity::Warning => WARNING,
            Severity::Note => FAINT,
        };
        let line = finding.line.map_or_else(String::new, |line| format!(":{line}"));
        let place = format!("{}{line}:", escape::line(&finding.file));
        let severity = paint(style, &format!("{}[{}]:", finding.severity, finding.id));
        let fix = if finding.fixable { paint(COMMAND, " (--fix)") } else { String::new() };
        let message = escape::line(&finding.message);
        writeln!(out, "{} {severity} {message}{fix}", paint(HEADING, &place))?;
        if finding.line.is_some() || !finding.pointer.is_empty() {
            writeln!(out, "  {}", paint(FAINT, &format!("at {}", escape::line(&finding.pointer))))?;
        }
    }
    if fixed > 0 {
        writeln!(out, "{} mended", text::count(fixed, "finding"))?;
    }
    let of = |severity| found.iter().filter(|finding| finding.severity == severity).count();
    if found.is_empty() {
        return writeln!(out, "{}", paint(GOOD, "nothing found"));
    }
    writeln!(
        out,
        "{}, {}, {}; see {DOCS}",
        text::count(of(Severity::Error), "error"),
        text::count(of(Severity::Warning), "warning"),
        text::count(of(Severity::Note), "note")
    )
}

/// Writes `{"findings": [...]}`.
///
/// # Errors
/// When `out` takes no more.
pub fn json(found: &[Found], out: &mut impl Write) -> io::Result<()> {
    let text = serde_json::to_string_pretty(&Document { findings: found })?;
    writeln!(out, "{}", escape::json(&text))
}

/// Writes SARIF 2.1.0. Source: <https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>.
///
/// # Errors
/// When `out` takes no more.
pub fn sarif(found: &[Found], version: &str, out: &mut impl Write) -> io::Result<()> {
    let rule = |lint: Lint| {
        json!({
            "id": lint.id(),
            "name": lint.name(),
            "shortDescription": {"text": lint.about()},
            "help": {"text": format!("{DOCS}, {} {}", lint.id(), lint.name())},
        })
    };
    let result = |finding: &Found| {
        let mut place = json!({"artifactLocation": {"uri": uri(&finding.file)}});
        if let Some(line) = finding.line {
            place["region"] = json!({"startLine": line});
        }
        json!({
            "ruleId": finding.id,
            "ruleIndex": Lint::ALL.iter().position(|lint| lint.id() == finding.id),
            "level": finding.severity.name(),
            "message": {"text": plain(&finding.message)},
            "locations": [{
                "physicalLocation": place,
                "logicalLocations": [{"fullyQualifiedName": escape::line(&finding.pointer)}],
            }],
        })
    };
    let document = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "profiler",
                "version": version,
                "rules": Lint::ALL.map(rule),
            }},
            "results": found.iter().map(result).collect::<Vec<_>>(),
        }],
    });
    writeln!(out, "{}", escape::json(&serde_json::to_string_pretty(&document)?))
}
