//! Who did something first. A side channel: it may lose entries, and counts them.

use aya_ebpf::helpers::{
    bpf_get_current_comm, bpf_probe_read_kernel_str_bytes, generated::bpf_ktime_get_ns,
};
use profiler_common::{
    evidence::{CallKey, EXE_LEN, Sighting},
    scope::loss,
};

use crate::{
    kernel::{self, Address},
    maps::{FIRST, lost},
};

/// Notes the current program as the first to make a call.
pub fn first(key: &CallKey) {
    const NOEXIST: u64 = 1;
    const EEXIST: i32 = -17;
    if let Err(error) = FIRST.insert(key, sighting(), NOEXIST)
        && error != EEXIST
    {
        lost(loss::ATTRIBUTION);
    }
}

/// The current program, now.
#[inline(always)]
pub fn sighting() -> Sighting {
    let mut exe = [0; EXE_LEN];
    if let Some(name) = exe_name() {
        // SAFETY: the helper takes any address and writes at most the buffer.
        let _ = unsafe { bpf_probe_read_kernel_str_bytes(name as *const u8, &mut exe) };
    }
    Sighting {
        // SAFETY: the helper has no preconditions.
        at_ns: unsafe { bpf_ktime_get_ns() },
        comm: bpf_get_current_comm().unwrap_or_default(),
        exe,
    }
}

/// Address of the file name of the current executable.
#[inline(always)]
fn exe_name() -> Option<Address> {
    let mm: Address = kernel::read(kernel::current(), &kernel::TASK_MM)?;
    let file: Address = kernel::read(mm, &kernel::MM_EXE_FILE)?;
    let dentry: Address = kernel::read(file, &kernel::FILE_DENTRY)?;
    kernel::read(dentry, &kernel::DENTRY_NAME)
}
