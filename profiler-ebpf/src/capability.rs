//! Capability checks, each with the kernel's callers, which tell a real check from a probe.

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_get_current_pid_tgid, generated::bpf_get_stack},
    programs::{BtfTracePointContext, FExitContext, ProbeContext, RetProbeContext},
};
use profiler_common::{
    evidence::{CALLERS, CheckKey, check},
    globals::opts,
    scope::{Slot, loss},
};

use crate::{
    attribution, joined,
    kernel::{self, Address},
    maps::{
        ASKED, CHECK_ZERO, CHECKED, CHECKED_PLACES, CHECKS, SLOTS, add, control, get_or_insert,
        lost,
    },
    moot, outcome, scope,
};

/// What the kernel asks, however it was seen.
struct Question {
    cred: Address,
    target: Address,
    capability: i32,
    /// The last argument of the function, which the tracepoint does not carry.
    opts: Option<u32>,
}

/// `cap_capable(const struct cred *, struct user_namespace *target, const struct user_namespace *, int cap, int ret)`
/// (<https://elixir.bootlin.com/linux/v6.15/source/include/trace/events/capability.h>).
#[inline(always)]
pub fn traced(ctx: &BtfTracePointContext, slot: Slot, is_twin: bool) {
    let question =
        Question { cred: ctx.arg(0), target: ctx.arg(1), capability: ctx.arg(3), opts: None };
    let verdict = ctx.arg(4);
    if is_twin && was_traced(ctx, question.capability, verdict) {
        return;
    }
    count(&mut key(ctx, slot, &question, 0), verdict);
    if !is_twin {
        note_traced(ctx, question.capability, verdict);
    }
}

/// Leaves word of a check for the twin.
#[inline(always)]
fn note_traced(ctx: &BtfTracePointContext, capability: i32, verdict: i32) {
    let tid = bpf_get_current_pid_tgid() as u32;
    if let Some(place) = CHECKED.get_ptr_mut(tid % CHECKED_PLACES) {
        // SAFETY: `place` points to a live map value. What two threads mix is no word of either.
        unsafe {
            (&raw mut (*place).what).write_volatile(traced_as(tid, capability, verdict));
            (&raw mut (*place).context).write_volatile(ctx.as_ptr() as u64);
        }
    }
}

/// Whether the current check was noted just now, which is told once. If another thread has written over it, it was not, and counts twice. If the
/// twin was left out of the one before, and the first of this one, it is told of that one; they are of one call, capability, verdict and depth.
#[inline(always)]
fn was_traced(ctx: &BtfTracePointContext, capability: i32, verdict: i32) -> bool {
    let tid = bpf_get_current_pid_tgid() as u32;
    let Some(place) = CHECKED.get_ptr_mut(tid % CHECKED_PLACES) else { return false };
    // SAFETY: as in `note_traced`. The verifier compares addresses only where they have become numbers.
    unsafe {
        (&raw mut (*place).twin).write_volatile(ctx.as_ptr() as u64);
        let is_here = (&raw const (*place).twin).read_volatile()
            == (&raw const (*place).context).read_volatile();
        let was = is_here
            && (&raw const (*place).what).read_volatile() == traced_as(tid, capability, verdict);
        if was {
            (&raw mut (*place).what).write_volatile(0);
        }
        was
    }
}

#[inline(always)]
fn traced_as(tid: u32, capability: i32, verdict: i32) -> u64 {
    const BITS: u64 = (1 << 23) - 1;
    let call = kernel::number(kernel::current_regs()) as u64 & BITS;
    let asked = u64::from(capability as u8) << 1 | u64::from(verdict != 0);
    u64::from(tid) << 32 | call << 9 | asked
}

/// The end of `cap_capable(const struct cred *, struct user_namespace *, int cap, unsigned int opts)`
/// (<https://elixir.bootlin.com/linux/v6.12/source/security/commoncap.c#L67>).
pub fn returned(ctx: &FExitContext, slot: Slot) {
    let question = Question {
        cred: ctx.arg(0),
        target: ctx.arg(1),
        capability: ctx.arg(2),
        opts: Some(ctx.arg(3)),
    };
    count(&mut key(ctx, slot, &question, 0), ctx.arg(4));
}

/// The beginning of the same function.
pub fn asked(ctx: &ProbeContext, slot: Slot) {
    let argument = |index| kernel::parameter(ctx, index);
    let (Some(cred), Some(target), Some(capability)) = (argument(0), argument(1), argument(2))
    else {
        return;
    };
    let capability = capability as i32;
    let question = Question { cred, target, capability, opts: argument(3).map(|opts| opts as u32) };
    // the innermost frame is the function itself, at its first byte, and so has no caller's address
    let key = key(ctx, slot, &question, 1);
    let tid = bpf_get_current_pid_tgid() as u32;
    if ASKED.get_ptr(tid).is_some() {
        lost(loss::CAPABILITIES); // the kernel was out of return probes
    }
    if ASKED.insert(tid, key, 0).is_err() {
        lost(loss::CAPABILITIES);
    }
}

/// Its end. Whether the task is in scope was decided at the beginning.
pub fn answered(ctx: &RetProbeContext) {
    let tid = bpf_get_current_pid_tgid() as u32;
    let Some(key) = ASKED.get_ptr(tid) else { return };
    // SAFETY: the pointer is to a live map value, and only this thread writes it.
    let mut key = unsafe { *key };
    let _ = ASKED.remove(tid);
    if let Some(verdict) = kernel::result(ctx) {
        count(&mut key, verdict as i32);
    }
}

/// The kind of check that a question is, as if it was granted. `inner` frames are left out of the stack.
#[inline(always)]
fn key(ctx: &impl EbpfContext, slot: Slot, question: &Question, inner: u64) -> CheckKey {
    let regs = kernel::current_regs();
    let (abi, nr) = kernel::call_of(kernel::current(), regs, kernel::number(regs));
    let mut flags = flags(slot, question);
    if moot::is(question.capability, question.cred, question.target, abi, nr) {
        flags |= check::MOOT;
    }
    CheckKey {
        slot: scope::evidence(slot),
        nr,
        abi,
        phase: joined::phase(slot),
        capability: question.capability as u8,
        flags,
        reserved: 0,
        callers: callers(ctx, inner),
    }
}

/// Counts a check, now that the kernel has answered.
#[inline(always)]
fn count(key: &mut CheckKey, verdict: i32) {
    if verdict != 0 {
        key.flags |= check::DENIED;
    }
    let Some(none) = CHECK_ZERO.get(0) else { return };
    let Some(check) = get_or_insert(&CHECKS, key, none, loss::CAPABILITIES) else { return };
    let generation = control().outcomes;
    let is_awaited_already = generation != 0 && outcome::await_outcome(key, generation);
    // SAFETY: `check` points to a live map value.
    unsafe {
        add(&raw mut (*check).count, 1);
        if !is_awaited_already {
            add(&raw mut (*check).unsettled, 1);
        }
        attribution::see(&raw mut (*check).makers, &key.call(), key.about());
    }
}

/// What a key says but for the verdict.
#[inline(always)]
fn flags(slot: Slot, question: &Question) -> u8 {
    let &Question { cred, target, opts, .. } = question;
    opts.map_or(0, audit) | whose(slot, cred, target)
}

/// What a key says of namespace and credentials.
#[inline(always)]
pub fn whose(slot: Slot, cred: Address, target: Address) -> u8 {
    let mut flags = 0;
    if kernel::read::<i32>(target, &kernel::USER_NS_LEVEL) == Some(0) {
        flags |= check::HOST_NS;
    }
    // a late start did not see the entry point: then the thread's namespace stands for the target's
    let own = match SLOTS.get(slot) {
        Some(known) if known.user_ns != 0 => Some(known.user_ns),
        _ => kernel::read(cred, &kernel::CRED_USER_NS),
    };
    if own == Some(target) {
        flags |= check::OWN_NS;
    }
    if kernel::read(kernel::current(), &kernel::TASK_REAL_CRED) != Some(cred) {
        flags |= check::OVERRIDDEN;
    }
    flags
}

/// What the function's last argument says of auditing.
#[inline(always)]
fn audit(opts: u32) -> u8 {
    /// `CAP_OPT_NOAUDIT`.
    const NOAUDIT: u32 = 1 << 1;
    let is_silent = match kernel::CAPABLE_OPTS.load() {
        opts::BITS => opts & NOAUDIT != 0,
        opts::AUDIT => opts == 0,
        _ => return 0,
    };
    if is_silent { check::NOAUDIT } else { check::AUDITED }
}

/// Return addresses, innermost first, without the first `inner`.
#[inline(always)]
fn callers(ctx: &impl EbpfContext, inner: u64) -> [u64; CALLERS] {
    let mut callers = [0; CALLERS];
    // SAFETY: the buffer is as long as is said.
    unsafe {
        let size = size_of_val(&callers) as u32;
        bpf_get_stack(ctx.as_ptr(), callers.as_mut_ptr().cast(), size, inner);
    }
    callers
}
