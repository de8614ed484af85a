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
