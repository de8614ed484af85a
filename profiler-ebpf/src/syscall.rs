//! Calls that entered the kernel: a set per slot, phase and number space.

use aya_ebpf::{maps::HashMap, programs::BtfTracePointContext};
use profiler_common::{
    evidence::{CallKey, DENSE_SYSCALLS, FIRST_MARK, Makers, Seen, abi, phase},
    scope::{Slot, Stamp, loss, slot_of},
};

use crate::{
    apart, arguments,
    attribution::{self, Maker},
    calls, implied, joined,
    kernel::{self, Address},
    maps::{self, BESIDE, COUNTS, LOSSES, SEEN, SPARSE, add, control, lost},
    outcome, scope, stack,
};

/// `sys_enter(struct pt_regs *, long id)`.
#[inline(always)]
pub fn enter(ctx: &BtfTracePointContext, task: Address, slot: Slot, is_twin: bool) {
    let regs: Address = ctx.arg(0);
    let (abi, nr) = kernel::call_of(task, regs, ctx.arg(1));
    let denials = control().denials;
    if denials != 0 {
        outcome::entered(denials);
    }
    if calls::may_need_capabilities(abi, nr) {
        implied::called(slot, abi, nr, is_twin);
    }
    let stamp = scope::evidence(slot);
    let mut key =
        CallKey { slot: slot_of(stamp), nr, abi, phase: joined::noted_phase(), reserved: 0 };
    let maker = attribution::maker(task);
    if is_seen(&key, stamp, &maker) {
        return count(&key, is_twin);
    }
    // what is new is looked at more closely
    let is_new = note(slot, &mut key, &maker, is_twin);
    count(&key, is_twin);
    if is_new {
        stack::note(ctx, &key);
    }
}

/// Notes a call that was not seen of this maker, in the phase that it belongs to. Whether that is new.
#[inline(always)]
fn note(target: Slot, key: &mut CallKey, maker: &Maker, is_twin: bool) -> bool {
    let (place, how) = apart::packed(key);
    let how = apart::by_twin(how, is_twin);
    let noted = noted(place, how | u64::from(target) << 32, maker.packed());
    key.phase = (noted >> 1) as u8;
    noted & 1 != 0
}

#[unsafe(export_name = "syscall_noted")]
#[inline(never)]
extern "C" fn noted(place: u64, how: u64, thread: u64) -> u64 {
    let target = (how >> 32) as Slot;
    let mut key = apart::call(place, how);
    key.phase = joined::phase(target);
    joined::called(target, &key);
    let makers = if has_cell(&key) {
        SEEN.get_ptr_mut(key.slot).and_then(|seen| cell(seen, &key))
    } else {
        entry(&key, apart::is_by_twin(how))
    };
    let maker = attribution::thread(thread);
    let is_new = makers.is_some_and(|makers| arguments::note(makers, &key, &maker));
    u64::from(is_new) | u64::from(key.phase) << 1
}

/// The entry of a call without a cell. The twin counts a loss only if it is the first: the other program may not have been run.
#[inline(always)]
fn entry(key: &CallKey, is_twin: bool) -> Option<*mut Makers> {
    let entry = maps::entry(table(key), key, 0);
    let is_told = is_twin && LOSSES.get(loss::SYSCALLS).is_some_and(|lost| *lost != 0);
    if entry.is_none() && !is_told {
        lost(loss::SYSCALLS);
    }
    entry
}

/// Counts a call, once. Not wanted, it is no code: the verifier drops the branch.
#[inline(always)]
fn count(key: &CallKey, is_twin: bool) {
    if !is_twin && kernel::COUNTS_WANTED.load() == 1 {
        count_one(key);
    }
}

#[inline(never)]
fn count_one(key: &CallKey) {
    const NOEXIST: u64 = 1;
    if COUNTS.get_ptr_mut(key).is_none() {
        // of two CPUs at once, one inserts for both
        let _ = COUNTS.insert(key, 0, NOEXIST);
    }
    match COUNTS.get_ptr_mut(key) {
        // this CPU's own; atomic, as the program may be preempted by another that counts
        Some(cell) => add(cell, 1),
        None => lost(loss::COUNTS),
    }
}

#[inline(always)]
fn is_any(makers: Makers) -> bool {
    makers >= FIRST_MARK
}

/// Whether this maker was seen making a call, with these arguments if they are watched.
#[inline(always)]
fn is_seen(key: &CallKey, stamp: Stamp, maker: &Maker) -> bool {
    let Some(seen) = SEEN.get_ptr_mut(key.slot) else { return true };
    let makers = makers(seen, key);
    maker.is_among(makers)
        || makers != 0 && !is_any(makers) && arguments::are_known(key, stamp, maker)
}

/// The word of a call, 0 when there is none.
#[inline(always)]
fn makers(seen: *mut Seen, key: &CallKey) -> Makers {
    let word = if has_cell(key) {
        cell(seen, key).map(<*mut Makers>::cast_const)
    } else {
        table(key).get_ptr(key)
    };
    // SAFETY: the pointer is to a live map value, see `cell`.
    word.map_or(0, |word| unsafe { word.read_volatile() })
}

/// Whether a call has a cell.
#[inline(always)]
fn has_cell(key: &CallKey) -> bool {
    key.phase == phase::WORKLOAD && key.abi == abi::NATIVE && (key.nr as usize) < DENSE_SYSCALLS
}

/// Where a call without a cell is.
#[inline(always)]
fn table(key: &CallKey) -> &'static HashMap<CallKey, Makers> {
    // numbers that no kernel has are as many as a workload likes: they take no room of others
    let is_known = (key.nr as usize) < DENSE_SYSCALLS && key.abi != abi::X32;
    if is_known { &BESIDE } else { &SPARSE }
}

/// The cell of a call that has one.
#[inline(always)]
fn cell(seen: *mut Seen, key: &CallKey) -> Option<*mut Makers> {
    let nr = key.nr as usize;
    // SAFETY: `seen` points to a live map value, and the index is within it.
    (nr < DENSE_SYSCALLS).then(|| unsafe { seen.cast::<Makers>().add(nr) })
}
