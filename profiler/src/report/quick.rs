//! Whether a profile still fits, for people and for programs. Owns the verdict.

use std::io::{self, Write};

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    model::fits::{BoundFit, FloorFit},
    report::{
        escape,
        style::{BAD, FAINT, GOOD, WARNING, paint},
        verify,
    },
};

/// Names that are shown to people; programs get all.
const NAMES: usize = 30;

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Fit {
    /// The container started under it and stayed up, and the runtime's floor is in it.
    Fits,
    /// It did not start, something was refused, or the measured floor of this very runtime is not in it.
    DoesNotFit,
    /// Nothing speaks against it, but nothing was started, or not all could be seen.
    CouldNotTell,
}

/// The JSON form; more fields may come, none goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(
    title = "verify-quick",
    description = "What `profiler verify --quick --format json` prints."
)]
pub struct Document {
    /// The profile, as it was named. Hostile text.
    pub profile: String,
    /// What the runtime needs; empty where no runtime is known.
    pub floors: Vec<FloorFit>,
    /// What the image's files say; absent where they could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bound: Option<BoundFit>,
    /// How the start went; absent where nothing was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<verify::Document>,
    /// The answer.
    pub verdict: Fit,
}

impl Document {
    /// The answer, from everything else.
    #[must_use]
    pub fn judged(mut self) -> Document {
        let start = self.start.as_ref().map(|start| start.verdict);
        let lacks = self.floors.iter().any(|floor| floor.exact && !floor.missing.is_empty());
        self.verdict = match start {
            _ if lacks => Fit::DoesNotFit,
            Some(verify::Verdict::Fails) => Fit::DoesNotFit,
            Some(verify::Verdict::Holds) => Fit::Fits,
            Some(verify::Verdict::Incomplete) | None => Fit::CouldNotTell,
        };
        self
    }
}

/// Writes it for programs, with nothing in it that acts on a terminal.
///
/// # Errors
/// When `out` takes no more.
pub fn json(document: &Document, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}", escape::json(&serde_json::to_string_pretty(document)?))
}

/// Writes it for people.
///
/// # Errors
/// When `out` takes no more.
pub fn human(document: &Document, out: &mut impl Write) -> io::Result<()> {
    for floor in &document.floors {
        let FloorFit { runtime, measured, exact, missing } = floor;
        let runtime = escape::line(runtime);
        let by =
            if *exact { String::new() } else { format!(", by the nearest measured, {measured}") };
        if missing.is_empty() {
            writeln!(out, "what {runtime} needs to start a container is allowed{by}")?;
        } else {
            let told = format!("{runtime} needs calls that are refused{by}: {}", names(missing));
            writeln!(out, "{}", paint(if *exact { BAD } else { WARNING }, &told))?;
        }
    }
    if let Some(bound) = &document.bound {
        let BoundFit { reachable, allowed, unused, closed } = bound;
        let any = if *closed { "" } else { ", and others that could not be found out" };
        writeln!(
            out,
            "the files could make {reachable} calls{any}; {allowed} of them are allowed"
        )?;
        if !unused.is_empty() {
            writeln!(out, "allowed, but nothing in the files makes it: {}", names(unused))?;
        }
    }
    if let Some(start) = &document.start {
        writeln!(out)?;
        verify::human(start, verify::Ran::Nothing, &[], out)?;
        writeln!(out)?;
    }
    let verdict = match (document.verdict, &document.start) {
        (Fit::Fits, _) => paint(GOOD, "it fits"),
        (Fit::DoesNotFit, _) => paint(BAD, "it does not fit"),
        (Fit::CouldNotTell, None) => paint(
            WARNING,
            "nothing was started: whether it fits cannot be told\nhint: add --image IMAGE or --copy-of NAME",
        ),
        (Fit::CouldNotTell, Some(_)) => paint(WARNING, "whether it fits could not be told"),
    };
    writeln!(out, "{verdict}")
}

fn names(all: &[String]) -> String {
    let shown: Vec<_> = all.iter().take(NAMES).map(|name| escape::line(name)).collect();
    match all.len().saturating_sub(NAMES) {
        0 => shown.join(", "),
        left => format!("{} {}", shown.join(", "), paint(FAINT, &format!("and {left} more"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_floor_of_this_very_runtime_decides() {
        let verdict = |exact: bool, missing: &[&str]| {
            let floor = FloorFit {
                runtime: "runc 1.1.5".into(),
                measured: "runc 1.1.5".into(),
                exact,
                missing: missing.iter().map(|name| (*name).to_owned()).collect(),
            };
            let document = Document {
                profile: "p".into(),
                floors: vec![floor],
                bound: None,
                start: None,
                verdict: Fit::Fits,
            };
            document.judged().verdict
        };
        assert_eq!(verdict(true, &["execve"]), Fit::DoesNotFit);
        assert_eq!(verdict(false, &["execve"]), Fit::CouldNotTell);
        assert_eq!(verdict(true, &[]), Fit::CouldNotTell);
    }
}
