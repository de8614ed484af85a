//! Which argument of which call means what: one table, and what depends on the call's other arguments.

use crate::model::arguments::{
    constants::Meaning,
    names::{self, Kind},
};

/// Call, index of the argument, meaning. What is not here is told by the argument's type and name.
#[rustfmt::skip]
const TABLE: &[(&str, usize, Meaning)] = &[
    ("socket", 0, Meaning::AddressFamily), ("socket", 1, Meaning::SocketType), ("socket", 2, Meaning::Protocol),
    ("socketpair", 0, Meaning::AddressFamily), ("socketpair", 1, Meaning::SocketType), ("socketpair", 2, Meaning::Protocol),
    ("accept4", 3, Meaning::SocketType),
    ("setsockopt", 1, Meaning::SocketLevel), ("setsockopt", 2, Meaning::SocketOption(None)),
    ("getsockopt", 1, Meaning::SocketLevel), ("getsockopt", 2, Meaning::SocketOption(None)),
    ("clone", 0, Meaning::CloneFlags), ("unshare", 0, Meaning::Namespaces), ("setns", 1, Meaning::Namespaces),
    ("prctl", 0, Meaning::PrctlOption), ("arch_prctl", 0, Meaning::ArchPrctlOption),
    ("ioctl", 1, Meaning::IoctlRequest), ("personality", 0, Meaning::Personality),
    ("fcntl", 1, Meaning::FcntlCommand), ("fcntl64", 1, Meaning::FcntlCommand),
    ("keyctl", 0, Meaning::KeyctlCommand), ("bpf", 0, Meaning::BpfCommand), ("ptrace", 0, Meaning::PtraceRequest),
    ("mount", 3, Meaning::MountFlags), ("umount2", 1, Meaning::UmountFlags),
    ("madvise", 2, Meaning::Advice), ("process_madvise", 3, Meaning::Advice),
    ("mmap", 2, Meaning::Protection), ("mmap", 3, Meaning::MapFlags),
    ("mmap2", 2, Meaning::Protection), ("mmap2", 3, Meaning::MapFlags),
    ("mprotect", 2, Meaning::Protection), ("pkey_mprotect", 2, Meaning::Protection),
    ("kill", 1, Meaning::Signal), ("tkill", 1, Meaning::Signal), ("tgkill", 2, Meaning::Signal),
    ("pidfd_send_signal", 1, Meaning::Signal), ("rt_sigqueueinfo", 1, Meaning::Signal), ("rt_tgsigqueueinfo", 2, Meaning::Signal),
    ("rt_sigaction", 0, Meaning::Signal), ("sigaction", 0, Meaning::Signal), ("signal", 0, Meaning::Signal),
    ("io_uring_register", 1, Meaning::RingRegistration),
    ("seccomp", 0, Meaning::SeccompOperation), ("seccomp", 1, Meaning::SeccompFlags),
    ("futex", 1, Meaning::FutexOperation), ("futex_time64", 1, Meaning::FutexOperation),
    ("open", 1, Meaning::OpenFlags), ("openat", 2, Meaning::OpenFlags),
    ("pipe2", 1, Meaning::OpenFlags), ("dup3", 2, Meaning::OpenFlags),
    ("socketcall", 0, Meaning::Socketcall), ("ipc", 0, Meaning::IpcCall), ("memfd_create", 1, Meaning::MemfdFlags),
    ("userfaultfd", 0, Meaning::UserfaultfdFlags),
];

/// Names of arguments that are bits or addresses whatever their type says.
const BITS: [&str; 9] =
    ["addr", "start", "brk", "newsp", "tls", "mode", "mask", "old_addr", "new_addr"];

/// Names of arguments that may be AT_FDCWD.
const DIRECTORIES: [&str; 5] = ["dfd", "olddfd", "newdfd", "from_dfd", "to_dfd"];

/// What argument `index` of the call means.
#[must_use]
pub fn of(call: &str, index: usize) -> Meaning {
    in_call(call, index, &[None; 6])
}

/// As [`of`], where other arguments are known: those decide for socket's protocol, the option of a level, and what
/// prctl's second argument is.
#[must_use]
pub fn in_call(call: &str, index: usize, known: &[Option<u64>; 6]) -> Meaning {
    let low = |index: usize| known[index].and_then(|value| u32::try_from(value).ok());
    let row = TABLE.iter().find(|(name, at, _)| *name == call && *at == index);
    match row.map(|(_, _, meaning)| *meaning) {
        Some(Meaning::Protocol) => match low(0) {
            // linux/socket.h: AF_INET, AF_INET6, AF_NETLINK
            Some(2 | 10) => Meaning::Protocol,
            Some(16) => Meaning::NetlinkProtocol,
            _ => Meaning::Plain,
        },
        Some(Meaning::SocketOption(_)) => Meaning::SocketOption(low(1)),
        Some(meaning) => meaning,
        None => match (call, index, low(0)) {
            // linux/prctl.h: PR_SET_PDEATHSIG, PR_CAPBSET_READ and _DROP, PR_CAP_AMBIENT, PR_SET_SECCOMP, PR_SET_MM
            ("prctl", 1, Some(1)) => Meaning::Signal,
            ("prctl", 1, Some(23 | 24)) => Meaning::Capability,
            ("prctl", 1, Some(47)) => Meaning::AmbientCommand,
            ("prctl", 1, Some(22)) => Meaning::SeccompMode,
            ("prctl", 1, Some(35)) => Meaning::MmOption,
            ("prctl", 2, Some(47)) => Meaning::Capability,
            _ => by_prototype(call, index),
        },
    }
}

fn by_prototype(call: &str, index: usize) -> Meaning {
    let Some(name) = names::of(call).and_then(|names| names.get(index)) else {
        return Meaning::Bits;
    };
    let kind = names::kind(crate::model::arch::Abi::X86_64, call, index);
    if DIRECTORIES.contains(name) {
        Meaning::Directory
    } else if kind == Some(Kind::Pointer)
        || BITS.contains(name)
        || name.contains("flag")
        || name.starts_with("arg")
    {
        Meaning::Bits
    } else {
        Meaning::Plain
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::arguments::constants::parse_any;

    #[test]
    fn rows_name_arguments_that_are() {
        for (index, (call, at, _)) in TABLE.iter().enumerate() {
            let names = names::of(call).unwrap_or_else(|| panic!("{call}"));
            assert!(*at < names.len(), "{call} {at}");
            assert!(!TABLE[..index].iter().any(|(other, place, _)| other == call && place == at));
        }
    }

    #[test]
    fn other_arguments_decide() {
        let with = |name: &str| [parse_any(name), None, None, None, None, None];
        for (call, index, first, meaning) in [
            ("socket", 2, "AF_INET", Meaning::Protocol),
            ("socket", 2, "AF_INET6", Meaning::Protocol),
            ("socket", 2, "AF_NETLINK", Meaning::NetlinkProtocol),
            ("socket", 2, "AF_ALG", Meaning::Plain),
            ("prctl", 1, "PR_SET_PDEATHSIG", Meaning::Signal),
            ("prctl", 1, "PR_CAPBSET_DROP", Meaning::Capability),
            ("prctl", 1, "PR_CAPBSET_READ", Meaning::Capability),
            ("prctl", 1, "PR_CAP_AMBIENT", Meaning::AmbientCommand),
            ("prctl", 2, "PR_CAP_AMBIENT", Meaning::Capability),
            ("prctl", 1, "PR_SET_SECCOMP", Meaning::SeccompMode),
            ("prctl", 1, "PR_SET_MM", Meaning::MmOption),
            ("prctl", 1, "PR_SET_NAME", Meaning::Bits),
        ] {
            assert_eq!(in_call(call, index, &with(first)), meaning, "{call} {first}");
        }
        let level = [None, parse_any("SOL_TCP"), None, None, None, None];
        assert_eq!(in_call("setsockopt", 2, &level), Meaning::SocketOption(Some(6)));
        assert_eq!(of("setsockopt", 2), Meaning::SocketOption(None));
        assert_eq!(of("openat", 0), Meaning::Directory);
        assert_eq!(of("openat", 1), Meaning::Bits);
        assert_eq!(of("read", 2), Meaning::Plain);
    }
}
