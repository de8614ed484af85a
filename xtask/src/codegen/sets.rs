//! Which constants are wanted, and which headers have them. Reviewed data.
//!
//! A set holds the values that one kind of argument can have. The order of headers decides which of two names of one
//! value is shown: the one that is defined first.

/// The values of one kind of argument.
pub struct Set {
    /// The static's name in the generated file.
    pub name: &'static str,
    /// Where its constants are.
    pub sources: &'static [Source],
}

/// Some constants of one header.
pub struct Source {
    /// The end of the header's path.
    pub header: &'static str,
    /// What their names begin with.
    pub prefixes: &'static [&'static str],
    /// What the names do not begin with.
    pub except: &'static [&'static str],
    /// Only macros that are made by `_IO` and its like.
    pub requests: bool,
}

const fn from(header: &'static str, prefixes: &'static [&'static str]) -> Source {
    Source { header, prefixes, except: &[], requests: false }
}

const fn except(
    header: &'static str,
    prefixes: &'static [&'static str],
    except: &'static [&'static str],
) -> Source {
    Source { header, prefixes, except, requests: false }
}

/// All requests of a header.
const fn requests(header: &'static str) -> Source {
    Source { header, prefixes: &[""], except: &[], requests: true }
}

/// What the kernel does not give user space as a header, by file: lines that begin so are taken.
pub const KERNEL_ONLY: &[(&str, &[&str])] = &[
    ("include/linux/socket.h", &["#define AF_", "#define SOL_"]),
    (
        "include/linux/fs.h",
        &[
            "#define MNT_FORCE",
            "#define MNT_DETACH",
            "#define MNT_EXPIRE",
            "#define UMOUNT_NOFOLLOW",
        ],
    ),
    (
        "include/linux/net.h",
        &[
            "\tSOCK_STREAM",
            "\tSOCK_DGRAM",
            "\tSOCK_RAW",
            "\tSOCK_RDM",
            "\tSOCK_SEQPACKET",
            "\tSOCK_DCCP",
            "\tSOCK_PACKET",
        ],
    ),
];
/// The name of the header that they are written to.
pub const KERNEL_HEADER: &str = "kernel-only.h";

/// What is included, in this order. [`KERNEL_HEADER`] comes first.
#[rustfmt::skip]
pub const INCLUDES: &[&str] = &[
    "linux/types.h", "linux/time.h", "asm/signal.h", "linux/fcntl.h", "linux/sched.h", "linux/prctl.h", "asm/prctl.h", "linux/personality.h",
    "linux/ptrace.h", "asm/ptrace.h", "linux/keyctl.h", "linux/bpf.h", "linux/mount.h", "linux/mman.h",
    "linux/seccomp.h", "linux/net.h", "linux/ipc.h", "linux/memfd.h", "linux/futex.h", "linux/io_uring.h", "linux/landlock.h", "linux/capability.h",
    "linux/socket.h", "asm/socket.h", "linux/in.h", "linux/in6.h", "linux/netlink.h", "linux/tcp.h", "linux/udp.h",
    "linux/if_packet.h", "linux/if_alg.h", "linux/tls.h",
    "asm/ioctls.h", "asm/termbits.h", "linux/sockios.h", "linux/fs.h", "linux/kd.h", "linux/vt.h", "linux/loop.h",
    "linux/if_tun.h", "linux/random.h", "linux/rtc.h", "linux/nsfs.h", "linux/pidfd.h", "linux/perf_event.h", "linux/userfaultfd.h",
    "linux/fuse.h", "linux/kvm.h", "linux/vhost.h", "linux/fscrypt.h", "linux/fsverity.h", "linux/hdreg.h",
    "linux/cdrom.h", "linux/dm-ioctl.h", "linux/watchdog.h", "linux/btrfs.h", "linux/ppp-ioctl.h",
    "linux/usbdevice_fs.h", "linux/iommufd.h", "linux/dma-buf.h", "linux/blkzoned.h",
];

#[rustfmt::skip]
pub const SETS: &[Set] = &[
    Set { name: "ADDRESS_FAMILIES", sources: &[except(KERNEL_HEADER, &["AF_"], &["AF_MAX"])] },
    Set { name: "SOCKET_TYPES", sources: &[from(KERNEL_HEADER, &["SOCK_"])] },
    Set { name: "PROTOCOLS", sources: &[
        except("linux/in.h", &["IPPROTO_"], &["IPPROTO_MAX"]), from("linux/in6.h", &["IPPROTO_"]),
    ] },
    Set { name: "NETLINK_PROTOCOLS", sources: &[except("linux/netlink.h", &["NETLINK_"], NOT_NETLINK_PROTOCOLS)] },
    Set { name: "CLONE_FLAGS", sources: &[except("linux/sched.h", &["CLONE_"], &[
        // of clone3 alone, whose flags are in memory, and CLONE_NEWTIME, whose bit is the exit signal's here
        "CLONE_ARGS_SIZE", "CLONE_CLEAR_SIGHAND", "CLONE_INTO_CGROUP", "CLONE_AUTOREAP", "CLONE_NNP", "CLONE_PIDFD_AUTOKILL",
        "CLONE_EMPTY_MNTNS", "CLONE_NEWTIME",
    ])] },
    Set { name: "NAMESPACES", sources: &[except("linux/sched.h", &["CLONE_NEW", "CLONE_FS", "CLONE_FILES", "CLONE_SYSVSEM", "CLONE_THREAD", "CLONE_VM", "CLONE_SIGHAND", "UNSHARE_"], &["CLONE_VFORK"])] },
    Set { name: "PRCTL_OPTIONS", sources: &[except("linux/prctl.h", &["PR_"], &[
        "PR_UNALIGN_", "PR_FPEMU_", "PR_FP_", "PR_TIMING_", "PR_ENDIAN_", "PR_TSC_", "PR_MCE_KILL_CLEAR", "PR_MCE_KILL_SET",
        "PR_MCE_KILL_LATE", "PR_MCE_KILL_EARLY", "PR_MCE_KILL_DEFAULT", "PR_SET_MM_", "PR_SET_PTRACER_", "PR_THP_",
        "PR_CAP_AMBIENT_", "PR_SVE_SET_VL_", "PR_SVE_VL_", "PR_SPEC_", "PR_PAC_AP", "PR_TAGGED_", "PR_MTE_", "PR_PMLEN_",
        "PR_SYS_DISPATCH_", "PR_SCHED_CORE_", "PR_SME_SET_VL_", "PR_SME_VL_", "PR_MDWE_", "PR_SET_VMA_",
        "PR_RISCV_V_VSTATE", "PR_RISCV_CTX_", "PR_RISCV_SCOPE_", "PR_PPC_DEXCR_", "PR_SHADOW_STACK_",
        "PR_TIMER_CREATE_RESTORE_IDS_", "PR_FUTEX_HASH_", "PR_RSEQ_SLICE_EXTENSION_", "PR_RSEQ_SLICE_EXT_", "PR_CFI_",
    ])] },
    Set { name: "AMBIENT_COMMANDS", sources: &[from("linux/prctl.h", &["PR_CAP_AMBIENT_"])] },
    Set { name: "MM_OPTIONS", sources: &[from("linux/prctl.h", &["PR_SET_MM_"])] },
    Set { name: "ARCH_PRCTL_OPTIONS", sources: &[except("asm/prctl.h", &["ARCH_"], &["ARCH_CET_", "ARCH_XCOMP_TILE", "ARCH_SHSTK_SHSTK", "ARCH_SHSTK_WRSS"])] },
    Set { name: "IOCTL_REQUESTS", sources: &[
        except("asm-generic/ioctls.h", &["TC", "TIOC", "FIO"], &["TIOCPKT_", "TIOCM_", "TIOCSER_"]),
        except("asm/ioctls.h", &["TC", "TIOC", "FIO"], &["TIOCPKT_", "TIOCM_", "TIOCSER_"]),
        except("linux/sockios.h", &["SIOC", "FIO"], &["SIOCDEVPRIVATE", "SIOCPROTOPRIVATE"]), except("asm-generic/sockios.h", &["SIOC", "FIO"], &[]), 
        from("linux/fs.h", &["BLK", "FS_IOC", "FIBMAP", "FIGETBSZ", "FIFREEZE", "FITHAW", "FITRIM", "FICLONE", "FIDEDUPERANGE"]), requests("linux/fs.h"), 
        except("linux/kd.h", &["GIO_", "PIO_", "KD"], &["KD_"]), except("linux/vt.h", &["VT_"], &["VT_AUTO", "VT_PROCESS", "VT_ACKACQ", "VT_EVENT", "VT_MAX"]),
        except("linux/loop.h", &["LOOP_"], &["LOOP_SET_STATUS_", "LOOP_CONFIGURE_"]), requests("linux/if_tun.h"), requests("linux/random.h"), requests("linux/rtc.h"),
        requests("linux/nsfs.h"), requests("linux/pidfd.h"), requests("linux/seccomp.h"), requests("linux/perf_event.h"), requests("linux/userfaultfd.h"),
        requests("linux/fuse.h"), requests("linux/kvm.h"), requests("linux/vhost.h"), requests("linux/fscrypt.h"),
        requests("linux/fsverity.h"), except("linux/hdreg.h", &["HDIO_"], &["HDIO_DRIVE_CMD_HDR", "HDIO_DRIVE_HOB_HDR", "HDIO_DRIVE_TASK_HDR"]), requests("linux/dm-ioctl.h"),
        requests("linux/watchdog.h"), requests("linux/btrfs.h"), requests("linux/ppp-ioctl.h"), requests("linux/usbdevice_fs.h"), requests("linux/iommufd.h"),
        requests("linux/dma-buf.h"), requests("linux/blkzoned.h"), except("linux/cdrom.h", &["CDROM"], &["CDROM_AUDIO_", "CDROM_LBA", "CDROM_MSF", "CDROM_DATA_TRACK", "CDROM_LEADOUT", "CDROM_PACKET_SIZE"]),
    ] },
    Set { name: "PERSONALITIES", sources: &[except("linux/personality.h", &["PER_", "UNAME26", "ADDR_", "FDPIC_", "MMAP_", "READ_", "SHORT_", "STICKY_", "WHOLE_"], &["PER_MASK", "PER_CLEAR"])] },
    Set { name: "FCNTL_COMMANDS", sources: &[
        except("asm-generic/fcntl.h", &["F_"], FCNTL_VALUES), except("asm/fcntl.h", &["F_"], FCNTL_VALUES), except("linux/fcntl.h", &["F_"], FCNTL_VALUES),
    ] },
    Set { name: "KEYCTL_COMMANDS", sources: &[except("linux/keyctl.h", &["KEYCTL_"], &["KEYCTL_SUPPORTS_", "KEYCTL_CAPS0", "KEYCTL_CAPS1", "KEYCTL_MOVE_"])] },
    Set { name: "BPF_COMMANDS", sources: &[Source { header: "enum bpf_cmd", prefixes: &["BPF_"], except: &["BPF_COMMON_ATTRS"], requests: false }] },
    Set { name: "PTRACE_REQUESTS", sources: &[
        except("linux/ptrace.h", &["PTRACE_"], PTRACE_VALUES), except("asm/ptrace.h", &["PTRACE_"], PTRACE_VALUES), except("asm/ptrace-abi.h", &["PTRACE_"], PTRACE_VALUES),
    ] },
    Set { name: "MOUNT_FLAGS", sources: &[except("linux/mount.h", &["MS_"], &["MS_RMT_MASK", "MS_MGC_MSK"])] },
    Set { name: "UMOUNT_FLAGS", sources: &[from(KERNEL_HEADER, &["MNT_", "UMOUNT_"])] },
    Set { name: "ADVICES", sources: &[from("mman-common.h", &["MADV_"]), from("asm/mman.h", &["MADV_"])] },
    Set { name: "PROTECTIONS", sources: &[from("mman-common.h", &["PROT_"]), from("asm/mman.h", &["PROT_"])] },
    Set { name: "MAP_FLAGS", sources: &[
        except("mman-common.h", &["MAP_"], MAP_VALUES), except("asm-generic/mman.h", &["MAP_"], MAP_VALUES), except("asm/mman.h", &["MAP_"], MAP_VALUES), except("linux/mman.h", &["MAP_"], MAP_VALUES),
    ] },
    Set { name: "SIGNALS", sources: &[
        except("asm/signal.h", &["SIG"], &["SIG_", "SIGRT", "SIGSTKSZ", "SIGEV_", "SIGUNUSED", "SIGSWI"]), except("asm-generic/signal.h", &["SIG"], &["SIG_", "SIGRT", "SIGSTKSZ", "SIGEV_", "SIGUNUSED", "SIGSWI"]),
    ] },
    Set { name: "SOCKET_LEVELS", sources: &[from("asm-generic/socket.h", &["SOL_"]), from("asm/socket.h", &["SOL_"]), from(KERNEL_HEADER, &["SOL_"])] },
    Set { name: "SOCKET_OPTIONS", sources: &[except("asm-generic/socket.h", &["SO_"], &[]), except("asm/socket.h", &["SO_"], &[])] },
    Set { name: "TCP_OPTIONS", sources: &[except("linux/tcp.h", &["TCP_"], &[
        "TCP_MSS_", "TCP_REPAIR_ON", "TCP_REPAIR_OFF", "TCP_CA_", "TCP_ACCECN_", "TCP_MD5SIG_MAXKEYLEN", "TCP_MD5SIG_FLAG_",
        "TCP_AO_MAXKEYLEN", "TCP_AO_KEYF_", "TCP_RECEIVE_", "TCP_FLAG_", "TCP_NO_QUEUE", "TCP_RECV_QUEUE", "TCP_SEND_QUEUE", "TCP_QUEUES_NR", "TCP_DATA_OFFSET", "TCP_RESERVED_BITS", "TCP_NLA_",
    ])] },
    Set { name: "UDP_OPTIONS", sources: &[except("linux/udp.h", &["UDP_"], &["UDP_ENCAP_"])] },
    Set { name: "IP_OPTIONS", sources: &[except("linux/in.h", &["IP_", "MCAST_"], &["IP_PMTUDISC_", "IP_DEFAULT_", "IP_MSFILTER_", "MCAST_EXCLUDE", "MCAST_INCLUDE"])] },
    Set { name: "IPV6_OPTIONS", sources: &[except("linux/in6.h", &["IPV6_", "MCAST_"], &["IPV6_FL_", "IPV6_PRIORITY_", "IPV6_TLV_", "IPV6_PMTUDISC_", "IPV6_PREFER_", "IPV6_FLOWINFO_FLOW", "IPV6_FLOWINFO_PRIO", "IPV6_OPT_"])] },
    Set { name: "PACKET_OPTIONS", sources: &[except("linux/if_packet.h", &["PACKET_"], &[
        "PACKET_HOST", "PACKET_BROADCAST", "PACKET_MULTICAST", "PACKET_OTHERHOST", "PACKET_OUTGOING", "PACKET_LOOPBACK", "PACKET_USER", "PACKET_KERNEL",
        "PACKET_FASTROUTE", "PACKET_FANOUT_", "PACKET_MR_",
    ])] },
    Set { name: "NETLINK_OPTIONS", sources: &[from("linux/netlink.h", NETLINK_OPTIONS_NAMES)] },
    Set { name: "ALG_OPTIONS", sources: &[from("linux/if_alg.h", &["ALG_SET_"])] },
    Set { name: "TLS_OPTIONS", sources: &[except("linux/tls.h", &["TLS_TX", "TLS_RX"], &["TLS_TX_MAX_PAYLOAD_LEN_"])] },
    Set { name: "RING_FLAGS", sources: &[from("linux/io_uring.h", &["IORING_SETUP_"])] },
    Set { name: "RING_REGISTRATIONS", sources: &[Source { header: "enum io_uring_register_op", prefixes: &["IORING_"], except: &["IORING_REGISTER_LAST"], requests: false }] },
    Set { name: "SECCOMP_OPERATIONS", sources: &[from("linux/seccomp.h", &["SECCOMP_SET_MODE_", "SECCOMP_GET_"])] },
    Set { name: "SECCOMP_MODES", sources: &[from("linux/seccomp.h", &["SECCOMP_MODE_"])] },
    Set { name: "SECCOMP_FLAGS", sources: &[from("linux/seccomp.h", &["SECCOMP_FILTER_FLAG_"])] },
    Set { name: "FUTEX_OPERATIONS", sources: &[except("linux/futex.h", &["FUTEX_"], &[
        "FUTEX_WAITERS", "FUTEX_OWNER_DIED", "FUTEX_TID_MASK", "FUTEX_BITSET_MATCH_ANY", "FUTEX_OP_", "FUTEX_CMD_MASK", "FUTEX_32", "FUTEX_WAITV_MAX", "FUTEX2_", "FUTEX_NO_NODE", "FUTEX_ROBUST_", "FUTEX_UNLOCK_WAKE", "FUTEX_UNLOCK_PI_", "FUTEX_UNLOCK_BITSET",
        // each is another one with a flag
        "FUTEX_WAIT_PRIVATE", "FUTEX_WAKE_PRIVATE", "FUTEX_REQUEUE_PRIVATE", "FUTEX_CMP_REQUEUE_PRIVATE", "FUTEX_WAKE_OP_PRIVATE",
        "FUTEX_LOCK_PI_PRIVATE", "FUTEX_LOCK_PI2_PRIVATE", "FUTEX_UNLOCK_PI_PRIVATE", "FUTEX_TRYLOCK_PI_PRIVATE", "FUTEX_WAIT_BITSET_PRIVATE",
        "FUTEX_WAKE_BITSET_PRIVATE", "FUTEX_WAIT_REQUEUE_PI_PRIVATE", "FUTEX_CMP_REQUEUE_PI_PRIVATE",
    ])] },
    Set { name: "OPEN_FLAGS", sources: &[except("asm-generic/fcntl.h", &["O_"], &["O_ACCMODE"]), except("asm/fcntl.h", &["O_"], &["O_ACCMODE"])] },
    Set { name: "SOCKETCALLS", sources: &[from("linux/net.h", &["SYS_"])] },
    Set { name: "IPC_CALLS", sources: &[from("linux/ipc.h", &["SEM", "MSG", "SHM"])] },
    Set { name: "MEMFD_FLAGS", sources: &[except("linux/memfd.h", &["MFD_"], &["MFD_HUGE_"])] },
    Set { name: "USERFAULTFD_FLAGS", sources: &[from("linux/userfaultfd.h", &["UFFD_USER_MODE_ONLY"]), from("asm-generic/fcntl.h", &["O_CLOEXEC", "O_NONBLOCK"])] },
    Set { name: "DIRECTORIES", sources: &[from("linux/fcntl.h", &["AT_FDCWD"])] },
    Set { name: "CAPABILITIES", sources: &[except("linux/capability.h", &["CAP_"], &["CAP_LAST_CAP", "CAP_TO_", "CAP_VALID", "CAP_OPT"])] },
];

const NETLINK_OPTIONS_NAMES: &[&str] = &[
    "NETLINK_ADD_MEMBERSHIP",
    "NETLINK_DROP_MEMBERSHIP",
    "NETLINK_PKTINFO",
    "NETLINK_BROADCAST_ERROR",
    "NETLINK_NO_ENOBUFS",
    "NETLINK_RX_RING",
    "NETLINK_TX_RING",
    "NETLINK_LISTEN_ALL_NSID",
    "NETLINK_LIST_MEMBERSHIPS",
    "NETLINK_CAP_ACK",
    "NETLINK_EXT_ACK",
    "NETLINK_GET_STRICT_CHK",
];
const NOT_NETLINK_PROTOCOLS: &[&str] = &[
    "NETLINK_ADD_MEMBERSHIP",
    "NETLINK_DROP_MEMBERSHIP",
    "NETLINK_PKTINFO",
    "NETLINK_BROADCAST_ERROR",
    "NETLINK_NO_ENOBUFS",
    "NETLINK_RX_RING",
    "NETLINK_TX_RING",
    "NETLINK_LISTEN_ALL_NSID",
    "NETLINK_LIST_MEMBERSHIPS",
    "NETLINK_CAP_ACK",
    "NETLINK_EXT_ACK",
    "NETLINK_GET_STRICT_CHK",
    "NETLINK_UNCONNECTED",
    "NETLINK_CONNECTED",
];
const FCNTL_VALUES: &[&str] = &[
    "F_OWNER_",
    "F_RDLCK",
    "F_WRLCK",
    "F_UNLCK",
    "F_EXLCK",
    "F_SHLCK",
    "F_LINUX_SPECIFIC_BASE",
    "F_SEAL_",
];
const PTRACE_VALUES: &[&str] = &[
    "PTRACE_O_",
    "PTRACE_EVENT_",
    "PTRACE_EVENTMSG_",
    "PTRACE_SYSCALL_INFO_",
    "PTRACE_PEEKSIGINFO_SHARED",
    "PTRACE_GETFDPIC_",
    "PTRACE_CFI_",
];
const MAP_VALUES: &[&str] =
    &["MAP_TYPE", "MAP_HUGE_", "MAP_FILE", "MAP_UNINITIALIZED", "MAP_ABOVE4G"];
