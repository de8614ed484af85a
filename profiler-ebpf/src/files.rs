//! Files that root executes: what capabilities they have only user space can read, and has to read soon.
//!
//! A file's capabilities give root nothing; but its execve fails, before root's own rule is looked at, when the bounding set
//! lacks one of them (<https://elixir.bootlin.com/linux/v6.12/source/security/commoncap.c>, `bprm_caps_from_vfs_caps`). One that succeeds
//! leaves no trace of it. So each file is counted, and told to user space at its first execution, its second, fourth, and so on:
//! who comes too late once may be in time the next time.

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_probe_read_kernel_str_bytes},
    programs::BtfTracePointContext,
};
use profiler_common::{
    evidence::{EXEC_PATH_LEN, Executed, ExecutedKey, Execution, FileId},
    scope::{Slot, loss, slot_of},
};

use crate::{
    attribution, capability, joined,
    kernel::{self, Address},
    maps::{EXECUTED, EXECUTED_ZERO, EXECUTIONS, add, lost},
    scope,
};

/// Root executed the file that is the current executable. `sched_process_exec(struct task_struct *, pid_t, struct
/// linux_binprm *)`.
#[inline(never)]
pub fn executed(ctx: &BtfTracePointContext, slot: Slot, cred: Address, permitted: u64) {
    let Some(file) = kernel::exe_file() else { return lost(loss::FILES) };
    let user_ns = kernel::read(cred, &kernel::CRED_USER_NS).unwrap_or(0);
    let key = ExecutedKey {
        file,
        slot: slot_of(scope::evidence(slot)),
        phase: joined::phase(slot),
        flags: capability::whose(slot, cred, user_ns),
        reserved: 0,
    };
    let Some(executed) = entry(&key, permitted) else { return };
    // SAFETY: `executed` points to a live map value.
    let count = unsafe {
        let count = &raw mut (*executed).count;
        add(count, 1);
        count.read_volatile()
    };
    if count & count.wrapping_sub(1) == 0 {
        tell(ctx.arg(2), slot, file);
    }
}

/// The entry of a file.
#[inline(always)]
fn entry(key: &ExecutedKey, permitted: u64) -> Option<*mut Executed> {
    const NOEXIST: u64 = 1;
    const EEXIST: i32 = -17;
    if let Some(executed) = EXECUTED.get_ptr_mut(key) {
        return Some(executed);
    }
    match EXECUTED.insert(key, EXECUTED_ZERO.get(0)?, NOEXIST) {
        Ok(()) => {
            let executed = EXECUTED.get_ptr_mut(key)?;
            // SAFETY: `executed` points to a live map value, and only who inserted it writes this part.
            unsafe {
                (*executed).permitted = permitted;
                attribution::fill(&raw mut (*executed).first);
            }
            Some(executed)
        }
        Err(EEXIST) => EXECUTED.get_ptr_mut(key),
        Err(_) => {
            lost(loss::FILES);
            None
        }
    }
}

/// Tells user space. What finds no room stays unread, unless it is executed again.
#[inline(never)]
fn tell(bprm: Address, target: Slot, file: FileId) {
    let Some(mut room) = EXECUTIONS.reserve::<Execution>(0) else { return };
    let execution = room.as_mut_ptr();
    let path = kernel::read::<Address>(bprm, &kernel::BPRM_INTERP).unwrap_or(0);
    // SAFETY: `execution` points to room for one, all of which is written; the helper takes any address and writes at
    // most the buffer.
    unsafe {
        for word in 0..EXEC_PATH_LEN / 8 {
            (&raw mut (*execution).path).cast::<u64>().add(word).write_volatile(0);
        }
        let _ = bpf_probe_read_kernel_str_bytes(path as *const u8, &mut (*execution).path);
        (*execution).file = file;
        (*execution).program = kernel::program();
        (*execution).target = target;
        (*execution).tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
        (*execution).parent = kernel::parent();
        (*execution).reserved = 0;
    }
    room.submit(0);
}
