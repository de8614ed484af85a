//! Kernel side of profiler: scope -> phase -> record.
//!
//! This file only lists the entry points. Each asks first whether the current task's cgroup is in
//! scope, and returns when it is not: every process of the host pays for that test.

#![feature(core_intrinsics)]
#![expect(internal_features, reason = "the only way to BPF_XADD on this target")]
#![no_std]
#![no_main]

mod apart;
mod arguments;
mod attribution;
mod calls;
mod capability;
mod entries;
mod files;
mod implied;
mod joined;
mod kernel;
mod maps;
mod members;
mod moot;
mod outcome;
mod scope;
mod stack;
mod syscall;
mod twins;

use aya_ebpf::{
    macros::{btf_tracepoint, fexit, kprobe, kretprobe},
    programs::{BtfTracePointContext, FExitContext, ProbeContext, RetProbeContext},
};

/// A call that passed seccomp.
#[btf_tracepoint(function = "sys_enter")]
fn sys_enter(ctx: BtfTracePointContext) -> i32 {
    // asked for once: it is a call
    let task = kernel::current();
    if let Some(slot) = scope::of(task) {
        syscall::enter(&ctx, task, slot, false);
    }
    0
}

/// The same again, where programs have twins.
#[btf_tracepoint(function = "sys_enter")]
fn sys_enter_twin(ctx: BtfTracePointContext) -> i32 {
    let task = kernel::current();
    if let Some(slot) = scope::of(task) {
        syscall::enter(&ctx, task, slot, true);
    }
    0
}

/// The end of any call, also of one that a filter answered. Attached only while it is needed.
#[btf_tracepoint(function = "sys_exit")]
fn sys_exit(ctx: BtfTracePointContext) -> i32 {
    if let Some(slot) = scope::current() {
        outcome::exit(&ctx, slot, false);
    }
    0
}

/// The same again, where programs have twins.
#[btf_tracepoint(function = "sys_exit")]
fn sys_exit_twin(ctx: BtfTracePointContext) -> i32 {
    if let Some(slot) = scope::current() {
        outcome::exit(&ctx, slot, true);
    }
    0
}

/// The kernel asked for a capability.
#[btf_tracepoint(function = "cap_capable")]
fn cap_capable(ctx: BtfTracePointContext) -> i32 {
    if let Some(slot) = scope::current() {
        capability::traced(&ctx, slot, false);
    }
    0
}

/// The same again, where programs have twins.
#[btf_tracepoint(function = "cap_capable")]
fn cap_capable_twin(ctx: BtfTracePointContext) -> i32 {
    if let Some(slot) = scope::current() {
        capability::traced(&ctx, slot, true);
    }
    0
}

/// As `cap_capable`, where the kernel has no such tracepoint.
#[fexit(function = "cap_capable")]
fn cap_capable_fexit(ctx: FExitContext) -> i32 {
    if let Some(slot) = scope::current() {
        capability::returned(&ctx, slot);
    }
    0
}

/// As `cap_capable`, where functions cannot be traced otherwise: the question.
#[kprobe]
fn cap_capable_kprobe(ctx: ProbeContext) -> u32 {
    if let Some(slot) = scope::current() {
        capability::asked(&ctx, slot);
    }
    0
}

/// And the answer.
#[kretprobe]
fn cap_capable_kretprobe(ctx: RetProbeContext) -> u32 {
    capability::answered(&ctx);
    0
}

/// A cgroup was created; no task is in it yet.
#[btf_tracepoint(function = "cgroup_mkdir")]
fn cgroup_mkdir(ctx: BtfTracePointContext) -> i32 {
    scope::created(&ctx);
    0
}

/// A cgroup was removed.
#[btf_tracepoint(function = "cgroup_rmdir")]
fn cgroup_rmdir(ctx: BtfTracePointContext) -> i32 {
    scope::removed(&ctx);
    0
}

/// A task was moved to another cgroup.
#[btf_tracepoint(function = "cgroup_attach_task")]
fn cgroup_attach_task(ctx: BtfTracePointContext) -> i32 {
    joined::attached(&ctx);
    entries::attached(&ctx);
    0
}

/// A task was created; it has not run yet.
#[btf_tracepoint(function = "sched_process_fork")]
fn sched_process_fork(ctx: BtfTracePointContext) -> i32 {
    joined::forked(&ctx);
    0
}

/// An execve succeeded.
#[btf_tracepoint(function = "sched_process_exec")]
fn sched_process_exec(ctx: BtfTracePointContext) -> i32 {
    if let Some(slot) = scope::current() {
        let joined = joined::is_current();
        joined::executed(slot);
        implied::executed(&ctx, slot);
        let is_joined = joined::is_current();
        entries::executed(slot, joined && !is_joined, is_joined);
    }
    0
}

/// A task ends.
#[btf_tracepoint(function = "sched_process_exit")]
fn sched_process_exit(_ctx: BtfTracePointContext) -> i32 {
    // not only in scope: a cgroup may have left it while its tasks were noted
    outcome::exited();
    if let Some(slot) = scope::current() {
        entries::exited(slot);
    }
    joined::exited();
    0
}

/// A processor goes on with another task. Attached where programs have twins.
#[btf_tracepoint(function = "sched_switch")]
fn sched_switch(ctx: BtfTracePointContext) -> i32 {
    twins::switched(&ctx);
    0
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
