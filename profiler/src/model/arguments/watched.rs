//! Which arguments are recorded, and why: one table.
//!
//! Owns nothing of what becomes a rule of a profile; [`Rule`] only says for which choice an argument is good enough.

/// How many combinations of values are kept of one call, in one phase and under one label; beyond it the answer is "any".
pub const BOUND: usize = 32;

/// All bits of a 32-bit argument.
const INT: u64 = 0xffff_ffff;

/// `SOCK_CLOEXEC` and `SOCK_NONBLOCK` change nothing about the socket.
const SOCKET_TYPE: u64 = INT & !0o2_004_000;

/// The flags of clone(2) and unshare(2) that make namespaces, but for `CLONE_NEWTIME`, which shares a bit with clone's signal.
const NAMESPACES: u64 = 0x7e02_0000;

/// A call whose arguments are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watched {
    /// The kernel's name.
    pub call: &'static str,
    /// Which of them, by index; at most three.
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
    /// The bits that are kept.
    pub mask: u64,
}

/// Which choice of `--arguments` makes a rule of what was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// The default one, and the strict one: the call is rare, and its other uses are known attack surface.
    AttackSurface,
    /// Only the strict one.
    Strict,
    /// None: the call is made too often to lose its place in the kernel's constant-action cache.
    Never,
}

const fn all(index: u8) -> Argument {
    Argument { index, mask: INT }
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
    "clone": [Argument { index: 0, mask: NAMESPACES }] AttackSurface "new namespaces, a user namespace first, reach code that is root's otherwise";
    "fcntl": [all(1)] Never "commands differ little in what they reach";
    "ioctl": [all(1)] Strict "every driver has its own; TIOCSTI and TIOCLINUX put words into another's terminal";
    "keyctl": [all(0)] AttackSurface "each operation is an interface of its own";
    "kill": [all(1)] Strict "which signals";
    "madvise": [all(2)] Never "advice differs in what it reaches, but is given often";
    "mmap": [Argument { index: 2, mask: 4 }] Never "whether memory becomes executable";
    "mprotect": [Argument { index: 2, mask: 4 }] Never "whether memory becomes executable";
    "personality": [all(0)] AttackSurface "ADDR_NO_RANDOMIZE and READ_IMPLIES_EXEC take protections away";
    "prctl": [all(0)] AttackSurface "options from harmless names to memory maps and speculation";
    "ptrace": [all(0)] AttackSurface "which requests";
    "setns": [all(1)] AttackSurface "which namespaces";
    "setsockopt": [all(1), all(2)] Strict "each option is an interface of its own";
    "socket": [all(0), Argument { index: 1, mask: SOCKET_TYPE }, all(2)] AttackSurface "each family is a subsystem of its own, most of them rarely used";
    "socketpair": [all(0), Argument { index: 1, mask: SOCKET_TYPE }, all(2)] AttackSurface "as socket";
    "tgkill": [all(2)] Strict "which signals";
    "tkill": [all(1)] Strict "which signals";
    "unshare": [all(0)] AttackSurface "new namespaces, a user namespace first, reach code that is root's otherwise";
}

/// What is recorded of a call.
#[must_use]
pub fn watched(call: &str) -> Option<&'static Watched> {
    WATCHED.iter().find(|row| row.call == call)
}
