//! Which cgroups are in scope, and how new ones come into it.
//!
//! Three tables, so that no entry has two writers: `BUCKETS_CHOSEN` is user space's,
//! `BUCKETS_ADOPTED` the kernel side's, and `SCOPES` the truth that both refer to. A task outside
//! the scope costs one helper call and six loads.

use aya_ebpf::{helpers::bpf_probe_read_kernel_str_bytes, programs::BtfTracePointContext};
use aya_log_ebpf::debug;
use profiler_common::{
    evidence::phase,
    scope::{BUCKETS, CROWDED, NAME_LEN, PATH_LEN, Scope, Slot, Stamp, kind, loss, slot_kind},
};

use crate::{
    joined,
    kernel::{self, Address},
    maps::{
        BUCKETS_ADOPTED, BUCKETS_CHOSEN, EVIDENCE, FREE_SLOTS, PATH, SCOPES, SLOTS, WANTED,
        control, lost,
    },
    members,
};

/// Hex digits of a container id.
const CONTAINER_ID_LEN: usize = 64;

/// Where a target's evidence goes now: to the slot of the labels in force.
#[inline(always)]
pub fn evidence(target: Slot) -> Stamp {
    EVIDENCE.get(target).copied().unwrap_or(target)
}

/// The target that the current task's cgroup belongs to.
#[inline(always)]
pub fn current() -> Option<Slot> {
    of(kernel::current())
}

/// The target that the cgroup of the current task belongs to.
#[inline(always)]
pub fn of(task: Address) -> Option<Slot> {
    slot_of(kernel::current_cgroup_id(task))
}

/// The target that a cgroup belongs to.
#[inline(always)]
pub fn slot_of(cgroup_id: u64) -> Option<Slot> {
    let bucket = cgroup_id as u32 & (BUCKETS - 1);
    let word = *BUCKETS_CHOSEN.get(bucket)?;
    if word >> 32 == cgroup_id & 0xffff_ffff {
        return Some(word as u32 & 0xffff);
    }
    if word & CROWDED == 0 && *BUCKETS_ADOPTED.get(bucket)? == 0 {
        return None;
    }
    // SAFETY: an entry's slot is written before the entry is published, and never changes.
    unsafe { SCOPES.get(cgroup_id) }.map(|scope| scope.slot)
}

/// `cgroup_mkdir(struct cgroup *, const char *path)`: adopts children, wanted paths, what members make elsewhere and, on
/// demand, candidates.
pub fn created(ctx: &BtfTracePointContext) {
    let cgroup: Address = ctx.arg(0);
    let Some(id) = kernel::unified_cgroup_id(cgroup) else { return };
    let parent = kernel::cgroup_parent(cgroup).and_then(kernel::cgroup_id).and_then(owner);
    let mut scope = Scope { slot: 0, kind: kind::CHILD, name: [0; NAME_LEN] };
    if let Some(slot) = parent {
        scope.slot = slot;
        inner(slot);
    } else if let Some(slot) = wanted(ctx.arg(1)) {
        scope.slot = slot;
        scope.kind = kind::CANDIDATE;
    } else if let Some(slot) = maker() {
        scope.slot = slot;
        scope.kind = kind::MADE;
        inner(slot);
    } else {
        if control().adopt == 0 || !read_container_name(cgroup, &mut scope.name) {
            return;
        }
        let Ok(Some(slot)) = FREE_SLOTS.pop() else { return lost(loss::SCOPES) };
        scope.slot = slot;
        scope.kind = kind::CANDIDATE;
    }
    if SCOPES.insert(id, scope, 0).is_err() {
        return lost(loss::SCOPES);
    }
    if let Some(bucket) = BUCKETS_ADOPTED.get_ptr_mut(id as u32 & (BUCKETS - 1)) {
        // SAFETY: the pointer is to a live array element; only this program writes it, under cgroup_mutex.
        unsafe { bucket.write_volatile(1) };
    }
    debug!(ctx, "adopted cgroup {} into slot {}", id, scope.slot);
}

/// `cgroup_rmdir(struct cgroup *, const char *path)`: forgets children. A candidate stays until user
/// space has read its evidence, which is complete now.
pub fn removed(ctx: &BtfTracePointContext) {
    let Some(id) = kernel::unified_cgroup_id(ctx.arg(0)) else { return };
    let Some(scope) = SCOPES.get_ptr_mut(id) else { return };
    // SAFETY: `scope` points to a live map value; only this program writes it, under cgroup_mutex.
    unsafe {
        match (*scope).kind {
            kind::CHILD | kind::MADE => {
                let _ = SCOPES.remove(id);
            }
            kind::CANDIDATE => (*scope).kind = kind::ENDED,
            _ => {}
        }
    }
}

/// The target that everything in a cgroup belongs to, whoever makes it.
#[inline(always)]
fn owner(id: u64) -> Option<Slot> {
    // SAFETY: as in `slot_of`.
    unsafe { SCOPES.get(id) }.filter(|scope| scope.kind != kind::MADE).map(|scope| scope.slot)
}

/// The target whose workload the current task is: an engine in a container may make its cgroups anywhere. A container's runtime
/// does not count: some run in a candidate (conmon's) and make the container's cgroup from there.
#[inline(always)]
fn maker() -> Option<Slot> {
    let slot = current()?;
    let is_plain = SLOTS
        .get(slot)
        .is_some_and(|target| matches!(target.kind, slot_kind::CGROUP | slot_kind::RUNNING_CGROUP));
    (is_plain || joined::phase(slot) == phase::WORKLOAD).then_some(slot)
}

/// Counts a cgroup that a target has besides its own.
#[inline(always)]
fn inner(slot: Slot) {
    if let Some(target) = SLOTS.get_ptr_mut(slot) {
        // SAFETY: `target` points to a live map value; only this program writes the field, under cgroup_mutex.
        unsafe { (*target).inner_cgroups += 1 };
    }
}

/// The target of a cgroup that somebody else brings a process into who was not the target's. A cgroup that a member made outside of the
/// target's own is none of it any more: others use it, too.
pub fn joined_by_others(id: u64, slot: Slot) -> Option<Slot> {
    if owner(id).is_some() {
        return Some(slot);
    }
    let _ = SCOPES.remove(id); // the kernel may just have removed it
    members::left(slot);
    None
}

/// The slot that waits for a cgroup of this path.
#[inline(always)]
fn wanted(path: Address) -> Option<Slot> {
    let key = PATH.get_ptr_mut(0)?;
    // SAFETY: `key` points to a live map value that is used under cgroup_mutex only; the helper takes any
    // address and writes at most the buffer.
    unsafe {
        for word in 0..PATH_LEN / 8 {
            key.cast::<u64>().add(word).write_volatile(0);
        }
        bpf_probe_read_kernel_str_bytes(path as *const u8, &mut *key).ok()?;
        WANTED.get(&*key).copied()
    }
}

/// Copies the cgroup's name; true when it is long enough to contain a container id. User space
/// looks closer, and releases what is none.
#[inline(always)]
fn read_container_name(cgroup: Address, name: &mut [u8; NAME_LEN]) -> bool {
    let text = kernel::read::<Address>(cgroup, &kernel::CGROUP_KN)
        .and_then(|node| kernel::read::<Address>(node, &kernel::KERNFS_NODE_NAME));
    let Some(text) = text else { return false };
    // SAFETY: the helper takes any address and writes at most the buffer.
    let read = unsafe { bpf_probe_read_kernel_str_bytes(text as *const u8, name) };
    read.is_ok_and(|name| name.len() >= CONTAINER_ID_LEN)
}
