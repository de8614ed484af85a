//! The end of a call: how the syscalls around capability checks ended, and which calls a filter
//! answered.
//!
//! seccomp runs before `sys_enter`, so a call that it answers has an exit without an entry. A thread
//! counts only after one of its entries or exits was seen, so that a call in flight when the program
//! is attached, or the first return of a new thread, is not taken for a denial. Where the answer is the thread's end,
//! the kernel has marked the thread.
//!
//! Where programs have twins, the first of two leaves word for the second, which then has nothing to do.

use aya_ebpf::{helpers::bpf_get_current_pid_tgid, programs::BtfTracePointContext};
use profiler_common::{
    evidence::{ARGUMENTS, CallKey, CheckKey, Denial, DenialKey, KILLED, PENDING_CHECKS, abi},
    scope::{Slot, loss, slot_of},
};

use crate::{
    attribution, calls, joined,
    kernel::{self, Address},
    maps::{
        CHECKS, DENIALS, INSIDE, INSIDE_OWNERS, INSIDE_PLACES, INSIDE_SHARED, PENDING,
        PENDING_ZERO, add, control, get_or_insert, lost,
    },
    scope,
};

/// Value of `INSIDE` for a thread that is in a call, in this generation of `Control::denials`.
const fn inside(generation: u32) -> u32 {
    generation << 2 | 1
}

/// Value of `INSIDE` for a thread that is in none.
const fn outside(generation: u32) -> u32 {
    generation << 2
}

/// The same, as long as the twin does not know it.
const fn left(generation: u32) -> u32 {
    generation << 2 | 2
}

/// Largest error number that a syscall returns.
const MAX_ERRNO: i64 = 4095;

/// The current thread entered a call.
#[inline(always)]
pub fn entered(generation: u32) {
    set(bpf_get_current_pid_tgid() as u32, inside(generation));
}

/// Notes the state of a thread. It is kept in its place, which is an array's and so costs little, or by its id, if another thread has
/// the place when it is noted first. That does not change as long as it lives.
#[inline(always)]
fn set(tid: u32, value: u32) {
    let Some(place) = place(tid) else { return };
    // SAFETY: the pointer is to a live map value; aligned words do not tear.
    if unsafe { place.read_volatile() } >> 32 == u64::from(tid) {
        // SAFETY: as above, and only this thread writes a place of its own.
        unsafe { place.write_volatile(word(tid, value)) };
    } else {
        set_elsewhere(u64::from(tid), u64::from(value));
    }
}

/// The same of a thread that has no place yet, or none of its own.
#[unsafe(export_name = "outcome_set_elsewhere")]
#[inline(never)]
extern "C" fn set_elsewhere(tid: u64, value: u64) -> u64 {
    const NOEXIST: u64 = 1;
    let (tid, value) = (tid as u32, value as u32);
    if let Some(state) = INSIDE_SHARED.get_ptr_mut(tid) {
        // SAFETY: the pointer is to a live map value; only this thread writes it.
        unsafe { state.write_volatile(value) };
        return 0;
    }
    // of several at once only one owns the place
    if INSIDE_OWNERS.insert(index(tid), tid, NOEXIST).is_ok() {
        if let Some(place) = place(tid) {
            // SAFETY: as in `set`.
            unsafe { place.write_volatile(word(tid, value)) };
        }
    } else if INSIDE_SHARED.insert(tid, value, 0).is_err() {
        lost(loss::THREADS);
    }
    0
}

/// What was noted of a thread.
#[inline(always)]
fn state(tid: u32) -> Option<u32> {
    // SAFETY: as in `set`.
    let word = unsafe { place(tid)?.read_volatile() };
    if word >> 32 == u64::from(tid) {
        return Some(word as u32);
    }
    // SAFETY: only this thread writes its entry.
    unsafe { INSIDE_SHARED.get(tid) }.copied()
}

/// Forgets a thread.
#[inline(always)]
fn forget(tid: u32) {
    let Some(place) = place(tid) else { return };
    // SAFETY: as in `set`. The place is empty before another thread can own it.
    unsafe {
        if place.read_volatile() >> 32 == u64::from(tid) {
            place.write_volatile(0);
            let _ = INSIDE_OWNERS.remove(index(tid));
        }
    }
    let _ = INSIDE_SHARED.remove(tid);
}

#[inline(always)]
fn place(tid: u32) -> Option<*mut u64> {
    INSIDE.get_ptr_mut(index(tid))
}

/// Which place is a thread's. Ids that follow each other, as those of one process, do not share a cache line.
#[inline(always)]
const fn index(tid: u32) -> u32 {
    const LINES: u32 = INSIDE_PLACES / 8;
    (tid & 7) * LINES + (tid >> 3) % LINES
}

#[inline(always)]
fn word(tid: u32, value: u32) -> u64 {
    u64::from(tid) << 32 | u64::from(value)
}

/// `sys_exit(struct pt_regs *, long ret)`.
#[inline(always)]
pub fn exit(ctx: &BtfTracePointContext, slot: Slot, is_twin: bool) {
    let ret: i64 = ctx.arg(1);
    let control = control();
    let tid = bpf_get_current_pid_tgid() as u32;
    if control.outcomes != 0 {
        settle(tid, control.outcomes, ret);
    }
    let generation = control.denials;
    if generation == 0 {
        return;
    }
    let state = state(tid);
    let is_left = state == Some(left(generation));
    let is_outside = state == Some(outside(generation));
    // the twin finds word of this exit, and the first one of an exit before, which the twin was left out of. Left out of that one while the
    // first is left out of this one, the twin takes the word for this one's, and a denial is missed
    if is_outside || is_left && !is_twin {
        answered(ctx.arg(0), slot, ret);
    }
    let new = if is_twin || control.twins == 0 { outside(generation) } else { left(generation) };
    if state != Some(new) {
        set(tid, new);
    }
}

/// The current task ends: its calls will not return.
pub fn exited() {
    if kernel::is_killed_by_seccomp(kernel::current())
        && let Some(slot) = scope::current()
    {
        // not `joined::phase`: the process may be no member any more, as its other threads may all have ended meanwhile
        denied(slot, joined::noted_phase(), KILLED);
    }
    // whether they are wanted now or were once
    let tid = bpf_get_current_pid_tgid() as u32;
    forget(tid);
    let _ = PENDING.remove(tid);
}

/// Notes a check whose syscall has not returned; true when the same check of the same call was noted
/// before.
#[inline(never)]
pub fn await_outcome(key: &CheckKey, generation: u32) -> bool {
    let tid = bpf_get_current_pid_tgid() as u32;
    if PENDING.get_ptr_mut(tid).is_none()
        && let Some(zero) = PENDING_ZERO.get(0)
        && PENDING.insert(tid, zero, 0).is_err()
    {
        lost(loss::THREADS);
        return false;
    }
    let Some(pending) = PENDING.get_ptr_mut(tid) else { return false };
    // SAFETY: the pointer is to a live map value that only this thread uses.
    let pending = unsafe { &mut *pending };
    if pending.generation != generation {
        pending.generation = generation;
        pending.len = 0;
    }
    let len = pending.len as usize;
    for i in 0..PENDING_CHECKS {
        if i == len {
            pending.keys[i] = *key;
            pending.len = len as u32 + 1;
            return false;
        }
        if is_same(&pending.keys[i], key) {
            return true;
        }
    }
    false
}

/// Whether two checks are of one kind. By words: a comparison of bytes is a loop.
#[inline(always)]
fn is_same(left: &CheckKey, right: &CheckKey) -> bool {
    const WORDS: usize = size_of::<CheckKey>() / size_of::<u64>();
    let word = |key: &CheckKey, i| {
        // SAFETY: a key is as many aligned words, none of them padding.
        unsafe { (&raw const *key).cast::<u64>().add(i).read() }
    };
    let mut differs = 0;
    for i in 0..WORDS {
        differs |= word(left, i) ^ word(right, i);
    }
    differs == 0
}

/// Credits the outcome to every check that waited for it.
#[inline(always)]
fn settle(tid: u32, generation: u32, ret: i64) {
    let Some(pending) = PENDING.get_ptr_mut(tid) else { return };
    // SAFETY: as in `await_outcome`.
    let pending = unsafe { &mut *pending };
    if pending.generation == generation {
        let len = pending.len as usize;
        for i in 0..PENDING_CHECKS {
            if i >= len {
                break;
            }
            if let Some(check) = CHECKS.get_ptr_mut(&pending.keys[i]) {
                // SAFETY: the pointer is to a live map value.
                unsafe {
                    let cell = if succeeded(ret) {
                        &raw mut (*check).succeeded
                    } else {
                        &raw mut (*check).failed
                    };
                    add(cell, 1);
                    add(&raw mut (*check).unsettled, u64::MAX); // one less
                }
            }
        }
    }
    pending.len = 0;
}

/// EINPROGRESS, EINTR and the restart codes are not the kernel's last word: what the call needed, it
/// got.
#[inline(always)]
fn succeeded(ret: i64) -> bool {
    !(-MAX_ERRNO..0).contains(&ret) || matches!(ret, -115 | -4) || is_restart(ret)
}

/// ERESTARTSYS and its like: a signal comes first, and the program never sees this.
#[inline(always)]
fn is_restart(ret: i64) -> bool {
    matches!(ret, -516..=-512)
}

/// A call returned that had not entered.
#[inline(always)]
fn answered(regs: Address, slot: Slot, ret: i64) {
    let task = kernel::current();
    let (abi, nr) = kernel::call_of(task, regs, kernel::number(regs));
    if has_executed(regs, abi, nr, ret) {
        return; // a thread that executed takes over the id of its leader, which never returned
    }
    if kernel::is_killed_by_seccomp(task) {
        return; // noted when it ends
    }
    if kernel::has_no_filter(task) {
        return; // both of two programs were left out of its entry
    }
    if is_restart(ret) {
        return; // a supervisor had not answered when a signal came: the call is made again
    }
    let errno = if (-MAX_ERRNO..0).contains(&ret) { -ret as i32 } else { 0 };
    denied(slot, joined::phase(slot), errno);
}

/// Whether what returns is a program that was just executed. On aarch64 it may be one of the other number space than its
/// execve was.
#[inline(always)]
fn has_executed(regs: Address, abi: u8, nr: u32, ret: i64) -> bool {
    let is_other = || {
        let other = if abi == abi::COMPAT { abi::NATIVE } else { abi::COMPAT };
        kernel::is_aarch64() && calls::is_exec(other, nr) && kernel::given_number(regs) as u32 != nr
    };
    ret == 0 && (calls::is_exec(abi, nr) || is_other())
}

/// Notes that a filter answered the current call.
#[inline(always)]
fn denied(slot: Slot, phase: u8, errno: i32) {
    refused(u64::from(slot), u64::from(phase), u64::from(errno as u32));
}

#[unsafe(export_name = "outcome_refused")]
#[inline(never)]
extern "C" fn refused(slot: u64, phase: u64, errno: u64) -> u64 {
    note(slot as Slot, phase as u8, errno as i32);
    0
}

#[inline(always)]
fn note(slot: Slot, phase: u8, errno: i32) {
    let regs = kernel::current_regs();
    let nr = if errno == KILLED { kernel::last_number(regs) } else { kernel::number(regs) };
    let (abi, nr) = kernel::call_of(kernel::current(), regs, nr);
    let call = CallKey { slot: slot_of(scope::evidence(slot)), nr, abi, phase, reserved: 0 };
    let key = DenialKey { call, errno };
    let new = Denial { count: 0, makers: 0, arguments: [0; ARGUMENTS] };
    let Some(denial) = get_or_insert(&DENIALS, &key, new, loss::DENIALS) else { return };
    // SAFETY: the pointer is to a live map value; of two first ones at the same time either may stay.
    unsafe {
        if (&raw const (*denial).count).read_volatile() == 0 {
            let arguments = (&raw mut (*denial).arguments).cast::<u64>();
            for i in 0..ARGUMENTS {
                arguments.add(i).write_volatile(kernel::argument(regs, abi, i));
            }
        }
        add(&raw mut (*denial).count, 1);
        attribution::see(&raw mut (*denial).makers, &key.call, key.about());
    }
}
