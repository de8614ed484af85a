//! What functions are known for: that they end the program, say what is wrong, or hand a system call's error on.
//!
//! Owns the lists of names, and which functions of a file bear one. What follows for those that call them is `errors`'.

use std::collections::HashMap;

use crate::{
    binaries::{code::Edge, reach::Files},
    model::{arch::Abi, syscall},
};

/// Functions that end the program because something is wrong.
const ENDS: [&str; 13] = [
    "abort",
    "__assert",
    "__assert_fail",
    "__assert_perror_fail",
    "__chk_fail",
    "__fortify_fail",
    "__libc_fatal",
    "__stack_chk_fail",
    "err",
    "errx",
    "verr",
    "verrx",
    "_ZSt9terminatev",
];

/// Functions that end the program with the status that they are given.
const EXITS: [&str; 4] = ["exit", "_exit", "_Exit", "quick_exit"];

/// Functions that say what is wrong.
const REPORTS: [&str; 26] = [
    "__errno_location",
    "__fprintf_chk",
    "__printf_chk",
    "__syslog_chk",
    "__vfprintf_chk",
    "__vsyslog_chk",
    "dcgettext",
    "error",
    "fflush",
    "fprintf",
    "fputc",
    "fputs",
    "fwrite",
    "gettext",
    "perror",
    "printf",
    "putchar",
    "puts",
    "strerror",
    "strerror_r",
    "syslog",
    "vfprintf",
    "vsyslog",
    "vwarn",
    "warn",
    "warnx",
];

/// Wrappers whose call's name is another.
const WRAPPERS: [&str; 10] = [
    "mkstemp",
    "sigaction",
    "waitpid",
    "tcgetattr",
    "tcsetattr",
    "posix_openpt",
    "seteuid",
    "setegid",
    "initgroups",
    "lockf",
];

/// Calls that return late or not at all: what stands before them is not on the way to an end.
const WAITS: [&str; 18] = [
    "accept",
    "accept4",
    "epoll_pwait",
    "epoll_pwait2",
    "epoll_wait",
    "execve",
    "execveat",
    "fexecve",
    "nanosleep",
    "pause",
    "poll",
    "ppoll",
    "pselect6",
    "select",
    "sigsuspend",
    "rt_sigsuspend",
    "waitid",
    "wait4",
];

/// What a called function is known for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It ends the program because something is wrong.
    Ends,
    /// It ends the program with the status that it is given.
    Exits,
    /// It says what is wrong.
    Reports,
    /// It returns -1 or a negative number on an error, and soon.
    Wrapper,
    /// The same, but not soon.
    Waits,
}

/// By its name.
#[must_use]
pub fn kind(name: &str) -> Option<Kind> {
    let bare = name.trim_start_matches("__").trim_end_matches("_nocancel");
    let bare = bare.strip_suffix("64").filter(|bare| !bare.is_empty()).unwrap_or(bare);
    if ENDS.contains(&name) {
        Some(Kind::Ends)
    } else if EXITS.contains(&name) {
        Some(Kind::Exits)
    } else if REPORTS.contains(&name) {
        Some(Kind::Reports)
    } else if WAITS.contains(&bare) {
        Some(Kind::Waits)
    } else if WRAPPERS.contains(&bare) || syscall::number(Abi::X86_64, bare).is_some() {
        Some(Kind::Wrapper)
    } else {
        None
    }
}

/// The functions of a file whose kind is known: by an exported name or a symbol, because they do nothing but jump to an
/// import, or because they enter the kernel themselves.
#[must_use]
pub fn kinds(files: &Files, file: usize) -> HashMap<usize, Kind> {
    let (elf, code) = (files.elf(file), files.code(file));
    let mut kinds = HashMap::new();
    for site in &code.sites {
        kinds.insert(site.function, Kind::Waits); // it may do more
    }
    for (function, edges) in code.edges.iter().enumerate() {
        let own = code.functions[function];
        // a stub may also lead to the linkage table's first one, which looks the symbol up
        let mut imports = edges.iter().filter_map(|edge| match edge {
            Edge::Import(name) => Some(name),
            Edge::Local(_) => None,
        });
        if let (Some(name), None) = (imports.next(), imports.next())
            && own.end - own.start <= 16
            && let Some(kind) = kind(&code.names[*name as usize])
        {
            kinds.insert(function, kind);
        }
    }
    let exported = elf.exports.iter().flat_map(|(name, at)| at.iter().map(move |at| (name, *at)));
    let named = elf.names.iter().map(|(at, name)| (name, *at));
    for (name, address) in named.chain(exported) {
        if let (Some(kind), Some(function)) = (kind(name), code.starts(address)) {
            kinds.insert(function, kind);
        }
    }
    kinds
}

/// Whether an import ends the program because something is wrong.
#[must_use]
pub fn ends(name: &str) -> bool {
    kind(name) == Some(Kind::Ends)
}
