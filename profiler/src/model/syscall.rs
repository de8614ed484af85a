//! Syscall numbers and names, for each ABI.
//!
//! Owns the lookup in the generated tables and the display form of numbers that no table names. A
//! number is never dropped for want of a name: `syscall_999` survives from recording to profile, and
//! only a seccomp file, which has no way to write it, leaves it out with a warning.

use std::{borrow::Cow, collections::BTreeMap, sync::LazyLock};

use crate::model::{arch::Abi, tables};

/// Prefix of the display form of an unnamed number. No kernel call is named like that.
const UNNAMED: &str = "syscall_";

static BY_NAME: LazyLock<BTreeMap<(Abi, &'static str), u32>> = LazyLock::new(|| {
    let rows = |abi| table(abi).iter().map(move |&(number, name)| ((abi, name), number));
    Abi::ALL.into_iter().flat_map(rows).collect()
});

/// All calls of an ABI, by number.
#[must_use]
pub fn table(abi: Abi) -> &'static [(u32, &'static str)] {
    match abi {
        Abi::X86_64 => tables::x86_64::ROWS,
        Abi::Ia32 => tables::ia32::ROWS,
        Abi::X32 => tables::x32::ROWS,
        Abi::Aarch64 => tables::aarch64::ROWS,
        Abi::Arm => tables::arm::ROWS,
        Abi::Riscv64 => tables::riscv64::ROWS,
    }
}

/// The kernel's name of call `nr`; `nr` without x32's bit 30. `None` when the tables are older than the call.
#[must_use]
pub fn name(abi: Abi, nr: u32) -> Option<&'static str> {
    let table = table(abi);
    let index = table.binary_search_by_key(&nr, |&(number, _)| number).ok()?;
    table.get(index).map(|&(_, name)| name)
}

/// The number of the call named `name`, without x32's bit 30. Display forms are not names.
#[must_use]
pub fn number(abi: Abi, name: &str) -> Option<u32> {
    let by_name: &BTreeMap<(Abi, &str), u32> = &BY_NAME;
    by_name.get(&(abi, name)).copied()
}

/// The name of call `nr`, or `syscall_NR`.
#[must_use]
pub fn display(abi: Abi, nr: u32) -> Cow<'static, str> {
    name(abi, nr).map_or_else(|| Cow::Owned(format!("{UNNAMED}{nr}")), Cow::Borrowed)
}

/// The number behind a name or display form; `None` when it is neither.
///
/// `syscall_0` is refused where the table names call 0, so that each call has one spelling.
#[must_use]
pub fn parse(abi: Abi, text: &str) -> Option<u32> {
    if let Some(nr) = number(abi, text) {
        return Some(nr);
    }
    let digits = text.strip_prefix(UNNAMED)?;
    let nr = digits.parse().ok()?;
    (display(abi, nr) == text).then_some(nr)
}

/// Whether `text` is the display form of a number without a name: a seccomp file cannot name it.
#[must_use]
pub fn is_unnamed(text: &str) -> bool {
    text.strip_prefix(UNNAMED).is_some_and(|digits| digits.parse::<u32>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted_by_number_with_unique_names() {
        for abi in Abi::ALL {
            let table = table(abi);
            assert!(table.windows(2).all(|pair| pair[0].0 < pair[1].0), "{abi}");
            let names: std::collections::BTreeSet<_> = table.iter().map(|row| row.1).collect();
            assert_eq!(names.len(), table.len(), "{abi}");
            assert!(!names.iter().any(|name| is_unnamed(name)), "{abi}");
        }
    }

    #[test]
    fn numbers_agree_with_libc_for_the_build_host() {
        #[cfg(target_arch = "x86_64")]
        let native = Abi::X86_64;
        #[cfg(target_arch = "aarch64")]
        let native = Abi::Aarch64;
        #[cfg(target_arch = "riscv64")]
        let native = Abi::Riscv64;
        for (name, nr) in [
            ("read", libc::SYS_read),
            ("execve", libc::SYS_execve),
            ("clone3", libc::SYS_clone3),
            ("statx", libc::SYS_statx),
            ("faccessat2", libc::SYS_faccessat2),
        ] {
            assert_eq!(number(native, name).map(i64::from), Some(nr), "{name}");
        }
    }

    #[test]
    fn abis_have_number_spaces_of_their_own() {
        assert_eq!(name(Abi::X86_64, 59), Some("execve"));
        assert_eq!(name(Abi::Ia32, 11), Some("execve"));
        assert_eq!(name(Abi::X32, 520), Some("execve"));
        assert_eq!(name(Abi::Aarch64, 221), Some("execve"));
        assert_eq!(name(Abi::Arm, 0xf_0005), Some("set_tls"));
        assert_eq!(name(Abi::Riscv64, 258), Some("riscv_hwprobe"));
        assert_eq!(number(Abi::Aarch64, "open"), None);
    }

    #[test]
    fn unnamed_numbers_have_one_spelling() {
        assert_eq!(display(Abi::X86_64, 999), "syscall_999");
        assert_eq!(parse(Abi::X86_64, "syscall_999"), Some(999));
        for text in
            ["syscall_0", "syscall_0999", "syscall_+999", "syscall_", "reed", "syscall_99999999999"]
        {
            assert_eq!(parse(Abi::X86_64, text), None, "{text}");
        }
        for abi in Abi::ALL {
            for &(nr, name) in table(abi) {
                assert_eq!(parse(abi, name), Some(nr));
                assert_eq!(display(abi, nr), name);
            }
        }
    }
}
