//! Joining recordings of the same target.
//!
//! Owns the union: facts by what they are about, sightings by run, runs by id. It is commutative, associative
//! and idempotent, so replicas and CI shards can be joined in any order and any number of times. It
//! also gives a recording its canonical order; it drops nothing and decides nothing.

use std::collections::{BTreeMap, btree_map::Entry};

use crate::model::{
    arch::Abi,
    recording::{
        AuditClass, CapabilityFact, CheckSighting, DenialFact, DenialSighting, Phase, Recording,
        Run, RunId, SCHEMA_VERSION, Sighting, SyscallFact, TargetKind, UserNamespace, Verdict,
    },
};

/// Why recordings cannot be joined.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// There was nothing to join.
    #[error("no recording to merge\nhint: profiler generate RECORDING... -o DIR")]
    Empty,
    /// They are of different targets.
    #[error(
        "recordings of different targets cannot be merged: {} `{}` and {} `{}`\n\
         hint: merge the recordings of each target by itself: profiler generate A B -o DIR",
        .first.0.name(), .first.1.escape_debug(), .second.0.name(), .second.1.escape_debug()
    )]
    Targets {
        /// Kind and name of the target of one of them.
        first: (TargetKind, String),
        /// And of another.
        second: (TargetKind, String),
    },
    /// Two runs have one id but different circumstances: a file was edited.
    #[error("two different runs have the id `{id}`\nhint: use the files as profiler wrote them")]
    Runs {
        /// The id.
        id: RunId,
    },
}

/// Joins recordings into one, in canonical order.
///
/// # Errors
/// When there are none, when their targets differ, or when two runs share an id.
pub fn merge(recordings: impl IntoIterator<Item = Recording>) -> Result<Recording, MergeError> {
    let mut recordings = recordings.into_iter();
    let mut joined = recordings.next().ok_or(MergeError::Empty)?;
    for other in recordings {
        if other.target != joined.target {
            return Err(MergeError::Targets {
                first: (joined.target.kind, joined.target.name),
                second: (other.target.kind, other.target.name),
            });
        }
        for (id, run) in other.runs {
            match joined.runs.entry(id) {
                Entry::Vacant(entry) => {
                    entry.insert(run);
                }
                Entry::Occupied(entry) if sorted_missing(entry.get()) == sorted_missing(&run) => {}
                Entry::Occupied(entry) => {
                    return Err(MergeError::Runs { id: entry.key().clone() });
                }
            }
        }
        joined.syscalls.extend(other.syscalls);
        joined.capabilities.extend(other.capabilities);
        joined.denials.extend(other.denials);
    }
    Ok(canonical(joined))
}

/// The same evidence in the order in which it is written: facts sorted, each once.
#[must_use]
pub fn canonical(recording: Recording) -> Recording {
    let mut runs = recording.runs;
    for run in runs.values_mut() {
        *run = sorted_missing(run);
    }
    Recording {
        schema_version: SCHEMA_VERSION,
        target: recording.target,
        runs,
        syscalls: union(recording.syscalls),
        capabilities: union(recording.capabilities),
        denials: union(recording.denials),
    }
}

fn sorted_missing(run: &Run) -> Run {
    let mut run = run.clone();
    run.missing.sort();
    run.missing.dedup();
    run
}

/// A fact: what it is about, and which runs saw it.
trait Fact: Sized {
    type Key: Ord;
    type Seen: Join;
    fn key(&self) -> Self::Key;
    fn seen(&mut self) -> &mut BTreeMap<RunId, Self::Seen>;
}

/// Two accounts of one thing in one run. Each implementation takes the least or the most of each part,
/// which is what makes the whole commutative, associative and idempotent.
trait Join: Sized {
    fn join(&mut self, other: Self);
}

fn union<F: Fact>(facts: Vec<F>) -> Vec<F> {
    let mut joined: BTreeMap<F::Key, F> = BTreeMap::new();
    for mut fact in facts {
        match joined.entry(fact.key()) {
            Entry::Vacant(entry) => {
                entry.insert(fact);
            }
            Entry::Occupied(mut entry) => {
                let known = entry.get_mut().seen();
                for (run, seen) in std::mem::take(fact.seen()) {
                    match known.entry(run) {
                        Entry::Vacant(entry) => {
                            entry.insert(seen);
                        }
                        Entry::Occupied(mut entry) => entry.get_mut().join(seen),
                    }
                }
            }
        }
    }
    joined.into_values().collect()
}

impl Fact for SyscallFact {
    type Key = (Abi, u32, Phase);
    type Seen = Sighting;

    fn key(&self) -> Self::Key {
        (self.abi, self.nr, self.phase)
    }

    fn seen(&mut self) -> &mut BTreeMap<RunId, Sighting> {
        &mut self.seen
    }
}

impl Fact for CapabilityFact {
    type Key = ((u8, Phase, Verdict), (AuditClass, UserNamespace, bool), (Abi, u32, String));
    type Seen = CheckSighting;

    fn key(&self) -> Self::Key {
        (
            (self.capability, self.phase, self.verdict),
            (self.audit, self.user_namespace, self.overridden),
            (self.abi, self.nr, self.asked_by.clone()),
        )
    }

    fn seen(&mut self) -> &mut BTreeMap<RunId, CheckSighting> {
        &mut self.seen
    }
}

impl Fact for DenialFact {
    type Key = (Abi, u32, Phase, i32);
    type Seen = DenialSighting;

    fn key(&self) -> Self::Key {
        (self.abi, self.nr, self.phase, self.errno)
    }

    fn seen(&mut self) -> &mut BTreeMap<RunId, DenialSighting> {
        &mut self.seen
    }
}

impl Sighting {
    /// Adds another account of the same run: the earlier time; everyone and every test.
    pub fn join(&mut self, other: Self) {
        self.first_ms = self.first_ms.into_iter().chain(other.first_ms).min();
        self.programs.extend(other.programs);
        self.tests.extend(other.tests);
    }
}

impl Join for Sighting {
    fn join(&mut self, other: Self) {
        Sighting::join(self, other);
    }
}

impl Join for CheckSighting {
    fn join(&mut self, other: Self) {
        self.checks = self.checks.max(other.checks);
        self.succeeded = self.succeeded.max(other.succeeded);
        self.failed = self.failed.max(other.failed);
        self.unsettled = self.unsettled.max(other.unsettled);
        self.sighting.join(other.sighting);
    }
}

impl Join for DenialSighting {
    fn join(&mut self, other: Self) {
        self.count = self.count.max(other.count);
        self.sighting.join(other.sighting);
    }
}
