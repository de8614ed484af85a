//! Which arguments are recorded, and why: one table.
//!
//! Owns nothing of what becomes a rule of a profile; [`Rule`] only says for which choice an argument is good enough.

use crate::model::{arch::Abi, syscall};

/// How many combinations of values are kept of one call, in one phase and under one label; beyond it the answer is "any".
pub const BOUND: usize = 32;

/// All bits of a 32-bit argument.
const INT: u64 = 0xffff_ffff;

/// `SOCK_CLOEXEC` and `SOCK_NONBLOCK` change nothing about the socket.
const SOCKET_TYPE: u64 = INT & !0o2_004_000;

/// The flags of clone(2) and unshare(2) that make namespaces, but for `CLONE_NEWTIME`, which shares a bit with clone's signal.
const NAMESPACES: u64 = 0x7e02_0000;

/// The same of clone3(2), which has another place for the signal.
const NAMESPACES_3: u64 = NAMESPACES | 0x80;

/// In place of the flags of clone3(2) and of process ids that clone(2) has no way to say (`CLONE_INTO_CGROUP`, `set_tid`): a bit that is
/// no flag of clone3.
const BEYOND_CLONE: u64 = 1;

/// `PROT_EXEC` of mmap(2) and mprotect(2).
const PROT_EXEC: u64 = 4;

/// Options of prctl(2) whose next argument is one of a few and decides what they do, as bits: all are below 64. Not those that take a
/// capability or an address: a program that drops each of its capabilities would lose the precision of all others.
const DECIDED: u64 = bits(&[
    4,  // PR_SET_DUMPABLE
    22, // PR_SET_SECCOMP: the mode
    28, // PR_SET_SECUREBITS
    33, // PR_MCE_KILL
    35, // PR_SET_MM: what of the memory map
    47, // PR_CAP_AMBIENT: raise, lower, ask
    53, // PR_SET_SPECULATION_CTRL: which mitigation
    59, // PR_SET_SYSCALL_USER_DISPATCH
    62, // PR_SCHED_CORE: share, or ask
]);

/// A call whose arguments are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watched {
    /// The kernel's name.
    pub call: &'static str,
    /// Which of them, by index.
    pub arguments: &'static [Argument],
    /// When they become a rule.
    pub rule: Rule,
    /// Why they are recorded.
    pub reason: &'static str,
}

/// An argument that is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argument {
    /// 0 to 5.
    pub index: u8,
    /// The bits that are kept; none of the upper 32.
    pub mask: u64,
    /// They are kept of the eight bytes that the register points to, which seccomp does not see. Of the first argument only.
    ///
    /// They are read when the call begins; the kernel reads them again, and another thread may have changed them
    /// meanwhile. So this says what a program does that does not hide it, and no more.
    pub pointed: bool,
    /// It is kept only where the first argument is one of these, as bits below 64; 0: always.
    pub of: u64,
}

impl Argument {
    /// Whether it is kept where the first argument is `first`.
    #[must_use]
    pub const fn is_kept(&self, first: u64) -> bool {
        self.of == 0 || first < 64 && self.of >> first & 1 != 0
    }
}

/// Which choice of `--arguments` makes a rule of what was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// The default one, and the strict one: the call is rare, and its other uses are known attack surface.
    AttackSurface,
    /// Only the strict one.
    Strict,
    /// None: the call is made too often to lose its place in the kernel's constant-action cache, or seccomp does not see
    /// what is recorded.
    Never,
}

const fn some(index: u8, mask: u64) -> Argument {
    Argument { index, mask, pointed: false, of: 0 }
}

const fn all(index: u8) -> Argument {
    some(index, INT)
}

/// What the first argument points to.
const fn pointed(mask: u64) -> Argument {
    Argument { index: 0, mask, pointed: true, of: 0 }
}

/// Where the first argument is one of these.
const fn only_of(index: u8, of: u64) -> Argument {
    Argument { index, mask: INT, pointed: false, of }
}

const fn bits(places: &[u32]) -> u64 {
    let (mut bits, mut i) = (0, 0);
    while i < places.len() {
        bits |= 1 << places[i];
        i += 1;
    }
    bits
}

macro_rules! watched {
    ($($call:literal: [$($argument:expr),*] $rule:ident $reason:literal;)*) => {
        /// All of them, by name.
        pub const WATCHED: &[Watched] = &[
            $(Watched {
                call: $call,
                arguments: &[$($argument),*],
                rule: Rule::$rule,
                reason: $reason,
            },)*
        ];
    };
}

watched! {
    "bpf": [all(0)] AttackSurface "each command is an interface of its own";
    "clone": [some(0, NAMESPACES)] AttackSurface "new namespaces, a user namespace first, reach code that is root's otherwise";
    // seccomp sees the pointer only. The value is that of the flags behind it: where all that were seen are 0, clone3 can be
    // answered by ENOSYS, upon which libc calls clone with the same flags. Where they could not be read, any are recorded.
    "clone3": [pointed(NAMESPACES_3 | BEYOND_CLONE)] Never "as clone; whether a fall-back to it loses anything";
    "fcntl": [all(1)] Never "commands differ little in what they reach";
    "fcntl64": [all(1)] Never "as fcntl";
    "ioctl": [all(1)] AttackSurface "every driver has its own; TIOCSTI and TIOCLINUX put words into another's terminal";
    "ipc": [all(0)] Strict "which call of ia32's System V family, whose own arguments are not compared";
    "keyctl": [all(0)] AttackSurface "each operation is an interface of its own";
    "kill": [all(1)] Strict "which signals";
    "madvise": [all(2)] Never "advice differs in what it reaches, but is given often";
    "memfd_create": [all(1)] Strict "MFD_EXEC, and huge pages";
    "mmap": [some(2, PROT_EXEC)] Never "whether memory becomes executable";
    "mmap2": [some(2, PROT_EXEC)] Never "as mmap";
    "mount": [all(3)] Strict "a bind mount is another thing than a new file system";
    "mprotect": [some(2, PROT_EXEC)] Never "whether memory becomes executable";
    "personality": [all(0)] AttackSurface "ADDR_NO_RANDOMIZE and READ_IMPLIES_EXEC take protections away";
    "prctl": [all(0), only_of(1, DECIDED)] AttackSurface "options from harmless names to memory maps and speculation";
    "ptrace": [all(0)] AttackSurface "which requests";
    "seccomp": [all(0)] Strict "a filter, or a question";
    "setns": [all(1)] AttackSurface "which namespaces";
    "setsockopt": [all(1), all(2)] Strict "each option is an interface of its own";
    "socket": [all(0), some(1, SOCKET_TYPE), all(2)] AttackSurface "each family is a subsystem of its own, most of them rarely used";
    "socketcall": [all(0)] AttackSurface "which call of ia32's sockets; its arguments, the family too, lie in memory";
    "socketpair": [all(0), some(1, SOCKET_TYPE), all(2)] AttackSurface "as socket";
    "tgkill": [all(2)] Strict "which signals";
    "tkill": [all(1)] Strict "which signals";
    "unshare": [all(0)] AttackSurface "new namespaces, a user namespace first, reach code that is root's otherwise";
    "userfaultfd": [all(0)] AttackSurface "without UFFD_USER_MODE_ONLY a program can hold the kernel up in the middle of a call";
}

/// What is recorded of a call.
#[must_use]
pub fn watched(call: &str) -> Option<&'static Watched> {
    WATCHED.iter().find(|row| row.call == call)
}

/// What is recorded of a call, by its number. Not of ia32's `mmap`, whose one argument points to the others.
#[must_use]
pub fn watched_number(abi: Abi, nr: u32) -> Option<&'static Watched> {
    let name = syscall::name(abi, nr)?;
    watched(name).filter(|_| (abi, name) != (Abi::Ia32, "mmap"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn rows_are_in_order_and_can_be_watched() {
        assert!(WATCHED.windows(2).all(|pair| pair[0].call < pair[1].call));
        for row in WATCHED {
            let numbers = Abi::ALL.map(|abi| syscall::number(abi, row.call));
            assert!(numbers.iter().any(Option::is_some), "{} is no call", row.call);
            let indexes: BTreeSet<u8> =
                row.arguments.iter().map(|argument| argument.index).collect();
            assert_eq!(indexes.len(), row.arguments.len(), "{}", row.call);
            assert!(!indexes.is_empty(), "{}", row.call);
            for argument in row.arguments {
                let Argument { index, mask, pointed, of } = *argument;
                assert!(of == 0 || index == 1, "{}", row.call);
                assert!(index < 6 && mask != 0 && mask & !INT == 0, "{}", row.call);
                assert!(!pointed || index == 0 && row.rule == Rule::Never, "{}", row.call);
            }
        }
    }

    #[test]
    fn the_documentation_has_every_row() {
        let docs = include_str!("../../../../docs/arguments.md");
        for Watched { call, arguments, rule, reason } in WATCHED {
            let kept = arguments.iter().map(|argument| match argument {
                Argument { index, mask: INT, pointed: false, of: 0 } => index.to_string(),
                Argument { index, mask, pointed: false, of: 0 } => format!("{index} & {mask:#x}"),
                Argument { index, mask, pointed: true, .. } => {
                    format!("what {index} points to & {mask:#x}")
                }
                Argument { index, of, .. } => {
                    let options = (0..64).filter(|bit| of >> bit & 1 != 0);
                    let options: Vec<String> = options.map(|bit| bit.to_string()).collect();
                    format!("{index} where 0 is {}", options.join(" "))
                }
            });
            let kept: Vec<String> = kept.collect();
            let rule = match rule {
                Rule::AttackSurface => "always",
                Rule::Strict => "strict",
                Rule::Never => "never",
            };
            let row = format!("| `{call}` | {} | {rule} | {reason} |", kept.join(", "));
            assert!(docs.contains(&row), "docs/arguments.md lacks\n{row}");
        }
    }
}
