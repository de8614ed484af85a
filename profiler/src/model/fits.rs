//! Whether a policy still fits a runtime and an image, as far as that can be known without running anything.
//!
//! Owns two questions: does the filter allow what the runtime itself needs to start a container, and which of its entries can
//! nothing in the image use any more.

use schemars::JsonSchema;
use serde::Serialize;

use crate::model::{
    arch::Abi,
    bound::Bound,
    effective::Effective,
    floor::{self, RuntimeUse},
    profile::{Profile, SyscallReason},
    syscall,
};

/// One measured floor, held against a filter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FloorFit {
    /// The runtime in use, `runc 1.1.5`.
    pub runtime: String,
    /// The one that was measured.
    pub measured: String,
    /// Both are the same version.
    pub exact: bool,
    /// Calls that it needs and the filter refuses. By name.
    pub missing: Vec<String>,
}

/// What the files of an image say of a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct BoundFit {
    /// How many calls the files could make.
    pub reachable: usize,
    /// How many of them the filter can pass.
    pub allowed: usize,
    /// Calls that are allowed for the workload and that nothing in the files makes: of `syscalls` by ABI and name. Empty where the
    /// bound is not closed.
    pub unused: Vec<String>,
    /// The number of every call is known, and every file was read.
    pub closed: bool,
}

/// Whether the filter has the floors of a runtime, in the order of the measurements. More than one where the version is not known.
#[must_use]
pub fn floors(effective: &Effective, native: Abi, usage: &RuntimeUse) -> Vec<FloorFit> {
    let fit = |floor: floor::Floor| {
        let needed =
            floor.always.union(&floor.sometimes).chain(floor.join.difference(&floor.always));
        let refused = |name: &&&str| {
            syscall::number(native, name).is_some_and(|nr| !effective.may_pass(native, nr))
        };
        let mut missing: Vec<String> =
            needed.filter(refused).map(|name| (*name).to_owned()).collect();
        missing.sort();
        missing.dedup();
        FloorFit {
            runtime: usage.label(),
            measured: format!("{} {}", floor.runtime, floor.version),
            exact: floor.exact,
            missing,
        }
    };
    floor::lookup(usage).into_iter().map(fit).collect()
}

/// Holds a policy against what files could do.
#[must_use]
pub fn bound(effective: &Effective, profile: Option<&Profile>, bound: &Bound) -> BoundFit {
    let closed = bound.is_closed();
    let allowed = bound.calls.keys().filter(|(abi, nr)| effective.may_pass(*abi, *nr)).count();
    let rules = profile.into_iter().filter(|_| closed).flat_map(|profile| &profile.syscalls);
    let of_workload = |reason: &SyscallReason| matches!(reason, SyscallReason::Workload { .. });
    let unused = rules.filter(|rule| {
        rule.reasons.iter().all(of_workload)
            && syscall::parse(rule.abi, &rule.name).is_some_and(|nr| !bound.contains(rule.abi, nr))
    });
    BoundFit {
        reachable: bound.calls.len(),
        allowed,
        unused: unused.map(|rule| rule.name.clone()).collect(),
        closed,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::{
        effective::{Context, Engine, decide},
        floor::User,
        seccomp::{KernelVersion, SeccompFile},
    };

    fn filter(names: &[&str]) -> Effective {
        let text = serde_json::json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{ "names": names, "action": "SCMP_ACT_ALLOW" }],
        });
        let file: SeccompFile = serde_json::from_value(text).expect("a filter");
        let context = Context {
            native: Abi::X86_64,
            capabilities: BTreeSet::new(),
            kernel: KernelVersion { major: 6, minor: 1 },
            engine: Engine::Oci,
        };
        decide(&file, &context)
    }

    #[test]
    fn a_floor_that_is_not_there_is_named() {
        let usage = |version: &str| RuntimeUse {
            runtime: "crun".into(),
            version: version.into(),
            no_new_privileges: true,
            user: User::Root,
        };
        let all: Vec<&str> = syscall::table(Abi::X86_64).iter().map(|row| row.1).collect();
        let fits = floors(&filter(&all), Abi::X86_64, &usage("1.8.1"));
        assert_eq!((fits.len(), fits[0].exact, fits[0].missing.len()), (1, true, 0));
        let less: Vec<&str> = all.iter().copied().filter(|name| *name != "execve").collect();
        let fits = floors(&filter(&less), Abi::X86_64, &usage("1.8.2"));
        assert_eq!((fits[0].exact, fits[0].measured.as_str()), (false, "crun 1.8.1"));
        assert_eq!(fits[0].missing, ["execve"]);
        assert!(floors(&filter(&all), Abi::X86_64, &usage("")).len() > 1, "an unknown version");
    }

    #[test]
    fn a_bound_with_gaps_calls_nothing_unused() {
        let mut files = Bound::default();
        files.calls.insert((Abi::X86_64, 0), BTreeSet::new());
        files.calls.insert((Abi::X86_64, 165), BTreeSet::new());
        let fit = bound(&filter(&["read"]), None, &files);
        assert_eq!((fit.reachable, fit.allowed, fit.closed), (2, 1, true));
        files.unread.insert("libx.so".into(), "not there".into());
        assert!(!bound(&filter(&["read"]), None, &files).closed);
    }
}
