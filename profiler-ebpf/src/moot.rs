//! Checks whose answer changes nothing: the kernel asks first, and the call's arguments and the kernel's state say that it would
//! have done the very same by another way. Owns these rules, each exact; where one cannot tell, the check counts.
//!
//! The calls whose other way cannot be told from here are in the model (`needs.rs`).

use profiler_common::evidence::abi;

use crate::{
    calls::{self, Call},
    kernel::{self, Address, NO_ID},
};

const CAP_FSETID: i32 = 4;
const CAP_SETGID: i32 = 6;
const CAP_SETUID: i32 = 7;
const CAP_SYS_RESOURCE: i32 = 24;

/// Whether the current call, which the kernel asks about, does the same without the capability.
#[inline(never)]
pub fn is(capability: i32, cred: Address, user_ns: Address, abi: u8, nr: u32) -> bool {
    match capability {
        CAP_FSETID => is_chmod_without_setgid(abi, nr),
        CAP_SETUID | CAP_SETGID => changes_no_id(capability, cred, user_ns, abi, nr),
        CAP_SYS_RESOURCE => is_small_queue(abi, nr),
        _ => false,
    }
}

/// CAP_FSETID is asked for by every chmod of a file whose group is not the caller's; without a set-group-id bit there is
/// nothing to keep (<https://elixir.bootlin.com/linux/v6.12/source/fs/attr.c#L196>). Native calls only.
#[inline(always)]
fn is_chmod_without_setgid(abi: u8, nr: u32) -> bool {
    const S_ISGID: u64 = 0o2000;
    let is = |call: Call| abi != abi::COMPAT && call.is(abi, nr);
    let mode = if is(calls::CHMOD) || is(calls::FCHMOD) {
        argument(abi, 1)
    } else if is(calls::FCHMODAT) || is(calls::FCHMODAT2) {
        argument(abi, 2)
    } else {
        return false;
    };
    mode & S_ISGID == 0
}

/// setuid and setgid ask first. With the capability they set real, effective and saved id, else the effective one, if it is
/// the real or the saved one: the same, where both of these are the wanted id already. In older kernels setresuid and setresgid ask
/// first, too, and take any of the three for each (<https://elixir.bootlin.com/linux/v6.1/source/kernel/sys.c#L622>). The others that
/// set ids ask last.
#[inline(always)]
fn changes_no_id(capability: i32, cred: Address, user_ns: Address, abi: u8, nr: u32) -> bool {
    let id = |of| kernel::read(cred, of).unwrap_or(NO_ID);
    let is_user = capability == CAP_SETUID;
    let (real, effective, saved) = if is_user {
        (id(&kernel::CRED_UID), id(&kernel::CRED_EUID), id(&kernel::CRED_SUID))
    } else {
        (id(&kernel::CRED_GID), id(&kernel::CRED_EGID), id(&kernel::CRED_SGID))
    };
    let ids = Ids { user_ns, is_user, real, effective, saved };
    let is = |user: Call, group: Call| if is_user { user.is(abi, nr) } else { group.is(abi, nr) };
    if is(calls::SETUID, calls::SETGID) {
        ids.are_all(wide(abi, 0))
    } else if is(calls::SETUID16, calls::SETGID16) {
        ids.are_all(narrow(abi, 0))
    } else if is(calls::SETRESUID, calls::SETRESGID) {
        ids.have_wide(abi)
    } else if is(calls::SETRESUID16, calls::SETRESGID16) {
        ids.have(narrow(abi, 0)) && ids.have(narrow(abi, 1)) && ids.have(narrow(abi, 2))
    } else {
        false
    }
}

/// The ids of a thread, of users or of groups, as the kernel has them; and the namespace of those that it is given.
struct Ids {
    user_ns: Address,
    is_user: bool,
    real: u32,
    effective: u32,
    saved: u32,
}

impl Ids {
    /// Real and saved id are this one.
    #[inline(always)]
    fn are_all(&self, id: u32) -> bool {
        let id = kernel::kernel_id(self.user_ns, id, self.is_user);
        id != NO_ID && self.real == id && self.saved == id
    }

    /// One of the three is this one, or none is wanted.
    #[inline(always)]
    fn have(&self, id: u32) -> bool {
        if id == NO_ID {
            return true;
        }
        let id = kernel::kernel_id(self.user_ns, id, self.is_user);
        id != NO_ID && (self.real == id || self.effective == id || self.saved == id)
    }

    #[inline(always)]
    fn have_wide(&self, abi: u8) -> bool {
        self.have(wide(abi, 0)) && self.have(wide(abi, 1)) && self.have(wide(abi, 2))
    }
}

#[inline(always)]
fn wide(abi: u8, index: usize) -> u32 {
    argument(abi, index) as u32
}

/// An id of a 16-bit call, whose -1 is short, too.
#[inline(always)]
fn narrow(abi: u8, index: usize) -> u32 {
    match argument(abi, index) as u16 {
        u16::MAX => NO_ID,
        id => u32::from(id),
    }
}

/// mq_open asks for CAP_SYS_RESOURCE whatever queue it makes, and without it holds the size to the namespace's limits
/// (<https://elixir.bootlin.com/linux/v6.12/source/ipc/mqueue.c#L330>). It asks before that, too, when there are as many queues as may
/// be; so with that many this rule does not tell. Native calls only.
#[inline(always)]
fn is_small_queue(abi: u8, nr: u32) -> bool {
    /// `struct mq_attr` of mqueue.h, which is user-space ABI.
    type Attributes = [u64; 3]; // flags, messages, their size
    if abi != abi::NATIVE || !calls::MQ_OPEN.is(abi, nr) {
        return false;
    }
    let Some(proxy) = kernel::read::<Address>(kernel::current(), &kernel::TASK_NSPROXY) else {
        return false;
    };
    let ns = kernel::read::<Address>(proxy, &kernel::NSPROXY_IPC_NS).unwrap_or(0);
    let limit = |of| kernel::read::<u32>(ns, of);
    let (Some(count), Some(queues), Some(messages), Some(size)) = (
        limit(&kernel::IPC_NS_QUEUES),
        limit(&kernel::IPC_NS_QUEUES_MAX),
        limit(&kernel::IPC_NS_MESSAGES_MAX),
        limit(&kernel::IPC_NS_MESSAGE_SIZE_MAX),
    ) else {
        return false;
    };
    if count >= queues {
        return false;
    }
    match argument(abi, 3) {
        0 => true, // the namespace's default, or its limit where that is less
        wanted => kernel::read_user::<Attributes>(wanted).is_some_and(|attributes| {
            attributes[1] <= u64::from(messages) && attributes[2] <= u64::from(size)
        }),
    }
}

#[inline(always)]
fn argument(abi: u8, index: usize) -> u64 {
    kernel::argument(kernel::current_regs(), abi, index)
}
