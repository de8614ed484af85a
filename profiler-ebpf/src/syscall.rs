//! Calls that entered the kernel: a set per slot, phase and number space.

use aya_ebpf::programs::BtfTracePointContext;
use profiler_common::{
    evidence::{CallKey, DENSE_SYSCALLS, Seen, abi, phase},
    scope::{Slot, loss},
};

use crate::{
    attribution, implied, joined, kernel,
    maps::{SEEN, SPARSE, control, lost},
    outcome,
};

/// `sys_enter(struct pt_regs *, long id)`.
#[inline(always)]
pub fn enter(ctx: &BtfTracePointContext, slot: Slot) {
    let (abi, nr) = kernel::call_of(ctx.arg(1));
    let denials = control().denials;
    if denials != 0 {
        outcome::entered(denials);
    }
    if implied::is_wanted(abi, nr) {
        implied::called(slot, abi, nr);
    }
    let mut key = CallKey { slot, nr, abi, phase: joined::noted_phase(), reserved: 0 };
    if nr as usize >= DENSE_SYSCALLS || abi as usize >= abi::DENSE {
        key.phase = joined::phase(slot);
        return sparse(&key);
    }
    let Some(seen) = SEEN.get_ptr_mut(slot) else { return };
    if is_seen(seen, &key) {
        return;
    }
    // what is new is looked at more closely
    key.phase = joined::phase(slot);
    if !is_seen(seen, &key) {
        attribution::first(&key);
        if let Some(cell) = cell(seen, &key) {
            // SAFETY: in bounds, see `cell`; a byte's store cannot tear.
            unsafe { cell.write_volatile(1) };
        }
    }
}

#[inline(always)]
fn is_seen(seen: *mut Seen, key: &CallKey) -> bool {
    // SAFETY: in bounds, see `cell`.
    cell(seen, key).is_some_and(|cell| unsafe { cell.read_volatile() } != 0)
}

/// The cell of a call with a dense number.
#[inline(always)]
fn cell(seen: *mut Seen, key: &CallKey) -> Option<*mut u8> {
    let (phase, abi, nr) = (key.phase as usize, key.abi as usize, key.nr as usize);
    if phase >= phase::COUNT || abi >= abi::DENSE || nr >= DENSE_SYSCALLS {
        return None;
    }
    // SAFETY: `seen` points to a live map value, and all three indexes are within it.
    Some(unsafe { seen.cast::<u8>().add((phase * abi::DENSE + abi) * DENSE_SYSCALLS + nr) })
}

/// A number without a cell of its own.
#[inline(never)]
fn sparse(key: &CallKey) {
    // SAFETY: only presence is asked.
    if unsafe { SPARSE.get(key) }.is_some() {
        return;
    }
    match SPARSE.insert(key, 1, 0) {
        Ok(()) => attribution::first(key),
        Err(_) => lost(loss::SYSCALLS),
    }
}
