//! How complete the evidence is: how often each entry was seen, and what that says of those that were not.
//!
//! Owns the samples (runs; tests) and the estimates over them: the expected discovery curve, Chao2, and Good and Turing's
//! sample coverage. They are statements about samples that are alike and drawn independently; [`Coverage::limits`] says
//! where these are not. What counts as an entry is what a profile would have: a call of the workload that is not always
//! allowed, and a required capability. See docs/coverage.md, whose numbers a test computes.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;

use crate::model::{
    arch::Abi,
    capability, needs,
    policy::ALWAYS_ALLOWED,
    recording::{Missing, Phase, Recording, Run, RunId, Sighting},
    syscall,
};

/// 0.975 of the normal distribution: both ends of an interval of 95 %.
const BOTH_ENDS: f64 = 1.96;
/// 0.95 of it: one end.
const ONE_END: f64 = 1.645;

/// How complete the evidence of a target is.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Coverage {
    /// Runs of the recording.
    pub runs: usize,
    /// Tests that have a label.
    pub tests: usize,
    /// The entries: calls by ABI and number, then capabilities.
    pub entries: Vec<Entry>,
    /// What the runs say of further runs; absent with fewer than two.
    pub by_run: Option<Estimate>,
    /// What the tests say of further tests, of the entries that tests made; absent with fewer than two.
    pub by_test: Option<Estimate>,
    /// Why these numbers may be too good, most important first.
    pub limits: Vec<String>,
}

/// A call or a capability, and how often it was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Entry {
    /// The number space of a call; absent for a capability.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub abi: Option<Abi>,
    /// The name of the call, or of the capability with `CAP_`.
    pub name: String,
    /// In how many runs.
    pub runs: usize,
    /// In how many tests, counted by label: a test that was run five times is one.
    pub tests: usize,
    /// While no test ran, too.
    pub outside: bool,
    /// The run, if there are others and they have not seen it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub only_run: Option<RunId>,
    /// The test, if there are others, and it was seen neither in them nor outside. Hostile text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub only_test: Option<String>,
}

/// What samples say of what they have not seen.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Estimate {
    /// How many samples.
    pub samples: usize,
    /// Entries that were seen in them.
    pub seen: usize,
    /// Those seen in one sample.
    pub in_one: usize,
    /// Those seen in two.
    pub in_two: usize,
    /// How many entries there are beyond those seen, by Chao2 in its bias-corrected form: a lower bound, where samples are
    /// few.
    pub unseen: f64,
    /// Its standard error.
    pub unseen_error: f64,
    /// The lower end of its interval of 95 %; 0 where it is 0.
    pub unseen_low: f64,
    /// The upper end.
    pub unseen_high: f64,
    /// Which part, between 0 and 1, of what a further sample shows was seen, by Good and Turing: weighted by how often an entry
    /// appears.
    pub sample_coverage: f64,
    /// It is more than this, with a confidence of 95 %. Never 1.
    pub sample_coverage_low: f64,
    /// New entries to be expected in the next sample.
    pub next: f64,
    /// They are fewer than this, with a confidence of 95 %.
    pub next_high: f64,
    /// How many entries 1, 2, ... of these samples have seen, on the average over all orders.
    pub curve: Vec<f64>,
}

/// Who has seen an entry.
#[derive(Default)]
struct Seen<'a> {
    runs: BTreeSet<&'a RunId>,
    tests: BTreeSet<&'a str>,
    outside: bool,
}

impl<'a> Seen<'a> {
    fn add(&mut self, run: &'a RunId, sighting: &'a Sighting) {
        self.runs.insert(run);
        self.tests.extend(sighting.tests.iter().map(String::as_str));
        self.outside |= sighting.outside || sighting.tests.is_empty();
    }
}

/// Counts the entries of a recording, and estimates.
#[must_use]
pub fn coverage(recording: &Recording) -> Coverage {
    let mut calls: BTreeMap<(Abi, u32), Seen<'_>> = BTreeMap::new();
    for fact in recording.syscalls.iter().filter(|fact| fact.phase == Phase::Workload) {
        if syscall::name(fact.abi, fact.nr).is_some_and(|name| ALWAYS_ALLOWED.contains(&name)) {
            continue; // whether a run makes it depends on timing, and the profile has it anyway
        }
        let seen = calls.entry((fact.abi, fact.nr)).or_default();
        fact.seen.iter().for_each(|(run, sighting)| seen.add(run, sighting));
    }
    let mut capabilities: BTreeMap<u8, Seen<'_>> = BTreeMap::new();
    for (number, run, sighting) in needs::required(recording) {
        capabilities.entry(number).or_default().add(run, sighting);
    }
    // every label, that of a test which made only what is no entry included
    let made = recording.syscalls.iter().flat_map(|fact| fact.seen.values());
    let asked = recording.capabilities.iter().flat_map(|fact| fact.seen.values());
    let sightings = made.chain(asked.map(|seen| &seen.sighting));
    let tests = sightings.flat_map(|sighting| &sighting.tests).collect::<BTreeSet<_>>().len();
    let runs = recording.runs.len();

    let calls = calls
        .into_iter()
        .map(|((abi, nr), seen)| (Some(abi), syscall::display(abi, nr).into_owned(), seen));
    let capabilities = capabilities
        .into_iter()
        .map(|(number, seen)| (None, format!("CAP_{}", capability::display(number)), seen));
    let entries: Vec<Entry> = calls
        .chain(capabilities)
        .map(|(abi, name, seen)| {
            let only_run = seen.runs.first().filter(|_| seen.runs.len() == 1 && runs > 1);
            let is_only = seen.tests.len() == 1 && tests > 1 && !seen.outside;
            Entry {
                abi,
                name,
                runs: seen.runs.len(),
                tests: seen.tests.len(),
                outside: seen.outside,
                only_run: only_run.map(|&run| run.clone()),
                only_test: seen.tests.first().filter(|_| is_only).map(|&test| test.to_owned()),
            }
        })
        .collect();
    let of = |count: fn(&Entry) -> usize| -> Vec<usize> {
        entries.iter().map(count).filter(|&count| count > 0).collect()
    };
    let by_run = estimate(&of(|entry| entry.runs), runs);
    // what is done while no test runs, as starting up, no further test would show
    let by_test = estimate(&of(|entry| if entry.outside { 0 } else { entry.tests }), tests);
    let limits = limits(recording, by_run.is_some());
    Coverage { runs, tests, by_run, by_test, limits, entries }
}

impl Coverage {
    /// Entries that only one of several runs, or one of several tests, has shown.
    pub fn rest_on_one(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.only_run.is_some() || entry.only_test.is_some())
    }

    /// Whether the runs show, with a confidence of 95 %, at least this part of what a further run does. One run shows nothing.
    #[must_use]
    pub fn reaches(&self, part: f64) -> bool {
        self.by_run.as_ref().is_some_and(|estimate| estimate.sample_coverage_low >= part)
    }
}

fn limits(recording: &Recording, estimated: bool) -> Vec<String> {
    let mut limits = Vec::new();
    let runs = recording.runs.len();
    if !estimated {
        limits
            .push("one run says nothing of what it has not seen: record more and merge".to_owned());
    }
    limits.push(
        "the numbers hold for further runs like these; what the tests never do is not in them"
            .to_owned(),
    );
    let kinds =
        |of: fn(&Run) -> &str| recording.runs.values().map(of).collect::<BTreeSet<_>>().len();
    fn image(run: &Run) -> &str {
        run.container.as_ref().map_or("", |container| &container.image_id)
    }
    let late = |run: &&Run| run.missing.contains(&Missing::Startup);
    let late = recording.runs.values().filter(late).count();
    if late > 0 && late < runs {
        limits.push(format!("the runs are not alike: {late} of {runs} began late"));
    }
    for (number, what) in [
        (kinds(image), "images"),
        (kinds(|run| &run.host.kernel), "kernels"),
        (kinds(|run| &run.host.machine), "kinds of machine"),
    ] {
        if number > 1 {
            limits.push(format!("the runs are not alike: they are of {number} {what}"));
        }
    }
    limits
}

/// What `samples` samples say, of which each entry was seen in as many as `counts` says, all of them at least 1. Nothing with fewer
/// than two samples, or without entries.
///
/// Sources: A. Chao, Biometrics 43 (1987), 783-791, and R. Colwell's EstimateS 9.1 user's guide, appendix B, for Chao2, its variance
/// and its interval; A. Chao and L. Jost, Ecology 93 (2012), 2533-2547, for the sample coverage; R. Colwell, C. Mao and J. Chang,
/// Ecology 85 (2004), 2717-2727, for the curve.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
pub fn estimate(counts: &[usize], samples: usize) -> Option<Estimate> {
    if samples < 2 || counts.is_empty() {
        return None;
    }
    let of = |times: usize| counts.iter().filter(|&&count| count == times).count();
    let (in_one, in_two) = (of(1), of(2));
    let (m, seen, q1, q2) = (samples as f64, counts.len() as f64, in_one as f64, in_two as f64);
    let sightings = counts.iter().sum::<usize>() as f64;

    let a = (m - 1.0) / m;
    let pairs = if in_one == 0 { 0.0 } else { q1 * (q1 - 1.0) };
    let unseen = a * pairs / (2.0 * (q2 + 1.0));
    let variance = if in_one == 0 {
        let missed = (-sightings / seen).exp();
        seen * missed * (1.0 - missed)
    } else if in_two == 0 {
        let square = a * a * q1 * (2.0 * q1 - 1.0).powi(2) / 4.0;
        let less = a * a * q1.powi(4) / (4.0 * (seen + unseen));
        a * pairs / 2.0 + square - less
    } else {
        let square = a * a * q1 * (2.0 * q1 - 1.0).powi(2) / (4.0 * (q2 + 1.0).powi(2));
        let cross = a * a * q1 * q1 * q2 * (q1 - 1.0).powi(2) / (4.0 * (q2 + 1.0).powi(4));
        unseen + square + cross
    };
    let (unseen_low, unseen_high) = if unseen > 0.0 {
        let factor = (BOTH_ENDS * (1.0 + variance / (unseen * unseen)).ln().sqrt()).exp();
        (unseen / factor, unseen * factor)
    } else {
        let missed = (-sightings / seen).exp();
        let (all, spread) = (seen / (1.0 - missed), (seen * missed).sqrt() / (1.0 - missed));
        // the estimate itself is 0, and in its interval
        (0.0, all + BOTH_ENDS * spread - seen)
    };

    // without entries seen twice nothing corrects Good and Turing's own form
    let doubt = if in_two == 0 { 1.0 } else { (m - 1.0) * q1 / ((m - 1.0) * q1 + 2.0 * q2) };
    Some(Estimate {
        samples,
        seen: counts.len(),
        in_one,
        in_two,
        unseen,
        unseen_error: variance.sqrt(),
        unseen_low,
        unseen_high,
        sample_coverage: 1.0 - q1 / sightings * doubt,
        sample_coverage_low: (1.0 - most(q1) / sightings).max(0.0),
        next: q1 / m,
        next_high: most(q1) / m,
        curve: curve(counts, samples),
    })
}

/// The largest mean of a Poisson distribution with which as few as `count` are seen in 5 % of all cases; 3 for none. The approximation
/// is Wilson and Hilferty's.
fn most(count: f64) -> f64 {
    let up = count + 1.0;
    up * (1.0 - 1.0 / (9.0 * up) + ONE_END / (3.0 * up.sqrt())).powi(3)
}

/// The mean over all orders of the samples, in closed form: an entry seen in `n` of `m` samples is missed by `k` of them in
/// `C(m - n, k)` of `C(m, k)` choices.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn curve(counts: &[usize], samples: usize) -> Vec<f64> {
    let mut groups: BTreeMap<usize, (f64, f64)> = BTreeMap::new();
    for &count in counts {
        groups.entry(count).or_insert((0.0, 1.0)).0 += 1.0;
    }
    let after = |k: usize| {
        let mut missed = 0.0;
        for (&n, (entries, share)) in &mut groups {
            // one more sample, of those that are left, is none of the n
            *share *= (samples - k + 1).saturating_sub(n) as f64 / (samples - k + 1) as f64;
            missed += *entries * *share;
        }
        counts.len() as f64 - missed
    };
    (1..=samples).map(after).collect()
}
