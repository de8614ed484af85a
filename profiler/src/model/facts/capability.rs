//! Facts about capabilities. Source: capabilities(7) of man-pages 6.03, and the kernel's checks where `calls` is given.

use super::Risk::{self, Critical, High, Low, Moderate};
use crate::model::capability::{DOCKER_DEFAULT, NAMES, number};

/// What is known about a capability. All texts are for people: plain, without a final period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CapabilityFacts {
    /// Without `CAP_`.
    pub name: &'static str,
    /// What it permits.
    pub what: &'static str,
    /// How bad it is in the hands of a taken process.
    pub risk: Risk,
    /// Why it is in that class.
    pub why: &'static str,
    /// The only calls that can use it; `None` when they are too many to say. Errs on the side of too many: `ioctl` and
    /// `io_uring_enter` are named wherever a driver or an operation may ask.
    pub calls: Option<&'static [&'static str]>,
}

impl CapabilityFacts {
    /// Whether Docker grants it unless told otherwise.
    #[must_use]
    pub fn is_docker_default(&self) -> bool {
        DOCKER_DEFAULT.contains(&self.name)
    }
}

/// The facts of a capability, with or without `CAP_`, in any case; `None` for one without a name.
#[must_use]
pub fn capability(name: &str) -> Option<&'static CapabilityFacts> {
    FACTS.get(usize::from(number(name)?))
}

/// The facts of every capability, by number.
pub fn capabilities() -> impl Iterator<Item = &'static CapabilityFacts> {
    FACTS.iter()
}

const CHOWNS: &[&str] =
    &["chown", "chown32", "fchown", "fchown32", "fchownat", "ioctl", "lchown", "lchown32"];
const SIGNALS: &[&str] = &[
    "fcntl",
    "fcntl64",
    "ioctl",
    "kill",
    "pidfd_send_signal",
    "rt_sigqueueinfo",
    "rt_tgsigqueueinfo",
    "tgkill",
    "tkill",
];
const NETLINK: &[&str] =
    &["io_uring_enter", "sendmmsg", "sendmsg", "sendto", "send", "socketcall", "write", "writev"];
const CLOCKS: &[&str] = &[
    "adjtimex",
    "clock_adjtime",
    "clock_adjtime64",
    "clock_settime",
    "clock_settime64",
    "ioctl",
    "settimeofday",
    "stime",
];
const MODULES: &[&str] = &[
    "create_module",
    "delete_module",
    "finit_module",
    "get_kernel_syms",
    "init_module",
    "ioctl",
    "query_module",
];
const BINDS: &[&str] = &["bind", "connect", "io_uring_enter", "setsockopt", "socketcall"];

#[rustfmt::skip]
static FACTS: [CapabilityFacts; NAMES.len()] = [
    row("CHOWN", Moderate, "change the owner and group of any file",
        "gives files away, and takes those of others over", Some(CHOWNS)),
    row("DAC_OVERRIDE", Moderate, "read, write and execute files whatever their mode",
        "with a directory of the host mounted in, every file below it can be read and changed", None),
    row("DAC_READ_SEARCH", High, "read files and search directories whatever their mode; open files by handle",
        "open_by_handle_at reaches files outside of the container's tree: the Shocker escape", None),
    row("FOWNER", Moderate, "do what only a file's owner may: change mode, times, attributes",
        "turns files of others into set-user-id programs of theirs", None),
    row("FSETID", Low, "keep set-user-id and set-group-id bits when a file changes",
        "matters for files only that the process may change anyway", None),
    row("KILL", Low, "send signals to processes of other users",
        "bounded by the pid namespace, unless the container shares the host's", Some(SIGNALS)),
    row("SETGID", Moderate, "become any group; set supplementary groups",
        "any group of the container, such as that of a mounted socket; servers need it once, to give up root", None),
    row("SETUID", Moderate, "become any user",
        "any user of the container, root too; servers need it once, to give up root", None),
    row("SETPCAP", Moderate, "drop capabilities from the bounding set, add bounded ones to the inheritable set",
        "hands capabilities on to programs; gains none that the container has not", Some(&["capset", "prctl"])),
    row("LINUX_IMMUTABLE", Moderate, "set the immutable and append-only flags of files",
        "undoes a protection of files, or makes files that cannot be removed", Some(&["file_setattr", "ioctl"])),
    row("NET_BIND_SERVICE", Low, "bind ports below 1024",
        "bounded by the network namespace; not needed where net.ipv4.ip_unprivileged_port_start is 0", Some(BINDS)),
    row("NET_BROADCAST", Low, "unused by the kernel",
        "no check asks for it", Some(&[])),
    row("NET_ADMIN", High, "configure interfaces, routes, firewalls, traffic control",
        "bounded by the network namespace, but opens kernel code with a record of root exploits \
         (CVE-2022-34918, CVE-2024-1086: netfilter)", None),
    row("NET_RAW", Moderate, "make raw and packet sockets",
        "forges packets to neighbours on the same bridge; packet sockets gave root (CVE-2016-8655, CVE-2020-14386)",
        Some(&["bind", "io_uring_enter", "ioctl", "sendmmsg", "sendmsg", "sendto", "setsockopt", "socket", "socketcall"])),
    row("IPC_LOCK", Low, "keep memory from being swapped, without limit",
        "can use up the host's memory where no cgroup limits it", None),
    row("IPC_OWNER", Moderate, "use System V and POSIX IPC objects whatever their mode",
        "bounded by the IPC namespace, unless the container shares the host's", None),
    row("SYS_MODULE", Critical, "load and unload kernel modules",
        "code in the kernel: the host is the caller's", Some(MODULES)),
    row("SYS_RAWIO", Critical, "use I/O ports, /dev/mem and raw commands of disks",
        "talks to the hardware past every protection of the kernel", None),
    row("SYS_CHROOT", Moderate, "change the root directory; enter mount namespaces",
        "the classic way out of a chroot, not of a container by itself; Docker grants it, few services use it",
        Some(&["chroot", "fchroot", "setns"])),
    row("SYS_PTRACE", High, "trace and read any process",
        "with the host's pid namespace, every process of the host; else every process of the container", None),
    row("SYS_PACCT", High, "start and end process accounting",
        "host-wide, and the kernel writes to a file of the caller's choice", Some(&["acct"])),
    row("SYS_ADMIN", Critical, "mount, and hundreds of other checks all over the kernel",
        "the new root: mounting alone is enough to leave a container (CVE-2022-0492)", None),
    row("SYS_BOOT", Critical, "restart the host; load another kernel",
        "the host's kernel can be stopped or replaced", Some(&["kexec_file_load", "kexec_load", "reboot"])),
    row("SYS_NICE", Low, "raise priorities, use real-time classes, set the affinity of others",
        "can starve others of the processor", None),
    row("SYS_RESOURCE", Moderate, "exceed limits and quotas, use reserved space",
        "can use up what the host's other processes need", None),
    row("SYS_TIME", High, "set the clock of the host",
        "certificates, logs and timers of everyone", Some(CLOCKS)),
    row("SYS_TTY_CONFIG", Moderate, "hang up and configure terminals",
        "reaches the host's consoles where their devices are in the container", Some(&["ioctl", "vhangup"])),
    row("MKNOD", Moderate, "make device nodes",
        "the device cgroup is then what stands before the host's disks; Docker grants it, services hardly use it",
        Some(&["mknod", "mknodat", "ioctl", "rename", "renameat", "renameat2"])),
    row("LEASE", Low, "take leases on any file",
        "delays others that open the file", Some(&["fcntl", "fcntl64"])),
    row("AUDIT_WRITE", Low, "write records to the audit log",
        "forges entries and fills the log; PAM and sshd ask for it", Some(NETLINK)),
    row("AUDIT_CONTROL", High, "configure auditing",
        "can switch off the host's audit log", None),
    row("SETFCAP", Moderate, "attach capabilities to files; map uid 0 into user namespaces",
        "prepares programs that have the container's capabilities for other users", None),
    row("MAC_OVERRIDE", High, "pass over mandatory access control (Smack)",
        "undoes a protection of the host", None),
    row("MAC_ADMIN", High, "configure mandatory access control",
        "can load another policy for the host (AppArmor, Smack)", None),
    row("SYSLOG", Moderate, "read and clear the kernel's log; see kernel addresses",
        "tells where the kernel is in memory, which exploits need", None),
    row("WAKE_ALARM", Low, "set timers that wake the host",
        "keeps the host from sleeping", Some(&["ioctl", "timer_create", "timerfd_create", "timerfd_settime", "timerfd_settime64"])),
    row("BLOCK_SUSPEND", Low, "keep the host from suspending",
        "keeps the host from sleeping", None),
    row("AUDIT_READ", High, "read the audit log",
        "tells what all processes of the host do", None),
    row("PERFMON", High, "watch the performance of everything",
        "sees other processes and kernel addresses; large kernel surface (CVE-2013-2094)", Some(&["bpf", "ioctl", "perf_event_open"])),
    row("BPF", Critical, "load privileged BPF programs",
        "with PERFMON or NET_ADMIN it sees and changes the whole host; the verifier's mistakes gave root (CVE-2020-8835)",
        Some(&["bpf", "ioctl", "setsockopt", "socketcall"])),
    row("CHECKPOINT_RESTORE", High, "checkpoint and restore processes; choose process ids",
        "reads the memory maps and open files of others in the namespace", None),
];

const fn row(
    name: &'static str,
    risk: Risk,
    what: &'static str,
    why: &'static str,
    calls: Option<&'static [&'static str]>,
) -> CapabilityFacts {
    CapabilityFacts { name, what, risk, why, calls }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::facts::syscall;

    #[test]
    fn every_capability_has_facts_in_its_place() {
        for (facts, name) in FACTS.iter().zip(NAMES) {
            assert_eq!(facts.name, name);
            for text in [facts.what, facts.why] {
                assert!(text.len() > 5 && !text.ends_with('.') && !text.contains("  "), "{text}");
            }
            for call in facts.calls.unwrap_or_default() {
                assert!(syscall(call).is_some(), "{name}: {call}");
            }
        }
        assert_eq!(capability("cap_sys_admin").map(|facts| facts.risk), Some(Critical));
        assert_eq!(capability("CAPABILITY_63"), None);
    }

    #[test]
    fn dockers_fourteen_are_none_of_the_worst() {
        let granted = FACTS.iter().filter(|facts| facts.is_docker_default());
        assert!(granted.clone().count() == 14 && granted.clone().all(|facts| facts.risk < High));
    }
}
