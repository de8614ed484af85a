//! From recorded arguments to the combinations of a policy's rules.
//!
//! A rule gets conditions only where every reason for it says with which arguments: every run that saw the call must have
//! watched it, and of what runtimes call it must be known. So evidence only adds: more of it adds combinations, or takes the conditions away.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    arch::Abi,
    arguments::Masked,
    narrow::{
        join::{is_bounded, join, sorted},
        shape::{self, unseen},
    },
    profile::{Arguments, Combination, SyscallReason, SyscallRule},
    recording::{ArgumentFact, Phase, Recording, RunId, Sighting},
    syscall,
};

/// What could not be narrowed, though it was watched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Narrowed {
    /// Calls that were made with more combinations than are kept, or than a rule can have.
    pub any: BTreeSet<(Abi, String)>,
}

/// What was recorded of one call in one phase.
#[derive(Default)]
struct Facts<'a> {
    runs: BTreeSet<&'a RunId>,
    watched: BTreeSet<&'a RunId>,
    any: bool,
    values: Vec<(&'a [Masked], &'a BTreeMap<RunId, Sighting>)>,
}

impl Facts<'_> {
    /// Whether all runs that saw the call say with which arguments.
    fn are_whole(&self) -> bool {
        !self.any && self.runs.is_subset(&self.watched)
    }
}

/// Gives conditions to the rules, which are sorted by ABI and name. `is_evidence`: of which runs the hand-over counts.
pub fn narrow(
    rules: &mut Vec<SyscallRule>,
    recording: &Recording,
    choice: Arguments,
    is_evidence: &dyn Fn(&RunId) -> bool,
) -> Narrowed {
    let mut narrowed = Narrowed::default();
    if choice == Arguments::Off {
        return narrowed;
    }
    let facts = facts(recording, is_evidence);
    for rule in rules.iter_mut() {
        let Some(nr) = syscall::number(rule.abi, &rule.name) else { continue };
        let of = |phase| facts.get(&(rule.abi, nr, phase));
        if rule.name == "clone3" {
            let is_refused = shape::looks_into("clone", choice) && is_without_namespaces(rule, of);
            rule.arguments = is_refused.then(Vec::new);
        } else if shape::looks_into(&rule.name, choice) {
            rule.arguments = combinations(rule, choice, of);
            let mut lost = [Phase::Handover, Phase::Workload].into_iter().filter_map(of);
            let beyond = rule.arguments.as_deref().is_some_and(|all| !is_bounded(all));
            if beyond {
                rule.arguments = None;
            }
            if beyond || lost.any(|facts| facts.any) {
                narrowed.any.insert((rule.abi, rule.name.clone()));
            }
        }
    }
    if shape::looks_into("clone", choice) {
        stand_in(rules, &facts);
    }
    narrowed
}

fn facts<'a>(
    recording: &'a Recording,
    is_evidence: &dyn Fn(&RunId) -> bool,
) -> BTreeMap<(Abi, u32, Phase), Facts<'a>> {
    let counts = |phase: Phase, id: &RunId| match phase {
        Phase::Setup => false,
        Phase::Handover => is_evidence(id),
        Phase::Workload => true,
    };
    let mut all: BTreeMap<_, Facts<'_>> = BTreeMap::new();
    for fact in &recording.syscalls {
        let runs = fact.seen.keys().filter(|id| counts(fact.phase, id));
        all.entry((fact.abi, fact.nr, fact.phase)).or_default().runs.extend(runs);
    }
    for fact in &recording.arguments {
        let ArgumentFact { abi, nr, phase, values, seen } = fact;
        // what a run says of a call that it did not see says nothing
        let Some(known) = all.get_mut(&(*abi, *nr, *phase)) else { continue };
        let runs: Vec<&RunId> = seen.keys().filter(|id| known.runs.contains(id)).collect();
        if runs.is_empty() {
            continue;
        }
        known.watched.extend(runs);
        if values.is_empty() {
            known.any = true;
        } else {
            known.values.push((values, seen));
        }
    }
    all
}

/// `None`: any arguments.
fn combinations<'a>(
    rule: &SyscallRule,
    choice: Arguments,
    of: impl Fn(Phase) -> Option<&'a Facts<'a>>,
) -> Option<Vec<Combination>> {
    let name = rule.name.as_str();
    let mut all: Vec<Combination> = Vec::new();
    for reason in &rule.reasons {
        match reason {
            SyscallReason::Workload { .. } => of(Phase::Workload).filter(|it| it.are_whole())?,
            SyscallReason::Handover { .. } | SyscallReason::Floor { .. } => {
                let measured = shape::of_runtimes(name);
                let seen = of(Phase::Handover).filter(|it| it.are_whole() && !it.runs.is_empty());
                if measured.is_none() && matches!(reason, SyscallReason::Floor { .. }) {
                    return None; // what the recording shows may not be all
                }
                all.extend(measured.iter().flatten().cloned().map(unseen));
                match seen {
                    Some(seen) => seen,
                    None if measured.is_some() => continue,
                    None => return None,
                }
            }
            _ => return None,
        };
    }
    for facts in [Phase::Handover, Phase::Workload].into_iter().filter_map(&of) {
        if facts.any {
            return None;
        }
        for (values, seen) in &facts.values {
            let tests: BTreeSet<&String> = seen.values().flat_map(|it| &it.tests).collect();
            let tests: Vec<String> = tests.into_iter().cloned().collect();
            for cube in shape::of_seen(name, choice, values) {
                let seen = cube.iter().all(|it| {
                    values
                        .iter()
                        .any(|value| value.index == it.index && value.value & it.mask == it.value)
                });
                let tests = if seen { tests.clone() } else { Vec::new() };
                all.push(Combination { seen, tests, ..unseen(cube) });
            }
        }
    }
    all.extend(shape::base(name, choice).into_iter().map(unseen));
    if let Some(but) = shape::refused(name, choice) {
        all.push(Combination { but, ..unseen(Vec::new()) });
    }
    Some(sorted(all))
}

/// Whether every clone3(2) that was seen made no namespace, so that clone(2) does the same.
fn is_without_namespaces<'a>(
    rule: &SyscallRule,
    of: impl Fn(Phase) -> Option<&'a Facts<'a>>,
) -> bool {
    let plain = |facts: &Facts<'_>| {
        facts.are_whole() && facts.values.iter().all(|(values, _)| is_plain(values))
    };
    rule.reasons.iter().all(|reason| match reason {
        SyscallReason::Workload { .. } => of(Phase::Workload).is_some_and(plain),
        SyscallReason::Handover { .. } => of(Phase::Handover).is_some_and(plain),
        _ => false,
    })
}

/// Whether clone(2) does what a clone3(2) with these values did. Unknown ones are none that it does.
#[must_use]
pub fn is_plain(values: &[Masked]) -> bool {
    !values.is_empty() && values.iter().all(|value| value.index != 0 || value.value == 0)
}

/// Allows clone(2) where clone3(2) was seen to make no namespace: also where that is not refused in the end, so that more
/// evidence takes nothing away.
fn stand_in(rules: &mut Vec<SyscallRule>, facts: &BTreeMap<(Abi, u32, Phase), Facts<'_>>) {
    let calls = facts.iter().filter(|((abi, nr, phase), facts)| {
        *phase != Phase::Setup
            && !facts.runs.is_empty()
            && syscall::name(*abi, *nr) == Some("clone3")
            && facts.values.iter().any(|(values, _)| is_plain(values))
    });
    for abi in calls.map(|((abi, ..), _)| *abi).collect::<BTreeSet<_>>() {
        let place =
            rules.binary_search_by(|rule| (rule.abi, rule.name.as_str()).cmp(&(abi, "clone")));
        let plain = unseen(shape::namespaces(0));
        match place {
            Ok(at) => {
                if let Some(rule) = rules.get_mut(at) {
                    join(&mut rule.arguments, Some(&[plain]));
                }
            }
            Err(at) => rules.insert(
                at,
                SyscallRule {
                    abi,
                    name: "clone".to_owned(),
                    reasons: vec![SyscallReason::Portable { of: vec!["clone3".to_owned()] }],
                    arguments: Some(vec![plain]),
                },
            ),
        }
    }
}
