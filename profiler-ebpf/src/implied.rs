//! Capabilities that a call depends on although the kernel makes no check for them.
//!
//! capset(2) fails when it asks for what the thread has not; so does raising an ambient capability; and a file with
//! capabilities gives its program those that the bounding set has, or is not executed. What is found goes to
//! `CHECKS`, a set in an entry, marked as implied and settled: it is known at once whether the call may succeed.

use core::ptr;

use aya_ebpf::{Global, helpers::bpf_probe_read_user, programs::BtfTracePointContext};
use profiler_common::{
    evidence::{CALLERS, CallKey, Check, CheckKey, abi, check},
    scope::{Slot, loss, slot_of},
};

use crate::{
    apart, attribution, calls, capability, files, joined,
    kernel::{self, Address},
    maps::{CHECK_ZERO, CHECKS, add, get_or_insert, lost},
    scope,
};

/// `prctl(2)`.
const PR_CAP_AMBIENT: u64 = 47;
const PR_CAP_AMBIENT_RAISE: u64 = 2;

/// `capget(2)`: the version whose sets have one word.
const LINUX_CAPABILITY_VERSION_1: u32 = 0x1998_0330;

/// The end of a `struct __user_cap_data_struct`, after its effective set: the stack has no room for more.
#[repr(C)]
#[derive(Clone, Copy)]
struct CapData {
    permitted: u32,
    inheritable: u32,
}

/// A call that [`calls::may_need_capabilities`] enters the kernel.
#[inline(always)]
pub fn called(slot: Slot, abi: u8, nr: u32, is_twin: bool) {
    let (place, how) = apart::packed(&CallKey { slot, nr, abi, phase: 0, reserved: 0 });
    made(place, apart::by_twin(how, is_twin));
}

#[unsafe(export_name = "implied_made")]
#[inline(never)]
extern "C" fn made(place: u64, how: u64) -> u64 {
    let mut call = apart::call(place, how);
    call.phase = joined::phase(call.slot);
    let is_twin = apart::is_by_twin(how);
    if calls::CAPSET.is(call.abi, call.nr) {
        capset(&call, is_twin)
    } else {
        prctl(&call, is_twin)
    }
    0
}

/// An execve succeeded: the program may have capabilities from its file.
pub fn executed(ctx: &BtfTracePointContext, slot: Slot) {
    let task = kernel::current();
    let Some(cred) = kernel::read::<Address>(task, &kernel::TASK_REAL_CRED) else { return };
    let set = |offset: &Global<i32>| kernel::read::<u64>(cred, offset).unwrap_or(0);
    let permitted = set(&kernel::CRED_PERMITTED);
    if permitted == 0 {
        return;
    }
    // root has them from being root, and is refused a file that gives more; ambient ones come from the parent
    let root = kernel::root_uid(kernel::user_namespace(task));
    let is_root = |offset| kernel::read::<u32>(cred, offset).is_none_or(|uid| uid == root);
    if is_root(&kernel::CRED_UID) || is_root(&kernel::CRED_EUID) {
        return files::executed(ctx, slot, cred, permitted);
    }
    let phase = joined::phase(slot);
    let call = CallKey { slot, nr: calls::EXECVE.native(), abi: abi::NATIVE, phase, reserved: 0 };
    note(&call, cred, 0, permitted & !set(&kernel::CRED_AMBIENT), false);
}

/// `capset(struct __user_cap_header_struct *header, const struct __user_cap_data_struct *data)`
/// (<https://elixir.bootlin.com/linux/v6.12/source/kernel/capability.c#L222>).
fn capset(call: &CallKey, is_twin: bool) {
    let regs = kernel::current_regs();
    let Some(cred) = kernel::read::<Address>(kernel::current(), &kernel::TASK_REAL_CRED) else {
        return;
    };
    let header = kernel::argument(regs, call.abi, 0);
    let data = kernel::argument(regs, call.abi, 1);
    /// Offsets of the two ends.
    const LOW: u64 = 4;
    const HIGH: u64 = 16;
    let read = |at| {
        // SAFETY: bpf_probe_read_user takes any address and fails on a bad one.
        unsafe { bpf_probe_read_user(data.wrapping_add(at) as *const CapData) }
    };
    // SAFETY: as above.
    let (version, low) = (unsafe { bpf_probe_read_user(header as *const u32) }, read(LOW));
    // a bad header fails the call; data behind a good one may be in a page that is not there yet
    let Ok(version) = version else { return };
    let unread = || {
        if !is_twin {
            lost(loss::CAPABILITIES);
        }
    };
    let Ok(low) = low else { return unread() };
    let mut high = CapData { permitted: 0, inheritable: 0 };
    if version != LINUX_CAPABILITY_VERSION_1 {
        let Ok(second) = read(HIGH) else { return unread() };
        high = second;
    }
    let permitted = u64::from(low.permitted) | u64::from(high.permitted) << 32;
    let inheritable = u64::from(low.inheritable) | u64::from(high.inheritable) << 32;
    let held = kernel::read::<u64>(cred, &kernel::CRED_PERMITTED).unwrap_or(0);
    let inherited = kernel::read::<u64>(cred, &kernel::CRED_INHERITABLE).unwrap_or(0);
    let refused = permitted & !held;
    if refused != 0 {
        return note(call, cred, check::DENIED, refused, is_twin);
    }
    let retained = if permitted == held { check::RETAINED } else { 0 };
    note(call, cred, retained, permitted, is_twin);
    note(call, cred, 0, inheritable & !inherited, is_twin);
}

/// `prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0)`
/// (<https://elixir.bootlin.com/linux/v6.12/source/security/commoncap.c#L1316>).
fn prctl(call: &CallKey, is_twin: bool) {
    let regs = kernel::current_regs();
    if kernel::argument(regs, call.abi, 0) & 0xffff_ffff != PR_CAP_AMBIENT
        || kernel::argument(regs, call.abi, 1) != PR_CAP_AMBIENT_RAISE
    {
        return;
    }
    let capability = kernel::argument(regs, call.abi, 2);
    if capability >= 64 {
        return;
    }
    let Some(cred) = kernel::read::<Address>(kernel::current(), &kernel::TASK_REAL_CRED) else {
        return;
    };
    let held = kernel::read::<u64>(cred, &kernel::CRED_PERMITTED).unwrap_or(0);
    let bit = 1 << capability;
    let denied = if held & bit == 0 { check::DENIED } else { 0 };
    note(call, cred, denied, bit, is_twin);
}

/// Notes a set of capabilities, as one entry. The twin counts only what is new.
#[inline(never)]
fn note(call: &CallKey, cred: Address, flags: u8, set: u64, is_twin: bool) {
    if set == 0 {
        return;
    }
    let denied = u64::from(flags & check::DENIED != 0);
    let mut about = 0;
    let check = entry(call, cred, flags, set, &mut about);
    if check.is_null() {
        return;
    }
    let own = CallKey { slot: slot_of(scope::evidence(call.slot)), ..*call };
    // SAFETY: `check` points to a live map value.
    unsafe {
        if !is_twin || (&raw const (*check).count).read_volatile() == 0 {
            add(&raw mut (*check).count, 1);
            add(&raw mut (*check).succeeded, 1 - denied);
            add(&raw mut (*check).failed, denied);
        }
        attribution::see(&raw mut (*check).makers, &own, about);
    }
}

/// The entry of a set, null when there is none, and what tells it from others of the same call. Its large key is not on the stack any more when the program
/// is noted: old kernels count the stacks of a chain of calls together.
#[inline(never)]
fn entry(call: &CallKey, cred: Address, flags: u8, set: u64, about: &mut u32) -> *mut Check {
    let user_ns = kernel::read(cred, &kernel::CRED_USER_NS).unwrap_or(0);
    let mut key = CheckKey {
        slot: scope::evidence(call.slot),
        nr: call.nr,
        abi: call.abi,
        phase: call.phase,
        capability: 0,
        flags: flags | check::IMPLIED | capability::whose(call.slot, cred, user_ns),
        reserved: 0,
        callers: [0; CALLERS],
    };
    key.callers[0] = set;
    *about = key.about();
    let Some(none) = CHECK_ZERO.get(0) else { return ptr::null_mut() };
    get_or_insert(&CHECKS, &key, none, loss::CAPABILITIES).unwrap_or(ptr::null_mut())
}
