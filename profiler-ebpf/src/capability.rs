//! Capability checks, each with the kernel's callers, which tell a real check from a probe.

use aya_ebpf::{EbpfContext, helpers::generated::bpf_get_stack, programs::BtfTracePointContext};
use profiler_common::{
    evidence::{CALLERS, Check, CheckKey, check},
    scope::{Slot, loss},
};

use crate::{
    attribution, joined,
    kernel::{self, Address},
    maps::{CHECKS, SLOTS, add, control, get_or_insert},
    outcome, scope,
};

/// Asked for by every chmod of a file whose group is not the caller's
/// (<https://elixir.bootlin.com/linux/v6.12/source/fs/attr.c#L196>).
const CAP_FSETID: i32 = 4;

/// `cap_capable(const struct cred *, struct user_namespace *target, const struct user_namespace *, int cap, int ret)`
/// (<https://elixir.bootlin.com/linux/v6.15/source/include/trace/events/capability.h>).
pub fn check(ctx: &BtfTracePointContext, slot: Slot) {
    let cred: Address = ctx.arg(0);
    let target: Address = ctx.arg(1);
    let capability: i32 = ctx.arg(3);
    let verdict: i32 = ctx.arg(4);
    let regs = kernel::current_regs();
    let (abi, nr) = kernel::call_of(kernel::orig_ax(regs));
    let mut flags = flags(slot, cred, target, verdict);
    if capability == CAP_FSETID && kernel::is_chmod_without_setgid(regs, abi, nr) {
        flags |= check::MOOT;
    }
    let key = CheckKey {
        slot: scope::evidence(slot),
        nr,
        abi,
        phase: joined::phase(slot),
        capability: capability as u8,
        flags,
        reserved: 0,
        callers: callers(ctx),
    };
    let none = Check { count: 0, succeeded: 0, failed: 0, unsettled: 0, makers: 0 };
    let Some(check) = get_or_insert(&CHECKS, &key, none, loss::CAPABILITIES) else { return };
    let generation = control().outcomes;
    let is_awaited_already = generation != 0 && outcome::await_outcome(&key, generation);
    // SAFETY: `check` points to a live map value.
    unsafe {
        add(&raw mut (*check).count, 1);
        if !is_awaited_already {
            add(&raw mut (*check).unsettled, 1);
        }
        let maker = attribution::maker();
        if !maker.is_among((*check).makers) {
            attribution::note(&raw mut (*check).makers, &key.call(), key.about(), &maker);
        }
    }
}

#[inline(always)]
fn flags(slot: Slot, cred: Address, target: Address, verdict: i32) -> u8 {
    let mut flags = 0;
    if verdict != 0 {
        flags |= check::DENIED;
    }
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

/// Return addresses, innermost first.
#[inline(always)]
fn callers(ctx: &BtfTracePointContext) -> [u64; CALLERS] {
    let mut callers = [0; CALLERS];
    // SAFETY: the buffer is as long as is said.
    unsafe {
        bpf_get_stack(ctx.as_ptr(), callers.as_mut_ptr().cast(), size_of_val(&callers) as u32, 0);
    }
    callers
}
