//! Where the kernel asks for a capability before it looks at another way to do what was asked, and the recording cannot tell whether
//! the other way was open: reviewed data, after the sources of Linux 6.18.
//!
//! What can be told is told by the kernel side (`profiler-ebpf/src/moot.rs`) and does not count as a need. The table stands in
//! `docs/capabilities.md`, too.

/// A capability that is asked for although the call may go on without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AskedFirst {
    /// The capability, without `CAP_`.
    pub capability: &'static str,
    /// The calls in which it is asked for so; empty for any.
    pub calls: &'static [&'static str],
    /// What the call does without it, and when.
    pub without: &'static str,
    /// The kernel's file and function.
    pub source: &'static str,
}

/// All of them, by capability.
pub const ASKED_FIRST: &[AskedFirst] = &[
    row(
        "BPF",
        &["bpf"],
        "loads socket filters where kernel.unprivileged_bpf_disabled is 0",
        "kernel/bpf/syscall.c: bpf_prog_load",
    ),
    row(
        "DAC_READ_SEARCH",
        &[],
        "asks for DAC_OVERRIDE next, which is enough",
        "fs/namei.c: generic_permission",
    ),
    row(
        "FSETID",
        &[],
        "drops the set-user-id and set-group-id bits of the file, and succeeds",
        "fs/attr.c: setattr_copy; fs/inode.c: file_remove_privs",
    ),
    row(
        "IPC_LOCK",
        &["io_uring_setup"],
        "charges the ring's memory to RLIMIT_MEMLOCK",
        "io_uring/io_uring.c: io_uring_create",
    ),
    row(
        "IPC_LOCK",
        &["shmctl"],
        "locks a segment of the caller's own, if RLIMIT_MEMLOCK is not 0",
        "ipc/shm.c: shmctl_do_lock",
    ),
    row(
        "IPC_LOCK",
        &["shmget"],
        "makes huge pages for the group vm.hugetlb_shm_group",
        "fs/hugetlbfs/inode.c: can_do_hugetlb_shm",
    ),
    row(
        "NET_ADMIN",
        &["sendto", "sendmsg", "recvfrom", "recvmsg"],
        "leaves out marks and congestion control when sockets are listed (ss)",
        "net/ipv4/inet_diag.c: inet_diag_dump_icsk; net/ipv4/tcp_diag.c: tcp_diag_dump",
    ),
    row(
        "NET_RAW",
        &["setsockopt"],
        "asks for NET_ADMIN next, which is enough for SO_MARK, SO_PRIORITY and IP_TRANSPARENT",
        "net/core/sock.c: sk_setsockopt; net/ipv4/ip_sockglue.c: do_ip_setsockopt",
    ),
    row(
        "SYS_ADMIN",
        &["ioprio_set"],
        "asks for SYS_NICE next, which is enough",
        "block/ioprio.c: ioprio_check_cap",
    ),
    row(
        "SYS_ADMIN",
        &["keyctl"],
        "changes a key of the caller's own (kernels that ask first are older ones)",
        "security/keys/keyctl.c: keyctl_chown_key, keyctl_setperm_key",
    ),
    row(
        "SYS_ADMIN",
        &["read", "pread64"],
        "reads /proc/PID/pagemap, /proc/iomem and /proc/ioports without addresses, and 64 bytes of a PCI device's configuration",
        "fs/proc/task_mmu.c: pagemap_read; kernel/resource.c: r_show; drivers/pci/pci-sysfs.c: pci_read_config",
    ),
    row(
        "SYS_NICE",
        &["sched_setscheduler", "sched_setparam", "sched_setattr"],
        "goes by RLIMIT_RTPRIO, RLIMIT_NICE and what lowers a priority (kernels before 5.18 ask first)",
        "kernel/sched/core.c: __sched_setscheduler",
    ),
    row(
        "SYS_RESOURCE",
        &["mq_open", "open", "openat", "creat"],
        "makes a queue within /proc/sys/fs/mqueue; told only for mq_open below queues_max",
        "ipc/mqueue.c: mqueue_get_inode",
    ),
];

const fn row(
    capability: &'static str,
    calls: &'static [&'static str],
    without: &'static str,
    source: &'static str,
) -> AskedFirst {
    AskedFirst { capability, calls, without, source }
}

/// What a call may do without a capability that it asked for.
pub fn asked_first(capability: &str, call: &str) -> impl Iterator<Item = &'static AskedFirst> {
    ASKED_FIRST.iter().filter(move |row| {
        row.capability == capability && (row.calls.is_empty() || row.calls.contains(&call))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{arch::Abi, facts::capability, syscall};

    #[test]
    fn every_row_names_what_exists_and_stands_in_the_docs() {
        let docs = include_str!("../../../../docs/capabilities.md");
        for row in ASKED_FIRST {
            assert!(capability(row.capability).is_some(), "{}", row.capability);
            for call in row.calls {
                assert!(syscall::number(Abi::X86_64, call).is_some(), "{call}");
            }
            let calls = if row.calls.is_empty() { "any".to_owned() } else { row.calls.join(", ") };
            let line =
                format!("| {} | {calls} | {} | {} |", row.capability, row.without, row.source);
            assert!(docs.contains(&line), "docs/capabilities.md lacks\n{line}");
        }
        assert!(ASKED_FIRST.is_sorted_by_key(|row| row.capability));
    }

    #[test]
    fn a_row_is_found_by_its_call_or_by_any() {
        let of = |capability, call| asked_first(capability, call).count();
        assert_eq!((of("IPC_LOCK", "shmctl"), of("IPC_LOCK", "mlock")), (1, 0));
        assert_eq!((of("FSETID", "write"), of("CHOWN", "chown")), (1, 0));
    }
}
