//! What both of two programs were left out of that are attached twice, where programs of tracepoints can be preempted.
//!
//! The kernel does not run a program while it is suspended on the same processor. What a program was left out of its twin sees, unless that is
//! suspended there, too; and a task is suspended only by switching to another. So both miss something of a task only if others were in both when
//! the processor went on with it. Each time is counted. One case is not seen: the task itself is preempted between the two programs of one
//! event, some instructions long, and the other task that was in the first is suspended again in the second when it goes on.
//!
//! The kernel has the counters of each processor at the same distance from where they are for none (`this_cpu_ptr`), and an array of our own
//! tells the distance. The verifier does not compute with addresses of maps, but with numbers read from one.

use aya_ebpf::programs::BtfTracePointContext;
use profiler_common::scope::{Here, PAIRS};

use crate::{
    kernel::{self, Address},
    maps::{HERE, LOOKUP, TWINS, add},
    scope,
};

/// `sched_switch(bool preempt, struct task_struct *prev, struct task_struct *next, unsigned int)`. The scheduler is not preempted.
pub fn switched(ctx: &BtfTracePointContext) {
    let Some(here) = HERE.get_ptr_mut(0) else { return };
    let Some(lookup) = LOOKUP.get(0) else { return };
    let (previous, next): (Address, Address) = (ctx.arg(1), ctx.arg(2));
    let (Some(previous_id), Some(next_id)) = (id(previous), id(next)) else { return };
    if lookup.tid != 0 && previous_id == lookup.tid {
        return find(previous, address(here));
    }
    let offset = address(here).wrapping_sub(lookup.anywhere);
    for pair in 0..PAIRS {
        let Some(twins) = TWINS.get_ptr_mut(pair) else { return };
        // SAFETY: `twins` and `here` point to live map values; aligned words do not tear, and `here` is this processor's own.
        let (counters, suspended) = unsafe {
            ((&raw const (*twins).active).read_volatile(), &mut (*here).suspended[pair as usize])
        };
        let active = counters.map(|counter| runs(counter, offset) != 0);
        let unseen = suspended.switch(active, previous_id, next_id);
        // the previous one may have come into scope while it ran
        if unseen.next && scope::of(next).is_some()
            || unseen.previous && scope::of(previous).is_some()
        {
            // SAFETY: as above.
            add(unsafe { &raw mut (*twins).both }, 1);
        }
    }
}

#[inline(always)]
fn id(task: Address) -> Option<u32> {
    kernel::read(task, &kernel::TASK_PID)
}

/// Where the entry of `HERE` is on this processor.
#[inline(always)]
fn address(here: *mut Here) -> Address {
    // SAFETY: `here` points to a live map value of this processor.
    unsafe {
        let address = &raw mut (*here).address;
        address.write_volatile(here as u64);
        address.read_volatile()
    }
}

/// How many runs of a program have begun here and not ended; 0 when it has no counter.
#[inline(always)]
fn runs(counter: Address, offset: u64) -> u32 {
    if counter == 0 { 0 } else { kernel::word_at(counter.wrapping_add(offset)) }
}

/// Finds where the programs are counted that a task has loaded, one of which is this one and active; of the others none is attached.
#[inline(never)]
fn find(task: Address, here: Address) {
    let Some(lookup) = LOOKUP.get_ptr_mut(0) else { return };
    // SAFETY: the pointers are to live map values; user space has written them and waits.
    unsafe {
        let anywhere = &raw mut (*lookup).anywhere;
        anywhere.write_volatile(&raw const HERE as u64);
        let map = anywhere.read_volatile();
        let start = kernel::read(map, &kernel::ARRAY_PPTRS).unwrap_or(0);
        let offset = here.wrapping_sub(start);
        let mut is_right = runs(counter(task, (*lookup).fd), offset) == 1;
        for pair in 0..PAIRS {
            let Some(twins) = TWINS.get_ptr_mut(pair) else { return };
            let counters = (*twins).fds.map(|fd| counter(task, fd));
            is_right &= counters.iter().all(|counter| runs(*counter, offset) == 0);
            (&raw mut (*twins).active).write_volatile(counters);
        }
        anywhere.write_volatile(if is_right { start } else { 0 });
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
