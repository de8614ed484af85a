//! Leave-one-out on simulated tests: whatever is needed stays, whatever is not goes, in a bounded number of runs.

use std::collections::{BTreeMap, BTreeSet};

use profiler::{
    model::{
        arch::Abi,
        minimise::{
            Candidate, Entry, Fingerprint, Kept, Outcome, Run, SCHEMA_VERSION, Settings, Standing,
            State, Step, Verdict, Wanted, left, minimised, next, plan,
        },
        policy::{self, Options},
        profile::SyscallReason,
        syscall,
    },
    report::minimise as report,
};
use proptest::{collection::vec, prelude::*, sample::select};

use crate::evidence::{BACKEND, parse};

/// What an entry is to simulated tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Truth {
    /// They end where it is refused.
    Needed,
    /// They never ask for it.
    Never,
    /// They ask for it and go on when it is refused.
    Tolerated,
    /// Refused, they fail every other time.
    Flaky,
    /// They end where this one and its neighbour of the same kind are both refused.
    Either,
}

/// Simulated tests: they ask for one entry after the other.
struct World {
    truth: BTreeMap<Entry, Truth>,
    /// Whether someone watches what they ask for.
    watched: bool,
    /// How often a flaky one was refused.
    refused: usize,
    /// Runs, from 0, that fail before they ask for anything.
    unlucky: fn(usize) -> bool,
    runs: Vec<Run>,
}

impl World {
    fn new(truth: impl IntoIterator<Item = (Entry, Truth)>, watched: bool) -> World {
        let unlucky = |_| false;
        World { truth: truth.into_iter().collect(), watched, refused: 0, unlucky, runs: vec![] }
    }

    fn candidates(&self) -> Vec<Candidate> {
        let tried = |entry: &Entry| Candidate { entry: entry.clone(), standing: Standing::Try };
        self.truth.keys().map(tried).collect()
    }

    fn run(&mut self, removed: &BTreeSet<Entry>) {
        let mut made = vec![];
        let mut passed = !(self.unlucky)(self.runs.len());
        let mut last_either = None;
        for (entry, truth) in &self.truth {
            if *truth == Truth::Never || !passed {
                continue;
            }
            made.push(entry.clone());
            let refused = removed.contains(entry);
            match truth {
                Truth::Needed => passed = !refused,
                Truth::Flaky if refused => {
                    self.refused += 1;
                    passed = self.refused.is_multiple_of(2);
                }
                Truth::Either => match last_either.take() {
                    Some(earlier) => passed = !(earlier && refused),
                    None => last_either = Some(refused),
                },
                _ => {}
            }
            if !passed {
                break;
            }
        }
        self.runs.push(Run {
            removed: removed.iter().cloned().collect(),
            passed,
            duration_ms: 1,
            made: self.watched.then_some(made),
            output: if passed { String::new() } else { "FAILED\nat x\n\n".into() },
        });
    }

    /// Runs the search to its end, `jobs` runs at a time.
    fn search(&mut self, settings: Settings, jobs: usize) -> Outcome {
        let candidates = self.candidates();
        let first = left(&candidates, settings, &[]);
        assert!(first.least <= first.most);
        loop {
            match plan(&candidates, settings, &self.runs) {
                Step::Done(outcome) => return outcome,
                Step::Broken(index) => panic!("run {index} is of the whole profile: it passes"),
                Step::Run { removed, .. } => {
                    let wanted = next(&candidates, settings, &self.runs, jobs);
                    assert_eq!(wanted.first(), Some(&removed));
                    wanted.iter().for_each(|removed| self.run(removed));
                }
            }
            assert!(self.runs.len() < 20 * candidates.len() + 50, "it does not end");
        }
    }
}

/// Calls that no list says anything of, so that the order is the search's own.
fn plain_calls() -> Vec<Entry> {
    let names = ["accept", "bind", "chmod", "close", "connect", "dup", "epoll_wait", "fchmod"];
    let more = ["fcntl", "fstat", "futex", "getdents64", "getpid", "ioctl", "kill", "link"];
    let rest = ["listen", "lseek", "mkdir", "mmap", "open", "pipe", "poll", "read", "rename"];
    let all = names.into_iter().chain(more).chain(rest);
    all.map(|name| Entry::Syscall(name.into())).collect()
}

fn truths() -> impl Strategy<Value = Vec<Truth>> {
    let steady = vec![Truth::Needed, Truth::Needed, Truth::Never, Truth::Tolerated, Truth::Either];
    vec(select(steady), 1..25)
}

fn call(name: &str) -> Entry {
    Entry::Syscall(name.into())
}

fn settings(repeats: usize, prove: bool) -> Settings {
    Settings { repeats, prove }
}

fn verdict(outcome: &Outcome, entry: &Entry) -> Verdict {
    outcome.entries.iter().find(|judged| judged.entry == *entry).expect("looked at").verdict
}

proptest! {
    // Each goes through a whole search, which starts again for each run.
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn proving_finds_the_truth(
        truths in truths(), watched in any::<bool>(), repeats in 1..3usize, jobs in 1..4usize,
    ) {
        let mut world = World::new(plain_calls().into_iter().zip(truths), watched);
        let estimate = left(&world.candidates(), settings(repeats, true), &[]);
        let outcome = world.search(settings(repeats, true), jobs);
        let dropped = outcome.dropped();
        let pairs: Vec<&Entry> =
            world.truth.iter().filter(|(_, truth)| **truth == Truth::Either).map(|(e, _)| e).collect();
        for (entry, truth) in &world.truth {
            match truth {
                Truth::Needed => {
                    let is_needed = matches!(verdict(&outcome, entry), Verdict::Needed { .. });
                    prop_assert!(is_needed, "{entry}: {:?}", verdict(&outcome, entry));
                }
                Truth::Never | Truth::Tolerated => prop_assert!(dropped.contains(entry), "{entry}"),
                Truth::Either | Truth::Flaky => {}
            }
        }
        for pair in pairs.chunks(2) {
            let gone = pair.iter().filter(|entry| dropped.contains(**entry)).count();
            prop_assert_eq!(gone, 1, "one of the two, or one that has no other");
        }
        // What is left passes, as a whole.
        let before = world.runs.len();
        world.run(&dropped);
        prop_assert!(world.runs.pop().expect("just run").passed);
        // A run for each needed one at least; speculation may waste some.
        if jobs == 1 {
            let n = world.truth.len();
            prop_assert!(before <= repeats + (2 * n).saturating_sub(1) * repeats + 1, "{before} runs");
            if !watched {
                prop_assert!(before <= estimate.most + n, "{before} of {estimate:?}");
            }
        }
    }

    #[test]
    fn a_flaky_one_is_kept(
        mut truths in vec(select(vec![Truth::Needed, Truth::Never, Truth::Tolerated]), 1..20),
        at in any::<prop::sample::Index>(), watched in any::<bool>(),
    ) {
        let at = at.index(truths.len());
        truths[at] = Truth::Flaky;
        let mut world = World::new(plain_calls().into_iter().zip(truths), watched);
        let outcome = world.search(settings(2, true), 1);
        for (entry, truth) in &world.truth {
            let dropped = outcome.dropped().contains(entry);
            match truth {
                Truth::Needed | Truth::Flaky => prop_assert!(!dropped, "{entry} {truth:?}"),
                _ => prop_assert!(dropped, "{entry} {truth:?}"),
            }
        }
    }

    #[test]
    fn an_interrupted_search_goes_on_where_it_was(truths in truths(), cut in 0..40usize, watched in any::<bool>()) {
        let world = || World::new(plain_calls().into_iter().zip(truths.clone()), watched);
        let mut whole = world();
        let answer = whole.search(settings(2, true), 1);
        let mut second = world();
        second.runs = whole.runs[..cut.min(whole.runs.len())].to_vec();
        prop_assert_eq!(second.search(settings(2, true), 1), answer);
        prop_assert_eq!(second.runs, whole.runs, "no run is made twice");
    }

    #[test]
    fn without_proofs_nothing_needed_goes_and_all_that_is_never_made_does(
        truths in truths(), jobs in 1..3usize,
    ) {
        let mut world = World::new(plain_calls().into_iter().zip(truths), true);
        let outcome = world.search(settings(2, false), jobs);
        for (entry, truth) in &world.truth {
            let dropped = outcome.dropped().contains(entry);
            prop_assert_eq!(dropped, *truth == Truth::Never, "{} {:?}", entry, truth);
        }
        prop_assert!(jobs > 1 || world.runs.len() <= 5, "{} runs", world.runs.len());
    }
}

/// Every call of x86_64 that Docker's default allows, say: the first `count` of the table that are not `planted`.
fn needed_calls(count: usize, planted: &[&str]) -> Vec<(Entry, Truth)> {
    let table = syscall::table(Abi::X86_64).iter().map(|&(_, name)| name);
    let others = table.filter(|name| !planted.contains(name)).take(count);
    others.map(|name| (Entry::Syscall(name.into()), Truth::Needed)).collect()
}

#[test]
fn three_planted_calls_and_a_capability_take_a_quarter_of_the_runs() {
    for (kind, runs, planted) in [
        (Truth::Never, 11, ["ptrace", "mount", "bpf"]),
        // Asked for, and done without: on the list of those that are likely to be.
        (Truth::Tolerated, 15, ["rseq", "getrandom", "memfd_create"]),
    ] {
        let mut truth = needed_calls(80, &planted);
        truth.extend(planted.map(|name| (Entry::Syscall(name.into()), kind)));
        truth.push((Entry::Capability("CHOWN".into()), Truth::Needed));
        truth.push((Entry::Capability("SYS_ADMIN".into()), Truth::Never));
        let mut world = World::new(truth, true);
        let outcome = world.search(settings(2, false), 1);
        let dropped: Vec<String> = outcome.dropped().iter().map(ToString::to_string).collect();
        assert_eq!(dropped.len(), 4, "{dropped:?}");
        assert!(planted.iter().all(|name| dropped.contains(&(*name).to_owned())), "{dropped:?}");
        assert_eq!(outcome.one_by_one, 2 + 85);
        // docs/minimise.md says so
        assert_eq!(world.runs.len(), runs, "{kind:?}");
        assert!(runs * 4 <= outcome.one_by_one);
    }
}

#[test]
fn a_guard_is_never_dropped_on_the_word_of_tests() {
    let calls = ["setgroups", "fsync", "read"].map(|name| Entry::Syscall(name.into()));
    let mut world = World::new(calls.clone().map(|call| (call, Truth::Tolerated)), true);
    let outcome = world.search(settings(2, true), 1);
    let verdicts = calls.map(|call| verdict(&outcome, &call));
    assert_eq!(verdicts, [Verdict::Guard, Verdict::Guard, Verdict::NotNeeded]);
    // What nothing asks for guards nothing.
    let mut world = World::new([(Entry::Syscall("fsync".into()), Truth::Never)], true);
    assert_eq!(world.search(settings(2, false), 1).dropped().len(), 1);
}

#[test]
fn tests_that_fail_anyway_say_nothing() {
    let mut world = World::new([(Entry::Syscall("read".into()), Truth::Needed)], true);
    world.run(&BTreeSet::new());
    world.runs[0].passed = false;
    assert_eq!(plan(&world.candidates(), settings(2, false), &world.runs), Step::Broken(0));
}

#[test]
fn what_nothing_asked_for_is_not_why_a_run_failed() {
    let calls = || plain_calls().into_iter().map(|call| (call, Truth::Never));
    // By bad luck, once: it is made again.
    let mut world = World::new(calls(), true);
    world.unlucky = |run| run == 2;
    let outcome = world.search(settings(2, false), 1);
    assert_eq!(outcome.dropped().len(), plain_calls().len());
    assert_eq!(world.runs.len(), 2 + 1 + 2 + 1);
    // Once more at the end is no exception.
    let mut world = World::new(calls(), true);
    world.unlucky = |run| run == 4;
    assert_eq!(world.search(settings(2, false), 1).dropped().len(), plain_calls().len());
    // Always: they are kept, and none is said to be needed.
    for prove in [false, true] {
        let mut world = World::new(calls().chain([(call("write"), Truth::Needed)]), true);
        world.unlucky = |run| run > 1;
        let outcome = world.search(settings(2, prove), 1);
        assert!(outcome.dropped().is_empty());
        for (entry, truth) in &world.truth {
            let expected =
                if *truth == Truth::Never || prove { Verdict::Flaky } else { Verdict::Used };
            assert_eq!(verdict(&outcome, entry), expected, "{entry}");
        }
        assert_eq!(world.runs.len(), 2 + 3 + if prove { 3 } else { 0 });
    }
    // A capability may be wanted unseen, and so may all where nobody watched.
    let capability = Entry::Capability("CHOWN".into());
    for (entry, watched) in [(capability, true), (call("read"), false)] {
        let mut world = World::new([(entry.clone(), Truth::Never)], watched);
        world.unlucky = |run| run > 1;
        let outcome = world.search(settings(2, true), 1);
        let verdict = verdict(&outcome, &entry);
        assert!(matches!(verdict, Verdict::Needed { .. }), "{entry}: {verdict:?}");
    }
}

#[test]
fn one_run_convicts_what_alone_was_asked_for() {
    // Twenty at once, of which the first that is asked for ends the tests.
    let mut truth: Vec<(Entry, Truth)> =
        plain_calls().into_iter().map(|call| (call, Truth::Never)).collect();
    truth[7].1 = Truth::Needed;
    let mut world = World::new(truth, true);
    let candidates = world.candidates();
    // The whole tests were not seen to make it: a timer that fired later.
    for _ in 0..2 {
        world.run(&BTreeSet::new());
        world.runs.last_mut().expect("just run").made = Some(vec![]);
    }
    let mut removed = BTreeSet::new();
    while let Step::Run { removed: wanted, .. } = plan(&candidates, settings(1, false), &world.runs)
    {
        world.run(&wanted);
        removed = wanted;
    }
    assert_eq!(removed.len(), candidates.len() - 1);
    // All; all but the one; and once more at the end.
    assert_eq!(world.runs.len(), 2 + 3);
}

#[test]
fn the_profile_says_what_was_proven_and_lacks_what_is_not_needed() {
    let profile = policy::derive(&parse(BACKEND), &Options::default());
    let candidates = profiler::model::minimise::candidates(
        &profile,
        Wanted { syscalls: true, arguments: false },
    );
    let standing = |name: &str| {
        let entry = Entry::Syscall(name.into());
        candidates.iter().find(|c| c.entry == entry).map(|c| c.standing)
    };
    assert_eq!(standing("exit_group"), Some(Standing::Keep(Kept::AlwaysAllowed)));
    assert_eq!(standing("execve"), Some(Standing::Keep(Kept::Runtime)));
    let tried: Vec<&Entry> =
        candidates.iter().filter(|c| c.standing == Standing::Try).map(|c| &c.entry).collect();
    let calls: Vec<&&Entry> = tried.iter().filter(|e| matches!(e, Entry::Syscall(_))).collect();
    assert!(tried.len() > calls.len() && calls.len() > 1, "{tried:?}");
    // The last call is not needed, all else is.
    let unneeded = (*calls[calls.len() - 1]).clone();
    let truth = tried.iter().map(|&entry| {
        (entry.clone(), if *entry == unneeded { Truth::Never } else { Truth::Needed })
    });
    let mut world = World::new(truth, true);
    let outcome = world.search(settings(1, true), 1);
    let left = minimised(&profile, &outcome, &world.runs);
    assert!(!left.syscalls.iter().any(|rule| Entry::Syscall(rule.name.clone()) == unneeded));
    assert_eq!(left.syscalls.len(), profile.syscalls.len() - 1);
    let proof = SyscallReason::Needed { output: "at x".into() };
    let proven = left.syscalls.iter().filter(|rule| rule.reasons.contains(&proof)).count();
    assert_eq!(proven, calls.len() - 1);
    assert!(left.capabilities.required.iter().all(|rule| rule.needed.as_deref() == Some("at x")));
    // What is written of it follows its schemas, and is read again.
    let state = State {
        schema_version: SCHEMA_VERSION,
        fingerprint: Fingerprint {
            profile: "0".into(),
            target: "the command itself".into(),
            command: vec!["\u{1b}".into()],
        },
        stopped: Some("b34304da0dc7".into()),
        runs: world.runs.clone(),
    };
    let text = profiler::render::json::minimise(&state);
    crate::schemas::follows("minimise-state.schema.json", &text);
    assert_eq!(profiler::ingest::minimise::parse(&text).expect("own output"), state);
    let odd = text.replacen("\"passed\"", "\"odd\": 1, \"passed\"", 1);
    assert!(profiler::ingest::minimise::parse(&odd).is_err());
    let odd = text.replacen("\"CAP_", "\"CAP_X", 1);
    assert!(odd != text && profiler::ingest::minimise::parse(&odd).is_err());
    let mut json = Vec::new();
    let document = report::Document::new(&outcome, &world.runs, "out");
    report::json(&document, &mut json).expect("a vector takes all");
    crate::schemas::follows("minimise.schema.json", &String::from_utf8(json).expect("UTF-8"));
    let text = profiler::render::json::profile(&left);
    assert_eq!(profiler::ingest::profile::parse(&text).expect("own output"), left);
    // Twice is once, and joining keeps the proof.
    assert_eq!(minimised(&left, &outcome, &world.runs), left);
    let joined = profiler::model::union::union(&left, &profile).expect("same target");
    assert!(joined.syscalls.iter().any(|rule| rule.reasons.contains(&proof)));
}
