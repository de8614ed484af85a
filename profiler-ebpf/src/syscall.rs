//! Calls that entered the kernel: a set per slot, phase and number space.

use aya_ebpf::programs::BtfTracePointContext;
use profiler_common::{
    evidence::{CallKey, DENSE_SYSCALLS, abi, phase},
    scope::{Slot, loss},
};

use crate::{
    attribution, joined, kernel,
    maps::{SEEN, SPARSE, control, lost},
    outcome,
};

/// `sys_enter(struct pt_regs *, long id)`.
#[inline(always)]
pub fn enter(ctx: &BtfTracePointContext, slot: Slot) {
    let (abi, nr) = kernel::call_of(ctx.arg(1));
    let phase = joined::phase();
    let denials = control().denials;
    if denials != 0 {
        outcome::entered(denials);
    }
    let key = CallKey { slot, nr, abi, phase, reserved: 0 };
    if nr as usize >= DENSE_SYSCALLS || abi as usize >= abi::DENSE {
        return sparse(&key);
    }
    let Some(seen) = SEEN.get_ptr_mut(slot) else { return };
    // SAFETY: `seen` points to a live map value; the bounds of all three indexes are checked here.
    let cell = unsafe {
        let calls = &raw mut (*seen).calls;
        if phase as usize >= phase::COUNT {
            return;
        }
        calls
            .cast::<u8>()
            .add((phase as usize * abi::DENSE + abi as usize) * DENSE_SYSCALLS + nr as usize)
    };
    // SAFETY: in bounds, see above; a byte's store cannot tear.
    if unsafe { cell.read_volatile() } == 0 {
        attribution::first(&key);
        // SAFETY: as above.
        unsafe { cell.write_volatile(1) };
    }
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
