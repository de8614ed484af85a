//! Calls that stand in for each other: which of them a program makes is its C library's choice, the kernel's age or the
//! architecture's.
//!
//! Owns the data. Each family is a set of names of which any may take the place of any other, in some library, on some kernel or
//! ABI; that the same thing happens then is what makes it one. Sources are the C libraries' own: glibc 2.31 to 2.41
//! (`sysdeps/unix/sysv/linux`), musl 1.2 (`src/`), and the kernel's tables. `socketcall` and `ipc` of ia32 are in none: allowing
//! them allows all that goes through them, whatever other rules say.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use crate::model::{arch::Abi, syscall};

/// Calls that stand in for each other.
#[derive(Debug)]
pub struct Family {
    /// Names; of any ABI.
    pub calls: &'static [&'static str],
    /// Who makes which.
    pub why: &'static str,
}

/// What C libraries do by themselves: at the start of a program and of a thread, in the allocator, and for standard streams. A program
/// that starts under one of them makes some of these, under another others.
pub static LIBC: &[&str] = &[
    "arch_prctl",
    "brk",
    "futex",
    "futex_time64",
    "getpid",
    "getrandom",
    "gettid",
    "ioctl",
    "madvise",
    "membarrier",
    "mmap",
    "mmap2",
    "mprotect",
    "mremap",
    "munmap",
    "prlimit64",
    "readlink",
    "readlinkat",
    "rseq",
    "rt_sigaction",
    "rt_sigprocmask",
    "sched_getaffinity",
    "set_robust_list",
    "set_thread_area",
    "set_tid_address",
    "set_tls",
    "sysinfo",
    "ugetrlimit",
    "uname",
];

/// The families. A call may be in several.
pub static FAMILIES: &[Family] = &[
    // files by path
    Family {
        calls: &["creat", "open", "openat", "openat2"],
        why: "glibc opens by openat, musl by open where the ABI has it; newer runtimes try openat2 first",
    },
    Family {
        calls: &[
            "fstat",
            "fstat64",
            "fstatat64",
            "lstat",
            "lstat64",
            "newfstatat",
            "stat",
            "stat64",
            "statx",
        ],
        why: "glibc 2.33 to 2.38 asks for an open file by newfstatat, others by fstat; 32-bit ABIs with 64-bit time have statx only",
    },
    Family {
        calls: &["access", "faccessat", "faccessat2"],
        why: "faccessat2 came with 5.8, and newer ABIs have no access",
    },
    Family {
        calls: &["chmod", "fchmodat", "fchmodat2"],
        why: "newer ABIs have no chmod; fchmodat2 came with 6.6",
    },
    Family {
        calls: &["chown", "chown32", "fchownat", "lchown", "lchown32"],
        why: "newer ABIs have fchownat only, 32-bit ones a call for ids of 32 bits",
    },
    Family { calls: &["fchown", "fchown32"], why: "32-bit ABIs have a call for ids of 32 bits" },
    Family { calls: &["link", "linkat"], why: "newer ABIs have no link" },
    Family { calls: &["rmdir", "unlink", "unlinkat"], why: "newer ABIs have unlinkat only" },
    Family { calls: &["mkdir", "mkdirat"], why: "newer ABIs have no mkdir" },
    Family { calls: &["mknod", "mknodat"], why: "newer ABIs have no mknod" },
    Family {
        calls: &["rename", "renameat", "renameat2"],
        why: "aarch64 has no rename, riscv64 renameat2 only",
    },
    Family { calls: &["symlink", "symlinkat"], why: "newer ABIs have no symlink" },
    Family { calls: &["readlink", "readlinkat"], why: "newer ABIs have no readlink" },
    Family {
        calls: &["futimesat", "utime", "utimensat", "utimensat_time64", "utimes"],
        why: "C libraries set all times by utimensat, older ones by utime and utimes",
    },
    Family {
        calls: &["statfs", "statfs64"],
        why: "32-bit ABIs have a call for large file systems",
    },
    Family {
        calls: &["fstatfs", "fstatfs64"],
        why: "32-bit ABIs have a call for large file systems",
    },
    Family {
        calls: &["getdents", "getdents64"],
        why: "old C libraries read directories by getdents",
    },
    // open files
    Family { calls: &["read", "readv"], why: "musl's streams read by readv, glibc's by read" },
    Family { calls: &["write", "writev"], why: "musl's streams write by writev, glibc's by write" },
    Family { calls: &["preadv", "preadv2"], why: "with flags, preadv2" },
    Family { calls: &["pwritev", "pwritev2"], why: "with flags, pwritev2" },
    Family { calls: &["_llseek", "lseek"], why: "32-bit ABIs seek in large files by _llseek" },
    Family { calls: &["truncate", "truncate64"], why: "32-bit ABIs have a call for large files" },
    Family { calls: &["ftruncate", "ftruncate64"], why: "32-bit ABIs have a call for large files" },
    Family { calls: &["fcntl", "fcntl64"], why: "32-bit ABIs have a call for large files" },
    Family { calls: &["sendfile", "sendfile64"], why: "32-bit ABIs have a call for large files" },
    Family {
        calls: &["arm_fadvise64_64", "fadvise64", "fadvise64_64"],
        why: "32-bit ABIs have calls of their own for large files",
    },
    Family {
        calls: &["arm_sync_file_range", "sync_file_range"],
        why: "arm has the arguments in another order",
    },
    Family { calls: &["dup2", "dup3"], why: "newer ABIs have no dup2" },
    Family { calls: &["pipe", "pipe2"], why: "newer ABIs have no pipe" },
    // waiting
    Family {
        calls: &["poll", "ppoll", "ppoll_time64"],
        why: "newer ABIs have no poll, 32-bit ones with 64-bit time ppoll_time64",
    },
    Family {
        calls: &["_newselect", "pselect6", "pselect6_time64", "select"],
        why: "glibc 2.34 and later selects by pselect6, musl by select where the ABI has it",
    },
    Family { calls: &["epoll_create", "epoll_create1"], why: "newer ABIs have no epoll_create" },
    Family {
        calls: &["epoll_pwait", "epoll_pwait2", "epoll_wait"],
        why: "musl and newer ABIs wait by epoll_pwait",
    },
    Family { calls: &["eventfd", "eventfd2"], why: "newer ABIs have no eventfd" },
    Family { calls: &["signalfd", "signalfd4"], why: "newer ABIs have no signalfd" },
    Family { calls: &["inotify_init", "inotify_init1"], why: "newer ABIs have no inotify_init" },
    Family {
        calls: &["pause", "ppoll", "ppoll_time64"],
        why: "newer ABIs have no pause: C libraries wait by ppoll",
    },
    Family {
        calls: &["wait4", "waitid", "waitpid"],
        why: "waitpid is a call of some ABIs, else wait4; riscv32 has waitid only",
    },
    // processes and threads
    Family {
        calls: &["clone", "clone3", "fork", "vfork"],
        why: "glibc 2.34 and later starts threads by clone3 first, musl by clone; fork is a call, or clone",
    },
    Family {
        calls: &["execve", "execveat"],
        why: "fexecve is execveat, or execve of /proc/self/fd",
    },
    Family { calls: &["tgkill", "tkill"], why: "musl raises by tkill, glibc by tgkill" },
    Family { calls: &["getpgid", "getpgrp"], why: "newer ABIs have no getpgrp" },
    Family {
        calls: &["getrlimit", "prlimit64", "setrlimit", "ugetrlimit"],
        why: "C libraries ask and set limits by prlimit64, older ones by getrlimit and setrlimit",
    },
    Family { calls: &["alarm", "setitimer"], why: "newer ABIs have no alarm" },
    Family { calls: &["rt_sigaction", "sigaction", "signal"], why: "old programs of 32-bit ABIs" },
    Family { calls: &["rt_sigprocmask", "sigprocmask"], why: "old programs of 32-bit ABIs" },
    Family { calls: &["rt_sigsuspend", "sigsuspend"], why: "old programs of 32-bit ABIs" },
    Family { calls: &["rt_sigpending", "sigpending"], why: "old programs of 32-bit ABIs" },
    Family { calls: &["mmap", "mmap2"], why: "32-bit ABIs map by mmap2" },
    Family { calls: &["mlock", "mlock2"], why: "with flags, mlock2" },
    // ids, for which the oldest ABIs have two calls
    Family { calls: &["getuid", "getuid32"], why: IDS },
    Family { calls: &["getgid", "getgid32"], why: IDS },
    Family { calls: &["geteuid", "geteuid32"], why: IDS },
    Family { calls: &["getegid", "getegid32"], why: IDS },
    Family { calls: &["setuid", "setuid32"], why: IDS },
    Family { calls: &["setgid", "setgid32"], why: IDS },
    Family { calls: &["setreuid", "setreuid32"], why: IDS },
    Family { calls: &["setregid", "setregid32"], why: IDS },
    Family { calls: &["getresuid", "getresuid32"], why: IDS },
    Family { calls: &["setresuid", "setresuid32"], why: IDS },
    Family { calls: &["getresgid", "getresgid32"], why: IDS },
    Family { calls: &["setresgid", "setresgid32"], why: IDS },
    Family { calls: &["getgroups", "getgroups32"], why: IDS },
    Family { calls: &["setgroups", "setgroups32"], why: IDS },
    Family { calls: &["setfsuid", "setfsuid32"], why: IDS },
    Family { calls: &["setfsgid", "setfsgid32"], why: IDS },
    // sockets
    Family {
        calls: &["accept", "accept4"],
        why: "ia32 has accept4 only; Go and libuv call accept4",
    },
    Family { calls: &["send", "sendto"], why: "send is a call of arm only" },
    Family { calls: &["recv", "recvfrom"], why: "recv is a call of arm only" },
    Family { calls: &["recvmmsg", "recvmmsg_time64"], why: TIME64 },
    // time
    Family {
        calls: &["clock_gettime", "clock_gettime64", "gettimeofday", "time"],
        why: "time and gettimeofday are clock_gettime in some libraries and on newer ABIs",
    },
    Family { calls: &["clock_getres", "clock_getres_time64"], why: TIME64 },
    Family {
        calls: &["clock_nanosleep", "clock_nanosleep_time64", "nanosleep"],
        why: "glibc 2.31 and later sleeps by clock_nanosleep, musl by nanosleep",
    },
    Family {
        calls: &["clock_settime", "clock_settime64", "settimeofday", "stime"],
        why: "C libraries set the clock by clock_settime, older ones by settimeofday",
    },
    Family {
        calls: &["adjtimex", "clock_adjtime", "clock_adjtime64"],
        why: "glibc adjusts by clock_adjtime",
    },
    Family { calls: &["futex", "futex_time64"], why: TIME64 },
    Family { calls: &["timer_gettime", "timer_gettime64"], why: TIME64 },
    Family { calls: &["timer_settime", "timer_settime64"], why: TIME64 },
    Family { calls: &["timerfd_gettime", "timerfd_gettime64"], why: TIME64 },
    Family { calls: &["timerfd_settime", "timerfd_settime64"], why: TIME64 },
    Family { calls: &["sched_rr_get_interval", "sched_rr_get_interval_time64"], why: TIME64 },
    Family { calls: &["rt_sigtimedwait", "rt_sigtimedwait_time64"], why: TIME64 },
    Family { calls: &["mq_timedsend", "mq_timedsend_time64"], why: TIME64 },
    Family { calls: &["mq_timedreceive", "mq_timedreceive_time64"], why: TIME64 },
    Family {
        calls: &["semop", "semtimedop", "semtimedop_time64"],
        why: "semop is semtimedop without a limit in some libraries",
    },
    Family { calls: &["io_getevents", "io_pgetevents", "io_pgetevents_time64"], why: TIME64 },
];

const IDS: &str = "ia32 and arm have a call for ids of 32 bits";
const TIME64: &str = "32-bit ABIs have a call for 64-bit time";

/// The partners of each name, itself left out.
static PARTNERS: LazyLock<BTreeMap<&'static str, BTreeSet<&'static str>>> = LazyLock::new(|| {
    let mut partners: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for family in FAMILIES {
        for call in family.calls {
            partners
                .entry(call)
                .or_default()
                .extend(family.calls.iter().filter(|other| *other != call));
        }
    }
    partners
});

/// The calls of `abi` that stand in for `name`, which need not be one of that ABI's: number and name, by name.
pub fn partners(abi: Abi, name: &str) -> impl Iterator<Item = (u32, &'static str)> {
    let partners: &BTreeMap<&str, BTreeSet<&'static str>> = &PARTNERS;
    let names = partners.get(name).into_iter().flatten().copied();
    names.filter_map(move |name| Some((syscall::number(abi, name)?, name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_call_of_some_abi_and_lists_are_sorted() {
        let lists = FAMILIES.iter().map(|family| family.calls).chain([LIBC]);
        for calls in lists {
            assert!(calls.len() > 1, "{calls:?}");
            for name in calls {
                assert!(Abi::ALL.iter().any(|abi| syscall::number(*abi, name).is_some()), "{name}");
            }
            let sorted: BTreeSet<_> = calls.iter().collect();
            assert!(sorted.iter().map(|name| **name).eq(calls.iter().copied()), "{calls:?}");
        }
    }

    /// What glibc or musl make of a function on one ABI, another may lack, but never without a partner.
    #[test]
    fn what_an_abi_lacks_has_a_partner_there() {
        for (name, abi, partner) in [
            ("open", Abi::Aarch64, "openat"),
            ("rename", Abi::Riscv64, "renameat2"),
            ("poll", Abi::Aarch64, "ppoll"),
            ("fork", Abi::Aarch64, "clone"),
            ("dup2", Abi::Aarch64, "dup3"),
            ("pause", Abi::Riscv64, "ppoll"),
            ("newfstatat", Abi::Ia32, "fstatat64"),
            ("getpgrp", Abi::Aarch64, "getpgid"),
            ("accept", Abi::Ia32, "accept4"),
        ] {
            assert_eq!(syscall::number(abi, name), None, "{name}");
            assert!(partners(abi, name).any(|(_, other)| other == partner), "{name} on {abi}");
        }
    }

    #[test]
    fn what_goes_round_other_rules_is_no_partner() {
        for name in ["socketcall", "ipc", "ptrace", "process_vm_readv"] {
            assert!(!PARTNERS.contains_key(name), "{name}");
        }
        assert_eq!(partners(Abi::X86_64, "mount").count(), 0);
    }
}
