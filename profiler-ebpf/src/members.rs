//! Which processes are in scope, so that one that leaves is noticed: the kernel tells where a process
//! was moved to, not where from. Only counts; what a process does elsewhere is not recorded.

use profiler_common::scope::{Slot, loss};

use crate::{
    maps::{LOSSES, MEMBERS, SLOTS, add, lost},
    scope,
};

/// A process is in the cgroup of a slot.
pub fn entered(tgid: u32, slot: Slot) {
    if MEMBERS.insert(tgid, slot, 0).is_err() {
        lost(loss::THREADS);
    }
}

/// Whether a process was seen to be created in, or moved to, a cgroup in scope; or could have been, the table being full.
pub fn may_be(tgid: u32) -> bool {
    MEMBERS.get_ptr(tgid).is_some() || LOSSES.get(loss::THREADS).is_none_or(|lost| *lost != 0)
}

/// Whether a process is known to be in the cgroup of a slot.
pub fn is_of(tgid: u32, slot: Slot) -> bool {
    // SAFETY: an aligned word does not tear.
    let known = unsafe { MEMBERS.get(tgid) };
    known == Some(&slot)
}

/// A process was moved; `to` is the slot of its new cgroup. `counts` says whether it is one of the target's.
pub fn moved(tgid: u32, to: Option<Slot>, counts: bool) {
    let from = MEMBERS.get_ptr(tgid);
    if let Some(from) = from {
        // SAFETY: `from` points to a live map value; aligned words do not tear.
        let from = unsafe { *from };
        if to == Some(from) {
            return;
        }
        if counts {
            left(from);
        }
    }
    match to {
        Some(slot) => entered(tgid, slot),
        None if from.is_some() => forget(tgid),
        None => {}
    }
}

/// A process of the slot's target is now outside of its cgroup.
pub fn left(slot: Slot) {
    if let Some(target) = SLOTS.get_ptr_mut(slot) {
        // SAFETY: `target` points to a live map value.
        add(unsafe { &raw mut (*target).left }, 1);
    }
}

/// The current process ends. One that is outside of every scope is no member.
pub fn exited(tgid: u32) {
    if scope::current().is_some() {
        forget(tgid);
    }
}

fn forget(tgid: u32) {
    let _ = MEMBERS.remove(tgid); // it may never have been one
}
