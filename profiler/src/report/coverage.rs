//! How complete the evidence is, for people and programs.

use std::io::{self, Write};

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    model::{
        arch::Abi,
        coverage::{Coverage, Entry, Estimate},
        recording::Target,
        surface::Surface,
    },
    report::{
        self, escape,
        style::{FAINT, HEADING, WARNING, paint},
        text,
    },
};

/// Points of the curve that are shown to people; programs get all.
const POINTS: usize = 7;

/// Entries that are shown to people; programs get all.
const ENTRIES: usize = 24;

/// The JSON form; more fields may come, none goes.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(title = "coverage", description = "What `profiler coverage --format json` prints.")]
pub struct Document<'a> {
    /// What was recorded.
    pub target: &'a Target,
    /// What the evidence says of itself.
    #[serde(flatten)]
    pub coverage: &'a Coverage,
    /// What the target's files could do; absent when they were not looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub surface: Option<&'a Surface>,
}

/// Writes it for programs, with nothing in it that acts on a terminal.
///
/// # Errors
/// When `out` takes no more.
pub fn json(document: &Document<'_>, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}", escape::json(&serde_json::to_string_pretty(document)?))
}

/// Writes it for people, a block for each question.
///
/// # Errors
/// When `out` takes no more.
pub fn human(document: &Document<'_>, out: &mut impl Write) -> io::Result<()> {
    let Document { target, coverage, surface } = document;
    let heading = format!("{} `{}`", target.kind.name(), escape::short(&target.name, 80));
    let tests = match coverage.tests {
        0 => String::new(),
        tests => format!(" and {}", text::count(tests, "test")),
    };
    let seen = format!(
        "{} in {}{tests}",
        entries(coverage.entries.len()),
        text::count(coverage.runs, "run")
    );
    writeln!(out, "{}: {seen}", paint(HEADING, &heading))?;
    for (estimate, sample) in [(&coverage.by_run, "run"), (&coverage.by_test, "test")] {
        if let Some(estimate) = estimate {
            by_sample(estimate, sample, out)?;
        }
    }
    rest_on_one(coverage, out)?;
    if let Some(surface) = surface {
        writeln!(out)?;
        report::surface::human(surface, out)?;
    }
    writeln!(out)?;
    for limit in &coverage.limits {
        writeln!(out, "{} {}", paint(FAINT, "note:"), escape::line(limit))?;
    }
    Ok(())
}

/// The same in one line.
#[must_use]
pub fn line(coverage: &Coverage) -> String {
    let told = |estimate: &Estimate, sample: &str| {
        format!(
            "after {} {:.0} to {:.0} more to find (Chao2), more than {} of a further {sample} covered (Good-Turing)",
            text::count(estimate.samples, sample),
            estimate.unseen_low,
            // nobody knows that there are none
            estimate.unseen_high.ceil().max(1.0),
            percent(estimate.sample_coverage_low),
        )
    };
    let told = match (&coverage.by_run, &coverage.by_test) {
        (Some(estimate), _) => told(estimate, "run"),
        (None, Some(estimate)) => format!("one run gives no estimate; {}", told(estimate, "test")),
        (None, None) => "one run gives no estimate of what is unseen".to_owned(),
    };
    match coverage.rest_on_one().count() {
        0 => told,
        1 => format!("{told}; 1 entry rests on one of them"),
        number => format!("{told}; {number} entries rest on one of them"),
    }
}

fn by_sample(estimate: &Estimate, sample: &str, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "\n{}", paint(HEADING, &format!("by {sample}")))?;
    field(out, "found", &curve(estimate, sample))?;
    let Estimate { unseen, unseen_error, unseen_low, unseen_high, .. } = estimate;
    let unseen = format!(
        "about {unseen:.1} more, standard error {unseen_error:.1}, 95 % interval {unseen_low:.1} to {unseen_high:.1} (Chao2)"
    );
    field(out, "to find", &unseen)?;
    let covered = format!(
        "more than {} of a further {sample}, with 95 % confidence (Good-Turing)",
        percent(estimate.sample_coverage_low)
    );
    field(out, "covered", &covered)?;
    let next = format!(
        "{:.2} new entries in a further {sample}, fewer than {:.2} with 95 % confidence",
        estimate.next, estimate.next_high
    );
    field(out, "expected", &next)
}

/// `60.2 after 1 run, 61.5 after 2, 63 after all 5`.
fn curve(estimate: &Estimate, sample: &str) -> String {
    let samples = estimate.samples;
    let mut points: Vec<usize> =
        (1..).map(|power| 1 << (power - 1)).take_while(|&at| at < samples).collect();
    // the first ones and the last ones tell most
    while points.len() >= POINTS {
        points.remove(points.len() / 2);
    }
    let mut told: Vec<String> = Vec::new();
    for at in points {
        let Some(value) = at.checked_sub(1).and_then(|index| estimate.curve.get(index)) else {
            continue;
        };
        let unit = if told.is_empty() { format!(" {sample}") } else { String::new() };
        told.push(format!("{value:.1} after {at}{unit}"));
    }
    told.push(format!("{} after all {samples}", estimate.seen));
    told.join(", ")
}

fn rest_on_one(coverage: &Coverage, out: &mut impl Write) -> io::Result<()> {
    let all: Vec<&Entry> = coverage.rest_on_one().collect();
    if all.is_empty() {
        return Ok(());
    }
    let verb = if all.len() == 1 { "rests" } else { "rest" };
    writeln!(
        out,
        "\n{}",
        paint(WARNING, &format!("{} {verb} on one run or test", entries(all.len())))
    )?;
    let names: Vec<String> = all.iter().map(|entry| name(entry)).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    for (entry, name) in all.iter().zip(&names).take(ENTRIES) {
        let run = entry.only_run.as_ref().map(|run| format!("run {}", escape::short(run, 16)));
        let test = entry.only_test.as_ref().map(|test| format!("test {}", escape::short(test, 80)));
        let on: Vec<String> = run.into_iter().chain(test).collect();
        writeln!(out, "  {name:width$}  {}", on.join(", "))?;
    }
    match all.len().saturating_sub(ENTRIES) {
        0 => Ok(()),
        left => writeln!(
            out,
            "  {}",
            paint(FAINT, &format!("and {left} more: --format json has them all"))
        ),
    }
}

/// The name, with the ABI where it is not the machine's own.
fn name(entry: &Entry) -> String {
    let name = escape::line(&entry.name);
    match entry.abi {
        Some(abi @ (Abi::Ia32 | Abi::X32 | Abi::Arm)) => format!("{name} ({abi})"),
        _ => name.into_owned(),
    }
}

/// A part in percent, never more than it is and never all.
pub fn percent(part: f64) -> String {
    let tenths = (part * 1000.0).floor().clamp(0.0, 999.0);
    format!("{:.1} %", tenths / 10.0)
}

fn entries(number: usize) -> String {
    if number == 1 { "1 entry".to_owned() } else { format!("{number} entries") }
}

fn field(out: &mut impl Write, name: &str, value: &str) -> io::Result<()> {
    writeln!(out, "  {name:<9} {value}")
}
