//! A profile's conditions as a seccomp file can have them: by name, for all architectures at once.

use std::collections::BTreeMap;

use crate::model::{
    arch::Abi,
    arguments::Masked,
    narrow::{
        Cube,
        cube::{INT, disjoint, minus_each},
        join::extend,
        shape::refused,
    },
    profile::{Arguments, Combination, Profile, SyscallRule},
    syscall,
};

/// What a file says of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// It is allowed with any arguments.
    Any,
    /// With these, of which no two hold at once.
    Only(Vec<Cube>),
}

/// Every name that a file allows. Where ABIs differ, what one needs is allowed to all.
#[must_use]
pub fn by_name(profile: &Profile) -> BTreeMap<&str, Named> {
    let mut names: BTreeMap<&str, Option<Vec<Combination>>> = BTreeMap::new();
    let named = |rule: &&SyscallRule| rule.allows() && !syscall::is_unnamed(&rule.name);
    for rule in profile.syscalls.iter().filter(named) {
        let known = names.entry(&rule.name).or_insert_with(|| Some(Vec::new()));
        extend(known, rule.arguments.as_deref());
    }
    let named = |combinations: Option<Vec<Combination>>| match combinations.map(|all| cubes(&all)) {
        Some(cubes) if !cubes.iter().any(Vec::is_empty) => Named::Only(cubes),
        _ => Named::Any,
    };
    names.into_iter().map(|(name, combinations)| (name, named(combinations))).collect()
}

/// The combinations as rules. Of a call's rule that [`super::is_bounded`] they are some 2000 before they are made disjoint.
#[must_use]
pub fn cubes(combinations: &[Combination]) -> Vec<Cube> {
    let all = combinations.iter().flat_map(|combination| {
        let whole = vec![combination.values.iter().filter(|it| it.mask != 0).copied().collect()];
        combination.but.iter().fold(whole, |left, but| minus_each(&left, &vec![*but]))
    });
    disjoint(all.collect())
}

/// As many values are taken away from a combination.
const MOST_BUT: usize = 16;

/// Whether a combination can be a rule: indexes of a register, each once, and no bit outside of a mask; what is taken away are
/// some values of one argument, and only of a call of which a choice refuses some.
#[must_use]
pub fn is_well_formed(call: &str, combination: &Combination) -> bool {
    let each = |value: &Masked| value.index < 6 && value.value & !value.mask == 0;
    let first = combination.but.first();
    let of_one = |it: &Masked| it.mask == INT && first.is_some_and(|first| first.index == it.index);
    combination.values.iter().chain(&combination.but).all(each)
        && combination.but.iter().all(of_one)
        && combination.but.len() <= MOST_BUT
        && (combination.but.is_empty() || refused(call, Arguments::AttackSurface).is_some())
        && combination.values.windows(2).all(|pair| pair[0].index < pair[1].index)
}

/// Whether an argument that meets the condition can be the address of memory. A condition on a socket's type leaves two bits
/// free, so that 0x80001 is `SOCK_STREAM`.
fn may_be_an_address(condition: &Masked) -> bool {
    // vm.mmap_min_addr, as distributions have it
    const LOWEST: u64 = 0x1_0000;
    condition.value | INT & !condition.mask >= LOWEST
}

/// The calls that go round a condition of the profile, with the call that has it, by ABI.
#[must_use]
pub fn goes_round(profile: &Profile) -> Vec<(Abi, &'static str, &'static str)> {
    let names = by_name(profile);
    let narrow = |name: &str| matches!(names.get(name), Some(Named::Only(_)));
    let mut all = Vec::new();
    for &abi in &profile.architectures {
        // libseccomp makes a rule on socketcall(2) of each on these, and compares its registers: the first is the number of the
        // inner call by then, the second the address of the arguments, the third anything
        let by_address =
            |cube: &Cube| cube.iter().filter(|it| it.index == 1).all(may_be_an_address);
        let is_open = |name: &&&str| matches!(names.get(**name), Some(Named::Only(cubes)) if cubes.iter().any(by_address));
        let multiplexed = ["setsockopt", "socket", "socketpair"];
        if abi == Abi::Ia32 {
            all.extend(multiplexed.iter().filter(is_open).map(|call| (abi, "socketcall", *call)));
        }
        if narrow("clone")
            && names.contains_key("clone3")
            && syscall::number(abi, "clone3").is_some()
        {
            all.push((abi, "clone3", "clone"));
        }
    }
    all
}
