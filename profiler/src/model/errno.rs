//! The error that a denied call gets.
//!
//! Owns the decision and its reasons, as data. A denied call is answered EPERM, unless callers are known to
//! ask for it first and to do without when the kernel says ENOSYS. The distinction matters because
//! libc knows the two apart: glibc and musl retry `clone3` as `clone`, `faccessat2` as `faccessat` and
//! `fchmodat2` as `fchmodat` on ENOSYS only, and pass EPERM to the program, where it breaks
//! `pthread_create` and `access`.
//!
//! The baseline is Linux 3.2, which glibc 2.26 to 2.41 and Go 1.24 still run on: a call that is
//! newer than that has a fallback in every libc and runtime that makes it unasked. Each row below is such a call;
//! newer calls that only administration tools make (`bpf`, `finit_module`, `kexec_file_load`, `kcmp`,
//! `userfaultfd`) stay at EPERM, which is what the kernel itself answers the unprivileged.
//!
//! Why not the reverse, ENOSYS by default and a list of EPERM: an old call cannot be missing, so
//! programs take ENOSYS from `chown` or `unshare` for a broken kernel, or quietly for "feature absent",
//! and a policy's refusal no longer looks like one; the list would be the 320 calls that never change
//! instead of the few that do; and Docker 20.10 drops `defaultErrnoRet`, so only EPERM, the runtimes' own
//! default, means the same everywhere. What the choice costs: crun has no ENOSYS stub for calls that
//! its libseccomp cannot name, so the newest of them are EPERM there. runc answers ENOSYS for those.

use std::collections::BTreeSet;

use crate::model::{arch::Abi, syscall};

/// EPERM: the answer to a denied call that no row names.
pub const DEFAULT: u32 = libc::EPERM as u32;
/// ENOSYS: the answer to a denied call that callers can do without.
pub const FALLBACK: u32 = libc::ENOSYS as u32;

/// Why some calls are answered with ENOSYS.
#[derive(Debug)]
pub struct Row {
    /// The calls.
    pub calls: Calls,
    /// What callers do.
    pub reason: &'static str,
}

/// Which calls a row is about.
#[derive(Debug)]
pub enum Calls {
    /// These names.
    Named(&'static [&'static str]),
    /// All numbers from the first to before the second, on the ABIs for which the predicate holds.
    Numbered(u32, u32, fn(Abi) -> bool),
}

/// The table. A call may be in several rows.
pub static ROWS: &[Row] = &[
    Row {
        // Since 5.1 all ABIs share the numbers from 424 on. Those from 512 on are x32's own spellings of
        // old calls, those from 0xf0000 on ARM's private ones.
        calls: Calls::Numbered(424, 512, |_| true),
        reason: "newer than Linux 5.0: clone3, close_range, openat2, faccessat2, fchmodat2, pidfd_open, \
                 epoll_pwait2, io_uring and the mount API are tried first, ENOSYS selects the older way",
    },
    Row {
        calls: Calls::Numbered(403, 424, is_32_bit),
        reason: "64-bit time on 32-bit ABIs: glibc and musl use the 32-bit call on ENOSYS only",
    },
    Row {
        calls: Calls::Named(&["statx"]),
        reason: "glibc's stat on 32-bit ABIs, Rust's std and libuv use fstatat",
    },
    Row {
        calls: Calls::Named(&["rseq"]),
        reason: "glibc registers every thread, and runs without when it cannot",
    },
    Row {
        calls: Calls::Named(&["getrandom"]),
        reason: "glibc's arc4random, Go and OpenSSL read /dev/urandom; glibc aborts on other errors",
    },
    Row {
        calls: Calls::Named(&["renameat2"]),
        reason: "coreutils' mv asks for RENAME_NOREPLACE first and then uses renameat",
    },
    Row {
        calls: Calls::Named(&["copy_file_range"]),
        reason: "coreutils' cp, Go's and Rust's file copies read and write instead",
    },
    Row { calls: Calls::Named(&["preadv2", "pwritev2"]), reason: "glibc uses preadv and pwritev" },
    Row { calls: Calls::Named(&["execveat"]), reason: "glibc's fexecve executes /proc/self/fd/N" },
    Row {
        calls: Calls::Named(&["memfd_create"]),
        reason: "JIT compilers and language runtimes use a temporary file",
    },
    Row {
        calls: Calls::Named(&["membarrier"]),
        reason: "liburcu, the JVM and .NET ask for it and use signals or mprotect",
    },
    Row {
        calls: Calls::Named(&["mlock2"]),
        reason: "glibc uses mlock, or says EINVAL where flags are set",
    },
    Row {
        calls: Calls::Named(&["pkey_alloc", "pkey_free", "pkey_mprotect"]),
        reason: "glibc uses mprotect for key -1; V8 and others take it for a CPU without keys",
    },
    Row {
        calls: Calls::Named(&["io_pgetevents"]),
        reason: "event loops on Linux AIO use io_getevents",
    },
    Row {
        calls: Calls::Named(&["seccomp"]),
        reason: "libseccomp asks what it can do and uses prctl",
    },
    Row {
        calls: Calls::Named(&["riscv_hwprobe"]),
        reason: "glibc asks for CPU features and selects its plain routines",
    },
];

const fn is_32_bit(abi: Abi) -> bool {
    matches!(abi, Abi::Ia32 | Abi::Arm)
}

/// The error that call `nr` gets when it is denied.
#[must_use]
pub fn of_denied(abi: Abi, nr: u32) -> u32 {
    let is_meant = |row: &Row| match row.calls {
        Calls::Named(names) => syscall::name(abi, nr).is_some_and(|name| names.contains(&name)),
        Calls::Numbered(first, end, on) => (first..end).contains(&nr) && on(abi),
    };
    if ROWS.iter().any(is_meant) { FALLBACK } else { DEFAULT }
}

/// The names that a profile for `abis` answers with ENOSYS, when it allows `allowed`.
///
/// A seccomp rule has no ABI of its own, so a name that any of the ABIs allows is not among them: there are
/// never two actions for one name.
#[must_use]
pub fn fallback_names(abis: &[Abi], allowed: &BTreeSet<&str>) -> BTreeSet<&'static str> {
    let calls = abis.iter().flat_map(|&abi| syscall::table(abi).iter().map(move |row| (abi, row)));
    calls
        .filter(|&(abi, &(nr, name))| of_denied(abi, nr) == FALLBACK && !allowed.contains(name))
        .map(|(_, &(_, name))| name)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied(abi: Abi, name: &str) -> u32 {
        of_denied(abi, syscall::number(abi, name).expect(name))
    }

    #[test]
    fn what_libc_probes_for_is_enosys() {
        for name in [
            "clone3",
            "statx",
            "faccessat2",
            "openat2",
            "close_range",
            "rseq",
            "fchmodat2",
            "epoll_pwait2",
            "futex_waitv",
            "pidfd_open",
            "io_uring_setup",
            "getrandom",
            "fchroot",
        ] {
            assert_eq!(denied(Abi::X86_64, name), FALLBACK, "{name}");
            assert_eq!(denied(Abi::Aarch64, name), FALLBACK, "{name}");
        }
    }

    #[test]
    fn what_has_always_been_there_is_eperm() {
        for name in [
            "read",
            "mount",
            "ptrace",
            "unshare",
            "bpf",
            "setuid",
            "socket",
            "rt_sigaction",
            "uretprobe",
        ] {
            assert_eq!(denied(Abi::X86_64, name), DEFAULT, "{name}");
        }
        // Renumbered on x32, private on ARM: large numbers, old calls.
        assert_eq!(denied(Abi::X32, "rt_sigaction"), DEFAULT);
        assert_eq!(denied(Abi::X32, "execve"), DEFAULT);
        assert_eq!(denied(Abi::Arm, "set_tls"), DEFAULT);
    }

    #[test]
    fn time64_is_for_32_bit_abis() {
        assert_eq!(denied(Abi::Ia32, "futex_time64"), FALLBACK);
        assert_eq!(denied(Abi::Arm, "clock_nanosleep_time64"), FALLBACK);
        assert_eq!(syscall::number(Abi::X86_64, "futex_time64"), None);
    }

    #[test]
    fn every_named_call_exists() {
        for row in ROWS {
            let Calls::Named(names) = row.calls else { continue };
            for name in names {
                assert!(Abi::ALL.iter().any(|&abi| syscall::number(abi, name).is_some()), "{name}");
            }
        }
    }

    #[test]
    fn the_common_numbers_end_before_x32s_own() {
        // When this fails the kernel has used up the range, and the row above needs a second one.
        let newest = syscall::table(Abi::Aarch64).last().expect("rows").0;
        assert!((472..512).contains(&newest), "{newest}");
    }

    #[test]
    fn a_name_that_one_abi_allows_is_not_denied_for_another() {
        let names = fallback_names(&[Abi::X86_64, Abi::Ia32], &BTreeSet::from(["clone3"]));
        assert!(!names.contains("clone3"));
        assert!(names.contains("statx") && names.contains("futex_time64"));
        assert!(!fallback_names(&[Abi::X86_64], &BTreeSet::new()).contains("futex_time64"));
    }
}
