//! The report as a comment on a change: GitHub's Markdown.
//!
//! Text of others stands in code spans only, where no markup, link, mention or HTML is read. Nothing is a table: in one, a
//! vertical bar ends a cell even within a code span.

use std::fmt::Write as _;

use crate::{
    model::diff::Verdict,
    report::{
        diff::{
            Compared, Report,
            groups::{self, Group},
        },
        escape::short,
    },
};

/// The longest text of others that is shown.
const TEXT_CHARS: usize = 400;

/// The report.
#[must_use]
pub fn render(report: &Report<'_>) -> String {
    let mut out = String::new();
    for compared in &report.compared {
        one(compared, &mut out);
    }
    for allowed in &report.unused {
        let (entry, reason) = (code(&allowed.entry), code(&allowed.reason));
        let _ =
            writeln!(out, "- nothing is different at the allowed {entry} ({reason}); remove it");
    }
    out
}

/// Text as a code span: between more backticks than it has in a row.
#[must_use]
pub fn code(text: &str) -> String {
    let text = short(text, TEXT_CHARS);
    if text.trim().is_empty() {
        return "` `".into();
    }
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    // One blank is taken off at both ends when there is one at both.
    let edge = |c: char| c == '`' || c == ' ';
    let blank = if text.starts_with(edge) || text.ends_with(edge) { " " } else { "" };
    format!("{fence}{blank}{text}{blank}{fence}")
}

/// A sentence of our own: whatever could be markup is escaped.
fn plain(text: &str) -> String {
    let mut out = String::new();
    for c in short(text, TEXT_CHARS).chars() {
        if c.is_ascii_punctuation() && !",;:.()'".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

fn one(compared: &Compared<'_>, out: &mut String) {
    let diff = compared.diff;
    let _ = writeln!(out, "### {} → {}\n", code(&diff.old), code(&diff.new));
    let _ = writeln!(out, "{}\n", groups::counts(compared));
    let parts = groups::parts(compared);
    if !parts.grows.is_empty() {
        let _ = writeln!(out, "**Lets more pass**\n");
        for group in &parts.grows {
            grown(group, out);
        }
        out.push('\n');
    }
    for (heading, part) in
        [("Lets less pass", &parts.shrinks), ("Answers otherwise", &parts.answers)]
    {
        if part.is_empty() {
            continue;
        }
        let _ = writeln!(out, "<details><summary>{heading}: {}</summary>\n", part.len());
        for (change, names) in groups::by_change(part) {
            let names: Vec<String> = names.into_iter().map(code).collect();
            let _ = writeln!(out, "- {}: {}", code(&change), names.join(", "));
        }
        for group in part {
            if let Some(text) = verdict(group.verdict) {
                let _ = writeln!(out, "- {}: {text}", code(&group.name));
            }
        }
        let _ = writeln!(out, "\n</details>\n");
    }
    for note in &diff.notes {
        let _ = writeln!(out, "Note: {}\n", code(note));
    }
}

fn grown(group: &Group<'_>, out: &mut String) {
    let (risk, why) = group.risk;
    let abis =
        if group.abis.is_empty() { String::new() } else { format!(" ({})", group.abis.join(", ")) };
    let change = &group.entry.change;
    let _ = writeln!(out, "- **{risk}** {}{abis}: {}", code(&group.name), plain(why));
    let _ = writeln!(out, "  - {} → {}", code(&change.old), code(&change.new));
    let who = groups::who(&group.users, code);
    if !who.is_empty() {
        let _ = writeln!(out, "  - {who}");
    }
    if let Some(text) = verdict(group.verdict) {
        let _ = writeln!(out, "  - {text}");
    }
}

fn verdict(verdict: &Verdict) -> Option<String> {
    match verdict {
        Verdict::Passes | Verdict::Fails => None,
        Verdict::Accepted(a) => Some(format!("accepted until {}: {}", a.expires, code(&a.reason))),
        Verdict::Expired(a) => {
            Some(format!("**acceptance expired** on {}: {}", a.expires, code(&a.reason)))
        }
    }
}
