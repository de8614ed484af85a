//! Runs of our programs that the kernel left out.
//!
//! A BTF tracepoint's program does not run while it runs already on the same processor. Where the kernel lets a program of a
//! syscall's tracepoint be preempted, another task's call may fall into that time, and nothing else tells of it. The
//! count is of the whole host: whether it was a target's call is not known.

use std::os::fd::{AsFd as _, AsRawFd as _};

use aya::{Ebpf, programs::Program};
use fs_err as fs;

/// How often programs that are loaded now were not run. Kernels before 5.12 do not tell.
pub fn misses(ebpf: &Ebpf) -> u64 {
    ebpf.programs().filter_map(|(_, program)| of_program(program)).sum()
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
    fn the_kernels_count_is_read() {
        let told =
            "pos:\t0\nprog_type:\t26\nrun_cnt:\t0\nrecursion_misses:\t7\nverified_insns:\t9\n";
        assert_eq!(recursion_misses(told), Some(7));
        assert_eq!(recursion_misses("pos:\t0\n"), None);
    }
}
