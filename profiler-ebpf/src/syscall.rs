//! Calls that entered the kernel: a set per slot, phase and number space.

use aya_ebpf::programs::BtfTracePointContext;
use profiler_common::{
    evidence::{CallKey, DENSE_SYSCALLS, FIRST_MARK, Makers, Seen, abi, phase},
    scope::{Slot, loss, slot_of},
};

use crate::{
    arguments,
    attribution::{self, Maker},
    calls, implied, joined,
    kernel::{self, Address},
    maps::{COUNTS, SEEN, SPARSE, add, control, get_or_insert, lost},
    outcome, scope, stack,
};

/// `sys_enter(struct pt_regs *, long id)`.
#[inline(always)]
pub fn enter(ctx: &BtfTracePointContext, task: Address, slot: Slot) {
    let regs: Address = ctx.arg(0);
    let (abi, nr) = kernel::call_of(task, regs, ctx.arg(1));
    let denials = control().denials;
    if denials != 0 {
        outcome::entered(denials);
    }
    if calls::may_need_capabilities(abi, nr) {
        implied::called(slot, abi, nr);
    }
    let mut key = CallKey {
        slot: slot_of(scope::evidence(slot)),
        nr,
        abi,
        phase: joined::noted_phase(),
        reserved: 0,
    };
    let maker = attribution::maker(task);
    if nr as usize >= DENSE_SYSCALLS || abi as usize >= abi::DENSE {
        key.phase = joined::phase(slot);
        joined::called(slot, &key);
        if sparse(&key, &maker, regs) {
            stack::note(ctx, &key);
        }
        return count(&key);
    }
    let Some(seen) = SEEN.get_ptr_mut(key.slot) else { return };
    if is_seen(seen, &key, &maker, regs) {
        return count(&key);
    }
    // what is new is looked at more closely
    key.phase = joined::phase(slot);
    joined::called(slot, &key);
    count(&key);
    if let Some(makers) = cell(seen, &key)
        && arguments::note(makers, &key, &maker, regs)
    {
        stack::note(ctx, &key);
    }
}

/// Counts a call. Not wanted, it is no code: the verifier drops the branch.
#[inline(always)]
fn count(key: &CallKey) {
    if kernel::COUNTS_WANTED.load() == 1 {
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

/// A call that no entry was seen of, and that no filter answered, returns.
#[inline(never)]
pub fn returned(regs: Address, slot: Slot, abi: u8, nr: u32) {
    let mut key = CallKey {
        slot: slot_of(scope::evidence(slot)),
        nr,
        abi,
        phase: joined::noted_phase(),
        reserved: 0,
    };
    if key.phase == phase::HANDOVER && calls::may_load_filter(abi, nr) {
        return; // it was made in set-up
    }
    let maker = attribution::maker(kernel::current());
    if nr as usize >= DENSE_SYSCALLS || abi as usize >= abi::DENSE {
        key.phase = joined::phase(slot);
        sparse(&key, &maker, regs);
        return;
    }
    let Some(seen) = SEEN.get_ptr_mut(key.slot) else { return };
    key.phase = joined::phase(slot);
    joined::called(slot, &key);
    if let Some(makers) = cell(seen, &key) {
        arguments::note(makers, &key, &maker, regs);
        // the verifier of Linux 7.3 takes both for unused while functions that are called with them read them, unless they
        // are read after these, too
        // SAFETY: both are there, and whole.
        unsafe {
            (
                (&raw const key).read_volatile(),
                (&raw const maker).cast::<[u64; 2]>().read_volatile(),
            )
        };
    }
}

/// Whether anybody was seen making a call, whatever its arguments.
#[inline(always)]
pub fn is_known(slot: Slot, abi: u8, nr: u32) -> bool {
    let phase = joined::noted_phase();
    let key = CallKey { slot: slot_of(scope::evidence(slot)), nr, abi, phase, reserved: 0 };
    if nr as usize >= DENSE_SYSCALLS || abi as usize >= abi::DENSE {
        // SAFETY: the pointer is to a live map value.
        return SPARSE
            .get_ptr(&key)
            .is_some_and(|makers| is_any(unsafe { makers.read_volatile() }));
    }
    let Some(seen) = SEEN.get_ptr_mut(key.slot) else { return true };
    // SAFETY: in bounds, see `cell`.
    cell(seen, &key).is_some_and(|makers| is_any(unsafe { makers.read_volatile() }))
}

#[inline(always)]
fn is_any(makers: Makers) -> bool {
    makers >= FIRST_MARK
}

/// Whether this maker was seen making a call, with these arguments if they are watched.
#[inline(always)]
fn is_seen(seen: *mut Seen, key: &CallKey, maker: &Maker, regs: Address) -> bool {
    let Some(makers) = cell(seen, key) else { return false };
    // SAFETY: in bounds, see `cell`.
    let makers = unsafe { makers.read_volatile() };
    maker.is_among(makers)
        || makers != 0 && !is_any(makers) && arguments::are_known(key, maker, regs)
}

/// The cell of a call with a dense number.
#[inline(always)]
fn cell(seen: *mut Seen, key: &CallKey) -> Option<*mut Makers> {
    let (phase, abi, nr) = (key.phase as usize, key.abi as usize, key.nr as usize);
    if phase >= phase::COUNT || abi >= abi::DENSE || nr >= DENSE_SYSCALLS {
        return None;
    }
    // SAFETY: `seen` points to a live map value, and all three indexes are within it. They are added one by one: the
    // verifier does not see the bound of a sum that the compiler made a bitwise or.
    Some(unsafe {
        let abis = seen.cast::<[[Makers; DENSE_SYSCALLS]; abi::DENSE]>().add(phase);
        abis.cast::<[Makers; DENSE_SYSCALLS]>().add(abi).cast::<Makers>().add(nr)
    })
}

/// A number without a cell of its own. Whether it was new, as for [`arguments::note`].
#[inline(never)]
fn sparse(key: &CallKey, maker: &Maker, regs: Address) -> bool {
    get_or_insert(&SPARSE, key, 0, loss::SYSCALLS)
        .is_some_and(|makers| arguments::note(makers, key, maker, regs))
}
