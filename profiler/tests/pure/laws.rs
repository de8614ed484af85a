//! What holds for every recording: merging is a union, deriving is monotone, writing loses nothing.

use std::collections::{BTreeMap, BTreeSet};

use profiler::{
    ingest,
    model::{
        arch::Abi,
        floor,
        merge::{MergeError, Merger, canonical, merge, of_run},
        policy::{self, Options},
        profile::{Arguments, Profile, SyscallReason, SyscallRule},
        purpose::{Purpose, RuntimeChoice},
        recording::Recording,
        syscall,
        union::union,
    },
    render,
};
use proptest::prelude::*;

use crate::evidence::{any_recording, recording};

fn join(recordings: &[&Recording]) -> Recording {
    merge(recordings.iter().map(|&r| r.clone())).expect("same target, same runs")
}

fn allowed(profile: &Profile) -> BTreeSet<(&'static str, String)> {
    profile.syscalls.iter().map(|rule| (rule.abi.name(), rule.name.clone())).collect()
}

fn required(profile: &Profile) -> BTreeSet<&str> {
    profile.capabilities.required.iter().map(|rule| rule.name.as_str()).collect()
}

const STRICT: Options = options(false, None);
const LEARNING: Options = options(true, None);
const ANY: Options = options(false, Some(RuntimeChoice::Any));

const fn options(learn_denied: bool, runtime: Option<RuntimeChoice>) -> Options {
    let purpose = Purpose { runtime, no_new_privileges: None, user: None };
    Options {
        learn_denied,
        purpose,
        portable: false,
        arch: None,
        arguments: Arguments::AttackSurface,
        harden: BTreeSet::new(),
    }
}

proptest! {
    #[test]
    fn merge_is_commutative(a in any_recording(), b in any_recording()) {
        prop_assert_eq!(join(&[&a, &b]), join(&[&b, &a]));
    }

    #[test]
    fn merge_is_associative(a in any_recording(), b in any_recording(), c in any_recording()) {
        let left = join(&[&join(&[&a, &b]), &c]);
        prop_assert_eq!(&left, &join(&[&a, &join(&[&b, &c])]));
        prop_assert_eq!(&left, &join(&[&a, &b, &c]));
    }

    #[test]
    fn merge_is_idempotent(a in any_recording()) {
        let once = canonical(a.clone());
        prop_assert_eq!(&join(&[&a, &a]), &once);
        prop_assert_eq!(&join(&[&once, &a]), &once);
        prop_assert_eq!(canonical(once.clone()), once);
    }

    #[test]
    fn adding_one_by_one_is_merging(all in proptest::collection::vec(any_recording(), 1..5)) {
        let mut merger = Merger::default();
        for recording in all.iter().rev() {
            merger.add(recording.clone()).expect("same target, same runs");
        }
        prop_assert_eq!(merger.finish().expect("one at least"), join(&all.iter().collect::<Vec<_>>()));
    }

    #[test]
    fn runs_taken_apart_make_the_whole(a in any_recording()) {
        let whole = canonical(a);
        let parts = whole.runs.keys().map(|id| of_run(&whole, id));
        prop_assert_eq!(merge(parts).expect("a run at least"), whole);
    }

    #[test]
    fn merging_by_force_is_commutative(a in any_recording(), b in any_recording(), name in "[a-z]{1,3}") {
        let mut b = b;
        b.target.name = name;
        let join = |recordings: [&Recording; 2]| {
            let mut merger = Merger::of_any_target();
            recordings.into_iter().for_each(|r| merger.add(r.clone()).expect("same runs"));
            merger.finish().expect("two")
        };
        prop_assert_eq!(join([&a, &b]), join([&b, &a]));
        prop_assert!([&a.target, &b.target].contains(&&join([&a, &b]).target));
    }

    #[test]
    fn another_run_never_removes_a_need(a in recording(vec![0, 1, 2]), b in recording(vec![3, 4, 5])) {
        let both = join(&[&a, &b]);
        for options in [STRICT, LEARNING, ANY] {
            let (small, large) = (policy::derive(&a, &options), policy::derive(&both, &options));
            prop_assert!(allowed(&small).is_subset(&allowed(&large)));
            prop_assert!(required(&small).is_subset(&required(&large)));
        }
    }

    #[test]
    fn learning_denials_only_adds(a in any_recording()) {
        let (strict, learning) = (policy::derive(&a, &STRICT), policy::derive(&a, &LEARNING));
        prop_assert!(allowed(&strict).is_subset(&allowed(&learning)));
        prop_assert_eq!(strict.denied, learning.denied);
    }

    #[test]
    fn what_stands_in_for_others_only_adds(a in recording(vec![0, 1, 2]), b in recording(vec![3, 4, 5])) {
        let portable = Options { portable: true, ..STRICT };
        let (narrow, wide) = (policy::derive(&a, &STRICT), policy::derive(&a, &portable));
        prop_assert!(allowed(&narrow).is_subset(&allowed(&wide)));
        for rule in &wide.syscalls {
            let stands_in = |rule: &SyscallRule| {
                rule.reasons.iter().any(|reason| matches!(reason, SyscallReason::Portable { .. }))
            };
            // clone stands in for clone3 in both
            let known = narrow.syscalls.iter().find(|it| (it.abi, &it.name) == (rule.abi, &rule.name));
            let stands_in = stands_in(rule);
            prop_assert_eq!(stands_in, known.is_none_or(|it| it.name == "clone" && it.reasons == rule.reasons && stands_in));
            prop_assert!(!stands_in || rule.reasons.len() == 1);
        }
        prop_assert_eq!(&ingest::profile::parse(&render::json::profile(&wide)).expect("own output"), &wide);
        let both = policy::derive(&join(&[&a, &b]), &portable);
        prop_assert!(allowed(&wide).is_subset(&allowed(&both)));
    }

    #[test]
    fn for_another_machine_there_are_its_calls_only(a in any_recording()) {
        let profile = policy::derive(&a, &Options { arch: Some(Abi::Aarch64), ..STRICT });
        prop_assert_eq!(&profile.architectures, &[Abi::Aarch64]);
        for rule in &profile.syscalls {
            prop_assert!(rule.abi == Abi::Aarch64 && syscall::parse(Abi::Aarch64, &rule.name).is_some(), "{}", &rule.name);
        }
        let recorded = policy::derive(&a, &STRICT);
        prop_assert_eq!(required(&profile), required(&recorded));
        prop_assert_eq!(&ingest::profile::parse(&render::json::profile(&profile)).expect("own output"), &profile);
    }

    #[test]
    fn any_runtime_is_the_union_of_all(a in any_recording()) {
        let any = policy::derive(&a, &ANY);
        let mut union = allowed(&policy::derive(&a, &STRICT));
        for (runtime, version) in floor::measured() {
            let one = RuntimeChoice::One { runtime, version: version.into() };
            union.extend(allowed(&policy::derive(&a, &options(false, Some(one)))));
        }
        prop_assert_eq!(allowed(&any), union);
        prop_assert_eq!(ingest::profile::parse(&render::json::profile(&any)).expect("own output"), any);
    }

    #[test]
    fn the_workloads_calls_stay_whatever_it_is_for(a in any_recording()) {
        let workload = |profile: &Profile| -> BTreeSet<_> {
            let made = |reason: &SyscallReason| matches!(reason, SyscallReason::Workload { .. } | SyscallReason::AlwaysAllowed {});
            profile.syscalls.iter().filter(|rule| rule.reasons.iter().any(made)).map(|rule| rule.name.clone()).collect()
        };
        let recorded = workload(&policy::derive(&a, &STRICT));
        for (runtime, version) in floor::measured() {
            for no_new_privileges in [None, Some(false), Some(true)] {
                let one = RuntimeChoice::One { runtime, version: version.into() };
                let purpose = Purpose { runtime: Some(one), no_new_privileges, user: None };
                let other = policy::derive(&a, &Options { purpose, ..STRICT });
                prop_assert_eq!(&workload(&other), &recorded);
            }
        }
    }

    #[test]
    fn a_profile_does_not_depend_on_the_order_of_facts(a in any_recording()) {
        let mut reversed = a.clone();
        reversed.syscalls.reverse();
        reversed.capabilities.reverse();
        reversed.denials.reverse();
        for run in reversed.runs.values_mut() {
            run.missing.reverse();
        }
        let (one, other) = (policy::derive(&a, &STRICT), policy::derive(&canonical(reversed.clone()), &STRICT));
        prop_assert_eq!(render::bundle(&a, &one, "profiles/backend"), render::bundle(&reversed, &other, "profiles/backend"));
    }

    #[test]
    fn every_entry_has_a_reason_and_every_list_an_order(a in any_recording()) {
        let profile = policy::derive(&a, &LEARNING);
        prop_assert!(profile.syscalls.iter().all(|rule| !rule.reasons.is_empty() && rule.reasons.is_sorted()));
        prop_assert!(profile.syscalls.windows(2).all(|w| (w[0].abi, &w[0].name) < (w[1].abi, &w[1].name)));
        let c = &profile.capabilities;
        for list in [&c.required, &c.probed, &c.denied, &c.runtime] {
            prop_assert!(list.windows(2).all(|w| w[0].name < w[1].name));
            prop_assert!(list.iter().all(|rule| !rule.reasons.is_empty()));
        }
    }

    #[test]
    fn what_is_written_is_what_is_read(a in any_recording()) {
        let profile = policy::derive(&a, &LEARNING);
        let text = render::json::recording(&a);
        prop_assert_eq!(ingest::recording::parse(&text).expect("own output"), canonical(a));
        let text = render::json::profile(&profile);
        prop_assert_eq!(ingest::profile::parse(&text).expect("own output"), profile);
    }

    #[test]
    fn a_seccomp_file_never_has_two_actions_for_a_name(a in any_recording()) {
        let file = render::seccomp::render(&policy::derive(&a, &STRICT));
        let file = ingest::seccomp::parse(&file).expect("own output");
        let mut known = BTreeMap::new();
        for rule in &file.syscalls {
            for name in &rule.names {
                // several rules are several sets of conditions
                let earlier = known.insert(name, (rule.action, rule.args.is_empty()));
                prop_assert!(earlier.is_none_or(|it| it == (rule.action, false) && !rule.args.is_empty()), "{name}");
            }
        }
        prop_assert!(file.denies());
    }

    #[test]
    fn recordings_of_different_targets_are_not_merged(a in any_recording(), b in any_recording()) {
        let mut b = b;
        b.target.name = "other\u{1b}".into();
        let error = merge([a, b]).expect_err("different targets");
        prop_assert!(error.to_string().contains("container `other\\u{1b}`"), "{}", error);
    }
}

proptest! {
    // Each derives several profiles. Run 4 is of another machine; see `model::union`.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn profiles_join_as_their_evidence_does(a in recording(vec![0, 1, 2]), b in recording(vec![3, 5, 6])) {
        for options in [STRICT, LEARNING] {
            let of = |recording: &Recording| policy::derive(recording, &options);
            let joined = union(&of(&a), &of(&b)).expect("same target");
            let merged = of(&join(&[&a, &b]));
            prop_assert_eq!(allowed(&joined), allowed(&merged));
            prop_assert_eq!(required(&joined), required(&merged));
            prop_assert_eq!(joined.capabilities.known, merged.capabilities.known);
            prop_assert_eq!(&joined.syscalls, &merged.syscalls);
            prop_assert_eq!(&joined.denied, &merged.denied);
            prop_assert_eq!(&joined.architectures, &merged.architectures);
            prop_assert_eq!(&joined.made_for, &merged.made_for);
            prop_assert_eq!(&joined.notes, &merged.notes);
        }
    }

    // A run is in one of both: what it says of a call counts only beside that it saw the call.
    #[test]
    fn joined_profiles_allow_what_their_evidence_does(a in recording(vec![0, 1, 2, 4]), b in recording(vec![3, 5, 6, 7])) {
        let of = |recording: &Recording| policy::derive(recording, &LEARNING);
        let (joined, merged) = (union(&of(&a), &of(&b)).expect("same target"), of(&join(&[&a, &b])));
        prop_assert!(allowed(&joined).is_superset(&allowed(&merged)));
        prop_assert_eq!(required(&joined), required(&merged));
    }

    #[test]
    fn joining_profiles_is_a_union(a in recording(vec![0, 1, 2]), b in recording(vec![2, 3, 5]), c in recording(vec![6, 7])) {
        let [a, b, c] = [a, b, c].map(|recording| policy::derive(&recording, &LEARNING));
        let join = |a: &Profile, b: &Profile| union(a, b).expect("same target");
        prop_assert_eq!(join(&a, &a), a.clone());
        prop_assert_eq!(join(&a, &b), join(&b, &a));
        prop_assert_eq!(join(&join(&a, &b), &c), join(&a, &join(&b, &c)));
    }
}

#[test]
fn nothing_cannot_be_merged() {
    assert_eq!(merge([]), Err(MergeError::Empty));
}

#[test]
fn an_edited_run_is_noticed() {
    let one = crate::evidence::parse(crate::evidence::COMMAND);
    let mut other = one.clone();
    for run in other.runs.values_mut() {
        run.duration_ms += 1;
    }
    let error = merge([one, other]).expect_err("same id, different run");
    assert!(matches!(error, MergeError::Runs { .. }), "{error}");
}
