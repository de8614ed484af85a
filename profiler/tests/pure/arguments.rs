//! Arguments in words: what is written can be read, names are those of the headers, and whole outputs.

use profiler::model::{
    arch::Abi,
    arguments::{
        call,
        constants::{ALL, Meaning, parse, parse_any, show},
        meaning, names,
    },
    effective::Condition,
    facts,
    seccomp::Op,
};
use proptest::prelude::*;

const INT: u64 = 0xffff_ffff;

fn meanings() -> impl Strategy<Value = Meaning> {
    let all = ALL.iter().copied();
    let nameless = [Meaning::Bits, Meaning::Plain, Meaning::SocketOption(None)];
    proptest::sample::select(all.chain(nameless).collect::<Vec<_>>())
}

/// Registers as programs fill them: small numbers, single bits and a few together, sign extensions, anything.
fn registers() -> impl Strategy<Value = u64> {
    prop_oneof![
        0_u64..600,
        any::<u32>().prop_map(u64::from),
        (0_u32..32, 0_u32..32, 0_u64..256).prop_map(|(a, b, low)| 1 << a | 1 << b | low),
        any::<u64>(),
        (-4096_i64..0).prop_map(i64::cast_unsigned),
    ]
}

proptest! {
    #[test]
    fn what_is_shown_is_read_as_the_same(meaning in meanings(), value in registers()) {
        let shown = show(meaning, value);
        prop_assert_eq!(parse(meaning, &shown), Some(value), "{}", shown);
        prop_assert_eq!(parse_any(&shown), Some(value), "{}", shown);
    }

    #[test]
    fn a_call_has_as_many_arguments_as_the_kernel_says(
        row in any::<prop::sample::Index>(),
        values in prop::array::uniform6(registers()),
    ) {
        let all: Vec<&str> = facts::syscalls().map(|facts| facts.name).collect();
        let name = all[row.index(all.len())];
        for abi in Abi::ALL {
            let text = call::call(abi, name, &values);
            match names::on(abi, name) {
                Some(names) => {
                    prop_assert_eq!(text.matches(": ").count(), names.len(), "{}", text);
                    prop_assert!(names.iter().all(|name| text.contains(&format!("{name}: "))), "{}", text);
                }
                None => prop_assert_eq!(text.matches(", ").count(), 5, "{}", text),
            }
        }
    }
}

#[test]
fn values_are_shown_by_name() {
    for (meaning, value, text) in [
        (Meaning::AddressFamily, 2, "AF_INET"),
        (Meaning::AddressFamily, 1, "AF_UNIX"),
        (Meaning::AddressFamily, 0x1234, "0x1234"),
        (Meaning::AddressFamily, 1 << 32 | 2, "0x100000002"),
        (Meaning::SocketType, 0x80001, "SOCK_STREAM|SOCK_CLOEXEC"),
        (Meaning::SocketType, 0x80805, "SOCK_SEQPACKET|SOCK_NONBLOCK|SOCK_CLOEXEC"),
        (Meaning::SocketType, 0x80007, "SOCK_CLOEXEC|7"),
        (Meaning::CloneFlags, 0x1002_0000, "CLONE_NEWNS|CLONE_NEWUSER"),
        (Meaning::CloneFlags, 0x0120_0011, "CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD"),
        (Meaning::CloneFlags, 0x11, "SIGCHLD"),
        (Meaning::CloneFlags, 0, "0"),
        // the bit of CLONE_NEWTIME is the signal's, and no signal
        (Meaning::CloneFlags, 0x80, "0x80"),
        (Meaning::Namespaces, 0x80, "CLONE_NEWTIME"),
        (Meaning::PrctlOption, 38, "PR_SET_NO_NEW_PRIVS"),
        (Meaning::PrctlOption, 0x5356_4d41, "PR_SET_VMA"),
        (Meaning::IoctlRequest, 0x5413, "TIOCGWINSZ"),
        (Meaning::IoctlRequest, 0x5412, "TIOCSTI"),
        (Meaning::IoctlRequest, 0x541c, "TIOCLINUX"),
        (Meaning::IoctlRequest, 0x8008_6601, "FS_IOC_GETFLAGS"),
        (Meaning::IoctlRequest, 0x8004_6601, "FS_IOC32_GETFLAGS"),
        (Meaning::IoctlRequest, 0x8912, "SIOCGIFCONF"),
        (Meaning::Personality, 0x20008, "PER_LINUX32|UNAME26"),
        (Meaning::Personality, 0x4_0000, "ADDR_NO_RANDOMIZE"),
        (Meaning::Personality, 0xffff_ffff, "0xffffffff"),
        (Meaning::FcntlCommand, 1030, "F_DUPFD_CLOEXEC"),
        (Meaning::PtraceRequest, 0x4206, "PTRACE_SEIZE"),
        // it has another name on each architecture
        (Meaning::PtraceRequest, 33, "0x21"),
        (Meaning::MountFlags, 0xc0ed_1000, "MS_MGC_VAL|MS_BIND"),
        (Meaning::MountFlags, 0x5000, "MS_BIND|MS_REC"),
        (Meaning::MapFlags, 0x22, "MAP_PRIVATE|MAP_ANONYMOUS"),
        (Meaning::Protection, 5, "PROT_READ|PROT_EXEC"),
        (Meaning::Protection, 0, "PROT_NONE"),
        (Meaning::SocketOption(Some(1)), 2, "SO_REUSEADDR"),
        (Meaning::SocketOption(Some(6)), 1, "TCP_NODELAY"),
        (Meaning::SocketOption(None), 1, "1"),
        (
            Meaning::FutexOperation,
            0x189,
            "FUTEX_WAIT_BITSET|FUTEX_PRIVATE_FLAG|FUTEX_CLOCK_REALTIME",
        ),
        (Meaning::OpenFlags, 0x10_1002, "O_RDWR|O_SYNC"),
        // O_DIRECTORY there, O_DIRECT on ARM
        (Meaning::OpenFlags, 0x1_0000, "0x10000"),
        (Meaning::Directory, 0xffff_ff9c, "AT_FDCWD"),
        (Meaning::Bits, 0x1234, "0x1234"),
        (Meaning::Plain, 1234, "1234"),
    ] {
        assert_eq!(show(meaning, value), text, "{meaning:?} {value:#x}");
    }
}

#[test]
fn names_and_numbers_are_read() {
    for (text, value) in [
        ("17", 17),
        ("0x11", 17),
        ("0o21", 17),
        ("AF_PACKET", 17),
        ("AF_LOCAL", 1),
        ("-1", u64::MAX),
        ("CLONE_NEWNS|CLONE_NEWUSER", 0x1002_0000),
        ("SOCK_STREAM | 0x80000", 0x80001),
        ("18446744073709551615", u64::MAX),
    ] {
        assert_eq!(parse_any(text), Some(value), "{text}");
    }
    for bad in ["", "|", "AF_", "0x", "0xg", "+1", "--1", "1.5", "18446744073709551616", "AF_INET|"]
    {
        assert_eq!(parse_any(bad), None, "{bad}");
    }
    // a name of another kind of argument is none
    assert_eq!(parse(Meaning::AddressFamily, "SOCK_STREAM"), None);
    assert_eq!(parse(Meaning::CloneFlags, "CLONE_VM|SIGCHLD"), Some(0x111));
}

#[cfg(target_arch = "x86_64")]
#[test]
fn values_are_libcs() {
    for (name, value) in [
        ("AF_VSOCK", i64::from(libc::AF_VSOCK)),
        ("AF_ALG", libc::AF_ALG.into()),
        ("SOCK_CLOEXEC", libc::SOCK_CLOEXEC.into()),
        ("IPPROTO_UDPLITE", libc::IPPROTO_UDPLITE.into()),
        ("NETLINK_KOBJECT_UEVENT", libc::NETLINK_KOBJECT_UEVENT.into()),
        ("CLONE_NEWCGROUP", libc::CLONE_NEWCGROUP.into()),
        ("CLONE_THREAD", libc::CLONE_THREAD.into()),
        ("MAP_ANONYMOUS", libc::MAP_ANONYMOUS.into()),
        ("MADV_DONTFORK", libc::MADV_DONTFORK.into()),
        ("O_CLOEXEC", libc::O_CLOEXEC.into()),
        ("O_SYNC", libc::O_SYNC.into()),
        ("PR_SET_NO_NEW_PRIVS", libc::PR_SET_NO_NEW_PRIVS.into()),
        ("PR_CAP_AMBIENT_RAISE", libc::PR_CAP_AMBIENT_RAISE.into()),
        ("PTRACE_SETOPTIONS", libc::PTRACE_SETOPTIONS.into()),
        ("F_ADD_SEALS", libc::F_ADD_SEALS.into()),
        ("MNT_DETACH", libc::MNT_DETACH.into()),
        ("SIGWINCH", libc::SIGWINCH.into()),
        ("SO_ATTACH_BPF", libc::SO_ATTACH_BPF.into()),
        ("TCP_FASTOPEN", libc::TCP_FASTOPEN.into()),
        ("IPV6_V6ONLY", libc::IPV6_V6ONLY.into()),
        ("SOL_NETLINK", libc::SOL_NETLINK.into()),
        ("FUTEX_WAIT_BITSET", libc::FUTEX_WAIT_BITSET.into()),
        ("ADDR_NO_RANDOMIZE", libc::ADDR_NO_RANDOMIZE.into()),
        ("SECCOMP_FILTER_FLAG_TSYNC", libc::SECCOMP_FILTER_FLAG_TSYNC.cast_signed()),
    ] {
        assert_eq!(
            parse_any(name).and_then(|known| i64::try_from(known).ok()),
            Some(value),
            "{name}"
        );
    }
    for (name, request) in [
        ("TIOCGWINSZ", libc::TIOCGWINSZ),
        ("FS_IOC_GETFLAGS", libc::FS_IOC_GETFLAGS),
        ("BLKRRPART", 0x125f),
        ("FIONBIO", libc::FIONBIO),
        ("TCGETS2", libc::TCGETS2),
    ] {
        assert_eq!(parse_any(name), Some(request), "{name}");
    }
}

#[test]
fn calls_and_conditions_in_words() {
    let mut lines = Vec::new();
    for (abi, name, registers) in [
        (Abi::X86_64, "socket", [38, 5, 0, 7, 7, 7]),
        (Abi::X86_64, "socket", [2, 0x80003, 1, 0, 0, 0]),
        (Abi::X86_64, "socket", [16, 3, 9, 0, 0, 0]),
        (Abi::X86_64, "socket", [0xffff_ffff_0000_0002, 1, 0, 0, 0, 0]),
        (Abi::X86_64, "openat", [0xffff_ff9c, 0x7ffd_1000, 0x80000, 0, 0, 0]),
        (Abi::Aarch64, "openat", [0xffff_ffff_ffff_ff9c, 0x7ffd_1000, 0x80000, 0, 0, 0]),
        (Abi::X86_64, "getpid", [1, 2, 3, 4, 5, 6]),
        (Abi::X86_64, "lseek", [3, u64::MAX, 1, 0, 0, 0]),
        (Abi::X86_64, "kill", [0xffff_ffff, 9, 0, 0, 0, 0]),
        (Abi::X86_64, "prctl", [24, 21, 0, 0, 0, 0]),
        (Abi::X86_64, "clone", [0x7e02_0011, 0, 0, 1, 2, 0]),
        (Abi::Aarch64, "clone", [0x7e02_0011, 0, 0, 1, 2, 0]),
        (Abi::Ia32, "mmap", [0xbfff_0000, 0, 0, 0, 0, 0]),
        (Abi::X86_64, "mmap", [0, 4096, 3, 0x22, u64::MAX, 0]),
        (Abi::X86_64, "setsockopt", [4, 6, 1, 0x7ffd_2000, 4, 0]),
        (Abi::X86_64, "ioctl", [1, 0x5412, 0x7ffd_3000, 0, 0, 0]),
        (Abi::Ia32, "socketcall", [2, 0xbfff_0000, 0, 0, 0, 0]),
        (Abi::Ia32, "ipc", [23, 1, 2, 3, 0, 0]),
        (Abi::X86_64, "memfd_create", [0x7ffd_1000, 3, 0, 0, 0, 0]),
        (Abi::X86_64, "userfaultfd", [0x8_0001, 0, 0, 0, 0, 0]),
        (Abi::Ia32, "pread64", [3, 0xbfff_0000, 16, 1, 0, 0]),
        (Abi::X86_64, "syscall_999", [1, 0x10, 0, 0, 0, 0]),
    ] {
        lines.push(format!("{abi} {}", call::call(abi, name, &registers)));
    }
    for (name, conditions) in [
        ("clone", vec![(0, Op::MaskedEq, 0x7e02_0000, 0)]),
        ("personality", vec![(0, Op::Eq, 0x4_0000, 0)]),
        ("socket", vec![(0, Op::Ne, 40, 0)]),
        ("socket", vec![(0, Op::Eq, 16, 0), (2, Op::Eq, 9, 0)]),
        ("socket", vec![(0, Op::Eq, 2, 0), (1, Op::MaskedEq, 0xf, 3), (2, Op::Lt, 6, 0)]),
        ("setsockopt", vec![(1, Op::Eq, 1, 0), (2, Op::Eq, 50, 0)]),
        ("setsockopt", vec![(2, Op::Eq, 50, 0)]),
        ("prctl", vec![(0, Op::Eq, 47, 0), (1, Op::Eq, 2, 0)]),
        ("ioctl", vec![(1, Op::Ne, 0x5412, 0)]),
        (
            "socket",
            vec![
                (0, Op::MaskedEq, INT, 16),
                (1, Op::MaskedEq, INT & !0o2_004_000, 3),
                (2, Op::MaskedEq, INT, 9),
            ],
        ),
        ("unshare", vec![(0, Op::MaskedEq, INT, 0x2_0000)]),
        ("mmap", vec![(2, Op::MaskedEq, 4, 0)]),
        ("kill", vec![(1, Op::MaskedEq, u64::MAX, 9)]),
        ("mount", vec![(3, Op::MaskedEq, INT & !0x5000, 0)]),
        ("read", vec![(2, Op::Gt, 4096, 0)]),
        ("read", vec![(5, Op::Eq, 4096, 0)]),
        ("afs_syscall", vec![(0, Op::Eq, 0x40, 0)]),
    ] {
        let conditions: Vec<Condition> = conditions
            .into_iter()
            .map(|(index, op, value, value_two)| Condition { index, op, value, value_two })
            .collect();
        let told = call::conditions(None, name, &conditions).join(", ");
        lines.push(format!("{name}: {told}"));
    }
    insta::assert_snapshot!(lines.join("\n"));
    assert_eq!(meaning::of("socket", 0), Meaning::AddressFamily);
}
