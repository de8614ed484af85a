//! The report for a terminal.

use std::io::{self, Write};

use crate::{
    model::{diff::Verdict, facts::Risk},
    report::{
        diff::{
            Compared, Report,
            groups::{self, Group},
        },
        escape::{line, short},
        style::{BAD, FAINT, GOOD, HEADING, WARNING, paint},
    },
};

/// The longest text of others that is shown.
const TEXT_CHARS: usize = 400;

/// Columns of a list of names.
const LIST_CHARS: usize = 88;

/// Writes the report, with styles; the stream takes them out where they are not wanted.
///
/// # Errors
/// When writing fails.
pub fn write(report: &Report<'_>, out: &mut impl Write) -> io::Result<()> {
    for (index, compared) in report.compared.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        one(compared, out)?;
    }
    for allowed in &report.unused {
        let (entry, reason) = (line(&allowed.entry), short(&allowed.reason, TEXT_CHARS));
        let label = paint(WARNING, "warning");
        writeln!(
            out,
            "{label}: nothing is different at the allowed `{entry}` ({reason}); remove it"
        )?;
    }
    Ok(())
}

fn one(compared: &Compared<'_>, out: &mut impl Write) -> io::Result<()> {
    let head = format!("{} -> {}", line(&compared.diff.old), line(&compared.diff.new));
    writeln!(out, "{}: {}", paint(HEADING, &head), groups::counts(compared))?;
    let parts = groups::parts(compared);
    if !parts.grows.is_empty() {
        writeln!(out, "\nlets more pass")?;
    }
    for group in &parts.grows {
        grown(group, out)?;
    }
    for (heading, part) in
        [("lets less pass", &parts.shrinks), ("answers otherwise", &parts.answers)]
    {
        if !part.is_empty() {
            writeln!(out, "\n{heading}")?;
        }
        for (change, names) in groups::by_change(part) {
            writeln!(out, "  {}", paint(FAINT, &short(&change, TEXT_CHARS)))?;
            list(&names, out)?;
        }
        for group in part {
            if let Some(text) = verdict(group.verdict) {
                writeln!(out, "  {}: {text}", line(&group.name))?;
            }
        }
    }
    for note in &compared.diff.notes {
        writeln!(out, "\nnote: {}", line(note))?;
    }
    Ok(())
}

fn grown(group: &Group<'_>, out: &mut impl Write) -> io::Result<()> {
    let (risk, why) = group.risk;
    let style = match risk {
        Risk::High | Risk::Critical => BAD,
        Risk::Moderate => WARNING,
        Risk::Low => GOOD,
    };
    let abis =
        if group.abis.is_empty() { String::new() } else { format!(" ({})", group.abis.join(", ")) };
    let change = &group.entry.change;
    let name = paint(HEADING, &line(&group.name));
    writeln!(out, "  {name}{abis}  {}: {}", paint(style, risk.name()), line(why))?;
    writeln!(out, "    {} -> {}", short(&change.old, TEXT_CHARS), short(&change.new, TEXT_CHARS))?;
    let who = groups::who(&group.users, |text| short(text, 40));
    if !who.is_empty() {
        writeln!(out, "    {who}")?;
    }
    if let Some(text) = verdict(group.verdict) {
        writeln!(out, "    {text}")?;
    }
    Ok(())
}

/// What was accepted, or is not any more.
fn verdict(verdict: &Verdict) -> Option<String> {
    match verdict {
        Verdict::Passes | Verdict::Fails => None,
        Verdict::Accepted(allowed) => {
            let reason = short(&allowed.reason, TEXT_CHARS);
            Some(format!("{} until {}: {reason}", paint(GOOD, "accepted"), allowed.expires))
        }
        Verdict::Expired(allowed) => {
            let reason = short(&allowed.reason, TEXT_CHARS);
            Some(format!("{} on {}: {reason}", paint(BAD, "acceptance expired"), allowed.expires))
        }
    }
}

/// Names, comma by comma, in lines of a bounded width.
fn list(names: &[&str], out: &mut impl Write) -> io::Result<()> {
    let mut text = String::from("   ");
    for (index, name) in names.iter().enumerate() {
        let name = line(name);
        let comma = if index + 1 < names.len() { "," } else { "" };
        if text.trim_start().len() + name.chars().count() > LIST_CHARS {
            writeln!(out, "{text}")?;
            text = String::from("   ");
        }
        text.push_str(&format!(" {name}{comma}"));
    }
    writeln!(out, "{text}")
}
