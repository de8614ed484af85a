//! Joining profiles of the same target: what either allows is allowed, for the reasons of both.
//!
//! Owns the union of two policies where the evidence behind them is not at hand: a committed profile and a new
//! recording, or two branches that both grew. It is commutative, associative and idempotent, and allows what the
//! profile of the merged evidence does, with that one's rules for which reason stands beside which. Those depend on
//! which machine a runtime was used on, which a profile does not say: when recordings of several architectures
//! used their runtimes differently, a hand-over that a floor accounts for too may be left out of the reasons.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use crate::model::{
    arch::Abi,
    floor::{self, When},
    harden::Harden,
    narrow::{self, Narrowed},
    notes,
    profile::{
        self, Capabilities, CapabilityReason, CapabilityRule, DeniedCall, MadeFor, Profile,
        SCHEMA_VERSION, SyscallReason, SyscallRule,
    },
    recording::Target,
};

/// Why profiles cannot be joined.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "profiles of different targets cannot be joined: `{}` and `{}`\nhint: write each to a directory of its own",
    .first.name.escape_debug(), .second.name.escape_debug()
)]
pub struct UnionError {
    /// One target.
    pub first: Target,
    /// The other.
    pub second: Target,
}

/// Joins two profiles.
///
/// # Errors
/// When they are of different targets.
pub fn union(a: &Profile, b: &Profile) -> Result<Profile, UnionError> {
    if a.target != b.target {
        return Err(UnionError { first: a.target.clone(), second: b.target.clone() });
    }
    let made_for = MadeFor {
        runtimes: distinct(&a.made_for.runtimes, &b.made_for.runtimes),
        recorded_under: distinct(&a.made_for.recorded_under, &b.made_for.recorded_under),
        arguments: a.made_for.arguments.min(b.made_for.arguments), // the wider
    };
    let syscalls = syscalls(a, b, &made_for);
    let denied = denied(a, b);
    let beyond = Narrowed { any: beyond(a, b, &syscalls) };
    let mut joined = Profile {
        schema_version: SCHEMA_VERSION,
        target: a.target.clone(),
        architectures: distinct(&a.architectures, &b.architectures),
        capabilities: capabilities(&a.capabilities, &b.capabilities),
        notes: notes::union([&a.notes, &b.notes], &syscalls, &denied, &made_for.runtimes),
        harden: Harden::union(a.harden.as_ref(), b.harden.as_ref()),
        syscalls,
        denied,
        made_for,
    };
    joined.notes.extend(notes::any_arguments(&beyond));
    joined.notes.extend(notes::arguments(&joined));
    joined.notes.sort();
    joined.notes.dedup();
    Ok(joined)
}

/// The calls that both allow with some arguments only, and together with any: there are more than a rule can have.
fn beyond(a: &Profile, b: &Profile, joined: &[SyscallRule]) -> BTreeSet<(Abi, String)> {
    let of = |profile: &Profile| -> BTreeSet<(Abi, String)> {
        let narrow = profile.syscalls.iter().filter(|rule| rule.arguments.is_some());
        narrow.map(|rule| (rule.abi, rule.name.clone())).collect()
    };
    let mut both = &of(a) & &of(b);
    for rule in joined.iter().filter(|rule| rule.arguments.is_some()) {
        both.remove(&(rule.abi, rule.name.clone()));
    }
    both
}

/// The rules of `committed` that `fresh` does not have: what pruning takes away.
#[must_use]
pub fn unseen<'a>(
    committed: &'a Profile,
    fresh: &Profile,
) -> (Vec<&'a SyscallRule>, Vec<&'a CapabilityRule>) {
    let has_call = |rule: &SyscallRule| {
        fresh.syscalls.iter().any(|known| (known.abi, &known.name) == (rule.abi, &rule.name))
    };
    let has_capability =
        |rule: &CapabilityRule| fresh.capabilities.required.iter().any(|r| r.name == rule.name);
    (
        committed.syscalls.iter().filter(|rule| !has_call(rule)).collect(),
        committed.capabilities.required.iter().filter(|rule| !has_capability(rule)).collect(),
    )
}

/// Both lists, sorted, each element once.
fn distinct<T: Ord + Clone>(a: &[T], b: &[T]) -> Vec<T> {
    a.iter().chain(b).cloned().collect::<BTreeSet<_>>().into_iter().collect()
}

fn syscalls(a: &Profile, b: &Profile, made_for: &MadeFor) -> Vec<SyscallRule> {
    let mut all: BTreeMap<(Abi, &str), SyscallRule> = BTreeMap::new();
    for rule in a.syscalls.iter().chain(&b.syscalls) {
        match all.entry((rule.abi, &rule.name)) {
            Entry::Vacant(vacant) => drop(vacant.insert(rule.clone())),
            Entry::Occupied(mut known) => {
                let known = known.get_mut();
                known.reasons.extend(rule.reasons.iter().cloned());
                narrow::join(&mut known.arguments, rule.arguments.as_deref());
            }
        }
    }
    // Calls that a runtime in use makes in some starts only, or only for a process that joins.
    let sometimes: BTreeSet<&str> = made_for
        .runtimes
        .iter()
        .flat_map(floor::lookup)
        .flat_map(|floor| &floor.sometimes | &(&floor.join - &floor.always))
        .collect();
    let is_container = a.target.kind.is_container();
    let rule = |((_, name), rule): ((Abi, &str), SyscallRule)| SyscallRule {
        reasons: reasons(rule.reasons, is_container, sometimes.contains(name)),
        ..rule
    };
    all.into_iter().map(rule).collect()
}

/// One reason of each kind for the workload and for denials, and the others as `policy` keeps them.
fn reasons(found: Vec<SyscallReason>, is_container: bool, sometimes: bool) -> Vec<SyscallReason> {
    let mut kept = BTreeSet::new();
    let (mut made, mut refused) = (None, None);
    let mut stands_in: Option<BTreeSet<String>> = None;
    let mut needed: Option<String> = None;
    for reason in found {
        match reason {
            SyscallReason::AlwaysAllowed {} => return vec![reason],
            SyscallReason::Workload { programs, tests } => join(&mut made, programs, tests),
            SyscallReason::Denied { programs, tests } => join(&mut refused, programs, tests),
            SyscallReason::Portable { of } => stands_in.get_or_insert_default().extend(of),
            SyscallReason::Needed { output } => needed = first(needed, Some(output)),
            other => {
                kept.insert(other);
            }
        }
    }
    let floor = |reason: &SyscallReason| matches!(reason, SyscallReason::Floor { .. });
    let handover = |reason: &SyscallReason| matches!(reason, SyscallReason::Handover { .. });
    if sometimes && kept.iter().any(floor) {
        kept.retain(|reason| !handover(reason));
    }
    profile::settle(&mut kept);
    let joins =
        |reason: &SyscallReason| matches!(reason, SyscallReason::Floor { when: When::Join, .. });
    // What the start of the container needs is there for what joins it.
    if kept.iter().any(|reason| handover(reason) || floor(reason) && !joins(reason)) {
        kept.retain(|reason| !joins(reason));
    }
    // A container's runtime was seen starting it, or is known to.
    if is_container && kept.iter().any(|reason| floor(reason) || handover(reason)) {
        kept.remove(&SyscallReason::Launch {});
    }
    let list = |texts: BTreeSet<String>| texts.into_iter().collect();
    kept.extend(made.map(|(programs, tests)| SyscallReason::Workload {
        programs: list(programs),
        tests: list(tests),
    }));
    kept.extend(refused.map(|(programs, tests)| SyscallReason::Denied {
        programs: list(programs),
        tests: list(tests),
    }));
    if let (true, Some(of)) = (kept.is_empty(), stands_in) {
        kept.insert(SyscallReason::Portable { of: list(of) });
    }
    kept.extend(needed.map(|output| SyscallReason::Needed { output }));
    kept.into_iter().collect()
}

/// One of two proofs, whichever comes first.
fn first(a: Option<String>, b: Option<String>) -> Option<String> {
    [a, b].into_iter().flatten().min()
}

type Texts = BTreeSet<String>;

fn join(known: &mut Option<(Texts, Texts)>, programs: Vec<String>, tests: Vec<String>) {
    let known = known.get_or_insert_default();
    known.0.extend(programs);
    known.1.extend(tests);
}

fn denied(a: &Profile, b: &Profile) -> Vec<DeniedCall> {
    let mut all: BTreeMap<(Abi, &str, i32, bool), (Texts, Texts)> = BTreeMap::new();
    for call in a.denied.iter().chain(&b.denied) {
        let known = all.entry((call.abi, &call.name, call.errno, call.killed)).or_default();
        known.0.extend(call.programs.iter().cloned());
        known.1.extend(call.tests.iter().cloned());
    }
    let call = |((abi, name, errno, killed), (programs, tests)): (
        (Abi, &str, i32, bool),
        (Texts, Texts),
    )| DeniedCall {
        abi,
        name: name.to_owned(),
        errno,
        killed,
        programs: programs.into_iter().collect(),
        tests: tests.into_iter().collect(),
    };
    all.into_iter().map(call).collect()
}

/// Each capability in the strongest class that either gives it, with the reasons of that class.
fn capabilities(a: &Capabilities, b: &Capabilities) -> Capabilities {
    let mut taken = BTreeSet::new();
    let mut class = |first: &[CapabilityRule], second: &[CapabilityRule]| -> Vec<CapabilityRule> {
        let mut all: BTreeMap<&str, (Vec<&CapabilityReason>, Option<String>)> = BTreeMap::new();
        for rule in first.iter().chain(second).filter(|rule| !taken.contains(&rule.name)) {
            let (reasons, needed) = all.entry(&rule.name).or_default();
            reasons.extend(&rule.reasons);
            *needed = self::first(needed.take(), rule.needed.clone());
        }
        let rules = all.into_iter().map(|(name, (reasons, needed))| CapabilityRule {
            name: name.to_owned(),
            reasons: checks(&reasons),
            needed,
        });
        let rules: Vec<CapabilityRule> = rules.collect();
        taken.extend(rules.iter().map(|rule| rule.name.clone()));
        rules
    };
    Capabilities {
        known: a.known && b.known,
        // strongest first
        required: class(&a.required, &b.required),
        probed: class(&a.probed, &b.probed),
        denied: class(&a.denied, &b.denied),
        runtime: class(&a.runtime, &b.runtime),
    }
}

fn checks(reasons: &[&CapabilityReason]) -> Vec<CapabilityReason> {
    let mut all: BTreeMap<(Abi, &str), CapabilityReason> = BTreeMap::new();
    for &reason in reasons {
        let known = all.entry((reason.abi, &reason.syscall)).or_insert_with(|| reason.clone());
        known.outcome = known.outcome.min(reason.outcome);
        known.programs = distinct(&known.programs, &reason.programs);
        known.tests = distinct(&known.tests, &reason.tests);
    }
    let sorted: BTreeSet<CapabilityReason> = all.into_values().collect();
    sorted.into_iter().collect()
}
