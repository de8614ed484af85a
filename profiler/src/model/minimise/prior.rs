//! What is known of calls before any run: which are likely to be missed by nobody, and which no test may vouch for.
//!
//! Owns reviewed lists. They decide in which order a search tries what, and what it never drops; never that something is dropped.

use crate::model::{arch::Abi, errno, minimise::Entry, syscall};

/// Calls that give advice, tune or ask, and whose refusal programs and libc take quietly. A refusal of none of them loses data.
const ADVICE: &[&str] = &[
    "fadvise64",
    "fadvise64_64",
    "get_mempolicy",
    "getpriority",
    "getrusage",
    "ioprio_get",
    "ioprio_set",
    "madvise",
    "mbind",
    "prlimit64",
    "readahead",
    "sched_getaffinity",
    "sched_getparam",
    "sched_getscheduler",
    "sched_setaffinity",
    "sched_setparam",
    "sched_setscheduler",
    "sched_yield",
    "set_mempolicy",
    "set_robust_list",
    "setpriority",
    "sigaltstack",
    "sysinfo",
    "times",
];

/// Calls by which a program gives up privileges or keeps data safe. One that goes on without them passes its tests and is worse off.
const GUARDS: &[&str] = &[
    "capset",
    "chroot",
    "fdatasync",
    "flock",
    "fsync",
    "landlock_add_rule",
    "landlock_create_ruleset",
    "landlock_restrict_self",
    "mlock",
    "mlock2",
    "mlockall",
    "mprotect",
    "mseal",
    "msync",
    "pivot_root",
    "prctl",
    "seccomp",
    "setfsgid",
    "setfsuid",
    "setgid",
    "setgroups",
    "setregid",
    "setresgid",
    "setresuid",
    "setreuid",
    "setrlimit",
    "setuid",
    "sync",
    "sync_file_range",
    "syncfs",
    "umask",
    "unshare",
];

/// Capabilities for the same: without them a server may serve as root what it should serve as nobody.
const GUARD_CAPABILITIES: &[&str] = &["SETGID", "SETPCAP", "SETUID"];

/// How likely a call that the tests make is missed by nobody; the lower the likelier. `None`: not likely.
pub(super) fn rank(entry: &Entry) -> Option<u8> {
    let Entry::Syscall(name) = entry else { return None };
    let is_fallback = |abi: &Abi| {
        syscall::number(*abi, name).is_some_and(|nr| errno::of_denied(*abi, nr) == errno::FALLBACK)
    };
    if Abi::ALL.iter().any(is_fallback) {
        Some(0)
    } else {
        ADVICE.contains(&name.as_str()).then_some(1)
    }
}

/// Whether passing tests are no reason to drop it once it is made.
pub(super) fn is_guard(entry: &Entry) -> bool {
    match entry {
        Entry::Syscall(name) | Entry::Arguments { call: name, .. } => {
            let name = name.trim_end_matches("32"); // setuid32
            GUARDS.contains(&name)
        }
        Entry::Capability(name) => GUARD_CAPABILITIES.contains(&name.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::capability;

    #[test]
    fn every_name_exists_once() {
        for names in [ADVICE, GUARDS] {
            assert!(names.is_sorted() && names.windows(2).all(|pair| pair[0] != pair[1]));
            for name in names {
                assert!(Abi::ALL.iter().any(|&abi| syscall::number(abi, name).is_some()), "{name}");
            }
        }
        assert!(ADVICE.iter().all(|name| !GUARDS.contains(name)));
        assert!(GUARD_CAPABILITIES.iter().all(|name| capability::is_canonical(name)));
    }

    #[test]
    fn fallbacks_come_first_and_most_calls_not_at_all() {
        let rank = |name: &str| super::rank(&Entry::Syscall(name.into()));
        assert_eq!([rank("clone3"), rank("madvise"), rank("read")], [Some(0), Some(1), None]);
        assert!(is_guard(&Entry::Syscall("setgroups32".into())));
        assert!(!is_guard(&Entry::Capability("CHOWN".into())));
    }
}
