//! An upper bound on a target's calls, as read from its files: what the program could ask of the kernel, by which file
//! and function, and why the bound may not be one. Owns the result; `binaries` finds it.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{arch::Abi, syscall};

/// Calls that the kernel makes happen, or its vDSO makes where the clock cannot be read without it: in no file.
const KERNELS: [&str; 6] =
    ["restart_syscall", "clock_gettime", "clock_getres", "gettimeofday", "time", "getcpu"];

/// What the files of some programs could ask of the kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bound {
    /// The programs it is for: paths inside the root. Hostile text, as are all names below.
    pub programs: BTreeSet<String>,
    /// How many files were read.
    pub files: BTreeSet<String>,
    /// Which files and functions hold the number of each call; empty for the kernel's own.
    pub calls: BTreeMap<(Abi, u32), BTreeSet<Maker>>,
    /// Those of them that can be reached without that anything has failed.
    pub usual: BTreeSet<(Abi, u32)>,
    /// Functions that enter the kernel with a number that is not known: any call may be made there.
    pub unbounded: BTreeSet<Maker>,
    /// What was looked for and could not be analysed, and why: what it does is not in the bound.
    pub unread: BTreeMap<String, String>,
}

/// A function of a file.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct Maker {
    /// Path inside the root. Hostile text.
    pub file: String,
    /// The function's name, `read`, or its address in the file when no symbol names it, `0x1a2b`. Hostile text.
    pub function: String,
}

impl Bound {
    /// A bound of nothing but what the kernel itself does.
    #[must_use]
    pub fn new() -> Self {
        let mut bound = Self::default();
        for name in KERNELS {
            if let Some(nr) = syscall::number(Abi::X86_64, name) {
                bound.calls.insert((Abi::X86_64, nr), BTreeSet::new());
                bound.usual.insert((Abi::X86_64, nr));
            }
        }
        bound
    }

    /// Whether the numbers of all calls are known and all files were read.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.unbounded.is_empty() && self.unread.is_empty()
    }

    /// Whether a call is in it by its number, not only because some number is not known.
    #[must_use]
    pub fn contains(&self, abi: Abi, nr: u32) -> bool {
        self.calls.contains_key(&(abi, nr))
    }

    /// Both bounds as one.
    pub fn join(&mut self, other: Self) {
        self.programs.extend(other.programs);
        self.files.extend(other.files);
        for (call, makers) in other.calls {
            self.calls.entry(call).or_default().extend(makers);
        }
        self.usual.extend(other.usual);
        self.unbounded.extend(other.unbounded);
        self.unread.extend(other.unread);
    }
}
