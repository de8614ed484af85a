//! The estimators against a truth that is known: which entries there are, and how likely a run shows each. And their laws.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::PathBuf,
};

use profiler::{
    model::{
        arch::Abi,
        coverage::{Coverage, Estimate, coverage, estimate},
        merge, policy,
        profile::{SyscallReason, SyscallRule},
        recording::{Phase, Recording, Sighting, SyscallFact},
    },
    report::coverage as report,
};
use proptest::prelude::*;

use crate::evidence::{BACKEND, COMMAND, any_recording, parse};

/// How often each scenario is repeated.
const REPETITIONS: u32 = 1000;

/// splitmix64: the same numbers in every run of the test.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Between 0 and 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// A service: what a run shows, each entry with its probability.
struct Truth {
    name: &'static str,
    rates: Vec<f64>,
}

fn truths() -> Vec<Truth> {
    let of = |name, parts: &[(usize, f64)]| {
        let rates = parts.iter().flat_map(|&(number, rate)| vec![rate; number]).collect();
        Truth { name, rates }
    };
    // from 1 in 2 to 1 in 100, evenly by its logarithm
    let tail = (0..20).map(|step| 0.5 * 0.02_f64.powf(f64::from(step) / 19.0));
    vec![
        of("60 at 0.3", &[(60, 0.3)]),
        of("50 always, 10 at 0.2", &[(50, 1.0), (10, 0.2)]),
        of("50 always, 20 at 0.02", &[(50, 1.0), (20, 0.02)]),
        Truth {
            name: "50 always, 20 from 0.5 to 0.01",
            rates: tail.chain(vec![1.0; 50]).collect(),
        },
    ]
}

/// What the estimates are worth for one truth and one number of runs.
#[derive(Default)]
struct Worth {
    missing: f64,
    bias: f64,
    square: f64,
    within: f64,
    coverage_bias: f64,
    coverage_square: f64,
    above: f64,
}

fn worth(truth: &Truth, runs: usize, random: &mut Random) -> Worth {
    let mut worth = Worth::default();
    let share = 1.0 / f64::from(REPETITIONS);
    for _ in 0..REPETITIONS {
        let draw = |&rate: &f64| (0..runs).filter(|_| random.unit() < rate).count();
        let counts: Vec<usize> = truth.rates.iter().map(draw).collect();
        let rate_of = |seen: bool| -> f64 {
            let such = truth.rates.iter().zip(&counts).filter(|&(_, &count)| seen == (count > 0));
            such.map(|(rate, _)| rate).sum()
        };
        let covered = rate_of(true) / (rate_of(true) + rate_of(false));
        let seen: Vec<usize> = counts.iter().copied().filter(|&count| count > 0).collect();
        let missing = (counts.len() - seen.len()) as f64;
        let estimate = estimate(&seen, runs).expect("two runs and an entry");
        worth.missing += missing * share;
        let error = estimate.unseen - missing;
        worth.bias += error * share;
        worth.square += error * error * share;
        let inside = (estimate.unseen_low - 0.5..=estimate.unseen_high + 0.5).contains(&missing);
        worth.within += f64::from(u8::from(inside)) * share;
        let error = estimate.sample_coverage - covered;
        worth.coverage_bias += error * share;
        worth.coverage_square += error * error * share;
        worth.above += f64::from(u8::from(covered >= estimate.sample_coverage_low)) * share;
    }
    worth
}

/// The table of docs/coverage.md.
fn table(visit: &mut dyn FnMut(&Truth, usize, &Worth)) -> String {
    let mut random = Random(1);
    let mut text = String::from(
        "| truth | runs | missing | Chao2: bias | its error | in the interval | coverage: bias | its error | above the bound |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for truth in truths() {
        for runs in [3, 5, 10, 20] {
            let worth = worth(&truth, runs, &mut random);
            visit(&truth, runs, &worth);
            let _ = writeln!(
                text,
                "| {} | {runs} | {:.1} | {:+.1} | {:.1} | {:.0} % | {:+.1} % | {:.1} % | {:.0} % |",
                truth.name,
                worth.missing,
                worth.bias,
                worth.square.sqrt(),
                100.0 * worth.within,
                100.0 * worth.coverage_bias,
                100.0 * worth.coverage_square.sqrt(),
                100.0 * worth.above,
            );
        }
    }
    text
}

#[test]
fn the_documented_errors_are_the_estimators() {
    let mut check = |truth: &Truth, runs: usize, worth: &Worth| {
        let what = format!("{} in {runs} runs", truth.name);
        // the bound is what gates rest on: it holds for every truth
        assert!(worth.above >= 0.93, "{what}: {}", worth.above);
        assert!(worth.coverage_bias.abs() < 0.01, "{what}: {}", worth.coverage_bias);
        // a lower bound does not promise too much
        assert!(worth.bias < 0.3, "{what}: {}", worth.bias);
        let rare = truth.rates.iter().any(|&rate| rate < 0.05);
        if !rare {
            assert!(worth.bias.abs() < 2.5, "{what}: {}", worth.bias);
            assert!(worth.within >= 0.8, "{what}: {}", worth.within);
        }
    };
    let text = table(&mut check);
    let docs = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/coverage.md");
    let docs = fs_err::read_to_string(docs).expect("docs/coverage.md");
    assert!(docs.contains(&text), "docs/coverage.md has other numbers than these:\n{text}");
}

#[test]
fn formulas_give_the_published_values() {
    // S = 6, Q1 = 3, Q2 = 1 in 4 samples with 11 sightings
    let found = estimate(&[1, 1, 1, 2, 3, 3], 4).expect("an estimate");
    let is = |value: f64, expected: f64| assert!((value - expected).abs() < 1e-9, "{value}");
    is(found.unseen, 0.75 * 3.0 * 2.0 / 4.0);
    let variance: f64 = 0.75 * 6.0 / 4.0 + 0.5625 * 3.0 * 25.0 / 16.0 + 0.5625 * 9.0 * 4.0 / 64.0;
    is(found.unseen_error, variance.sqrt());
    is(found.sample_coverage, 1.0 - 3.0 / 11.0 * 9.0 / 11.0);
    is(found.next, 0.75);
    assert!(found.unseen_low > 0.0 && found.unseen_low < found.unseen, "{found:?}");
    assert!(found.unseen_high > found.unseen, "{found:?}");
    // nothing seen once: nothing is estimated to be missing, and yet not everything is covered
    let found = estimate(&[4; 50], 4).expect("an estimate");
    is(found.unseen, 0.0);
    assert!((0.98..0.99).contains(&found.sample_coverage_low), "{found:?}");
    assert_eq!(report::percent(1.0), "99.9 %");
    assert_eq!(report::percent(0.98765), "98.7 %");
}

fn seen(recording: &mut Recording, nr: u32, runs: &[(&str, &[&str])]) {
    let sighting = |tests: &[&str]| Sighting {
        tests: tests.iter().map(|&test| test.to_owned()).collect(),
        ..Sighting::default()
    };
    let seen = runs.iter().map(|&(run, tests)| (run.to_owned(), sighting(tests))).collect();
    recording.syscalls.push(SyscallFact { abi: Abi::X86_64, nr, phase: Phase::Workload, seen });
}

/// The same runs, with the call made outside of all tests.
fn seen_again(recording: &Recording, nr: u32) -> Recording {
    let mut again = recording.clone();
    again.syscalls.retain(|fact| fact.nr == nr);
    let seen = again.syscalls.iter_mut().flat_map(|fact| fact.seen.values_mut());
    seen.for_each(|seen| seen.tests.clear());
    again
}

/// Three runs: `read` always, `mount` in one test, `ptrace` in one run, `exit` always allowed, `write` and `close` outside of tests, too.
fn labelled() -> Recording {
    let mut recording = parse(COMMAND);
    let run = recording.runs.values().next().expect("a run").clone();
    recording.runs = ["a", "b", "c"].map(|id| (id.to_owned(), run.clone())).into();
    recording.syscalls.clear();
    recording.capabilities.clear();
    let all: [(&str, &[&str]); 3] =
        [("a", &["login", "upload"]), ("b", &["login"]), ("c", &["login"])];
    seen(&mut recording, 0, &all);
    seen(&mut recording, 165, &[("a", &["upload"]), ("b", &["upload"])]);
    seen(&mut recording, 101, &[("c", &["login"])]);
    seen(&mut recording, 60, &all[..1]);
    seen(&mut recording, 1, &[("a", &["upload"]), ("b", &[])]);
    seen(&mut recording, 3, &[("a", &["upload"])]);
    let also = seen_again(&recording, 3);
    recording = merge::merge([recording, also]).expect("one target");
    recording
}

fn human(recording: &Recording, coverage: &Coverage) -> String {
    let mut out = Vec::new();
    let document = report::Document { target: &recording.target, coverage, surface: None };
    report::human(&document, &mut out).expect("a vector takes everything");
    anstream::adapter::strip_str(&String::from_utf8(out).expect("UTF-8")).to_string()
}

#[test]
fn entries_tell_in_what_they_were_seen() {
    let recording = labelled();
    let coverage = coverage(&recording);
    let of: BTreeMap<&str, _> = coverage
        .entries
        .iter()
        .map(|entry| {
            let only = (entry.only_run.as_deref(), entry.only_test.as_deref());
            (entry.name.as_str(), (entry.runs, entry.tests, entry.outside, only))
        })
        .collect();
    let expected = [
        ("close", (1, 1, true, (Some("a"), None))),
        ("mount", (2, 1, false, (None, Some("upload")))),
        ("ptrace", (1, 1, false, (Some("c"), Some("login")))),
        ("read", (3, 2, false, (None, None))),
        ("write", (2, 1, true, (None, None))),
    ];
    assert_eq!(of, expected.into());
    assert_eq!((coverage.runs, coverage.tests), (3, 2));
    let by_run = coverage.by_run.as_ref().expect("three runs");
    assert_eq!((by_run.seen, by_run.in_one, by_run.in_two), (5, 2, 2));
    let by_test = coverage.by_test.as_ref().expect("two tests");
    assert_eq!((by_test.samples, by_test.seen), (2, 3), "what is done outside is not the tests'");
    insta::assert_snapshot!("coverage", human(&recording, &coverage));
    insta::assert_snapshot!("coverage_line", report::line(&coverage));
}

#[test]
fn one_run_gives_no_estimate_and_reaches_nothing() {
    let recording = parse(COMMAND);
    let coverage = coverage(&recording);
    assert!(coverage.by_run.is_none() && coverage.by_test.is_none());
    assert!(!coverage.reaches(0.0));
    let text = human(&recording, &coverage);
    assert!(text.contains("one run says nothing") && !text.contains('%'), "{text}");
    assert!(report::line(&coverage).contains("no estimate"));
}

#[test]
fn json_follows_its_schema() {
    for recording in [parse(BACKEND), parse(COMMAND), labelled()] {
        let coverage = coverage(&recording);
        let mut out = Vec::new();
        let document =
            report::Document { target: &recording.target, coverage: &coverage, surface: None };
        report::json(&document, &mut out).expect("a vector takes everything");
        let text = String::from_utf8(out).expect("UTF-8");
        crate::schemas::follows("coverage.schema.json", &text);
    }
}

/// The mean over all choices of `k` of the samples.
fn by_force(seen: &[Vec<bool>], samples: usize, k: u32) -> f64 {
    let chosen = (0_u32..1 << samples).filter(|choice| choice.count_ones() == k);
    let found = |choice: u32| {
        let has = |entry: &&Vec<bool>| {
            entry.iter().enumerate().any(|(at, &is)| is && choice & (1 << at) != 0)
        };
        seen.iter().filter(has).count() as f64
    };
    let all: Vec<f64> = chosen.map(found).collect();
    all.iter().sum::<f64>() / all.len() as f64
}

proptest! {
    #[test]
    fn the_curve_is_the_mean_over_all_orders(
        seen in prop::collection::vec(prop::collection::vec(any::<bool>(), 6), 1..12)
    ) {
        let counts: Vec<usize> =
            seen.iter().map(|entry| entry.iter().filter(|is| **is).count()).filter(|n| *n > 0).collect();
        prop_assume!(!counts.is_empty());
        let found = estimate(&counts, 6).expect("six samples");
        for (k, value) in (1..).zip(&found.curve) {
            let expected = by_force(&seen, 6, k);
            prop_assert!((value - expected).abs() < 1e-9, "{k}: {value}, not {expected}");
        }
        let last = found.curve.windows(2).last().map(|pair| pair[1] - pair[0]);
        prop_assert!(last.is_some_and(|last| (last - found.next).abs() < 1e-9));
    }

    #[test]
    fn estimates_are_sound(counts in prop::collection::vec(1..=20_usize, 1..80), more in 0..30_usize) {
        let samples = counts.iter().max().expect("some") .max(&2) + more;
        let found = estimate(&counts, samples).expect("an estimate");
        let Estimate { unseen, unseen_low, unseen_high, unseen_error, .. } = found;
        prop_assert!(unseen >= 0.0 && unseen_error >= 0.0 && unseen_high.is_finite(), "{found:?}");
        prop_assert!(0.0 <= unseen_low && unseen_low <= unseen_high, "{found:?}");
        prop_assert!(unseen_low <= unseen && unseen <= unseen_high, "{found:?}");
        prop_assert!((0.0..1.0).contains(&found.sample_coverage_low), "{found:?}");
        prop_assert!(found.sample_coverage_low <= found.sample_coverage, "{found:?}");
        prop_assert!(found.curve.is_sorted() && found.curve.len() == samples);
    }

    #[test]
    fn entries_are_those_of_the_profile(first in any_recording(), second in any_recording()) {
        let recording = merge::merge([first, second]).expect("one target");
        let coverage = coverage(&recording);
        let profile = policy::derive(&recording, &policy::Options::default());
        let is_made = |rule: &&SyscallRule| {
            rule.reasons.iter().any(|reason| matches!(reason, SyscallReason::Workload { .. }))
        };
        let rules = profile.syscalls.iter().filter(is_made);
        let required = profile.capabilities.required.iter();
        let expected: BTreeSet<(Option<Abi>, String)> = rules
            .map(|rule| (Some(rule.abi), rule.name.clone()))
            .chain(required.map(|rule| (None, format!("CAP_{}", rule.name))))
            .collect();
        let entries = || coverage.entries.iter();
        let found: BTreeSet<_> = entries().map(|entry| (entry.abi, entry.name.clone())).collect();
        prop_assert_eq!(found, expected);
        prop_assert!(entries().all(|entry| (1..=coverage.runs).contains(&entry.runs)));
        prop_assert!(entries().all(|entry| entry.tests <= coverage.tests));
    }
}
