//! Slots: which cgroup belongs to which target, as user space sees it.

use std::collections::{BTreeMap, BTreeSet};

use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData, PerCpuHashMap, Queue},
};
use profiler_common::{
    evidence::{
        ArgumentsKey, CallKey, Check, CheckKey, Denial, DenialKey, Executed, ExecutedKey, MakerKey,
        Makers, Seen, Sighting,
    },
    scope::{
        BUCKETS, CROWDED, NAME_LEN, PATH_LEN, Scope, Slot, Target, bucket_word, kind, slot_kind,
        slot_of,
    },
};

use super::{
    entries::Filters,
    error::ObserveError,
    labels::{Labels, Lineage, Next, point_to_itself},
};

/// How many evidence slots there are; `SLOTS` and `SEEN` of the object have this size.
pub const SLOT_COUNT: u32 = 256;

/// How many of them wait for candidates while cgroups are adopted.
const CANDIDATE_POOL: usize = 192;

/// How the entry point of a slot's target is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotKind {
    /// It is executed in another mount namespace than the runtime's.
    Container,
    /// It is the first successful execve.
    Command,
    /// As with a container; but it was executed before.
    Running,
    /// As with a container if a runtime shows; else all that happens in it is the target's.
    Cgroup,
    /// As with `Cgroup`; but processes were in it before.
    RunningCgroup,
}

/// A cgroup that was created while candidates were adopted, or at a wanted path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its id, the inode of its directory.
    pub cgroup_id: u64,
    /// Last component of its path; contains a container id. Empty for one at a wanted path.
    pub name: String,
    /// Where its evidence is.
    pub slot: Slot,
    /// The cgroup was removed: the evidence is complete.
    pub ended: bool,
}

/// Allocation of slots and the user's half of the scope tables; `labels` adds which slot a target writes to.
pub struct Slots {
    pub(super) free: Vec<Slot>,
    /// How often each slot was used before.
    pub(super) uses: Vec<u16>,
    /// The labels in force.
    pub(super) in_force: Labels,
    /// Where the evidence of each target is; of a candidate only if it was adopted before the last change of labels.
    pub(super) targets: BTreeMap<Slot, Lineage>,
    /// Slots that nobody wants to read, and what they serve next.
    pub(super) vacant: Vec<(Slot, Next)>,
    /// How often a target kept its slot when labels changed, because none was left.
    pub(super) unlabelled: u64,
    /// The filters under which processes entered targets.
    pub(super) filters: Filters,
}

impl Slots {
    /// All slots free, none adopted.
    pub fn new() -> Self {
        Slots {
            free: (0..SLOT_COUNT).rev().collect(),
            uses: vec![0; SLOT_COUNT as usize],
            in_force: Labels::default(),
            targets: BTreeMap::new(),
            vacant: Vec::new(),
            unlabelled: 0,
            filters: Filters::default(),
        }
    }

    /// Takes a slot for a target that user space chose.
    pub fn take(&mut self, ebpf: &mut Ebpf, slot_kind: SlotKind) -> Result<Slot, ObserveError> {
        let slot = self.free.pop().ok_or(ObserveError::NoSlot(SLOT_COUNT))?;
        point_to_itself(ebpf, slot, self.uses[slot as usize])?;
        let kind = match slot_kind {
            SlotKind::Container => slot_kind::CONTAINER,
            SlotKind::Command => slot_kind::COMMAND,
            SlotKind::Running => slot_kind::RUNNING,
            SlotKind::Cgroup => slot_kind::CGROUP,
            SlotKind::RunningCgroup => slot_kind::RUNNING_CGROUP,
        };
        set_target(ebpf, slot, kind)?;
        Ok(slot)
    }

    /// Notes a target that user space chose, before anything is in scope for it.
    pub fn begin(&mut self, target: Slot) {
        self.targets.insert(target, Lineage::new(&self.in_force));
    }

    /// Puts a cgroup in scope.
    pub fn choose(&self, ebpf: &mut Ebpf, cgroup_id: u64, slot: Slot) -> Result<(), ObserveError> {
        enter(ebpf, cgroup_id, slot, kind::CHOSEN)
    }

    /// Puts a cgroup in scope as if it had been created at a wanted path.
    pub fn adopt_one(
        &self,
        ebpf: &mut Ebpf,
        cgroup_id: u64,
        slot: Slot,
    ) -> Result<(), ObserveError> {
        enter(ebpf, cgroup_id, slot, kind::CANDIDATE)
    }

    /// Lets the kernel side put every cgroup in scope that is created at this path.
    pub fn want(&self, ebpf: &mut Ebpf, path: &[u8], slot: Slot) -> Result<(), ObserveError> {
        let mut key = [0; PATH_LEN];
        // one byte stays for the NUL
        let room = key[..PATH_LEN - 1].get_mut(..path.len()).ok_or(ObserveError::LongPath)?;
        room.copy_from_slice(path);
        hash::<[u8; PATH_LEN], Slot>(ebpf, "WANTED")?
            .insert(key, slot, 0)
            .map_err(map_error("WANTED"))
    }

    /// Notes processes that are in a cgroup in scope already, so that they are seen to leave.
    pub fn note_members(
        &self,
        ebpf: &mut Ebpf,
        pids: impl IntoIterator<Item = u32>,
        slot: Slot,
    ) -> Result<(), ObserveError> {
        let mut members = hash::<u32, Slot>(ebpf, "MEMBERS")?;
        for pid in pids {
            members.insert(pid, slot, 0).map_err(map_error("MEMBERS"))?;
        }
        Ok(())
    }

    /// Takes a cgroup that is gone out of the tables; its slot keeps the evidence.
    pub fn forget(&self, ebpf: &mut Ebpf, cgroup_id: u64) -> Result<(), ObserveError> {
        demote(ebpf, cgroup_id)?;
        let _ = scopes(ebpf)?.remove(&cgroup_id); // gone already is as good
        Ok(())
    }

    /// Gives the kernel side slots for candidates.
    pub fn adopt(&mut self, ebpf: &mut Ebpf) -> Result<(), ObserveError> {
        for _ in 0..CANDIDATE_POOL {
            let slot = self.take(ebpf, SlotKind::Container)?;
            queue(ebpf)?.push(slot, 0).map_err(map_error("FREE_SLOTS"))?;
        }
        Ok(())
    }

    /// Drops a candidate: its cgroup leaves the scope, and its slot goes back to the pool when it is empty.
    pub fn release(&mut self, ebpf: &mut Ebpf, candidate: &Candidate) -> Result<(), ObserveError> {
        let slot = candidate.slot;
        // itself first, so that no child can come into scope any more; then those that did
        let mut gone = vec![candidate.cgroup_id];
        while !gone.is_empty() {
            for id in gone {
                demote(ebpf, id)?;
                let _ = scopes(ebpf)?.remove(&id); // the kernel side may have been faster
            }
            gone = scopes(ebpf)?
                .iter()
                .filter_map(Result::ok)
                .filter(|(_, scope)| scope.slot == slot)
                .map(|(id, _)| id)
                .collect();
        }
        self.drop_target(slot);
        Ok(())
    }
}

/// Gives an empty slot to the kernel side, for a candidate.
pub fn offer(ebpf: &mut Ebpf, slot: Slot, uses: u16) -> Result<(), ObserveError> {
    point_to_itself(ebpf, slot, uses)?;
    set_target(ebpf, slot, slot_kind::CONTAINER)?;
    queue(ebpf)?.push(slot, 0).map_err(map_error("FREE_SLOTS"))
}

fn enter(ebpf: &mut Ebpf, cgroup_id: u64, slot: Slot, kind: u32) -> Result<(), ObserveError> {
    let scope = Scope { slot, kind, name: [0; NAME_LEN] };
    scopes(ebpf)?.insert(cgroup_id, scope, 0).map_err(map_error("SCOPES"))?;
    promote(ebpf, cgroup_id, slot)
}

fn set_target(ebpf: &mut Ebpf, slot: Slot, kind: u32) -> Result<(), ObserveError> {
    let target = Target {
        user_ns: 0,
        mnt_ns: 0,
        inner_cgroups: 0,
        left: 0,
        kind,
        runtime: 0,
        calls_setns: 0,
        reserved: 0,
    };
    array::<Target>(ebpf, "SLOTS")?.set(slot, target, 0).map_err(map_error("SLOTS"))
}

/// Every adopted candidate.
pub fn candidates(ebpf: &mut Ebpf) -> Result<Vec<Candidate>, ObserveError> {
    let mut found: Vec<Candidate> = scopes(ebpf)?
        .iter()
        .filter_map(Result::ok)
        .filter(|(_, scope)| matches!(scope.kind, kind::CANDIDATE | kind::ENDED))
        .map(|(cgroup_id, scope)| Candidate {
            cgroup_id,
            name: text(&scope.name),
            slot: scope.slot,
            ended: scope.kind == kind::ENDED,
        })
        .collect();
    found.sort_by_key(|candidate| candidate.cgroup_id);
    // while the kernel side removes entries, the map's iteration may begin anew
    found.dedup_by_key(|candidate| candidate.cgroup_id);
    Ok(found)
}

/// Enters a cgroup into the direct-mapped table, so that its calls need no hash.
pub fn promote(ebpf: &mut Ebpf, cgroup_id: u64, slot: Slot) -> Result<(), ObserveError> {
    let mut buckets = array::<u64>(ebpf, "BUCKETS_CHOSEN")?;
    let bucket = cgroup_id as u32 & (BUCKETS - 1);
    let word = buckets.get(&bucket, 0).map_err(map_error("BUCKETS_CHOSEN"))?;
    let new = if word >> 32 == 0 {
        bucket_word(cgroup_id, slot) | (word & CROWDED)
    } else {
        word | CROWDED
    };
    buckets.set(bucket, new, 0).map_err(map_error("BUCKETS_CHOSEN"))
}

/// Takes a cgroup out of the direct-mapped table; others in its bucket are found by the hash.
fn demote(ebpf: &mut Ebpf, cgroup_id: u64) -> Result<(), ObserveError> {
    let mut buckets = array::<u64>(ebpf, "BUCKETS_CHOSEN")?;
    let bucket = cgroup_id as u32 & (BUCKETS - 1);
    let word = buckets.get(&bucket, 0).map_err(map_error("BUCKETS_CHOSEN"))?;
    if word >> 32 == cgroup_id & 0xffff_ffff {
        buckets.set(bucket, word & CROWDED, 0).map_err(map_error("BUCKETS_CHOSEN"))?;
    }
    Ok(())
}

/// Removes all evidence of slots.
pub fn clear(ebpf: &mut Ebpf, slots: &BTreeSet<Slot>) -> Result<(), ObserveError> {
    let empty = Seen { calls: [0; _] };
    let mut seen = array::<Seen>(ebpf, "SEEN")?;
    for slot in slots {
        seen.set(*slot, empty, 0).map_err(map_error("SEEN"))?;
    }
    let has = |slot| slots.contains(&slot);
    for name in ["BESIDE", "SPARSE"] {
        remove_where::<CallKey, Makers>(ebpf, name, |key| has(key.slot))?;
    }
    remove_where::<ArgumentsKey, Makers>(ebpf, "ARGUMENTS", |key| has(key.call.slot))?;
    remove_where::<MakerKey, Sighting>(ebpf, "MAKERS", |key| has(key.call.slot))?;
    remove_where::<CheckKey, Check>(ebpf, "CHECKS", |key| has(slot_of(key.slot)))?;
    remove_where::<DenialKey, Denial>(ebpf, "DENIALS", |key| has(key.call.slot))?;
    let mut counts = counts(ebpf)?;
    let gone: Vec<CallKey> =
        counts.keys().filter_map(Result::ok).filter(|key| has(key.slot)).collect();
    for call in gone {
        let _ = counts.remove(&call); // gone already is as good
    }
    remove_where::<ExecutedKey, Executed>(ebpf, "EXECUTED", |key| has(key.slot))?;
    let mut members = hash::<u32, Slot>(ebpf, "MEMBERS")?;
    let gone: Vec<u32> = members
        .iter()
        .filter_map(Result::ok)
        .filter(|(_, of)| has(*of))
        .map(|(tgid, _)| tgid)
        .collect();
    for tgid in gone {
        let _ = members.remove(&tgid); // it may just have ended
    }
    Ok(())
}

fn remove_where<K: aya::Pod, V: aya::Pod>(
    ebpf: &mut Ebpf,
    name: &'static str,
    matches: impl Fn(&K) -> bool,
) -> Result<(), ObserveError> {
    let mut map = hash::<K, V>(ebpf, name)?;
    let keys: Vec<K> = map.keys().filter_map(Result::ok).filter(matches).collect();
    for key in keys {
        let _ = map.remove(&key); // gone already is as good
    }
    Ok(())
}

/// A NUL-terminated text of the kernel's, as far as it is UTF-8.
pub fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// A map as a typed array.
pub fn array<'a, V: aya::Pod>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<Array<&'a mut MapData, V>, ObserveError> {
    let map = ebpf.map_mut(name).ok_or_else(|| no_map(name))?;
    Array::try_from(map).map_err(map_error(name))
}

/// A map as a typed hash.
pub fn hash<'a, K: aya::Pod, V: aya::Pod>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<HashMap<&'a mut MapData, K, V>, ObserveError> {
    let map = ebpf.map_mut(name).ok_or_else(|| no_map(name))?;
    HashMap::try_from(map).map_err(map_error(name))
}

/// How often each call was made, by CPU.
pub fn counts(ebpf: &mut Ebpf) -> Result<PerCpuHashMap<&mut MapData, CallKey, u64>, ObserveError> {
    let map = ebpf.map_mut("COUNTS").ok_or_else(|| no_map("COUNTS"))?;
    PerCpuHashMap::try_from(map).map_err(map_error("COUNTS"))
}

fn scopes(ebpf: &mut Ebpf) -> Result<HashMap<&mut MapData, u64, Scope>, ObserveError> {
    hash(ebpf, "SCOPES")
}

fn queue(ebpf: &mut Ebpf) -> Result<Queue<&mut MapData, Slot>, ObserveError> {
    let map = ebpf.map_mut("FREE_SLOTS").ok_or_else(|| no_map("FREE_SLOTS"))?;
    Queue::try_from(map).map_err(map_error("FREE_SLOTS"))
}

fn no_map(name: &'static str) -> ObserveError {
    ObserveError::Map { name, source: aya::maps::MapError::KeyNotFound }
}

/// Names the map in its error.
pub fn map_error(name: &'static str) -> impl Fn(aya::maps::MapError) -> ObserveError {
    move |source| ObserveError::Map { name, source }
}
