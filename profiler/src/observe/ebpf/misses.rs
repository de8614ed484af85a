//! Runs of our programs that the kernel left out.
//!
//! A tracepoint's program does not run while it runs already on the same processor. Since Linux 7.0 it can be preempted
//! (<https://git.kernel.org/linus/a46023d5616e>), so that happens whenever another task runs in the meantime. What a skipped
//! `sys_enter` would have seen is seen at the call's end, for which `sys_exit` stays attached there. The rest is counted, for
//! the whole host: whether it was a target's is not known.

use std::os::fd::{AsFd as _, AsRawFd as _};

use aya::{Ebpf, programs::Program};
use fs_err as fs;

use crate::kernel::version::{KernelVersion, Uname};

/// The first kernel whose tracepoints can be preempted.
const PREEMPTIBLE: KernelVersion = KernelVersion { major: 7, minor: 0, patch: 0 };

/// Whether programs of tracepoints can be preempted. No field or function that could be probed tells; a kernel to which it was
/// ported back shows by its count of misses.
pub fn can_be_preempted(names: &Uname) -> bool {
    names.release.parse().is_ok_and(|version: KernelVersion| version >= PREEMPTIBLE)
}

/// How often something was lost because a program that is loaded now was not run. Kernels before 5.12 do not tell.
pub fn lost(ebpf: &Ebpf, second_look: bool) -> u64 {
    sum(
        ebpf.programs().map(|(name, program)| (name, of_program(program).unwrap_or(0))),
        second_look,
    )
}

fn sum<'a>(misses: impl Iterator<Item = (&'a str, u64)>, second_look: bool) -> u64 {
    let (mut enter, mut exit, mut others) = (0, 0, 0);
    for (name, count) in misses {
        match name {
            "sys_enter" => enter = count,
            "sys_exit" => exit = count,
            _ => others += count,
        }
    }
    // without its entry, a call shows at its exit
    others + if second_look { enter.min(exit) } else { enter }
}

/// `None` when the program is not loaded, or the kernel does not tell.
fn of_program(program: &Program) -> Option<u64> {
    let fd = program.fd().ok()?.as_fd().as_raw_fd();
    let told = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
    recursion_misses(&told)
}

/// (<https://elixir.bootlin.com/linux/v6.12/source/kernel/bpf/syscall.c#L2440>)
fn recursion_misses(fdinfo: &str) -> Option<u64> {
    let count = fdinfo.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?;
    count.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_lost_when_both_its_ends_are() {
        let misses = |enter, exit| [("sys_enter", enter), ("sys_exit", exit), ("cap_capable", 1)];
        assert_eq!(sum(misses(7, 0).into_iter(), false), 8);
        assert_eq!(sum(misses(7, 0).into_iter(), true), 1);
        assert_eq!(sum(misses(7, 2).into_iter(), true), 3);
    }

    #[test]
    fn kernels_are_told_by_their_version() {
        let names = |release: &str| Uname { release: release.into(), machine: "x86_64".into() };
        assert!(!can_be_preempted(&names("6.18.44")) && !can_be_preempted(&names("what")));
        assert!(
            can_be_preempted(&names("7.0.0-1-amd64")) && can_be_preempted(&names("7.3.4+deb13"))
        );
    }

    #[test]
    fn the_kernels_count_is_read() {
        let told =
            "pos:\t0\nprog_type:\t26\nrun_cnt:\t0\nrecursion_misses:\t7\nverified_insns:\t9\n";
        assert_eq!(recursion_misses(told), Some(7));
        assert_eq!(recursion_misses("pos:\t0\n"), None);
    }
}
