//! Values of syscall arguments as people write them: numbers, and the constants that filters are mostly about.
//!
//! Owns the reading of one argument. The constants are those of x86_64 and the generic headers, which the ABIs here share.

/// Constants by name. Source: include/uapi/linux/{sched,mman,fcntl,prctl}.h and include/linux/socket.h.
#[rustfmt::skip]
const NAMES: &[(&str, u64)] = &[
    ("AF_UNSPEC", 0), ("AF_UNIX", 1), ("AF_LOCAL", 1), ("AF_INET", 2), ("AF_AX25", 3), ("AF_IPX", 4), ("AF_APPLETALK", 5),
    ("AF_X25", 9), ("AF_INET6", 10), ("AF_KEY", 15), ("AF_NETLINK", 16), ("AF_PACKET", 17), ("AF_RDS", 21), ("AF_PPPOX", 24),
    ("AF_CAN", 29), ("AF_TIPC", 30), ("AF_BLUETOOTH", 31), ("AF_ALG", 38), ("AF_NFC", 39), ("AF_VSOCK", 40), ("AF_KCM", 41),
    ("AF_QIPCRTR", 42), ("AF_SMC", 43), ("AF_XDP", 44),
    ("SOCK_STREAM", 1), ("SOCK_DGRAM", 2), ("SOCK_RAW", 3), ("SOCK_SEQPACKET", 5), ("SOCK_NONBLOCK", 0o4000), ("SOCK_CLOEXEC", 0o2000000),
    ("CLONE_VM", 0x100), ("CLONE_FS", 0x200), ("CLONE_FILES", 0x400), ("CLONE_SIGHAND", 0x800), ("CLONE_PIDFD", 0x1000),
    ("CLONE_PTRACE", 0x2000), ("CLONE_VFORK", 0x4000), ("CLONE_PARENT", 0x8000), ("CLONE_THREAD", 0x1_0000),
    ("CLONE_NEWNS", 0x2_0000), ("CLONE_SYSVSEM", 0x4_0000), ("CLONE_SETTLS", 0x8_0000), ("CLONE_NEWCGROUP", 0x0200_0000),
    ("CLONE_NEWUTS", 0x0400_0000), ("CLONE_NEWIPC", 0x0800_0000), ("CLONE_NEWUSER", 0x1000_0000), ("CLONE_NEWPID", 0x2000_0000),
    ("CLONE_NEWNET", 0x4000_0000), ("CLONE_NEWTIME", 0x80),
    ("PROT_NONE", 0), ("PROT_READ", 1), ("PROT_WRITE", 2), ("PROT_EXEC", 4),
    ("MAP_SHARED", 1), ("MAP_PRIVATE", 2), ("MAP_FIXED", 0x10), ("MAP_ANONYMOUS", 0x20),
    ("O_RDONLY", 0), ("O_WRONLY", 1), ("O_RDWR", 2), ("O_CREAT", 0o100), ("O_EXCL", 0o200), ("O_TRUNC", 0o1000),
    ("O_APPEND", 0o2000), ("O_NONBLOCK", 0o4000), ("O_CLOEXEC", 0o2000000),
    ("PR_SET_PDEATHSIG", 1), ("PR_SET_DUMPABLE", 4), ("PR_SET_KEEPCAPS", 8), ("PR_SET_NAME", 15), ("PR_SET_SECCOMP", 22),
    ("PR_CAPBSET_READ", 23), ("PR_CAPBSET_DROP", 24), ("PR_SET_NO_NEW_PRIVS", 38), ("PR_CAP_AMBIENT", 47), ("PR_SET_VMA", 0x5356_4d41),
    ("TIOCSTI", 0x5412), ("TIOCLINUX", 0x541c), ("TCGETS", 0x5401), ("TIOCGWINSZ", 0x5413), ("FIONBIO", 0x5421), ("FIONREAD", 0x541b),
    ("PER_LINUX", 0), ("PER_LINUX32", 8), ("UNAME26", 0x0002_0000), ("ADDR_NO_RANDOMIZE", 0x0004_0000),
];

/// Reads `17`, `0x11`, `0o21`, `-1`, `AF_PACKET`, or several of them joined by `|`. `None` when a part is neither.
#[must_use]
pub fn parse(text: &str) -> Option<u64> {
    text.split('|').map(|part| one(part.trim())).try_fold(0, |all, part| Some(all | part?))
}

fn one(text: &str) -> Option<u64> {
    if let Some(&(_, value)) = NAMES.iter().find(|(name, _)| *name == text) {
        return Some(value);
    }
    // `from_str_radix` takes a sign, too
    let digits = |text: &str, radix| {
        let plain = text.starts_with(|c: char| c.is_ascii_hexdigit());
        plain.then(|| u64::from_str_radix(text, radix).ok()).flatten()
    };
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return digits(hex, 16);
    }
    if let Some(octal) = text.strip_prefix("0o") {
        return digits(octal, 8);
    }
    if let Some(negative) = text.strip_prefix('-') {
        let value = i64::try_from(digits(negative, 10)?).ok()?;
        return Some((-value).cast_unsigned());
    }
    digits(text, 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_read() {
        for (text, value) in [
            ("17", 17),
            ("0x11", 17),
            ("0o21", 17),
            ("AF_PACKET", 17),
            ("-1", u64::MAX),
            ("CLONE_NEWNS|CLONE_NEWUSER", 0x1002_0000),
            ("SOCK_STREAM | 0x80000", 0x80001),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse(text), Some(value), "{text}");
        }
        for bad in
            ["", "|", "AF_", "0x", "0xg", "+1", "--1", "1.5", "18446744073709551616", "AF_INET|"]
        {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn values_are_those_of_the_headers() {
        for (name, value) in [
            ("AF_VSOCK", i64::from(libc::AF_VSOCK)),
            ("AF_PACKET", libc::AF_PACKET.into()),
            ("AF_ALG", libc::AF_ALG.into()),
            ("SOCK_CLOEXEC", libc::SOCK_CLOEXEC.into()),
            ("CLONE_NEWCGROUP", libc::CLONE_NEWCGROUP.into()),
            ("CLONE_NEWUSER", libc::CLONE_NEWUSER.into()),
            ("CLONE_THREAD", libc::CLONE_THREAD.into()),
            ("MAP_ANONYMOUS", libc::MAP_ANONYMOUS.into()),
            ("O_CLOEXEC", libc::O_CLOEXEC.into()),
            ("O_APPEND", libc::O_APPEND.into()),
            ("PR_SET_NO_NEW_PRIVS", libc::PR_SET_NO_NEW_PRIVS.into()),
            ("PR_CAP_AMBIENT", libc::PR_CAP_AMBIENT.into()),
        ] {
            assert_eq!(
                parse(name).and_then(|known| i64::try_from(known).ok()),
                Some(value),
                "{name}"
            );
        }
    }
}
