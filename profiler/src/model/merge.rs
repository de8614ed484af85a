//! Joining recordings of the same target.
//!
//! Owns the union: facts by what they are about, sightings by run, runs by id. It is commutative, associative
//! and idempotent, so replicas and CI shards can be joined in any order and any number of times. It
//! also gives a recording its canonical order; it drops nothing and decides nothing.

use std::collections::{BTreeMap, btree_map::Entry};

use crate::model::{
    arch::Abi,
    arguments::Masked,
    recording::{
        ArgumentFact, AuditClass, CapabilityFact, CheckSighting, DenialFact, DenialSighting, Phase,
        Recording, Run, RunId, SCHEMA_VERSION, Sighting, SyscallFact, Target, TargetKind,
        UserNamespace, Verdict,
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
         hint: merge the recordings of each target by itself; `profiler merge --force` joins them all the same",
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
    let mut merger = Merger::default();
    for recording in recordings {
        merger.add(recording)?;
    }
    merger.finish()
}

/// The same evidence in the order in which it is written: facts sorted, each once.
#[must_use]
pub fn canonical(recording: Recording) -> Recording {
    let mut merger = Merger::default();
    let target = recording.target.clone();
    merger.take(recording);
    merger.recording(target)
}

/// What one run alone has to say: the inverse of joining it with others.
#[must_use]
pub fn of_run(recording: &Recording, id: &RunId) -> Recording {
    let mut alone = recording.clone();
    alone.runs.retain(|known, _| known == id);
    alone.syscalls.retain_mut(|fact| fact.only(id));
    alone.capabilities.retain_mut(|fact| fact.only(id));
    alone.denials.retain_mut(|fact| fact.only(id));
    alone.arguments.retain_mut(|fact| fact.only(id));
    alone
}

/// Joins recordings one by one. It holds each fact and each sighting once, so that its memory is linear in what
/// comes out.
#[derive(Debug, Default)]
pub struct Merger {
    any_target: bool,
    target: Option<Target>,
    runs: BTreeMap<RunId, Run>,
    syscalls: Facts<SyscallFact>,
    capabilities: Facts<CapabilityFact>,
    denials: Facts<DenialFact>,
    arguments: Facts<ArgumentFact>,
}

impl Merger {
    /// One that takes recordings of different targets for recordings of one; the least target names the result.
    #[must_use]
    pub fn of_any_target() -> Merger {
        Merger { any_target: true, ..Merger::default() }
    }

    /// Adds a recording.
    ///
    /// # Errors
    /// When its target is another, or one of its runs shares an id with a different one.
    pub fn add(&mut self, recording: Recording) -> Result<(), MergeError> {
        match &self.target {
            Some(target) if *target != recording.target && !self.any_target => {
                return Err(MergeError::Targets {
                    first: (target.kind, target.name.clone()),
                    second: (recording.target.kind, recording.target.name),
                });
            }
            Some(target) if *target <= recording.target => {}
            _ => self.target = Some(recording.target.clone()),
        }
        for (id, run) in &recording.runs {
            if self.runs.get(id).is_some_and(|known| *known != sorted_missing(run)) {
                return Err(MergeError::Runs { id: id.clone() });
            }
        }
        self.take(recording);
        Ok(())
    }

    fn take(&mut self, recording: Recording) {
        for (id, run) in recording.runs {
            self.runs.entry(id).or_insert_with(|| sorted_missing(&run));
        }
        recording.syscalls.into_iter().for_each(|fact| self.syscalls.add(fact));
        recording.capabilities.into_iter().for_each(|fact| self.capabilities.add(fact));
        recording.denials.into_iter().for_each(|fact| self.denials.add(fact));
        recording.arguments.into_iter().for_each(|fact| self.arguments.add(fact));
    }

    /// All that was added, in canonical order.
    ///
    /// # Errors
    /// When nothing was.
    pub fn finish(mut self) -> Result<Recording, MergeError> {
        let target = self.target.take().ok_or(MergeError::Empty)?;
        Ok(self.recording(target))
    }

    fn recording(self, target: Target) -> Recording {
        Recording {
            schema_version: SCHEMA_VERSION,
            target,
            runs: self.runs,
            syscalls: self.syscalls.0.into_values().collect(),
            capabilities: self.capabilities.0.into_values().collect(),
            denials: self.denials.0.into_values().collect(),
            arguments: self.arguments.0.into_values().collect(),
        }
    }
}

fn sorted_missing(run: &Run) -> Run {
    let mut run = run.clone();
    run.missing.sort();
    run.missing.dedup();
    run
}

/// A fact: what it is about, and which runs saw it.
trait Fact: Sized + std::fmt::Debug {
    type Key: Ord + std::fmt::Debug;
    type Seen: Join;
    fn key(&self) -> Self::Key;
    fn seen(&mut self) -> &mut BTreeMap<RunId, Self::Seen>;

    /// Keeps the account of one run, and says whether there is one.
    fn only(&mut self, id: &RunId) -> bool {
        self.seen().retain(|known, _| known == id);
        !self.seen().is_empty()
    }
}

/// Two accounts of one thing in one run. Each implementation takes the least or the most of each part,
/// which is what makes the whole commutative, associative and idempotent.
trait Join: Sized {
    fn join(&mut self, other: Self);
}

/// Facts by what they are about.
#[derive(Debug)]
struct Facts<F: Fact>(BTreeMap<F::Key, F>);

impl<F: Fact> Default for Facts<F> {
    fn default() -> Self {
        Facts(BTreeMap::new())
    }
}

impl<F: Fact> Facts<F> {
    fn add(&mut self, mut fact: F) {
        match self.0.entry(fact.key()) {
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
    type Key = (Abi, u32, Phase, i32, bool);
    type Seen = DenialSighting;

    fn key(&self) -> Self::Key {
        (self.abi, self.nr, self.phase, self.errno, self.killed)
    }

    fn seen(&mut self) -> &mut BTreeMap<RunId, DenialSighting> {
        &mut self.seen
    }
}

impl Fact for ArgumentFact {
    type Key = (Abi, u32, Phase, Vec<Masked>);
    type Seen = Sighting;

    fn key(&self) -> Self::Key {
        (self.abi, self.nr, self.phase, self.values.clone())
    }

    fn seen(&mut self) -> &mut BTreeMap<RunId, Sighting> {
        &mut self.seen
    }
}

impl Sighting {
    /// Adds another account of the same: the earlier time, the larger count; everyone and every test.
    pub fn join(&mut self, other: Self) {
        let outside = |seen: &Self| seen.outside || seen.tests.is_empty();
        let outside = outside(self) || outside(&other);
        self.first_ms = self.first_ms.into_iter().chain(other.first_ms).min();
        self.count = self.count.max(other.count);
        self.programs.extend(other.programs);
        self.tests.extend(other.tests);
        self.outside = outside && !self.tests.is_empty();
        // whichever, as long as it is the same one in any order: the one with more names
        let rank = |stack: &[String]| stack.iter().filter(|frame| *frame == "unknown").count();
        self.stack = [std::mem::take(&mut self.stack), other.stack]
            .into_iter()
            .filter(|stack| !stack.is_empty())
            .min_by_key(|stack| (rank(stack), stack.clone()))
            .unwrap_or_default();
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
        self.arguments = self.arguments.into_iter().chain(other.arguments).min();
        self.sighting.join(other.sighting);
    }
}
