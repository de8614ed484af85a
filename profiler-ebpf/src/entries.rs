//! Who comes into a target from outside, and under which seccomp filter.
//!
//! A filter cannot be taken off and is inherited, so what is under it when it enters stays so, with all its descendants. What
//! enters is the entry point and what joins later: noted by `joined`, until it executes a program as the target's. The runtime's
//! own processes have no filter yet; they have executed nothing since they were forked, or are in the runtime's mount
//! namespace. Any other process without a filter is noted when it executes, is moved in, or ends. Decides nothing.

use aya_ebpf::{
    helpers::{
        bpf_get_current_pid_tgid,
        generated::{bpf_ktime_get_ns, bpf_probe_read_kernel},
    },
    programs::BtfTracePointContext,
};
use profiler_common::{
    entries::{CODE_LEN, Entries, FilterKey},
    scope::{Slot, slot_kind},
};

use crate::{
    kernel::{self, Address},
    maps::{ENTRIES, FILTER_ZERO, FILTERS, SLOTS, add},
    members, scope,
};

/// A successful execve of the current task. `enters` says that its process came from outside, and is the target's from now on.
pub fn executed(slot: Slot, enters: bool, is_joined: bool) {
    let task = kernel::current();
    let Some(entries) = ENTRIES.get_ptr_mut(slot) else { return };
    if enters {
        // SAFETY: `entries` points to a live map value.
        add(unsafe { &raw mut (*entries).entered }, 1);
        if kernel::FILTERS_WANTED.load() == 1 {
            keep(slot, task);
        }
    }
    // one that moved itself is no member for a moment, as is one that the runtime has just moved
    let came_by_itself = !is_joined && members::is_of(current_tgid(), slot);
    if kernel::has_no_filter(task) && (enters || came_by_itself && is_inside(slot, task)) {
        unfiltered(entries);
    }
}

/// A process was moved: it may be in the container's mount namespace already, and need to execute nothing.
pub fn attached(ctx: &BtfTracePointContext) {
    let Some(slot) = kernel::unified_cgroup_id(ctx.arg(0)).and_then(scope::slot_of) else { return };
    let task: Address = ctx.arg(2);
    if is_stranger(slot, task)
        && let Some(entries) = ENTRIES.get_ptr_mut(slot)
    {
        unfiltered_task(entries, task);
    }
}

/// The current task ends.
pub fn exited(slot: Slot) {
    if kernel::is_last_thread()
        && is_stranger(slot, kernel::current())
        && let Some(entries) = ENTRIES.get_ptr_mut(slot)
    {
        unfiltered(entries);
    }
}

/// Whether a task without a filter is not one of the runtime's. A command has no other mount namespace to tell by.
fn is_stranger(slot: Slot, task: Address) -> bool {
    kernel::has_no_filter(task)
        && !kernel::executed_nothing(task)
        && SLOTS.get(slot).is_some_and(|target| {
            let namespace = kernel::mount_namespace(task);
            target.kind != slot_kind::COMMAND
                && target.mnt_ns != 0
                && namespace != 0
                && namespace != target.mnt_ns
        })
}

/// Whether a task is where the target's programs are executed.
fn is_inside(slot: Slot, task: Address) -> bool {
    SLOTS.get(slot).is_some_and(|target| {
        target.kind == slot_kind::COMMAND || kernel::mount_namespace(task) != target.mnt_ns
    })
}

fn unfiltered(entries: *mut Entries) {
    note(entries, kernel::name());
}

fn unfiltered_task(entries: *mut Entries, task: Address) {
    note(entries, kernel::read(task, &kernel::TASK_COMM).unwrap_or_default());
}

/// Keeps the name of a first one.
#[inline(always)]
fn note(entries: *mut Entries, comm: [u64; 2]) {
    // SAFETY: `entries` points to a live map value. Two at once may mix their names.
    unsafe {
        if (*entries).unfiltered == 0 {
            (&raw mut (*entries).comm).cast::<[u64; 2]>().write(comm);
        }
        add(&raw mut (*entries).unfiltered, 1);
    }
}

/// Keeps the newest filter of a task, as its loader wrote it. No room is no loss: who entered is counted.
#[inline(never)]
fn keep(slot: Slot, task: Address) {
    let program = kernel::read::<Address>(kernel::seccomp_filter(task), &kernel::FILTER_PROG)
        .and_then(|program| kernel::read::<Address>(program, &kernel::PROG_ORIG));
    let Some(program) = program else { return };
    let Some(len) = kernel::read::<u16>(program, &kernel::FPROG_LEN) else { return };
    let Some(code) = kernel::read::<Address>(program, &kernel::FPROG_FILTER) else { return };
    let Some(zero) = FILTER_ZERO.get(0) else { return };
    // SAFETY: the helper has no preconditions.
    let key = FilterKey { ns: unsafe { bpf_ktime_get_ns() }, tgid: current_tgid(), slot };
    if code == 0 || FILTERS.insert(key, zero, 0).is_err() {
        return;
    }
    let Some(filter) = FILTERS.get_ptr_mut(key) else { return };
    // the mask is for the verifier: one instruction less than the kernel takes
    let bytes = (u32::from(len) * 8) & (CODE_LEN as u32 - 1);
    // SAFETY: `filter` points to a live map value with room for `CODE_LEN` bytes; the helper takes any address.
    unsafe {
        let to = (&raw mut (*filter).code).cast();
        if bpf_probe_read_kernel(to, bytes, code as *const _) == 0 {
            // last: user space waits for it
            (&raw mut (*filter).bytes).write_volatile(u64::from(bytes));
        }
    }
}

#[inline(always)]
fn current_tgid() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}
