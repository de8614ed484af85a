//! What becomes of a profile: the verdict on each entry, and the profile that is left.

use std::collections::BTreeSet;

use crate::model::{
    minimise::{Entry, Kept, Run, without},
    profile::{Profile, SyscallReason},
};

/// The most characters of a failing run's last line that a reason quotes.
const MAX_LINE: usize = 160;

/// What a finished search says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Each entry that was looked at, sorted.
    pub entries: Vec<Judged>,
    /// How many runs leaving out one after the other would have taken at least.
    pub one_by_one: usize,
}

/// An entry and its verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// The entry.
    pub entry: Entry,
    /// Whether the whole tests made the call or used the capability; `None` where nobody watched.
    pub made: Option<bool>,
    /// What follows.
    pub verdict: Verdict,
}

/// What the runs say of an entry. All but [`Verdict::NotNeeded`] keep it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The tests fail without it.
    Needed {
        /// The index of a run that failed.
        run: usize,
    },
    /// They pass without it, and without all others of this verdict at once.
    NotNeeded,
    /// They pass and fail.
    Flaky,
    /// They pass without it, but it may guard what tests do not see: privileges, data.
    Guard,
    /// They make use of it; it was not left out by itself.
    Used,
    /// It was not tried.
    Kept(Kept),
}

impl Verdict {
    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Verdict::Needed { .. } => "needed",
            Verdict::NotNeeded => "not-needed",
            Verdict::Flaky => "flaky",
            Verdict::Guard => "guard",
            Verdict::Used => "used",
            Verdict::Kept(_) => "not-tried",
        }
    }
}

impl Outcome {
    /// What is not needed.
    #[must_use]
    pub fn dropped(&self) -> BTreeSet<Entry> {
        let is_dropped = |judged: &&Judged| judged.verdict == Verdict::NotNeeded;
        self.entries.iter().filter(is_dropped).map(|judged| judged.entry.clone()).collect()
    }
}

/// The profile without what is not needed; what was proven needed has that as a reason.
#[must_use]
pub fn minimised(profile: &Profile, outcome: &Outcome, runs: &[Run]) -> Profile {
    let mut left = without(profile, &outcome.dropped());
    for judged in &outcome.entries {
        let Verdict::Needed { run } = judged.verdict else { continue };
        let output = runs.get(run).map(|run| last_line(&run.output)).unwrap_or_default();
        match &judged.entry {
            Entry::Syscall(name) => {
                for rule in left.syscalls.iter_mut().filter(|rule| rule.name == *name) {
                    let earlier =
                        |reason: &SyscallReason| matches!(reason, SyscallReason::Needed { .. });
                    rule.reasons.retain(|reason| !earlier(reason));
                    rule.reasons.push(SyscallReason::Needed { output: output.clone() });
                    rule.reasons.sort();
                }
            }
            Entry::Arguments { call, values } => {
                let rules = left.syscalls.iter_mut().filter(|rule| rule.name == *call);
                let combinations = rules.flat_map(|rule| rule.arguments.iter_mut().flatten());
                for combination in combinations.filter(|it| it.values == *values) {
                    combination.needed = Some(output.clone());
                }
            }
            Entry::Capability(name) => {
                let rules = left.capabilities.required.iter_mut();
                for rule in rules.filter(|rule| rule.name == *name) {
                    rule.needed = Some(output.clone());
                }
            }
        }
    }
    left
}

/// The last line of an output that says anything, bounded.
#[must_use]
pub fn last_line(output: &str) -> String {
    let lines = output.lines().rev().map(str::trim);
    let line = lines.into_iter().find(|line| !line.is_empty()).unwrap_or_default();
    line.chars().take(MAX_LINE).collect()
}
