//! Processes that come from outside: the OCI runtime's, until they execute the entry point.
//!
//! A process is such when a task outside the scope moved it in (`cgroup_attach_task`), or when it
//! was created there by one (`CLONE_INTO_CGROUP`), and so are its children. Everything else in
//! scope is workload. Names play no part.

use aya_ebpf::{helpers::bpf_get_current_pid_tgid, programs::BtfTracePointContext};
use aya_log_ebpf::debug;
use profiler_common::{
    evidence::phase,
    scope::{Joined, Slot, loss, slot_kind},
};

use crate::{
    kernel::{self, Address},
    maps::{JOINED, JOINED_COUNT, SLOTS, add, lost},
    scope,
};

/// The phase that the current thread is in.
///
/// The filter belongs to the thread: siblings of the runtime's main thread stay in set-up.
#[inline(always)]
pub fn phase() -> u8 {
    if none() {
        return phase::WORKLOAD;
    }
    let tgid = current_tgid();
    // SAFETY: an entry is written before its process runs, or runs on in the cgroup.
    match unsafe { JOINED.get(tgid) } {
        None => phase::WORKLOAD,
        Some(joined) if kernel::seccomp_filter(kernel::current()) == joined.filter => phase::SETUP,
        Some(_) => phase::HANDOVER,
    }
}

/// `cgroup_attach_task(struct cgroup *dst, const char *path, struct task_struct *leader, bool)`.
pub fn attached(ctx: &BtfTracePointContext) {
    let Some(slot) = kernel::unified_cgroup_id(ctx.arg(0)).and_then(scope::slot_of) else { return };
    let by_workload = scope::current() == Some(slot) && !is_joined(current_tgid());
    if by_workload {
        return; // the workload arranges its own cgroups
    }
    let task: Address = ctx.arg(2);
    let joined = Joined {
        filter: kernel::seccomp_filter(task),
        mnt_ns: kernel::mount_namespace(kernel::current()),
    };
    if let Some(tgid) = kernel::read::<u32>(task, &kernel::TASK_TGID) {
        debug!(ctx, "process {} joined slot {}", tgid, slot);
        insert(tgid, joined);
    }
}

/// `sched_process_fork(struct task_struct *parent, struct task_struct *child)`.
pub fn forked(ctx: &BtfTracePointContext) {
    let child: Address = ctx.arg(1);
    let parent_slot = scope::current();
    if parent_slot.is_some() && none() {
        return;
    }
    let Some(tgid) = kernel::read::<u32>(child, &kernel::TASK_TGID) else { return };
    let parent_tgid = current_tgid();
    if tgid == parent_tgid {
        return; // a thread
    }
    if parent_slot.is_some() {
        // SAFETY: as in `phase`.
        match unsafe { JOINED.get(parent_tgid) } {
            Some(joined) => insert(tgid, *joined),
            None => remove(tgid),
        }
    } else if kernel::task_cgroup_id(child).and_then(scope::slot_of).is_some() {
        let mnt_ns = kernel::mount_namespace(kernel::current());
        insert(tgid, Joined { filter: kernel::seccomp_filter(child), mnt_ns });
    }
}

/// A successful execve of the current task: the entry point's, unless the runtime re-executes
/// itself, which it does unfiltered and in its own mount namespace.
pub fn executed(slot: Slot) {
    if none() {
        return;
    }
    let tgid = current_tgid();
    // SAFETY: as in `phase`.
    let Some(joined) = (unsafe { JOINED.get(tgid) }) else { return };
    let Some(target) = SLOTS.get_ptr_mut(slot) else { return };
    let task = kernel::current();
    // SAFETY: `target` points to a live map value; aligned words do not tear.
    unsafe {
        let entry_point = kernel::seccomp_filter(task) != joined.filter
            || kernel::mount_namespace(task) != joined.mnt_ns
            || (*target).kind == slot_kind::COMMAND;
        if entry_point {
            remove(tgid);
            if (*target).user_ns == 0 {
                (*target).user_ns = kernel::user_namespace(task);
            }
        }
    }
}

/// The current task ends.
pub fn exited() {
    if none() {
        return;
    }
    let pid_tgid = bpf_get_current_pid_tgid();
    if pid_tgid as u32 == (pid_tgid >> 32) as u32 {
        remove(pid_tgid as u32);
    }
}

#[inline(always)]
fn current_tgid() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

#[inline(always)]
fn none() -> bool {
    JOINED_COUNT.get(0).is_none_or(|count| *count == 0)
}

#[inline(always)]
fn is_joined(tgid: u32) -> bool {
    !none() && JOINED.get_ptr(tgid).is_some()
}

fn insert(tgid: u32, joined: Joined) {
    let is_new = JOINED.get_ptr(tgid).is_none();
    match JOINED.insert(tgid, joined, 0) {
        Ok(()) if is_new => count(1),
        Ok(()) => {}
        Err(_) => lost(loss::THREADS),
    }
}

fn remove(tgid: u32) {
    if JOINED.remove(tgid).is_ok() {
        count(u64::MAX);
    }
}

#[inline(always)]
fn count(n: u64) {
    if let Some(cell) = JOINED_COUNT.get_ptr_mut(0) {
        add(cell, n);
    }
}
