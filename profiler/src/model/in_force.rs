//! Whether a filter that the kernel has is the one that a policy means: compared by what they decide.
//!
//! Owns what may differ without being another filter: runtimes answer ENOSYS above the largest number that they know, and
//! leave out names that their libseccomp does not know. Both refuse what would be refused or cannot be asked for.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    arch::Abi,
    bpf::{self, Data, Program},
    effective::{Decision, Effective, Outcome},
    seccomp::Op,
    syscall,
};

/// The numbers that are always looked at: more than any table of the first 512 has, and x32's own.
const NUMBERS: u32 = 600;

/// A call that a loaded filter answers in another way than it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference {
    /// Number space.
    pub abi: Abi,
    /// The number, without x32's bit.
    pub nr: u32,
    /// What the policy says.
    pub wanted: Outcome,
    /// What the filter answers; `None` when that means nothing.
    pub found: Option<Outcome>,
}

/// The calls for which `loaded` does not do what `policy` says, at most one each. `unknown`: names that the loader's
/// libseccomp is known not to know.
#[must_use]
pub fn differences(
    policy: &Effective,
    loaded: &Program,
    unknown: &BTreeSet<String>,
) -> Vec<Difference> {
    let largest = largest_known(policy, unknown);
    let mut differences = Vec::new();
    for abi in Abi::ALL {
        let named = syscall::table(abi).iter().map(|row| row.0);
        for nr in (0..NUMBERS).chain(named).collect::<BTreeSet<u32>>() {
            let decision = policy.decision(abi, nr);
            let name = syscall::name(abi, nr);
            let is_unknown = name.is_some_and(|name| unknown.contains(name));
            let is_beyond = !policy.abis.contains(&abi)
                || largest.get(&abi).is_none_or(|&largest| nr > largest)
                || name.is_none();
            for arguments in arguments(&decision) {
                let wanted = policy.verdict(abi, nr, &arguments);
                let found = bpf::outcome_of(loaded.run(&Data::of(abi, nr, arguments)));
                let refuses = found.is_some_and(|found| !found.may_pass());
                let is_same = found == Some(wanted)
                    || refuses && (is_unknown || is_beyond && !wanted.may_pass());
                if !is_same {
                    differences.push(Difference { abi, nr, wanted, found });
                    break;
                }
            }
        }
    }
    differences
}

/// The largest number of each ABI that a rule gives to a loader that does not know some names.
fn largest_known(policy: &Effective, unknown: &BTreeSet<String>) -> BTreeMap<Abi, u32> {
    let mut largest = BTreeMap::new();
    for (abi, nr) in policy.ruled() {
        if syscall::name(abi, nr).is_some_and(|name| !unknown.contains(name)) {
            let known = largest.entry(abi).or_insert(nr);
            *known = nr.max(*known);
        }
    }
    largest
}

/// Registers that tell the rules of a call apart: all zero, and around each value that a condition names.
fn arguments(decision: &Decision) -> Vec<[u64; 6]> {
    let mut all = vec![[0; 6]];
    for (conditions, _) in &decision.rules {
        let mut holds = [0; 6];
        for condition in conditions {
            let masked = condition.op == Op::MaskedEq;
            holds[usize::from(condition.index) % 6] =
                if masked { condition.value_two } else { condition.value };
        }
        all.push(holds);
        for condition in conditions {
            let value = holds[usize::from(condition.index) % 6];
            for near in [value.wrapping_add(1), value.wrapping_sub(1), !value] {
                let mut near_it = holds;
                near_it[usize::from(condition.index) % 6] = near;
                all.push(near_it);
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        effective::{Context, Engine, decide},
        seccomp::{Action, Arg, KernelVersion, Rule, SeccompFile},
    };

    const ALLOW: u32 = 0x7fff_0000;
    const EPERM: u32 = 0x0005_0001;
    const ENOSYS: u32 = 0x0005_0026;

    /// read, write and, where its first argument is 7, close.
    fn policy() -> Effective {
        let rule = |names: &[&str], args: Vec<Arg>| Rule {
            names: names.iter().map(|&name| name.to_owned()).collect(),
            name: None,
            action: Action::Allow,
            errno_ret: None,
            errno: None,
            args,
            comment: None,
            includes: Default::default(),
            excludes: Default::default(),
        };
        let seven = Arg { index: 0, value: 7, value_two: 0, op: Op::Eq };
        let mut file = SeccompFile::new(Action::Errno);
        file.syscalls = vec![rule(&["read", "write"], vec![]), rule(&["close"], vec![seven])];
        let kernel = KernelVersion { major: 6, minor: 1 };
        let capabilities = BTreeSet::new();
        decide(&file, &Context { native: Abi::X86_64, capabilities, kernel, engine: Engine::Oci })
    }

    /// A filter that allows these calls and close with an argument, answers `above` above close, and EPERM to others.
    fn filter(calls: &[u32], close: u32, above: u32) -> Program {
        let (load, equal, greater, end) = (0x20, 0x15, 0x25, 0x06);
        let mut code = vec![(load, 0, 0, 4), (equal, 1, 0, 0xc000_003e), (end, 0, 0, 0)];
        code.extend([(load, 0, 0, 0), (greater, 0, 1, 3), (end, 0, 0, above)]);
        for &nr in calls {
            code.extend([(equal, 0, 1, nr), (end, 0, 0, ALLOW)]);
        }
        code.extend([(equal, 0, 2, 3), (load, 0, 0, 16), (equal, 1, 0, close)]);
        code.extend([(end, 0, 0, EPERM), (end, 0, 0, ALLOW)]);
        let bytes = code.into_iter().flat_map(|(code, jt, jf, k): (u16, u8, u8, u32)| {
            let mut bytes = code.to_le_bytes().to_vec();
            bytes.extend([jt, jf]);
            bytes.extend(k.to_le_bytes());
            bytes
        });
        Program::parse(&bytes.collect::<Vec<u8>>()).expect("sound")
    }

    fn names(loaded: &Program, unknown: &[&str]) -> Vec<&'static str> {
        let unknown = unknown.iter().map(|&name| name.to_owned()).collect();
        let differences = differences(&policy(), loaded, &unknown);
        differences.iter().filter_map(|it| syscall::name(it.abi, it.nr)).collect()
    }

    #[test]
    fn what_runtimes_do_of_their_own_is_no_difference() {
        assert_eq!(names(&filter(&[0, 1], 7, EPERM), &[]), Vec::<&str>::new());
        assert_eq!(names(&filter(&[0, 1], 7, ENOSYS), &[]), Vec::<&str>::new(), "runc's stub");
        assert_eq!(
            names(&filter(&[0], 7, EPERM), &["write"]),
            Vec::<&str>::new(),
            "an old library"
        );
    }

    #[test]
    fn one_call_or_argument_is_another_filter() {
        assert_eq!(names(&filter(&[0], 7, EPERM), &[]), ["write"]);
        assert_eq!(names(&filter(&[0, 1, 2], 7, EPERM), &[]), ["open"]);
        assert_eq!(names(&filter(&[0, 1], 8, EPERM), &[]), ["close"]);
        let wide = differences(&policy(), &filter(&[0, 1], 7, ALLOW), &BTreeSet::new());
        assert!(wide.len() > 400, "{} calls", wide.len());
    }
}
