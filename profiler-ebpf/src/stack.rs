//! Where in the program a call was made first: the user stack, when user space wants it. A side channel, as attribution.

use aya_ebpf::{
    EbpfContext as _,
    helpers::{bpf_get_current_pid_tgid, generated::bpf_get_stack},
    programs::BtfTracePointContext,
};
use profiler_common::{
    evidence::{CallKey, FRAMES, abi},
    scope::loss,
};

use crate::{
    kernel,
    maps::{STACK_ZERO, STACKS, get_or_insert},
};

/// Keeps the stack of a call that is new, unless one is kept. Not wanted, it is no code: the verifier drops the branch.
#[inline(always)]
pub fn note(ctx: &BtfTracePointContext, key: &CallKey) {
    if kernel::STACKS_WANTED.load() == 1 && STACKS.get_ptr(key).is_none() {
        keep(ctx, key);
    }
}

#[inline(never)]
fn keep(ctx: &BtfTracePointContext, key: &CallKey) {
    const SIZE: usize = FRAMES * size_of::<u64>();
    /// `BPF_F_USER_STACK` of the kernel's `linux/bpf.h`.
    const USER: u64 = 1 << 8;
    let Some(zero) = STACK_ZERO.get(0) else { return };
    let Some(stack) = get_or_insert(&STACKS, key, zero, loss::STACKS) else { return };
    // SAFETY: `stack` points to a live map value with room for `SIZE` bytes. Two threads that find no stack at once
    // both write theirs.
    unsafe {
        let addresses = (&raw mut (*stack).addresses).cast();
        let size = bpf_get_stack(ctx.as_ptr(), addresses, SIZE as u32, USER);
        if size <= 0 {
            return;
        }
        (*stack).program = kernel::program();
        if key.abi != abi::COMPAT {
            (*stack).top = kernel::caller(kernel::current_regs());
        }
        (*stack).tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
        // last: user space waits for it
        (&raw mut (*stack).len).write_volatile((size as usize / size_of::<u64>()) as u32);
    }
}
