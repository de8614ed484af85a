//! What was seen, held against what the files could do and what Docker's default would allow.
//!
//! Owns the comparison of a recording with a [`Bound`]. A call that was seen and is not in the bound is a fault of the bound, and
//! said to be one.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;

use crate::model::{
    arch::Abi,
    bound::{Bound, Maker},
    recording::{Phase, Recording},
    syscall,
};

/// Functions that are named for one call.
const MAKERS: usize = 8;

/// Seen, reachable, allowed by default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Surface {
    /// The programs whose files were read: paths in the root. Hostile text, as are all names below.
    pub programs: BTreeSet<String>,
    /// Why these, in words: they were named, recorded or configured.
    pub chosen: Vec<String>,
    /// How many files were read.
    pub files: usize,
    /// How many calls the workload made; absent without a recording.
    pub seen: Option<usize>,
    /// How many calls the files could make.
    pub reachable: usize,
    /// How many Docker's default profile allows, of the machine's own ABI.
    pub allowed_by_default: usize,
    /// Reachable, never seen, allowed by Docker's default. By ABI and name.
    pub unseen: Vec<Reachable>,
    /// Reachable, never seen, denied by Docker's default.
    pub unseen_and_denied: Vec<Reachable>,
    /// How many of those two lists are reachable on error paths only.
    pub on_error_paths: usize,
    /// Seen, but not in the bound: the bound is wrong there.
    pub not_in_bound: Vec<Call>,
    /// Functions that enter the kernel with a number that could not be found out: any call may be made there.
    pub unbounded: BTreeSet<Maker>,
    /// What was looked for and could not be analysed, and why.
    pub unread: BTreeMap<String, String>,
}

/// A call.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct Call {
    /// Number space.
    pub abi: Abi,
    /// The kernel's name, or `syscall_NR`.
    pub name: String,
}

/// A call that the files could make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Reachable {
    /// Which.
    #[serde(flatten)]
    pub call: Call,
    /// Where its number stands, at most eight of them; empty for what the kernel itself does.
    pub makers: Vec<Maker>,
    /// In how many functions it stands.
    pub functions: usize,
    /// Every way to it that was found goes over a failure: a call that returned an error, or the end of the program because
    /// something is wrong.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub on_error_paths: bool,
}

impl Surface {
    /// Compares. `allowed` are the names that Docker's default allows on `native`.
    #[must_use]
    pub fn new(
        bound: Bound,
        chosen: Vec<String>,
        recording: Option<&Recording>,
        native: Abi,
        allowed: &BTreeSet<&'static str>,
    ) -> Self {
        let facts = recording.iter().flat_map(|recording| &recording.syscalls);
        let workload = facts.filter(|fact| fact.phase == Phase::Workload);
        let seen: BTreeSet<(Abi, u32)> = workload.map(|fact| (fact.abi, fact.nr)).collect();
        let call = |(abi, nr): (Abi, u32)| Call { abi, name: syscall::display(abi, nr).into() };
        let is_allowed = |of: &Reachable| {
            (of.call.abi == native || of.call.abi == Abi::Ia32)
                && allowed.contains(of.call.name.as_str())
        };
        let unseen = bound.calls.iter().filter(|(call, _)| !seen.contains(call));
        let (unseen, unseen_and_denied): (Vec<_>, Vec<_>) = unseen
            .map(|(which, makers)| Reachable {
                call: call(*which),
                makers: makers.iter().take(MAKERS).cloned().collect(),
                functions: makers.len(),
                on_error_paths: !bound.usual.contains(which),
            })
            .partition(is_allowed);
        let on_errors = |list: &[Reachable]| list.iter().filter(|it| it.on_error_paths).count();
        let outside = seen.iter().filter(|(abi, nr)| !bound.contains(*abi, *nr));
        Surface {
            not_in_bound: outside.map(|which| call(*which)).collect(),
            chosen,
            files: bound.files.len(),
            seen: recording.map(|_| seen.len()),
            reachable: bound.calls.len(),
            allowed_by_default: allowed.len(),
            on_error_paths: on_errors(&unseen) + on_errors(&unseen_and_denied),
            unseen,
            unseen_and_denied,
            programs: bound.programs,
            unbounded: bound.unbounded,
            unread: bound.unread,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::recording::{SCHEMA_VERSION, SyscallFact, Target, TargetKind};

    fn recording(numbers: &[u32]) -> Recording {
        let fact = |nr: &u32| SyscallFact {
            abi: Abi::X86_64,
            nr: *nr,
            phase: Phase::Workload,
            seen: BTreeMap::new(),
        };
        Recording {
            schema_version: SCHEMA_VERSION,
            target: Target { kind: TargetKind::Command, name: "x".into() },
            runs: BTreeMap::new(),
            syscalls: numbers.iter().map(fact).collect(),
            capabilities: Vec::new(),
            denials: Vec::new(),
            arguments: Vec::new(),
        }
    }

    #[test]
    fn each_call_is_in_one_list() {
        let mut bound = Bound::default();
        let maker = |n: usize| Maker { file: "/bin/x".into(), function: format!("f{n}") };
        for nr in [0, 1, 41, 165] {
            bound.calls.insert((Abi::X86_64, nr), (0..10).map(maker).collect());
        }
        bound.usual.extend([(Abi::X86_64, 0), (Abi::X86_64, 165)]);
        let allowed = BTreeSet::from(["read", "write", "socket"]);
        let recording = recording(&[0, 1, 2]);
        let surface = Surface::new(bound, Vec::new(), Some(&recording), Abi::X86_64, &allowed);
        assert_eq!((surface.seen, surface.reachable, surface.allowed_by_default), (Some(3), 4, 3));
        let names = |list: &[Reachable]| -> Vec<String> {
            list.iter().map(|reachable| reachable.call.name.clone()).collect()
        };
        assert_eq!(names(&surface.unseen), ["socket"]);
        assert_eq!(names(&surface.unseen_and_denied), ["mount"]);
        let on_error_paths = (surface.unseen[0].on_error_paths, surface.on_error_paths);
        assert_eq!(on_error_paths, (true, 1), "write was seen, mount needs no error");
        assert_eq!((surface.unseen[0].makers.len(), surface.unseen[0].functions), (8, 10));
        assert_eq!(surface.not_in_bound, [Call { abi: Abi::X86_64, name: "open".into() }]);
    }
}
