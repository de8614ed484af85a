//! Which run to make next, and what follows from those that were made.
//!
//! A pure function of the runs: [`plan`] goes through the whole search, takes each answer from the runs at hand, and stops at the first that is
//! missing. So there is no progress to save but the runs, and a run that says more than it was made for is used wherever it does.
//!
//! What it builds on:
//! - What passes without a set passes without less. So a set that passed is dropped for good and stays out in every later run: what is dropped in
//!   the end has passed all at once.
//! - A run goes as it would without those removed entries only that something asked for. A failing run therefore blames these, not all that
//!   were removed; where only one was asked for, it is convicted by the run.
//! - A call that nothing asked for is not why a run failed. Such a run is made again, and where it goes on failing the calls are kept, as flaky.
//!   What a capability is wanted for is not always seen, so one that is tried may be why.
//! - A verdict on one entry rests on as many runs that agree as `repeats` says. Runs that differ make it flaky.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::minimise::{
    Candidate, Entry, Judged, Outcome, Run, Standing, Verdict, bits::Bits, prior,
};

/// How many calls that may be missed by nobody are left out together.
const CHUNK: usize = 4;

/// How many runs may be made in all where a quarter of one by one is less.
const LEAST_BUDGET: usize = 16;

/// How a search is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How many runs must agree; at least one.
    pub repeats: usize,
    /// Leave out every call by itself that the tests make, not only those that are likely to be missed by nobody.
    pub prove: bool,
}

/// What a search comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The tests must be run without these entries.
    Run {
        /// What is left out.
        removed: BTreeSet<Entry>,
        /// Whether they are expected to pass.
        likely: bool,
    },
    /// The tests failed under the whole profile: nothing can be said. The run's index.
    Broken(usize),
    /// Every entry has its verdict.
    Done(Outcome),
}

/// How much is left, when tests are not flaky.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// Runs, when most goes as expected.
    pub least: usize,
    /// Runs, when it does not.
    pub most: usize,
}

/// What to do next.
#[must_use]
pub fn plan(candidates: &[Candidate], settings: Settings, runs: &[Run]) -> Step {
    let entries: Vec<&Entry> = candidates.iter().map(|candidate| &candidate.entry).collect();
    let runs: Vec<Past> = runs.iter().map(|run| Past::of(run, &entries)).collect();
    match Search::new(candidates, settings, &runs).solve() {
        Ok(outcome) => Step::Done(outcome),
        Err(Stop::Broken(index)) => Step::Broken(index),
        Err(Stop::Wanted(wanted)) => {
            Step::Run { removed: named(&wanted.removed, &entries), likely: wanted.likely }
        }
    }
}

/// Up to `count` runs that can be made at once: the next one, and those that follow when each goes as expected.
#[must_use]
pub fn next(
    candidates: &[Candidate],
    settings: Settings,
    runs: &[Run],
    count: usize,
) -> Vec<BTreeSet<Entry>> {
    let entries: Vec<&Entry> = candidates.iter().map(|candidate| &candidate.entry).collect();
    let mut runs: Vec<Past> = runs.iter().map(|run| Past::of(run, &entries)).collect();
    let mut wanted = Vec::new();
    while wanted.len() < count {
        let Err(Stop::Wanted(next)) = Search::new(candidates, settings, &runs).solve() else {
            break;
        };
        wanted.push(named(&next.removed, &entries));
        runs.push(Past::supposed(next.removed, next.likely));
    }
    wanted
}

/// How many runs are left.
#[must_use]
pub fn left(candidates: &[Candidate], settings: Settings, runs: &[Run]) -> Left {
    let entries: Vec<&Entry> = candidates.iter().map(|candidate| &candidate.entry).collect();
    let known: Vec<Past> = runs.iter().map(|run| Past::of(run, &entries)).collect();
    // What passed once passes again, and so does less.
    let has_passed = |set: &Bits| known.iter().any(|run| run.passed && set.is_subset(&run.removed));
    let until_done = |passes: fn(&Wanted) -> bool| {
        let mut runs = known.clone();
        while let Err(Stop::Wanted(next)) = Search::new(candidates, settings, &runs).solve() {
            let passed = next.removed.is_empty() || has_passed(&next.removed) || passes(&next);
            runs.push(Past::supposed(next.removed, passed));
        }
        runs.len() - known.len()
    };
    let counts = [until_done(|_| true), until_done(|wanted| wanted.likely), until_done(|_| false)];
    let least = counts.iter().min().copied().unwrap_or(0);
    Left { least, most: counts.iter().max().copied().unwrap_or(0) }
}

fn named(set: &Bits, entries: &[&Entry]) -> BTreeSet<Entry> {
    set.numbers().filter_map(|number| entries.get(number)).map(|&entry| entry.clone()).collect()
}

/// A run, by the places of its entries.
#[derive(Clone)]
struct Past {
    removed: Bits,
    passed: bool,
    made: Option<Bits>,
    /// Of what was removed, what something asked for; all, where nobody watched or nothing was seen to ask.
    blame: Bits,
    /// It failed, though nothing was seen to ask for what was removed.
    unexplained: bool,
    /// It left out an entry that is not looked at now.
    foreign: bool,
}

impl Past {
    fn of(run: &Run, entries: &[&Entry]) -> Past {
        let bits = |listed: &[Entry]| {
            let places = listed.iter().filter_map(|entry| entries.binary_search(&entry).ok());
            Bits::none(entries.len()).with(&places.collect::<Vec<_>>())
        };
        let removed = bits(&run.removed);
        let made = run.made.as_deref().map(bits);
        let asked = made.as_ref().map(|made| removed.intersection(made));
        Past {
            blame: asked.filter(|asked| !asked.is_empty()).unwrap_or_else(|| removed.clone()),
            unexplained: run.is_unexplained(),
            foreign: removed.numbers().count() != run.removed.len(),
            passed: run.passed,
            removed,
            made,
        }
    }

    fn supposed(removed: Bits, passed: bool) -> Past {
        let blame = removed.clone();
        Past { blame, removed, passed, made: None, unexplained: false, foreign: false }
    }
}

struct Wanted {
    removed: Bits,
    likely: bool,
}

enum Stop {
    Wanted(Wanted),
    Broken(usize),
}

/// What the runs say of a set of entries.
enum Answer {
    /// As many runs as must agree passed without it.
    Passes,
    /// One that failed; its index.
    Fails(usize),
    /// Of one entry, that runs differ; of several, that they fail and none of these is why.
    Differs,
}

struct Search<'a> {
    candidates: &'a [Candidate],
    settings: Settings,
    runs: &'a [Past],
    /// What is out for good.
    dropped: Bits,
    /// What the whole tests used; unknown where nobody watched.
    used: Option<Bits>,
    verdicts: BTreeMap<usize, Verdict>,
    /// The runs that answered so far.
    spent: BTreeSet<usize>,
}

impl<'a> Search<'a> {
    fn new(candidates: &'a [Candidate], settings: Settings, runs: &'a [Past]) -> Search<'a> {
        Search {
            candidates,
            settings,
            runs,
            dropped: Bits::none(candidates.len()),
            used: None,
            verdicts: BTreeMap::new(),
            spent: BTreeSet::new(),
        }
    }

    fn solve(mut self) -> Result<Outcome, Stop> {
        self.whole()?;
        let tried: Vec<usize> = (0..self.candidates.len())
            .filter(|&place| self.candidates[place].standing == Standing::Try)
            .collect();
        let (made, never): (Vec<usize>, Vec<usize>) =
            tried.iter().partition(|&&place| self.used.as_ref().is_none_or(|u| u.contains(place)));
        self.group(&never, true)?;

        let is_call = |&&place: &&usize| matches!(self.entry(place), Entry::Syscall(_));
        let (calls, capabilities): (Vec<usize>, Vec<usize>) = made.iter().partition(is_call);
        for place in capabilities {
            self.single(place, false)?;
        }
        let guard = |&&place: &&usize| prior::is_guard(self.entry(place));
        let (guards, calls): (Vec<usize>, Vec<usize>) = calls.iter().partition(guard);
        let (mut likely, calls): (Vec<usize>, Vec<usize>) =
            calls.iter().partition(|&&place| prior::rank(self.entry(place)).is_some());
        likely.sort_by_key(|&place| (prior::rank(self.entry(place)), place));
        self.likely(&likely, self.budget(tried.len()))?;
        for place in calls.into_iter().chain(guards) {
            if self.settings.prove {
                self.single(place, false)?;
            } else {
                self.verdicts.insert(place, Verdict::Used);
            }
        }
        // Once more, after all else.
        if !self.dropped.is_empty() {
            let (removed, likely) = (self.dropped.clone(), true);
            if self.passes(&removed).len() <= self.settings.repeats {
                return Err(Stop::Wanted(Wanted { removed, likely }));
            }
        }
        Ok(self.outcome())
    }

    /// Under the whole profile the tests must pass each time.
    fn whole(&mut self) -> Result<(), Stop> {
        let removed = Bits::none(self.candidates.len());
        let whole = |run: &Past| run.removed == removed && !run.foreign;
        let runs: Vec<usize> =
            (0..self.runs.len()).filter(|&index| whole(&self.runs[index])).collect();
        if let Some(&failed) = runs.iter().find(|&&index| !self.runs[index].passed) {
            return Err(Stop::Broken(failed));
        }
        if runs.len() < self.settings.repeats {
            return Err(Stop::Wanted(Wanted { removed, likely: true }));
        }
        let made = runs.iter().map(|&index| self.runs[index].made.as_ref());
        self.used = made.into_iter().try_fold(removed, |used, made| Some(used.union(made?)));
        self.spent.extend(runs);
        Ok(())
    }

    /// Drops what can be dropped of these. Tried all at once first, then what is to blame by halves.
    fn group(&mut self, group: &[usize], likely: bool) -> Result<(), Stop> {
        match group {
            [] => return Ok(()),
            &[one] => return self.single(one, likely),
            _ => {}
        }
        let all = |verdict: Verdict| group.iter().map(move |&place| (place, verdict));
        let index = match self.ask(group, likely)? {
            Answer::Fails(index) => index,
            Answer::Differs => {
                self.verdicts.extend(all(Verdict::Flaky));
                return Ok(());
            }
            Answer::Passes => {
                self.dropped = self.dropped.with(group);
                self.verdicts.extend(all(Verdict::NotNeeded));
                return Ok(());
            }
        };
        let blame = self.runs[index].blame.clone();
        let (suspects, others): (Vec<usize>, Vec<usize>) =
            group.iter().partition(|&&place| blame.contains(place));
        // Suspects fail together already. With no others they are the group.
        self.halves(
            if suspects.is_empty() { group } else { &suspects },
            likely && others.is_empty(),
        )?;
        if suspects.is_empty() { Ok(()) } else { self.group(&others, likely) }
    }

    fn halves(&mut self, group: &[usize], likely: bool) -> Result<(), Stop> {
        if let &[one] = group {
            return self.single(one, likely);
        }
        let (left, right) = group.split_at(group.len().div_ceil(2));
        self.group(left, likely)?;
        self.group(right, likely)
    }

    fn single(&mut self, place: usize, likely: bool) -> Result<(), Stop> {
        let verdict = match self.ask(&[place], likely)? {
            Answer::Fails(index) => Verdict::Needed { run: index },
            Answer::Differs => Verdict::Flaky,
            Answer::Passes if self.made(place) && prior::is_guard(self.entry(place)) => {
                Verdict::Guard
            }
            Answer::Passes => {
                self.dropped.insert(place);
                Verdict::NotNeeded
            }
        };
        self.verdicts.insert(place, verdict);
        Ok(())
    }

    /// A few at a time, as long as the budget takes the worst; the rest is used.
    fn likely(&mut self, mut likely: &[usize], budget: usize) -> Result<(), Stop> {
        while !likely.is_empty() {
            let room = budget.saturating_sub(self.spent.len());
            let fits = |&count: &usize| self.worst(count) <= room;
            let Some(count) = (1..=CHUNK.min(likely.len())).rev().find(fits) else { break };
            let (chunk, rest) = likely.split_at(count);
            self.group(chunk, true)?;
            likely = rest;
        }
        self.verdicts.extend(likely.iter().map(|&place| (place, Verdict::Used)));
        Ok(())
    }

    /// How many runs may be made in all where calls are tried that may be missed by nobody: a quarter of what leaving out one
    /// after the other takes, and one that is kept for the end.
    fn budget(&self, tried: usize) -> usize {
        if self.settings.prove {
            usize::MAX
        } else {
            ((self.settings.repeats + tried) / 4).max(LEAST_BUDGET) - 1
        }
    }

    /// Runs for a group of which each one is needed.
    fn worst(&self, count: usize) -> usize {
        match count {
            0 | 1 => count * self.settings.repeats,
            _ => 1 + self.worst(count / 2) + self.worst(count.div_ceil(2)),
        }
    }

    fn ask(&mut self, group: &[usize], likely: bool) -> Result<Answer, Stop> {
        let removed = self.dropped.with(group);
        let asked = Bits::none(self.candidates.len()).with(group);
        let fails = |run: &Past| {
            let blames = || run.blame.is_subset(&removed) && !run.blame.is_disjoint(&asked);
            !run.passed && !run.foreign && (run.removed == removed || blames())
        };
        let fails = (0..self.runs.len()).filter(|&index| fails(&self.runs[index]));
        let is_call = |&place: &usize| matches!(self.entry(place), Entry::Syscall(_));
        let calls_only = group.iter().all(is_call);
        let (unexplained, fails): (Vec<usize>, Vec<usize>) =
            fails.partition(|&index| calls_only && self.runs[index].unexplained);
        let passes = self.passes(&removed);
        let unexplained: Vec<usize> =
            unexplained.into_iter().filter(|&index| self.runs[index].removed == removed).collect();
        self.spent.extend(fails.iter().chain(&passes).chain(&unexplained));
        let repeats = self.settings.repeats;
        match (fails.as_slice(), passes.len()) {
            ([], _) if unexplained.len() > repeats => Ok(Answer::Differs),
            ([_, ..], 1..) if group.len() == 1 => Ok(Answer::Differs),
            ([first, ..], _) if group.len() > 1 || fails.len() >= repeats => {
                Ok(Answer::Fails(*first))
            }
            ([], passed) if passed >= repeats => Ok(Answer::Passes),
            _ => Err(Stop::Wanted(Wanted { removed, likely: likely && fails.is_empty() })),
        }
    }

    fn passes(&self, removed: &Bits) -> Vec<usize> {
        let is_it = |run: &Past| run.passed && !run.foreign && run.removed == *removed;
        (0..self.runs.len()).filter(|&index| is_it(&self.runs[index])).collect()
    }

    fn entry(&self, place: usize) -> &'a Entry {
        &self.candidates[place].entry
    }

    fn made(&self, place: usize) -> bool {
        self.used.as_ref().is_none_or(|used| used.contains(place))
    }

    fn outcome(&self) -> Outcome {
        let judged = |(place, candidate): (usize, &Candidate)| Judged {
            entry: candidate.entry.clone(),
            made: self.used.as_ref().map(|used| used.contains(place)),
            verdict: match candidate.standing {
                Standing::Keep(why) => Verdict::Kept(why),
                Standing::Try => self.verdicts.get(&place).copied().unwrap_or(Verdict::Used),
            },
        };
        let tried = |candidate: &&Candidate| candidate.standing == Standing::Try;
        Outcome {
            entries: self.candidates.iter().enumerate().map(judged).collect(),
            one_by_one: self.settings.repeats + self.candidates.iter().filter(tried).count(),
        }
    }
}
