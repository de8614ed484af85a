//! The report as SARIF 2.1.0, as code scanning takes it.
//!
//! One result for each difference, at its line of the new policy. The format reads links, `[text](target)`, in messages, so
//! brackets of others are escaped. <https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>

use serde_json::{Value, json};

use crate::{
    model::{
        diff::{Entry, Kind, Subject, Verdict},
        facts::Risk,
    },
    report::{
        diff::{Report, Source, groups},
        escape::{self, line, short},
    },
};

/// The longest text of others that is shown.
const TEXT_CHARS: usize = 400;

/// The kinds of difference, and what each is.
const RULES: [(Kind, &str); 7] = [
    (Kind::Added, "Something passes that was refused before"),
    (Kind::Removed, "Something is refused that passed before"),
    (Kind::Wider, "A call passes with more arguments than before"),
    (Kind::Narrower, "A call passes with fewer arguments than before"),
    (Kind::Disjoint, "A call passes with other arguments than before"),
    (
        Kind::Changed,
        "A call passes with some arguments with which it did not, and not with others with which it did",
    ),
    (Kind::Action, "A call is answered otherwise, or a setting has another value"),
];

/// The document as text, in which no character acts.
///
/// # Errors
/// None that can happen: strings and numbers have a JSON form.
pub fn render(report: &Report<'_>) -> Result<String, serde_json::Error> {
    let text = serde_json::to_string_pretty(&document(report))?;
    Ok(escape::json(&text) + "\n")
}

/// The document.
#[must_use]
pub fn document(report: &Report<'_>) -> Value {
    let rules = RULES.map(|(kind, text)| {
        json!({
            "id": kind.name(),
            "name": kind.name(),
            "shortDescription": {"text": text},
            "fullDescription": {"text": text},
            "help": {"text": "See docs/diff.md of profiler."},
            "defaultConfiguration": {"level": "warning"},
        })
    });
    let results: Vec<Value> = report
        .compared
        .iter()
        .flat_map(|compared| {
            let entries = compared.diff.entries.iter().zip(&compared.verdicts);
            entries
                .map(|(entry, verdict)| result(entry, verdict, compared.file, &compared.diff.new))
        })
        .collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "profiler",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

fn result(entry: &Entry, verdict: &Verdict, file: Option<Source<'_>>, label: &str) -> Value {
    let level = match (entry.grows, entry.risk) {
        (true, Risk::High | Risk::Critical) => "error",
        (true, _) => "warning",
        (false, _) => "note",
    };
    let (path, at) = match file {
        Some(source) => (source.path, line_of(source.text, &entry.subject)),
        None => (label, 1),
    };
    let id = entry.subject.to_string();
    let mut result = json!({
        "ruleId": entry.change.kind.name(),
        "ruleIndex": RULES.iter().position(|(kind, _)| *kind == entry.change.kind),
        "level": level,
        "message": {"text": message(entry)},
        "locations": [{"physicalLocation": {
            "artifactLocation": {"uri": uri(path)},
            "region": {"startLine": at},
        }}],
        "partialFingerprints": {"profilerEntry/v1": format!("{} {}", uri(path), line(&id))},
        "properties": {"entry": line(&id), "grows": entry.grows, "risk": entry.risk},
    });
    let suppressed = match verdict {
        Verdict::Accepted(allowed) => {
            let justification = format!(
                "accepted until {}: {}",
                allowed.expires,
                short(&allowed.reason, TEXT_CHARS)
            );
            json!([{"kind": "external", "status": "accepted", "justification": justification}])
        }
        _ => json!([]),
    };
    if let Some(result) = result.as_object_mut() {
        result.insert("suppressions".into(), suppressed);
    }
    result
}

fn message(entry: &Entry) -> String {
    let change = &entry.change;
    let mut text = format!(
        "{}: {} -> {}. Risk {}: {}.",
        plain(&entry.subject.to_string()),
        plain(&change.old),
        plain(&change.new),
        entry.risk,
        plain(&entry.risk_reason)
    );
    let who = groups::who(&entry.users, plain);
    if !who.is_empty() {
        let is = if matches!(entry.subject, Subject::Harden(_)) { "Because:" } else { "It is" };
        text.push_str(&format!(" {is} {who}."));
    }
    text
}

/// Text in a message: one line, without links.
pub(in crate::report) fn plain(text: &str) -> String {
    let mut out = String::new();
    for c in short(text, TEXT_CHARS).chars() {
        if matches!(c, '\\' | '[' | ']') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// A path as a relative reference: all that is not plain is percent-encoded, a colon too.
pub(in crate::report) fn uri(path: &str) -> String {
    let mut out = String::new();
    for byte in path.trim_start_matches("./").trim_start_matches('/').bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    if out.is_empty() { "profile.json".into() } else { out }
}

/// The line that holds the subject, from 1; the first when there is none.
fn line_of(text: &str, subject: &Subject) -> usize {
    let (abi, name) = match subject {
        Subject::Syscall { abi, name } => (Some(abi), name.to_string()),
        Subject::Capability(name) => (None, name.clone()),
        Subject::Harden(_) => (None, "harden".to_owned()),
        _ => return 1,
    };
    let name = format!("\"{name}\"");
    let of_abi = abi.map(|abi| format!("\"abi\": \"{abi}\""));
    let holds = |line: &str, abi: &Option<String>| {
        line.contains(&name) && abi.as_ref().is_none_or(|abi| line.contains(abi))
    };
    let find = |abi: &Option<String>| text.lines().position(|line| holds(line, abi));
    find(&of_abi).or_else(|| find(&None)).map_or(1, |index| index + 1)
}
