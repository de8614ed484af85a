//! Runs of our programs that the kernel left out. It counts them for the whole host: whether one was a target's is not known.

use std::{
    collections::HashMap,
    os::fd::{AsFd as _, AsRawFd as _},
};

use aya::{Ebpf, programs::Program};
use fs_err as fs;

use super::{
    error::ObserveError,
    twins::{self, TWICE},
};

/// How often something may have been lost because programs that are loaded now were not run. Kernels before 5.12 do not tell.
/// `are_watched` says that the kernel side knows when both of two were suspended.
///
/// # Errors
/// When the map cannot be read.
pub fn lost(ebpf: &mut Ebpf, are_watched: bool) -> Result<u64, ObserveError> {
    let both = if are_watched { Some(twins::both_suspended(ebpf)?) } else { None };
    let misses = ebpf.programs().map(|(name, program)| (name, of_program(program)));
    Ok(sum(misses.filter_map(|(name, count)| Some((name, count?))).collect(), both))
}

/// How many of these misses may be losses. A program's twin sees what it was left out of, as long as not both were suspended when a task in
/// scope ran: `both` says how often that was.
fn sum(mut misses: HashMap<&str, u64>, both: Option<[u64; TWICE.len()]>) -> u64 {
    let mut lost = 0;
    for (pair, point) in TWICE.iter().enumerate() {
        let first = misses.remove(point).unwrap_or(0);
        lost += match misses.remove(twins::twin(point).as_str()) {
            None => first,
            Some(_) if both.is_some_and(|both| both[pair] == 0) => 0,
            Some(second) => first.min(second),
        };
    }
    lost + misses.values().sum::<u64>()
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
    fn what_one_of_two_saw_is_not_lost() {
        let of = |misses: &[(&'static str, u64)], both| sum(misses.iter().copied().collect(), both);
        let single = [("sys_enter", 7), ("sys_exit", 2), ("cap_capable_fexit", 1)];
        assert_eq!(of(&single, None), 10, "without twins each is a loss");
        let twins = [
            ("sys_enter", 7),
            ("sys_enter_twin", 3),
            ("sys_exit", 2),
            ("sys_exit_twin", 5),
            ("cap_capable", 4),
            ("cap_capable_twin", 0),
        ];
        assert_eq!(of(&twins, Some([0, 0, 0])), 0, "never both at once");
        assert_eq!(of(&twins, Some([1, 0, 9])), 3, "no check was missed by both");
        assert_eq!(of(&twins, Some([0, 1, 0])), 2);
        assert_eq!(of(&twins, None), 5, "nobody watched");
        assert_eq!(of(&[("sched_process_fork", 1)], Some([0; 3])), 1);
    }

    #[test]
    fn the_kernels_count_is_read() {
        let told =
            "pos:\t0\nprog_type:\t26\nrun_cnt:\t0\nrecursion_misses:\t7\nverified_insns:\t9\n";
        assert_eq!(recursion_misses(told), Some(7));
        assert_eq!(recursion_misses("pos:\t0\n"), None);
    }
}
