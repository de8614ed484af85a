//! What both of two programs were left out of that are attached twice, where programs of tracepoints can be preempted.
//!
//! The kernel does not run a program while it is suspended on the same processor. What a program was left out of its twin sees, unless that is
//! suspended there, too; and a task is suspended only by switching to another. So both miss something of a task only between two switches, to it
//! and from it, at which both were active. Each is counted. One case is not seen: the task itself is preempted between the two programs of one
//! event, some instructions long, and the other task that was in the first is suspended again in the second when it goes on.
//!
//! The kernel has the counters of each processor at the same distance from where they are for none (`this_cpu_ptr`), and an array of our own
//! tells the distance. The verifier does not compute with addresses of maps, but with numbers read from one.

use aya_ebpf::programs::BtfTracePointContext;
use profiler_common::scope::PAIRS;

use crate::{
    kernel::{self, Address},
    maps::{HERE, LOOKUP, TWINS, add},
    scope,
};

/// `sched_switch(bool preempt, struct task_struct *prev, struct task_struct *next, unsigned int)`. The scheduler is not preempted.
pub fn switched(ctx: &BtfTracePointContext) {
    let Some(here) = here() else { return };
    let Some(lookup) = LOOKUP.get(0) else { return };
    let previous: Address = ctx.arg(1);
    if lookup.tid != 0 && kernel::read(previous, &kernel::TASK_PID) == Some(lookup.tid) {
        find(previous, here);
    }
    let offset = here.wrapping_sub(lookup.anywhere);
    for pair in 0..PAIRS {
        let Some(twins) = TWINS.get_ptr_mut(pair) else { return };
        // SAFETY: `twins` points to a live map value; aligned words do not tear.
        let [first, second] = unsafe { (&raw const (*twins).active).read_volatile() };
        let are_both = is_active(first, offset) && is_active(second, offset);
        // the previous one may have come into scope while it ran
        if are_both && (scope::of(ctx.arg(2)).is_some() || scope::of(previous).is_some()) {
            // SAFETY: as above.
            add(unsafe { &raw mut (*twins).both }, 1);
        }
    }
}

/// Where the entry of `HERE` is on this processor.
#[inline(always)]
fn here() -> Option<Address> {
    let here = HERE.get_ptr_mut(0)?;
    // SAFETY: `here` points to a live map value of this processor.
    unsafe {
        here.write_volatile(here as u64);
        Some(here.read_volatile())
    }
}

#[inline(always)]
fn is_active(counter: Address, offset: u64) -> bool {
    counter != 0 && kernel::word_at(counter.wrapping_add(offset)) != 0
}

/// Finds where the programs are counted that a task has loaded, one of which is this one: it is active.
#[inline(never)]
fn find(task: Address, here: Address) {
    let Some(lookup) = LOOKUP.get_ptr_mut(0) else { return };
    // SAFETY: the pointers are to live map values; user space has written them and waits.
    unsafe {
        let anywhere = &raw mut (*lookup).anywhere;
        anywhere.write_volatile(&raw const HERE as u64);
        let map = anywhere.read_volatile();
        let start = kernel::read(map, &kernel::ARRAY_PPTRS).unwrap_or(0);
        let is_right = is_active(counter(task, (*lookup).fd), here.wrapping_sub(start));
        anywhere.write_volatile(if is_right { start } else { 0 });
        for pair in 0..PAIRS {
            let Some(twins) = TWINS.get_ptr_mut(pair) else { return };
            let [first, second] = (*twins).fds;
            (&raw mut (*twins).active)
                .write_volatile([counter(task, first), counter(task, second)]);
        }
        (&raw mut (*lookup).tid).write_volatile(0);
    }
}

/// Where a program's runs are counted; 0 when it is none.
#[inline(always)]
fn counter(task: Address, fd: u32) -> Address {
    if fd == 0 {
        return 0;
    }
    kernel::file_data(task, fd)
        .and_then(|program| kernel::read(program, &kernel::PROG_ACTIVE))
        .unwrap_or(0)
}
