//! Linux capabilities, by number and by name.
//!
//! Names carry no `CAP_` prefix: that is how compose and Kubernetes write them. Source:
//! <https://github.com/torvalds/linux/blob/v6.18/include/uapi/linux/capability.h>. Numbers beyond the
//! newest known one stay representable as `CAPABILITY_41`.

use std::{borrow::Cow, collections::BTreeSet};

/// Names by number, without `CAP_`.
pub const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The fourteen that Docker grants unless told otherwise. Source: moby `oci/caps/defaults.go`, 20.10.
pub const DOCKER_DEFAULT: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// What podman 4 and later give to a container that asks for nothing; Docker gives all of these, too
/// (<https://github.com/containers/common/blob/v0.50.1/pkg/config/default.go>).
pub const PODMAN_DEFAULT: [&str; 11] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Prefix of the display form of an unnamed number.
const UNNAMED: &str = "CAPABILITY_";

/// The name of capability `number`, without `CAP_`.
#[must_use]
pub fn name(number: u8) -> Option<&'static str> {
    NAMES.get(usize::from(number)).copied()
}

/// The number of a capability, with or without `CAP_`, in any case.
#[must_use]
pub fn number(name: &str) -> Option<u8> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    let index = NAMES.iter().position(|known| *known == bare)?;
    u8::try_from(index).ok()
}

/// The name of capability `number`, or `CAPABILITY_41`.
#[must_use]
pub fn display(number: u8) -> Cow<'static, str> {
    name(number).map_or_else(|| Cow::Owned(format!("{UNNAMED}{number}")), Cow::Borrowed)
}

/// Whether `text` is a canonical name, or the display form of a number that has none.
#[must_use]
pub fn is_canonical(text: &str) -> bool {
    NAMES.contains(&text)
        || text
            .strip_prefix(UNNAMED)
            .and_then(|digits| digits.parse().ok())
            .is_some_and(|number| name(number).is_none() && display(number) == text)
}

/// What engines grant: with `privileged` all, then `ALL` added, then `ALL` dropped, then the default less the dropped and with
/// the added. `add` and `drop` as users write them; the names that come out have no `CAP_`.
///
/// `ALL` is every capability that is named here. An engine that is older than the kernel knows fewer.
#[must_use]
pub fn granted(
    default: &[&str],
    add: &[String],
    drop: &[String],
    privileged: bool,
) -> BTreeSet<String> {
    let bare = |names: &[String]| -> BTreeSet<String> {
        let upper = names.iter().map(|name| name.trim().to_ascii_uppercase());
        upper.map(|name| name.strip_prefix("CAP_").map_or(name.clone(), str::to_owned)).collect()
    };
    let (add, drop) = (bare(add), bare(drop));
    let owned =
        |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    if privileged {
        return owned(&NAMES);
    }
    if add.contains("ALL") {
        return &owned(&NAMES) - &drop;
    }
    if drop.contains("ALL") { add } else { &(&owned(default) - &drop) | &add }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_kernels() {
        // Spot checks against include/uapi/linux/capability.h, the ends and the places where a slip would show.
        for (name, expected) in [
            ("CHOWN", 0),
            ("SETPCAP", 8),
            ("NET_BIND_SERVICE", 10),
            ("NET_RAW", 13),
            ("SYS_ADMIN", 21),
            ("MKNOD", 27),
            ("SETFCAP", 31),
            ("SYSLOG", 34),
            ("CHECKPOINT_RESTORE", 40),
        ] {
            assert_eq!(number(name), Some(expected), "{name}");
        }
    }

    #[test]
    fn names_round_trip() {
        for (index, known) in NAMES.iter().enumerate() {
            let index = u8::try_from(index).expect("41 fit");
            assert_eq!(name(index), Some(*known));
            assert_eq!(number(known), Some(index));
            assert_eq!(number(&format!("cap_{}", known.to_lowercase())), Some(index));
            assert!(is_canonical(known));
        }
        assert!(DOCKER_DEFAULT.iter().all(|name| is_canonical(name)));
        assert!(DOCKER_DEFAULT.is_sorted());
    }

    #[test]
    fn unnamed_numbers_survive() {
        assert_eq!(display(63), "CAPABILITY_63");
        assert!(is_canonical("CAPABILITY_63"));
        assert!(!is_canonical("CAPABILITY_0"));
        assert!(!is_canonical("CAPABILITY_063"));
        assert!(!is_canonical("CAP_CHOWN"));
    }
}
