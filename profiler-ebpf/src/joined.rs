//! Processes that come from outside: the OCI runtime's, until they execute the entry point.
//!
//! A process is such when a task outside the scope moved it in (`cgroup_attach_task`), or when it
//! was created there by one (`CLONE_INTO_CGROUP`), and so are its children. Everything else in
//! scope is workload. Names play no part.

use aya_ebpf::{helpers::bpf_get_current_pid_tgid, programs::BtfTracePointContext};
use aya_log_ebpf::debug;
use profiler_common::{
    evidence::{CallKey, phase},
    scope::{Joined, Slot, loss, slot_kind},
};

use crate::{
    calls,
    kernel::{self, Address},
    maps::{JOINED, JOINED_COUNT, SLOTS, add, lost},
    members, scope,
};

/// The phase that the current thread is in, as far as `JOINED` tells.
///
/// The filter belongs to the thread: siblings of the runtime's main thread stay in set-up.
#[inline(always)]
pub fn noted_phase() -> u8 {
    if none() {
        return phase::WORKLOAD;
    }
    // SAFETY: an entry is written before its process runs, or runs on in the cgroup.
    match unsafe { JOINED.get(current_tgid()) } {
        None => phase::WORKLOAD,
        Some(joined) if kernel::seccomp_filter(kernel::current()) == joined.filter => phase::SETUP,
        Some(_) => phase::HANDOVER,
    }
}

/// The phase that the current thread is in.
///
/// The kernel tells of a move just after it was done, so for a moment a process is in the cgroup and
/// not noted. It is known by this: it is no member yet; before the entry point there is no workload; and what is in the
/// runtime's mount namespace is none, as long as the workload has not gone there by setns(2).
#[inline(always)]
pub fn phase(slot: Slot) -> u8 {
    phase_of(u64::from(slot)) as u8
}

#[unsafe(export_name = "joined_phase")]
#[inline(never)]
extern "C" fn phase_of(slot: u64) -> u64 {
    u64::from(look(slot as Slot))
}

#[inline(always)]
fn look(slot: Slot) -> u8 {
    let noted = noted_phase();
    if noted != phase::WORKLOAD {
        return noted;
    }
    let Some(target) = SLOTS.get(slot) else { return noted };
    let ran_before = matches!(target.kind, slot_kind::RUNNING | slot_kind::RUNNING_CGROUP);
    let before_entry = !ran_before && target.user_ns == 0;
    let in_runtime = !matches!(target.kind, slot_kind::COMMAND | slot_kind::RUNNING_CGROUP)
        && target.mnt_ns != 0
        && kernel::mount_namespace(kernel::current()) == target.mnt_ns
        && target.calls_setns == 0;
    if before_entry || in_runtime || is_no_member(slot, current_tgid()) {
        phase::SETUP
    } else {
        // it joined before it became a member, but perhaps after the first look
        noted_phase()
    }
}

/// Whether a process in the slot's cgroup has come there by a move that was not told yet. Every other one was seen to be
/// created there, unless the target ran before.
fn is_no_member(slot: Slot, tgid: u32) -> bool {
    let ran_before = SLOTS
        .get(slot)
        .is_none_or(|target| matches!(target.kind, slot_kind::RUNNING | slot_kind::RUNNING_CGROUP));
    !ran_before && !members::may_be(tgid)
}

/// Takes note of a new call of the workload's, before it is made: setns(2), native or compat.
#[inline(always)]
pub fn called(slot: Slot, key: &CallKey) {
    if calls::SETNS.is(key.abi, key.nr)
        && key.phase == phase::WORKLOAD
        && let Some(target) = SLOTS.get_ptr_mut(slot)
    {
        // SAFETY: `target` points to a live map value; aligned words do not tear.
        unsafe { (*target).calls_setns = 1 };
    }
}

/// `cgroup_attach_task(struct cgroup *dst, const char *path, struct task_struct *leader, bool)`.
pub fn attached(ctx: &BtfTracePointContext) {
    let Some(id) = kernel::unified_cgroup_id(ctx.arg(0)) else { return };
    let task: Address = ctx.arg(2);
    let Some(tgid) = kernel::read::<u32>(task, &kernel::TASK_TGID) else { return };
    let mut to = scope::slot_of(id);
    if let Some(slot) = to
        && !members::is_of(tgid, slot)
        && !members::is_of(current_tgid(), slot)
    {
        to = scope::joined_by_others(id, slot);
    }
    let was_joined = is_joined(tgid);
    // one that moved itself is in its new cgroup already
    let by_workload = to.is_some() && scope::current() == to && !is_joined(current_tgid());
    match to {
        // the workload arranges its own cgroups, and stays the workload whoever moves it about in its target's
        Some(slot) if !by_workload && (was_joined || !members::is_of(tgid, slot)) => {
            let mnt_ns = kernel::mount_namespace(kernel::current());
            note_runtime(slot, mnt_ns);
            debug!(ctx, "process {} joined slot {}", tgid, slot);
            insert(tgid, Joined { filter: kernel::seccomp_filter(task), mnt_ns });
        }
        _ => {}
    }
    // last: a member that has not joined is workload. The runtime may come and go
    members::moved(tgid, to, !was_joined);
}

/// `sched_process_fork(struct task_struct *parent, struct task_struct *child)`.
pub fn forked(ctx: &BtfTracePointContext) {
    let child: Address = ctx.arg(1);
    let Some(tgid) = kernel::read::<u32>(child, &kernel::TASK_TGID) else { return };
    let parent_tgid = current_tgid();
    if tgid == parent_tgid {
        return; // a thread
    }
    let parent_slot = scope::current();
    let id = kernel::task_cgroup_id(child).unwrap_or(0);
    let mut slot = scope::slot_of(id);
    if parent_slot.is_none()
        && let Some(of) = slot
    {
        slot = scope::joined_by_others(id, of);
    }
    if let Some(slot) = slot {
        members::entered(tgid, slot);
    }
    match (parent_slot, slot) {
        (Some(from), None) if !is_joined(parent_tgid) => members::left(from),
        // it was moved here just now, and the kernel did not tell yet
        (Some(from), Some(_)) if !is_joined(parent_tgid) && is_no_member(from, parent_tgid) => {
            let mnt_ns = SLOTS.get(from).map_or(0, |target| target.mnt_ns);
            insert(tgid, Joined { filter: kernel::seccomp_filter(child), mnt_ns });
        }
        (Some(_), _) if none() => {}
        // SAFETY: as in `noted_phase`.
        (Some(_), _) => match unsafe { JOINED.get(parent_tgid) } {
            Some(joined) => insert(tgid, *joined),
            None => remove(tgid),
        },
        (None, Some(slot)) => {
            let mnt_ns = kernel::mount_namespace(kernel::current());
            note_runtime(slot, mnt_ns);
            insert(tgid, Joined { filter: kernel::seccomp_filter(child), mnt_ns });
        }
        (None, None) => {}
    }
}

/// A successful execve of the current task: the entry point's, unless the runtime re-executes
/// itself, which it does unfiltered and in its own mount namespace.
pub fn executed(slot: Slot) {
    let Some(target) = SLOTS.get_ptr_mut(slot) else { return };
    // SAFETY: `target` points to a live map value; aligned words do not tear.
    unsafe {
        if none() && (*target).user_ns != 0 {
            return;
        }
        let tgid = current_tgid();
        let task = kernel::current();
        let mnt_ns = kernel::mount_namespace(task);
        let is_command = (*target).kind == slot_kind::COMMAND;
        let entry_point = match JOINED.get(tgid) {
            Some(joined) => {
                // a service in a cgroup may run children under a filter of their own
                let is_cgroup =
                    matches!((*target).kind, slot_kind::CGROUP | slot_kind::RUNNING_CGROUP);
                let of_runtime = mnt_ns != joined.mnt_ns
                    || !is_cgroup && kernel::seccomp_filter(task) != joined.filter;
                if of_runtime {
                    (*target).runtime = 1;
                }
                is_command || of_runtime
            }
            None => is_command || mnt_ns != (*target).mnt_ns,
        };
        if entry_point {
            remove(tgid);
            if (*target).user_ns == 0 {
                // 0 means that it was not executed yet
                (*target).user_ns = kernel::user_namespace(task).max(1);
            }
        }
    }
}

/// The current task ends.
pub fn exited() {
    if kernel::is_last_thread() {
        let tgid = current_tgid();
        members::exited(tgid);
        if !none() {
            remove(tgid);
        }
    }
}

/// Notes the runtime's mount namespace, at the first process that joins.
fn note_runtime(slot: Slot, mnt_ns: Address) {
    if let Some(target) = SLOTS.get_ptr_mut(slot) {
        // SAFETY: `target` points to a live map value; aligned words do not tear.
        unsafe {
            if (*target).mnt_ns == 0 {
                (*target).mnt_ns = mnt_ns;
            }
        }
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

/// Whether the current process came from outside, and has not executed the entry point.
#[inline(always)]
pub fn is_current() -> bool {
    is_joined(current_tgid())
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
