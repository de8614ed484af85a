//! Values of arguments as the kernel's headers name them, written and read.
//!
//! Owns the notation; the names are generated. A value without a name is a number, and what is written can be read:
//! [`parse`] of [`show`] is the value. One table serves all ABIs: a name that does not hold on each of them is read,
//! and not written.

use std::{collections::BTreeMap, sync::LazyLock};

use crate::model::tables::constants as tables;

/// Value, name, and whether the value is shown by this name.
pub(in crate::model) type Row = (u32, &'static str, bool);

/// What the values of an argument mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Meaning {
    /// `AF_*`.
    AddressFamily,
    /// `SOCK_*`: a type, and flags.
    SocketType,
    /// `IPPROTO_*`, of a socket of an internet family.
    Protocol,
    /// `NETLINK_*`, of a socket of AF_NETLINK.
    NetlinkProtocol,
    /// `CLONE_*` of clone: flags, and the signal of the end in the low byte.
    CloneFlags,
    /// `CLONE_*` of unshare and setns.
    Namespaces,
    /// `PR_*`: the option of prctl.
    PrctlOption,
    /// `PR_CAP_AMBIENT_*`.
    AmbientCommand,
    /// `PR_SET_MM_*`.
    MmOption,
    /// `ARCH_*`: the option of arch_prctl.
    ArchPrctlOption,
    /// Requests of ioctl: `TIOC*`, `SIOC*`, `FS_IOC_*` and others.
    IoctlRequest,
    /// `PER_*`, and flags.
    Personality,
    /// `F_*`.
    FcntlCommand,
    /// `KEYCTL_*`.
    KeyctlCommand,
    /// `BPF_*`.
    BpfCommand,
    /// `PTRACE_*`.
    PtraceRequest,
    /// `MS_*`.
    MountFlags,
    /// `MNT_*` and `UMOUNT_*`.
    UmountFlags,
    /// `MADV_*`.
    Advice,
    /// `PROT_*`.
    Protection,
    /// `MAP_*`.
    MapFlags,
    /// `SIG*`.
    Signal,
    /// `SOL_*`.
    SocketLevel,
    /// Options of a level of setsockopt; of no level when it is not known.
    SocketOption(Option<u32>),
    /// `IORING_SETUP_*`.
    RingFlags,
    /// `IORING_REGISTER_*`.
    RingRegistration,
    /// `SECCOMP_SET_MODE_*` and `SECCOMP_GET_*`.
    SeccompOperation,
    /// `SECCOMP_MODE_*`.
    SeccompMode,
    /// `SECCOMP_FILTER_FLAG_*`.
    SeccompFlags,
    /// `FUTEX_*`: an operation, and flags.
    FutexOperation,
    /// `O_*`.
    OpenFlags,
    /// `SYS_*`: the call behind socketcall.
    Socketcall,
    /// The call behind ipc.
    IpcCall,
    /// `MFD_*`.
    MemfdFlags,
    /// `UFFD_*`, and `O_*`.
    UserfaultfdFlags,
    /// `AT_FDCWD` or a file descriptor.
    Directory,
    /// `CAP_*`.
    Capability,
    /// A mask of any kind, or an address: in hexadecimal digits.
    Bits,
    /// A number.
    Plain,
}

/// How the values of a meaning are made up.
struct Shape {
    rows: &'static [Row],
    /// The value is a set of bits; else one of the rows.
    flags: bool,
    /// Bits in which one value stands, and the rows that name it.
    field: Option<(u32, &'static [Row])>,
}

const fn one(rows: &'static [Row]) -> Shape {
    Shape { rows, flags: false, field: None }
}

const fn flags(rows: &'static [Row]) -> Shape {
    Shape { rows, flags: true, field: None }
}

const fn with(mask: u32, field: &'static [Row], rows: &'static [Row]) -> Shape {
    Shape { rows, flags: true, field: Some((mask, field)) }
}

impl Meaning {
    fn shape(self) -> Shape {
        match self {
            Meaning::AddressFamily => one(tables::ADDRESS_FAMILIES),
            Meaning::SocketType => with(0xf, tables::SOCKET_TYPES, tables::SOCKET_TYPES),
            Meaning::Protocol => one(tables::PROTOCOLS),
            Meaning::NetlinkProtocol => one(tables::NETLINK_PROTOCOLS),
            Meaning::CloneFlags => with(0xff, tables::SIGNALS, tables::CLONE_FLAGS),
            Meaning::Namespaces => flags(tables::NAMESPACES),
            Meaning::PrctlOption => one(tables::PRCTL_OPTIONS),
            Meaning::AmbientCommand => one(tables::AMBIENT_COMMANDS),
            Meaning::MmOption => one(tables::MM_OPTIONS),
            Meaning::ArchPrctlOption => one(tables::ARCH_PRCTL_OPTIONS),
            Meaning::IoctlRequest => one(tables::IOCTL_REQUESTS),
            Meaning::Personality => with(0xff, tables::PERSONALITIES, tables::PERSONALITIES),
            Meaning::FcntlCommand => one(tables::FCNTL_COMMANDS),
            Meaning::KeyctlCommand => one(tables::KEYCTL_COMMANDS),
            Meaning::BpfCommand => one(tables::BPF_COMMANDS),
            Meaning::PtraceRequest => one(tables::PTRACE_REQUESTS),
            Meaning::MountFlags => with(0xffff_0000, tables::MOUNT_FLAGS, tables::MOUNT_FLAGS),
            Meaning::UmountFlags => flags(tables::UMOUNT_FLAGS),
            Meaning::Advice => one(tables::ADVICES),
            Meaning::Protection => flags(tables::PROTECTIONS),
            Meaning::MapFlags => with(0xf, tables::MAP_FLAGS, tables::MAP_FLAGS),
            Meaning::Signal => one(tables::SIGNALS),
            Meaning::SocketLevel => one(tables::SOCKET_LEVELS),
            Meaning::SocketOption(level) => one(match level {
                Some(0) => tables::IP_OPTIONS,
                Some(1) => tables::SOCKET_OPTIONS,
                Some(6) => tables::TCP_OPTIONS,
                Some(17) => tables::UDP_OPTIONS,
                Some(41) => tables::IPV6_OPTIONS,
                Some(263) => tables::PACKET_OPTIONS,
                Some(270) => tables::NETLINK_OPTIONS,
                Some(279) => tables::ALG_OPTIONS,
                Some(282) => tables::TLS_OPTIONS,
                _ => &[],
            }),
            Meaning::RingFlags => flags(tables::RING_FLAGS),
            Meaning::RingRegistration => one(tables::RING_REGISTRATIONS),
            Meaning::SeccompOperation => one(tables::SECCOMP_OPERATIONS),
            Meaning::SeccompMode => one(tables::SECCOMP_MODES),
            Meaning::SeccompFlags => flags(tables::SECCOMP_FLAGS),
            Meaning::FutexOperation => {
                with(0x7f, tables::FUTEX_OPERATIONS, tables::FUTEX_OPERATIONS)
            }
            Meaning::OpenFlags => with(3, tables::OPEN_FLAGS, tables::OPEN_FLAGS),
            Meaning::Socketcall => one(tables::SOCKETCALLS),
            Meaning::IpcCall => one(tables::IPC_CALLS),
            Meaning::MemfdFlags => flags(tables::MEMFD_FLAGS),
            Meaning::UserfaultfdFlags => flags(tables::USERFAULTFD_FLAGS),
            Meaning::Directory => one(tables::DIRECTORIES),
            Meaning::Capability => one(tables::CAPABILITIES),
            Meaning::Bits | Meaning::Plain => one(&[]),
        }
    }

    /// Whether numbers without a name are written with decimal digits.
    const fn counts(self) -> bool {
        matches!(self, Meaning::Plain | Meaning::Signal | Meaning::Directory | Meaning::Capability)
    }
}

/// A value by its names: `AF_INET`, `CLONE_NEWUSER|CLONE_NEWNS`, `SOCK_STREAM|SOCK_CLOEXEC`; what has none as a number.
///
/// The value is that of a register: only the low 32 bits have names, and a value with others is a number.
#[must_use]
pub fn show(meaning: Meaning, value: u64) -> String {
    let shape = meaning.shape();
    let Ok(low) = u32::try_from(value) else { return number(meaning, value) };
    if let Some(name) = named(shape.rows, low) {
        return name.to_owned();
    }
    // all bits are a mark, as personality's question, not a set
    if !shape.flags || low == u32::MAX {
        return number(meaning, value);
    }
    let mut rest = low;
    let mut parts = Vec::new();
    let mut field = None;
    if let Some((mask, rows)) = shape.field
        && rest & mask != 0
        && let Some(name) = named(rows, rest & mask)
    {
        field = Some(name);
        rest &= !mask;
    }
    let in_field = shape.field.map_or(0, |(mask, _)| mask);
    // those of several bits first, the widest first: O_SYNC holds O_DSYNC
    let mut rows: Vec<&Row> =
        shape.rows.iter().filter(|(bits, _, shown)| *shown && *bits != 0).collect();
    rows.sort_by_key(|(bits, ..)| (std::cmp::Reverse(bits.count_ones()), *bits));
    for (bits, name, _) in rows {
        // a value of the field is no set of bits, unless the field is what bits are left of
        let is_flag =
            bits & in_field == 0 || (bits.is_power_of_two() && meaning == Meaning::MountFlags);
        if is_flag && rest & bits == *bits {
            rest &= !bits;
            parts.push((*bits, *name));
        }
    }
    parts.sort_unstable();
    let names = field.into_iter().chain(parts.into_iter().map(|(_, name)| name));
    let mut names: Vec<String> = names.map(str::to_owned).collect();
    if rest != 0 || names.is_empty() {
        names.push(number(meaning, rest.into()));
    }
    // the signal of clone stands last, as people write it
    if meaning == Meaning::CloneFlags && field.is_some() {
        names.rotate_left(1);
    }
    names.join("|")
}

/// Reads what [`show`] writes, and what people do: names of the meaning and numbers (`17`, `0x11`, `0o21`, `-1`), joined by `|`.
/// `None` when a part is neither.
#[must_use]
pub fn parse(meaning: Meaning, text: &str) -> Option<u64> {
    let shape = meaning.shape();
    let field = shape.field.map_or(&[][..], |(_, rows)| rows);
    all(text, |name| {
        let known = shape.rows.iter().chain(field).find(|(_, known, _)| *known == name);
        known.map(|(value, ..)| *value)
    })
}

/// As [`parse`], with the names of all meanings.
#[must_use]
pub fn parse_any(text: &str) -> Option<u64> {
    all(text, |name| BY_NAME.get(name).copied())
}

static BY_NAME: LazyLock<BTreeMap<&'static str, u32>> = LazyLock::new(|| {
    let sets = ALL.iter().map(|meaning| meaning.shape().rows);
    sets.flatten().map(|(value, name, _)| (*name, *value)).collect()
});

/// Every meaning that has names; of the options of sockets one for each level that has some.
pub const ALL: &[Meaning] = &[
    Meaning::AddressFamily,
    Meaning::SocketType,
    Meaning::Protocol,
    Meaning::NetlinkProtocol,
    Meaning::CloneFlags,
    Meaning::Namespaces,
    Meaning::PrctlOption,
    Meaning::AmbientCommand,
    Meaning::MmOption,
    Meaning::ArchPrctlOption,
    Meaning::IoctlRequest,
    Meaning::Personality,
    Meaning::FcntlCommand,
    Meaning::KeyctlCommand,
    Meaning::BpfCommand,
    Meaning::PtraceRequest,
    Meaning::MountFlags,
    Meaning::UmountFlags,
    Meaning::Advice,
    Meaning::Protection,
    Meaning::MapFlags,
    Meaning::Signal,
    Meaning::SocketLevel,
    Meaning::SocketOption(Some(0)),
    Meaning::SocketOption(Some(1)),
    Meaning::SocketOption(Some(6)),
    Meaning::SocketOption(Some(17)),
    Meaning::SocketOption(Some(41)),
    Meaning::SocketOption(Some(263)),
    Meaning::SocketOption(Some(270)),
    Meaning::SocketOption(Some(279)),
    Meaning::SocketOption(Some(282)),
    Meaning::RingFlags,
    Meaning::RingRegistration,
    Meaning::SeccompOperation,
    Meaning::SeccompMode,
    Meaning::SeccompFlags,
    Meaning::FutexOperation,
    Meaning::OpenFlags,
    Meaning::Socketcall,
    Meaning::IpcCall,
    Meaning::MemfdFlags,
    Meaning::UserfaultfdFlags,
    Meaning::Directory,
    Meaning::Capability,
];

fn named(rows: &[Row], value: u32) -> Option<&'static str> {
    let start = rows.partition_point(|(other, ..)| *other < value);
    let same = rows[start..].iter().take_while(|(other, ..)| *other == value);
    same.filter(|(.., shown)| *shown).map(|(_, name, _)| *name).next()
}

fn number(meaning: Meaning, value: u64) -> String {
    let is_small = value < 10 || (meaning.counts() && value <= 0x7fff_ffff);
    if is_small { value.to_string() } else { format!("{value:#x}") }
}

fn all(text: &str, known: impl Fn(&str) -> Option<u32>) -> Option<u64> {
    let part = |part: &str| known(part).map(u64::from).or_else(|| digits(part));
    text.split('|').map(|one| part(one.trim())).try_fold(0, |all, part| Some(all | part?))
}

fn digits(text: &str) -> Option<u64> {
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
    fn tables_are_sorted_and_every_name_has_one_value() {
        for meaning in ALL {
            let shape = meaning.shape();
            let rows = shape.rows;
            assert!(rows.is_sorted_by_key(|(value, ..)| *value), "{meaning:?}");
            assert!(shape.field.is_none() || shape.flags, "{meaning:?}");
            for (value, name, shown) in rows {
                assert_eq!(parse(*meaning, name), Some((*value).into()), "{name}");
                assert_eq!(parse_any(name), Some((*value).into()), "{name}");
                let by = rows.iter().filter(|(other, _, shown)| other == value && *shown).count();
                assert!(by <= 1, "{meaning:?} {value:#x}");
                if *shown {
                    assert_eq!(show(*meaning, (*value).into()), *name);
                }
            }
        }
    }
}
