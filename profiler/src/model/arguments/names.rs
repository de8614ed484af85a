//! What the kernel calls the arguments of its calls: the generated table of prototypes.

use crate::model::{arch::Abi, tables::prototypes};

/// What an argument is for the kernel. Of the registers of a 64-bit ABI it reads all bits only where that is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An address in the caller's memory: all bits.
    Pointer,
    /// A signed number: the low 32 bits.
    Int,
    /// An unsigned number: the low 32 bits.
    Uint,
    /// A signed number: all bits.
    Long,
    /// An unsigned number: all bits.
    Ulong,
}

/// The names of a call's arguments, in order: as many as it has. `None` when the kernel's headers have no prototype of it.
///
/// They are those of the 64-bit ABIs; where an ABI differs, [`on`] says so.
#[must_use]
pub fn of(name: &str) -> Option<&'static [&'static str]> {
    row(name).map(|(_, names, _)| *names)
}

/// As [`of`], for one ABI.
#[must_use]
pub fn on(abi: Abi, name: &str) -> Option<&'static [&'static str]> {
    match (abi, name) {
        // one argument, that points to the others: arch/x86/entry/syscalls/syscall_32.tbl
        (Abi::Ia32, "mmap" | "select") => Some(&["arg"]),
        // the last two change places where the kernel is built with CONFIG_CLONE_BACKWARDS
        (Abi::Ia32 | Abi::Aarch64 | Abi::Arm | Abi::Riscv64, "clone") => {
            Some(&["clone_flags", "newsp", "parent_tidptr", "tls", "child_tidptr"])
        }
        // 64-bit values take two registers, where depends
        (Abi::Ia32 | Abi::Arm, _) if is_split(name) => None,
        _ => of(name),
    }
}

/// What argument `index` of a call is; `None` when that is not known or there is none.
#[must_use]
pub fn kind(abi: Abi, name: &str, index: usize) -> Option<Kind> {
    let kinds = match (abi, name) {
        (Abi::Ia32, "mmap" | "select") => "p",
        (Abi::Ia32 | Abi::Aarch64 | Abi::Arm | Abi::Riscv64, "clone") => "wwpwp",
        (Abi::Ia32 | Abi::Arm, _) if is_split(name) => return None,
        _ => row(name)?.2,
    };
    Some(match kinds.as_bytes().get(index)? {
        b'p' => Kind::Pointer,
        b'i' => Kind::Int,
        b'u' => Kind::Uint,
        b'l' | b'o' => Kind::Long,
        _ => Kind::Ulong,
    })
}

/// Whether a 32-bit ABI has more registers for the call than it has arguments.
fn is_split(name: &str) -> bool {
    row(name).is_some_and(|(.., kinds)| kinds.contains(['o', 'q']))
}

fn row(name: &str) -> Option<&'static (&'static str, &'static [&'static str], &'static str)> {
    let index = prototypes::ROWS.binary_search_by_key(&name, |(known, ..)| known).ok()?;
    prototypes::ROWS.get(index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::facts;

    #[test]
    fn the_table_is_sound() {
        assert!(prototypes::ROWS.windows(2).all(|pair| pair[0].0 < pair[1].0));
        for (name, names, kinds) in prototypes::ROWS {
            assert!(names.len() <= 6 && names.len() == kinds.len(), "{name}");
            assert!(kinds.bytes().all(|kind| b"piulwoq".contains(&kind)), "{name}");
            assert!(facts::syscall(name).is_some(), "{name}");
        }
        // what no prototype is known of was removed long ago, or never was
        let absent = facts::syscalls().filter(|facts| of(facts.name).is_none());
        let absent: Vec<&str> = absent.map(|facts| facts.name).collect();
        assert!(absent.len() < 40, "{absent:?}");
    }

    #[test]
    fn names_are_the_kernels() {
        assert_eq!(of("socket"), Some(&["family", "type", "protocol"][..]));
        assert_eq!(of("openat"), Some(&["dfd", "filename", "flags", "mode"][..]));
        assert_eq!(of("getpid"), Some(&[][..]));
        assert_eq!(of("afs_syscall"), None);
        assert_eq!(of("umount2"), Some(&["name", "flags"][..]));
        assert_eq!(on(Abi::Ia32, "mmap").map(<[_]>::len), Some(1));
        assert_eq!(on(Abi::X86_64, "mmap").map(<[_]>::len), Some(6));
        assert_eq!(kind(Abi::X86_64, "openat", 0), Some(Kind::Int));
        assert_eq!(kind(Abi::X86_64, "openat", 1), Some(Kind::Pointer));
        assert_eq!(kind(Abi::X86_64, "openat", 4), None);
        assert_eq!(on(Abi::X86_64, "pread64").map(<[_]>::len), Some(4));
        assert_eq!(on(Abi::Ia32, "pread64"), None);
    }
}
