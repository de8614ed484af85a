//! Argument names that the kernel's headers do not have: as `SYSCALL_DEFINE` names them in its sources.
//!
//! Reviewed data. `prototypes` refuses a row that has another number or kind of arguments than the prototype, and one
//! that the headers made superfluous. Sources are of <https://github.com/torvalds/linux/tree/v6.18>: net/socket.c,
//! kernel/fork.c, kernel/signal.c, kernel/sys.c, fs/select.c, fs/aio.c, arch/x86/kernel, arch/arm/kernel/traps.c,
//! arch/riscv/kernel/sys_riscv.c and sys_hwprobe.c.

/// Names of calls whose entry has another name.
#[rustfmt::skip]
pub const ALIASES: &[(&str, &str)] = &[
    ("_llseek", "llseek"), ("_newselect", "select"), ("umount2", "umount"), ("umount", "oldumount"),
    ("arm_sync_file_range", "sync_file_range2"), ("ugetrlimit", "getrlimit"), ("oldstat", "stat"),
    ("oldlstat", "lstat"), ("oldfstat", "fstat"), ("oldolduname", "olduname"),
    ("chown32", "chown"), ("fchown32", "fchown"), ("lchown32", "lchown"), ("getegid32", "getegid"),
    ("geteuid32", "geteuid"), ("getgid32", "getgid"), ("getuid32", "getuid"), ("getgroups32", "getgroups"),
    ("getresgid32", "getresgid"), ("getresuid32", "getresuid"), ("setfsgid32", "setfsgid"),
    ("setfsuid32", "setfsuid"), ("setgid32", "setgid"), ("setgroups32", "setgroups"), ("setregid32", "setregid"),
    ("setresgid32", "setresgid"), ("setresuid32", "setresuid"), ("setreuid32", "setreuid"), ("setuid32", "setuid"),
    ("clock_adjtime64", "clock_adjtime"), ("clock_getres_time64", "clock_getres"),
    ("clock_gettime64", "clock_gettime"), ("clock_nanosleep_time64", "clock_nanosleep"),
    ("clock_settime64", "clock_settime"), ("futex_time64", "futex"), ("io_pgetevents_time64", "io_pgetevents"),
    ("mq_timedreceive_time64", "mq_timedreceive"), ("mq_timedsend_time64", "mq_timedsend"),
    ("ppoll_time64", "ppoll"), ("pselect6_time64", "pselect6"), ("recvmmsg_time64", "recvmmsg"),
    ("rt_sigtimedwait_time64", "rt_sigtimedwait"), ("sched_rr_get_interval_time64", "sched_rr_get_interval"),
    ("semtimedop_time64", "semtimedop"), ("timer_gettime64", "timer_gettime"), ("timer_settime64", "timer_settime"),
    ("timerfd_gettime64", "timerfd_gettime"), ("timerfd_settime64", "timerfd_settime"),
    ("utimensat_time64", "utimensat"), ("readdir", "old_readdir"),
];

/// Entry, names, and kinds: `p` a pointer, `i` an int, `u` an unsigned int, `l` a long, `w` an unsigned
/// long, `o` and `q` the same with 64 bits everywhere.
#[rustfmt::skip]
pub const DEFINED: &[(&str, &[&str], &str)] = &[
    ("socket", &["family", "type", "protocol"], "iii"),
    ("socketpair", &["family", "type", "protocol", "usockvec"], "iiip"),
    ("bind", &["fd", "umyaddr", "addrlen"], "ipi"),
    ("listen", &["fd", "backlog"], "ii"),
    ("accept", &["fd", "upeer_sockaddr", "upeer_addrlen"], "ipp"),
    ("accept4", &["fd", "upeer_sockaddr", "upeer_addrlen", "flags"], "ippi"),
    ("connect", &["fd", "uservaddr", "addrlen"], "ipi"),
    ("getsockname", &["fd", "usockaddr", "usockaddr_len"], "ipp"),
    ("getpeername", &["fd", "usockaddr", "usockaddr_len"], "ipp"),
    ("send", &["fd", "buff", "len", "flags"], "ipwu"),
    ("sendto", &["fd", "buff", "len", "flags", "addr", "addr_len"], "ipwupi"),
    ("recv", &["fd", "ubuf", "size", "flags"], "ipwu"),
    ("recvfrom", &["fd", "ubuf", "size", "flags", "addr", "addr_len"], "ipwupp"),
    ("shutdown", &["fd", "how"], "ii"),
    ("clone", &["clone_flags", "newsp", "parent_tidptr", "child_tidptr", "tls"], "wwppw"),
    ("rt_sigaction", &["sig", "act", "oact", "sigsetsize"], "ippw"),
    ("sigaction", &["sig", "act", "oact"], "ipp"),
    ("uname", &["name"], "p"),
    ("olduname", &["name"], "p"),
    ("pselect6", &["n", "inp", "outp", "exp", "tsp", "sig"], "ippppp"),
    ("ppoll", &["ufds", "nfds", "tsp", "sigmask", "sigsetsize"], "puppw"),
    ("io_submit", &["ctx_id", "nr", "iocbpp"], "wlp"),
    ("old_readdir", &["fd", "dirent", "count"], "upu"),
    ("riscv_flush_icache", &["start", "end", "flags"], "www"),
    ("riscv_hwprobe", &["pairs", "pair_count", "cpusetsize", "cpus", "flags"], "pwwpu"),
    ("arch_prctl", &["option", "arg2"], "iw"),
    ("modify_ldt", &["func", "ptr", "bytecount"], "ipw"),
    ("iopl", &["level"], "u"),
    ("vm86", &["cmd", "arg"], "ww"),
    ("vm86old", &["user_vm86"], "p"),
    ("set_tls", &["val"], "w"),
    ("get_tls", &[], ""),
    ("breakpoint", &[], ""),
    ("cacheflush", &["start", "end", "flags"], "wwi"),
    ("sigreturn", &[], ""),
    ("get_thread_area", &["u_info"], "p"),
    ("set_thread_area", &["u_info"], "p"),
    ("arm_fadvise64_64", &["fd", "advice", "offset", "len"], "iioo"),
];
