//! What a search for superfluous entries came to, for people and for programs; and how far it is.

use std::{
    io::{self, Write},
    time::Duration,
};

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    model::minimise::{self, Entry, Kept, Left, Outcome, Run, Verdict},
    report::{
        escape,
        style::{BAD, FAINT, GOOD, HEADING, WARNING, paint},
        text,
    },
};

/// The JSON form; more fields may come, none goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(title = "minimise", description = "What `profiler minimise --format json` prints.")]
pub struct Document {
    /// The directory with the new profile.
    pub output: String,
    /// How many runs were made.
    pub runs: usize,
    /// How many runs leaving out one entry after the other takes at least.
    pub one_by_one: usize,
    /// Each entry that was looked at, sorted.
    pub entries: Vec<Line>,
}

/// An entry and its verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Line {
    /// `CAP_CHOWN`, or the name of a call.
    pub entry: Entry,
    /// `needed`, `not-needed`, `flaky`, `guard`, `used` or `not-tried`. All but `not-needed` are kept.
    pub verdict: String,
    /// Whether the tests made the call or used the capability; absent where that was not seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub made: Option<bool>,
    /// Why it was not tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<Kept>,
    /// The run that failed without it, from 1: its place in `minimise.json`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<usize>,
    /// The end of what that run wrote. Hostile text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
}

impl Document {
    /// Of a finished search.
    #[must_use]
    pub fn new(outcome: &Outcome, runs: &[Run], output: &str) -> Document {
        let entries = outcome.entries.iter().map(|judged| {
            let failed = match judged.verdict {
                Verdict::Needed { run } => Some(run),
                _ => None,
            };
            Line {
                entry: judged.entry.clone(),
                verdict: judged.verdict.name().to_owned(),
                made: judged.made,
                kept: match judged.verdict {
                    Verdict::Kept(why) => Some(why),
                    _ => None,
                },
                run: failed.map(|index| index + 1),
                output: failed.and_then(|index| runs.get(index)).map(|run| run.output.clone()),
            }
        });
        Document {
            output: output.to_owned(),
            runs: runs.len(),
            one_by_one: outcome.one_by_one,
            entries: entries.collect(),
        }
    }

    fn of(&self, verdict: &str) -> Vec<&Line> {
        self.entries.iter().filter(|line| line.verdict == verdict).collect()
    }
}

/// Writes what went first, then what is proven, then what is kept for other reasons.
///
/// # Errors
/// When `out` takes no more.
pub fn human(document: &Document, out: &mut impl Write) -> io::Result<()> {
    let heading = |out: &mut dyn Write, style, name: &str, lines: &[&Line], what: &str| {
        writeln!(out, "{} {} {what}", paint(style, name), lines.len())
    };
    let dropped = document.of("not-needed");
    heading(out, GOOD, "not needed", &dropped, "removed: these tests pass without")?;
    for line in dropped {
        let why = match line.made {
            Some(true) => "made, and the tests pass when it is refused",
            Some(false) => "never made",
            None => "the tests pass when it is refused",
        };
        writeln!(out, "  {:<20} {}", escape::short(&line.entry.to_string(), 40), why)?;
    }
    let needed = document.of("needed");
    heading(out, HEADING, "needed    ", &needed, "the tests fail without")?;
    for line in needed {
        let output = minimise::last_line(line.output.as_deref().unwrap_or_default());
        let run = line.run.unwrap_or(0);
        let name = escape::short(&line.entry.to_string(), 40);
        writeln!(out, "  {name:<20} run {run}: {}", escape::short(&output, 100))?;
    }
    for (style, verdict, name, what) in [
        (
            BAD,
            "flaky",
            "flaky     ",
            "kept: the tests pass and fail without, or fail while nothing asks for it",
        ),
        (
            WARNING,
            "guard",
            "guard     ",
            "kept: the tests pass without, but may not see what it protects",
        ),
        (
            HEADING,
            "used",
            "used      ",
            "kept: the tests make use of it; not left out by itself (--prove)",
        ),
        (FAINT, "not-tried", "not tried ", "kept: the runtime's, or always allowed"),
    ] {
        let lines = document.of(verdict);
        if lines.is_empty() {
            continue;
        }
        heading(out, style, name, &lines, what)?;
        let names: Vec<String> = lines.iter().map(|line| line.entry.to_string()).collect();
        writeln!(out, "  {}", escape::line(&names.join(" ")))?;
    }
    writeln!(
        out,
        "{}; one after the other takes {} at least",
        text::count(document.runs, "run"),
        document.one_by_one
    )
}

/// Writes the JSON document.
///
/// # Errors
/// When `out` takes no more.
pub fn json(document: &Document, out: &mut impl Write) -> io::Result<()> {
    let text = serde_json::to_string_pretty(document)?;
    writeln!(out, "{}", escape::json(&text))
}

/// A run that was made, and what is left: one line.
#[must_use]
pub fn progress(run: &Run, runs: usize, left: Left, median_ms: u64, jobs: usize) -> String {
    let how = match run.passed {
        true => "passed",
        false if run.is_unexplained() => "failed, and nothing asked for what was left out,",
        false => "failed",
    };
    let without = match run.removed.as_slice() {
        [] => "under the whole profile".to_owned(),
        [one] => format!("without {one}"),
        more => format!("without {} entries", more.len()),
    };
    let took = text::duration(Duration::from_millis(run.duration_ms));
    let line = format!("run {runs} {without}: {how} in {took}");
    if left.most == 0 {
        return line;
    }
    let time = |count: usize| {
        let batches = u64::try_from(count.div_ceil(jobs.max(1))).unwrap_or(u64::MAX);
        text::duration(Duration::from_millis(median_ms.saturating_mul(batches)))
    };
    let Left { least, most } = left;
    let runs = if least == most { String::new() } else { format!("{least} to ") };
    let runs = format!("{runs}{}", text::count(most, "run"));
    let (early, late) = (time(least), time(most));
    let time = if early == late { early } else { format!("{early} to {late}") };
    format!("{line}; {runs} left, about {time}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::minimise::Judged;

    fn run(passed: bool, removed: &[&str]) -> Run {
        let entry = |name: &&str| Entry::Syscall((*name).to_owned());
        Run {
            removed: removed.iter().map(entry).collect(),
            passed,
            duration_ms: 1200,
            made: None,
            output: if passed { String::new() } else { "x\n\x1b[31mE: no\n".to_owned() },
        }
    }

    #[test]
    fn a_line_says_what_was_done_and_what_is_left() {
        let left = |least, most| Left { least, most };
        let one = run(false, &["read"]);
        assert_eq!(
            progress(&one, 3, left(2, 40), 1000, 2),
            "run 3 without read: failed in 1.2 s; 2 to 40 runs left, about 1.0 s to 20.0 s"
        );
        let unexplained = Run { made: Some(vec![]), ..one };
        let line = progress(&unexplained, 3, left(0, 0), 1000, 1);
        assert!(line.contains("failed, and nothing asked for what was left out, in"), "{line}");
        assert_eq!(
            progress(&run(true, &[]), 1, left(0, 0), 1000, 1),
            "run 1 under the whole profile: passed in 1.2 s"
        );
    }

    #[test]
    fn everything_is_told_and_nothing_acts() {
        let judged = |name: &str, verdict| Judged {
            entry: Entry::Syscall(name.into()),
            made: Some(false),
            verdict,
        };
        let outcome = Outcome {
            entries: vec![
                judged("bpf", Verdict::NotNeeded),
                judged("exit", Verdict::Kept(Kept::AlwaysAllowed)),
                judged("fsync", Verdict::Guard),
                judged("mmap", Verdict::Flaky),
                judged("open", Verdict::Used),
                judged("read", Verdict::Needed { run: 1 }),
            ],
            one_by_one: 6,
        };
        let runs = [run(true, &[]), run(false, &["read"])];
        let document = Document::new(&outcome, &runs, "out");
        let mut text = Vec::new();
        human(&document, &mut text).expect("a vector takes all");
        let text =
            anstream::adapter::strip_str(&String::from_utf8(text).expect("UTF-8")).to_string();
        for words in [
            "not needed 1 removed",
            "bpf                  never made",
            "needed     1",
            "read                 run 2: \\x1b[31mE: no",
            "flaky      1",
            "guard      1",
            "used       1",
            "not tried  1",
            "  exit\n",
            "2 runs; one after the other takes 6 at least",
        ] {
            assert!(text.contains(words), "{words:?} is not in\n{text}");
        }
        let mut text = Vec::new();
        json(&document, &mut text).expect("a vector takes all");
        let text = String::from_utf8(text).expect("UTF-8");
        assert!(text.contains("\"verdict\": \"not-tried\"") && !text.contains('\x1b'), "{text}");
    }
}
