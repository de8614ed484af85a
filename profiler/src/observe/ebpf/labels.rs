//! Test labels: which evidence slot each target writes to, and what was written under which labels.
//!
//! While labels are in force a target writes to a slot of its own for them. A change of labels takes a
//! fresh slot and points the target to it, by one word that the kernel side reads at each call; nothing is
//! read or cleared while it may be written. A call lands in the old slot or the new one, so the union of both is
//! exact. A slot that was left is read, emptied and used again after a grace period: when every program that may
//! have read the old word has come to its end.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    thread,
    time::Duration,
};

use aya::{Ebpf, maps::Array};
use profiler_common::scope::{Slot, Stamp, stamp};
use rustix::thread::{MembarrierCommand, membarrier};

use super::{
    drain::{self, Drain},
    error::ObserveError,
    slots::{Slots, array, candidates, clear, map_error, offer},
};
use crate::observe::evidence::Evidence;

/// The labels in force: one for tests that run one after the other, several for tests that run at once.
pub type Labels = Arc<BTreeSet<String>>;

/// What stands in for a grace period where the kernel does not offer to wait for one.
const GRACE: Duration = Duration::from_millis(500);

/// Where the evidence of one target is.
pub struct Lineage {
    /// The labels of its own slot, whose index is the target's.
    own: Labels,
    /// The slot that it writes to now, if another.
    now: Option<(Slot, Labels)>,
    /// Slots that it wrote to before.
    left: Vec<(Slot, Labels)>,
    /// What was in slots that serve others by now.
    harvested: Evidence,
}

impl Lineage {
    /// Of a target that comes into scope under these labels.
    pub fn new(labels: &Labels) -> Self {
        Lineage {
            own: Arc::clone(labels),
            now: None,
            left: Vec::new(),
            harvested: Evidence::default(),
        }
    }

    /// The slots that it wrote to, apart from its own.
    pub fn others(&self) -> impl Iterator<Item = &(Slot, Labels)> {
        self.left.iter().chain(&self.now)
    }
}

/// What an emptied slot serves next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Candidates.
    Pool,
    /// Chosen targets and labels.
    Free,
}

impl Slots {
    /// Lets every target write to slots of these labels from now on: when this returns, no call that begins
    /// is recorded under the labels before.
    pub fn label(
        &mut self,
        ebpf: &mut Ebpf,
        labels: &Labels,
        drain: &mut Drain<'_>,
    ) -> Result<(), ObserveError> {
        if *labels == self.in_force {
            return Ok(());
        }
        for candidate in candidates(ebpf)? {
            // what is met for the first time was adopted under the labels that end now
            self.targets.entry(candidate.slot).or_insert_with(|| Lineage::new(&self.in_force));
        }
        let targets: Vec<Slot> = self.targets.keys().copied().collect();
        for target in targets {
            self.point(ebpf, target, labels, drain)?;
        }
        self.in_force = Arc::clone(labels);
        Ok(())
    }

    /// Points one target to a slot of these labels.
    fn point(
        &mut self,
        ebpf: &mut Ebpf,
        target: Slot,
        labels: &Labels,
        drain: &mut Drain<'_>,
    ) -> Result<(), ObserveError> {
        let returns = self.targets.get(&target).is_some_and(|lineage| lineage.own == *labels);
        if !returns && self.free.is_empty() {
            self.reuse(ebpf, drain)?;
        }
        let fresh = if returns { None } else { self.free.pop() };
        let Some(lineage) = self.targets.get_mut(&target) else { return Ok(()) };
        if !returns && fresh.is_none() {
            // more targets than slots: what follows has the labels before, too
            let kept = lineage.now.as_mut().map_or(&mut lineage.own, |(_, labels)| labels);
            *kept = Arc::new(kept.union(labels).cloned().collect());
            self.unlabelled += 1;
            return Ok(());
        }
        let before = lineage.now.take();
        lineage.left.extend(before);
        lineage.now = fresh.map(|slot| (slot, Arc::clone(labels)));
        let slot = fresh.unwrap_or(target);
        let stamp = stamp(slot, self.uses[slot as usize]);
        evidence(ebpf)?.set(target, stamp, 0).map_err(map_error("EVIDENCE"))
    }

    /// The evidence of a target that is still in slots, and its labels.
    pub fn of(&self, target: Slot) -> BTreeMap<Slot, Labels> {
        let lineage = self.targets.get(&target);
        let own = lineage.map_or(&self.in_force, |lineage| &lineage.own);
        let others = lineage.into_iter().flat_map(Lineage::others).cloned();
        others.chain([(target, Arc::clone(own))]).collect()
    }

    /// Everything that a target did.
    pub fn evidence(
        &self,
        ebpf: &mut Ebpf,
        target: Slot,
        drain: &mut Drain<'_>,
    ) -> Result<Evidence, ObserveError> {
        let harvested = self.targets.get(&target).map(|lineage| lineage.harvested.clone());
        let mut sum = harvested.unwrap_or_default();
        sum.absorb(drain.facts(ebpf, target, &self.of(target))?);
        sum.absorb(drain::counted(ebpf, target)?);
        sum.entries.add(self.filters.of(ebpf, target)?);
        Ok(sum)
    }

    /// Drops a target: its cgroups are out of scope.
    pub fn drop_target(&mut self, target: Slot) {
        if let Some(lineage) = self.targets.remove(&target) {
            self.vacant.extend(lineage.others().map(|(slot, _)| (*slot, Next::Free)));
        }
        self.vacant.push((target, Next::Pool));
    }

    /// Takes over what is in slots that are not written to any more, and empties them for others.
    pub fn reuse(&mut self, ebpf: &mut Ebpf, drain: &mut Drain<'_>) -> Result<(), ObserveError> {
        let left = self.targets.values().map(|lineage| lineage.left.len()).sum::<usize>();
        if left + self.vacant.len() == 0 {
            return Ok(());
        }
        wait_for_programs();
        let mut vacant = std::mem::take(&mut self.vacant);
        let left = self.targets.iter_mut().filter(|(_, lineage)| !lineage.left.is_empty());
        for (target, lineage) in left {
            let slots = lineage.left.drain(..).collect::<BTreeMap<Slot, Labels>>();
            lineage.harvested.absorb(drain.facts(ebpf, *target, &slots)?);
            vacant.extend(slots.into_keys().map(|slot| (slot, Next::Free)));
        }
        let emptied = vacant.iter().map(|(slot, _)| *slot).collect();
        clear(ebpf, &emptied)?;
        drain.stacks.clear(&emptied);
        for (slot, next) in vacant {
            self.filters.forget(ebpf, slot)?;
            let uses = &mut self.uses[slot as usize];
            *uses = uses.wrapping_add(1);
            match next {
                Next::Free => self.free.push(slot),
                Next::Pool => offer(ebpf, slot, *uses)?,
            }
        }
        Ok(())
    }
}

/// Lets a target that has just taken its slot write to it.
pub fn point_to_itself(ebpf: &mut Ebpf, target: Slot, uses: u16) -> Result<(), ObserveError> {
    evidence(ebpf)?.set(target, stamp(target, uses), 0).map_err(map_error("EVIDENCE"))
}

/// Waits until every program that runs now has come to its end.
///
/// Programs run within an RCU read-side section, and this command waits for a grace period of RCU
/// (<https://elixir.bootlin.com/linux/v6.12/source/kernel/sched/membarrier.c#L600>), except on a machine with one CPU,
/// where it does nothing, and programs may be suspended since 7.0. A kernel with `nohz_full` refuses it; a program takes microseconds.
fn wait_for_programs() {
    let is_alone = thread::available_parallelism().is_ok_and(|cpus| cpus.get() == 1);
    if membarrier(MembarrierCommand::Global).is_err() || is_alone {
        thread::sleep(GRACE);
    }
}

fn evidence(ebpf: &mut Ebpf) -> Result<Array<&mut aya::maps::MapData, Stamp>, ObserveError> {
    array(ebpf, "EVIDENCE")
}
