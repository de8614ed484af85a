//! What an observer hands back: facts of the model, and what it had to leave out.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::recording::{
    ArgumentFact, CapabilityFact, CheckSighting, DenialFact, DenialSighting, Missing, Phase,
    Sighting, SyscallFact,
};

/// The evidence of one target in one run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Calls, sorted by number space, number and phase.
    pub syscalls: Vec<SyscallFact>,
    /// Capability checks, sorted.
    pub capabilities: Vec<CapabilityFact>,
    /// Denied calls, sorted.
    pub denials: Vec<DenialFact>,
    /// Arguments of watched calls.
    pub arguments: Vec<ArgumentFact>,
    /// Losses, processes that left, and capability checks when they could not be observed.
    pub missing: Vec<Missing>,
    /// Cgroups that were made inside the target's, or by it elsewhere.
    pub inner_cgroups: u64,
    /// A runtime started the target. Told of cgroups only; the others' kind says it.
    pub has_runtime: bool,
    /// Who came in from outside, and under which filters.
    pub entries: Entries,
}

/// Who came into a target from outside: its entry point, and processes that joined.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entries {
    /// How many executed their first program there.
    pub entered: u64,
    /// How often one without a filter was noticed that is none of the runtime's. One process may be noticed more than once.
    pub unfiltered: u64,
    /// Name of the first of those. Hostile text.
    pub first_unfiltered: Option<String>,
    /// The newest filter of those that entered, as its loader wrote it, and how many entered under it. They are fewer than
    /// `entered` when the kernel keeps no copy, or too many entered at once; none unless they were wanted.
    pub filters: BTreeMap<Vec<u8>, u64>,
}

impl Entries {
    /// Adds those of another start.
    pub fn add(&mut self, other: Entries) {
        self.entered += other.entered;
        self.unfiltered += other.unfiltered;
        self.first_unfiltered = self.first_unfiltered.take().or(other.first_unfiltered);
        for (filter, count) in other.filters {
            *self.filters.entry(filter).or_default() += count;
        }
    }
}

impl Evidence {
    /// Whether its entry point, or one that joined, was executed.
    #[must_use]
    pub fn has_entered(&self) -> bool {
        let of_workload = |fact: &SyscallFact| fact.phase == Phase::Workload;
        self.entries.entered > 0 || self.syscalls.iter().any(of_workload)
    }

    /// Adds the evidence of another start of the same target, in the same run: sets are joined,
    /// counts added, and the earlier of two first sightings stays.
    pub fn absorb(&mut self, other: Evidence) {
        self.inner_cgroups += other.inner_cgroups;
        self.has_runtime |= other.has_runtime;
        self.entries.add(other.entries);
        for fact in other.syscalls {
            let same = |known: &&mut SyscallFact| {
                (known.abi, known.nr, known.phase) == (fact.abi, fact.nr, fact.phase)
            };
            match self.syscalls.iter_mut().find(same) {
                None => self.syscalls.push(fact),
                Some(known) => {
                    for (run, seen) in fact.seen {
                        known
                            .seen
                            .entry(run)
                            .and_modify(|sum| sum.add(seen.clone()))
                            .or_insert(seen);
                    }
                }
            }
        }
        for fact in other.arguments {
            let same = |known: &&mut ArgumentFact| {
                (known.abi, known.nr, known.phase, &known.values)
                    == (fact.abi, fact.nr, fact.phase, &fact.values)
            };
            match self.arguments.iter_mut().find(same) {
                None => self.arguments.push(fact),
                Some(known) => {
                    for (run, seen) in fact.seen {
                        known
                            .seen
                            .entry(run)
                            .and_modify(|sum| sum.join(seen.clone()))
                            .or_insert(seen);
                    }
                }
            }
        }
        for fact in other.capabilities {
            match self.capabilities.iter_mut().find(|known| is_same_check(known, &fact)) {
                None => self.capabilities.push(fact),
                Some(known) => {
                    for (run, seen) in fact.seen {
                        known
                            .seen
                            .entry(run)
                            .and_modify(|sum: &mut CheckSighting| sum.add(&seen))
                            .or_insert(seen);
                    }
                }
            }
        }
        for fact in other.denials {
            let same = |known: &&mut DenialFact| {
                (known.abi, known.nr, known.phase, known.errno, known.killed)
                    == (fact.abi, fact.nr, fact.phase, fact.errno, fact.killed)
            };
            match self.denials.iter_mut().find(same) {
                None => self.denials.push(fact),
                Some(known) => {
                    for (run, seen) in fact.seen {
                        known
                            .seen
                            .entry(run)
                            .and_modify(|sum: &mut DenialSighting| sum.add(&seen))
                            .or_insert(seen);
                    }
                }
            }
        }
        for missing in other.missing {
            let same = |known: &&mut Missing| **known == missing || is_same_count(known, &missing);
            match (self.missing.iter_mut().find(same), missing) {
                // those of another start
                (Some(Missing::Left { count: sum }), Missing::Left { count }) => *sum += count,
                // losses are counted for the whole run: the newer count includes the older
                (Some(known), missing) => *known = missing.max(known.clone()),
                (None, missing) => self.missing.push(missing),
            }
        }
    }
}

impl Sighting {
    /// Adds what was seen elsewhere in the same run.
    pub(super) fn add(&mut self, other: Sighting) {
        let counts = self.count.into_iter().chain(other.count);
        let count = counts.reduce(u64::saturating_add);
        self.join(other);
        self.count = count;
    }
}

impl CheckSighting {
    /// Adds what was counted elsewhere in the same run.
    pub(super) fn add(&mut self, other: &CheckSighting) {
        self.checks += other.checks;
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.unsettled += other.unsettled;
        self.sighting.join(other.sighting.clone());
    }
}

impl DenialSighting {
    /// Adds what was counted elsewhere in the same run.
    pub(super) fn add(&mut self, other: &DenialSighting) {
        self.count += other.count;
        self.arguments = self.arguments.or(other.arguments);
        self.sighting.join(other.sighting.clone());
    }
}

fn is_same_count(a: &Missing, b: &Missing) -> bool {
    match (a, b) {
        (Missing::Lost { what: a, .. }, Missing::Lost { what: b, .. }) => a == b,
        (Missing::Left { .. }, Missing::Left { .. })
        | (Missing::Skipped { .. }, Missing::Skipped { .. }) => true,
        _ => false,
    }
}

fn is_same_check(a: &CapabilityFact, b: &CapabilityFact) -> bool {
    let what = |fact: &CapabilityFact| {
        (fact.capability, fact.verdict, fact.audit, fact.user_namespace, fact.overridden)
    };
    let whence = |fact: &CapabilityFact| (fact.phase, fact.abi, fact.nr);
    what(a) == what(b) && whence(a) == whence(b) && a.asked_by == b.asked_by
}

/// What has been found so far, cheap enough to ask several times a second.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Calls of hand-over and workload: number space of the kernel side, and number.
    pub syscalls: BTreeSet<(u8, u32)>,
    /// Capabilities that were granted to the workload by a real check.
    pub capabilities: BTreeSet<u8>,
    /// Calls that a filter answered.
    pub denials: BTreeSet<(u8, u32)>,
    /// Kinds of capability check: number space, number, capability, and a hash of the rest.
    pub checks: BTreeSet<(u8, u32, u8, u32)>,
}

impl Found {
    /// Adds what was found later; true when anything is new.
    pub fn extend(&mut self, later: Found) -> bool {
        let before = self.count();
        self.syscalls.extend(later.syscalls);
        self.capabilities.extend(later.capabilities);
        self.denials.extend(later.denials);
        self.checks.extend(later.checks);
        self.count() != before
    }

    fn count(&self) -> usize {
        self.syscalls.len() + self.capabilities.len() + self.denials.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::{arch::Abi, recording::Phase};

    fn call(nr: u32, first_ms: Option<u64>) -> Evidence {
        let seen = Sighting { first_ms, count: first_ms, ..Sighting::default() };
        Evidence {
            syscalls: vec![SyscallFact {
                abi: Abi::X86_64,
                nr,
                phase: Phase::Workload,
                seen: BTreeMap::from([("run".to_owned(), seen)]),
            }],
            ..Evidence::default()
        }
    }

    #[test]
    fn calls_are_joined_and_the_earlier_sighting_stays() {
        let mut sum = call(1, Some(70));
        sum.absorb(call(1, Some(20)));
        sum.absorb(call(1, None));
        sum.absorb(call(2, Some(90)));
        let firsts: Vec<_> =
            sum.syscalls.iter().map(|fact| (fact.nr, fact.seen["run"].first_ms)).collect();
        assert_eq!(firsts, [(1, Some(20)), (2, Some(90))]);
        assert_eq!(sum.syscalls[0].seen["run"].count, Some(90)); // of two that were counted
    }

    #[test]
    fn losses_of_one_run_are_not_added_up() {
        let lost = |count| Evidence {
            missing: vec![Missing::Lost { what: "syscalls".to_owned(), count }],
            ..Evidence::default()
        };
        let mut sum = lost(3);
        sum.absorb(lost(7));
        sum.absorb(lost(5));
        assert_eq!(sum.missing, lost(7).missing);
    }

    #[test]
    fn processes_that_left_add_up() {
        let left = |count| Evidence {
            missing: vec![Missing::Left { count }],
            inner_cgroups: 1,
            ..Evidence::default()
        };
        let mut sum = left(2);
        sum.absorb(left(2));
        assert_eq!((sum.missing, sum.inner_cgroups), (left(4).missing, 2));
    }

    #[test]
    fn denials_add_up() {
        let denial = |count| Evidence {
            denials: vec![DenialFact {
                abi: Abi::X86_64,
                nr: 272,
                phase: Phase::Workload,
                errno: 1,
                killed: false,
                seen: BTreeMap::from([(
                    "run".to_owned(),
                    DenialSighting { count, arguments: None, sighting: Sighting::default() },
                )]),
            }],
            ..Evidence::default()
        };
        let mut sum = denial(2);
        sum.absorb(denial(3));
        assert_eq!(sum.denials.len(), 1);
        assert_eq!(sum.denials[0].seen["run"].count, 5);
    }
}
