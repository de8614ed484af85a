//! A policy for other C libraries, kernels and architectures than the one that was recorded.
//!
//! Owns what is added and what is assumed; which calls stand in for each other is `families`'. What is added here is marked as
//! such: nobody was seen to make it.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use crate::model::{
    arch::Abi,
    families::{self, LIBC},
    narrow,
    profile::{Arguments, Combination, Note, NoteKind, Profile, SyscallReason, SyscallRule},
    syscall,
};

/// Rules by number space and name: reasons, and combinations of arguments.
type Rules = BTreeMap<(Abi, String), Found>;

#[derive(Default)]
struct Found {
    reasons: BTreeSet<SyscallReason>,
    arguments: Option<Vec<Combination>>,
}

impl Found {
    /// Whether it allows the call with some arguments only.
    fn is_narrow(&self) -> bool {
        self.arguments.as_ref().is_some_and(|combinations| !combinations.is_empty())
    }
}

/// Adds the partners of every allowed call, and what C libraries do by themselves on the ABIs of programs that were seen.
#[must_use]
pub fn widen(profile: Profile, choice: Arguments) -> Profile {
    let mut rules = rules_of(&profile.syscalls);
    let known: BTreeSet<(Abi, String)> = rules.keys().cloned().collect();
    let mut wanted: BTreeMap<(Abi, &str), Of<'_>> = BTreeMap::new();
    for rule in &profile.syscalls {
        for (_, partner) in families::partners(rule.abi, &rule.name) {
            wanted
                .entry((rule.abi, partner))
                .or_default()
                .insert(&rule.name, rule.arguments.as_deref());
        }
    }
    for abi in &profile.architectures {
        for name in LIBC.iter().filter(|name| syscall::number(*abi, name).is_some()) {
            wanted.entry((*abi, name)).or_default();
        }
    }
    let mut opened: BTreeSet<String> = BTreeSet::new();
    for ((abi, name), of) in wanted {
        if stand_in(&mut rules, abi, name, &of, choice) {
            opened.insert(format!("{abi} {name}"));
        }
    }
    leave_to_clone(&mut rules, &profile.architectures, &known);
    let mut text = "made for other C libraries and kernels, too: calls are allowed that stand in for others, and nobody was seen to make them".to_owned();
    if !opened.is_empty() {
        let opened = opened.into_iter().collect::<Vec<_>>().join(", ");
        text.push_str(&format!("; {OPENED}: {opened}"));
    }
    finish(profile, rules, Note { kind: NoteKind::Portable, text })
}

/// What a note says of calls that lose their conditions.
const OPENED: &str = "allowed with any arguments, as what they stand in for needs them";

/// The calls that one stands in for, and with which arguments they are allowed; none where C libraries make it by themselves.
type Of<'a> = BTreeMap<&'a str, Option<&'a [Combination]>>;

/// Allows a call in place of others. A rule that is there keeps what was recorded, and gets what they need; the answer is
/// whether that ends its conditions.
fn stand_in(rules: &mut Rules, abi: Abi, name: &str, of: &Of<'_>, choice: Arguments) -> bool {
    let mut arguments = Some(Vec::new());
    for (of, with) in of {
        let more = narrow::stands_in(name, of, *with, choice);
        narrow::join(&mut arguments, more.as_deref());
    }
    if of.is_empty() {
        arguments = narrow::substitute(name, choice);
    }
    match rules.entry((abi, name.to_owned())) {
        Entry::Vacant(vacant) => {
            let of = of.keys().map(|&name| name.to_owned()).collect();
            let reasons = BTreeSet::from([SyscallReason::Portable { of }]);
            vacant.insert(Found { reasons, arguments });
            false
        }
        Entry::Occupied(mut known) if known.get().is_narrow() => {
            let known = &mut known.get_mut().arguments;
            narrow::join(known, arguments.as_deref());
            known.is_none()
        }
        Entry::Occupied(_) => false,
    }
}

/// Takes clone3 away where nobody made it: it would go round conditions on clone, which C libraries take in its place.
fn leave_to_clone(rules: &mut Rules, abis: &[Abi], known: &BTreeSet<(Abi, String)>) {
    for &abi in abis {
        let clone = rules.get(&(abi, "clone".to_owned()));
        let key = (abi, "clone3".to_owned());
        if clone.is_some_and(Found::is_narrow) && !known.contains(&key) {
            rules.remove(&key);
        }
    }
}

/// The same policy for the programs of `abi`: each call by its name, or by its partners where the ABI has no such call. The reasons
/// of capabilities stay what was recorded.
#[must_use]
pub fn translate(profile: Profile, abi: Abi, choice: Arguments) -> Profile {
    if profile.architectures == [abi] {
        return profile;
    }
    let from = source(&profile.architectures);
    let mut rules = Rules::new();
    let mut wanted: BTreeMap<&str, Of<'_>> = BTreeMap::new();
    let mut replaced: BTreeSet<&str> = BTreeSet::new();
    let mut dropped: BTreeSet<&str> = BTreeSet::new();
    let mut widened: BTreeSet<&str> = BTreeSet::new();
    let mut opened: BTreeSet<&str> = BTreeSet::new();
    for rule in profile.syscalls.iter().filter(|rule| Some(rule.abi) == from) {
        if syscall::number(abi, &rule.name).is_some() {
            let found = rules.entry((abi, rule.name.clone())).or_default();
            found.reasons.extend(rule.reasons.iter().cloned());
            if narrow::carried(&rule.name, rule.abi, abi) {
                found.arguments.clone_from(&rule.arguments);
            } else if rule.arguments.is_some() {
                widened.insert(&rule.name);
            }
            continue;
        }
        let partners: Vec<&str> =
            families::partners(abi, &rule.name).map(|(_, name)| name).collect();
        let list = if partners.is_empty() { &mut dropped } else { &mut replaced };
        list.insert(&rule.name);
        for name in partners {
            wanted.entry(name).or_default().insert(&rule.name, rule.arguments.as_deref());
        }
    }
    let known: BTreeSet<(Abi, String)> = rules.keys().cloned().collect();
    for (name, of) in wanted {
        if stand_in(&mut rules, abi, name, &of, choice) {
            opened.insert(name);
        }
    }
    leave_to_clone(&mut rules, &[abi], &known);
    let others: BTreeSet<String> = profile
        .architectures
        .iter()
        .filter(|other| Some(**other) != from && **other != abi)
        .map(ToString::to_string)
        .collect();
    let list = |names: BTreeSet<&str>| names.into_iter().collect::<Vec<_>>().join(", ");
    let mut text = format!(
        "made for {abi}, recorded on {}: that its programs make the same calls there is an assumption",
        from.map_or_else(|| "no known machine".to_owned(), |from| from.to_string())
    );
    for (what, names) in [
        ("replaced by what stands in for them there", list(replaced)),
        ("left out, for they are of the recorded machine only", list(dropped)),
        ("allowed with any arguments, for those mean something else there", list(widened)),
        (OPENED, list(opened)),
        (
            "left out, with all that their programs call",
            others.into_iter().collect::<Vec<_>>().join(", "),
        ),
    ] {
        if !names.is_empty() {
            text.push_str(&format!("; {what}: {names}"));
        }
    }
    text.push_str("\nhint: run the tests there under `profiler verify`, or record there");
    let mut profile = finish(profile, rules, Note { kind: NoteKind::Portable, text });
    profile.architectures = vec![abi];
    profile
        .denied
        .retain(|call| Some(call.abi) == from && syscall::number(abi, &call.name).is_some());
    profile.denied.iter_mut().for_each(|call| call.abi = abi);
    profile
}

/// The ABI of the recorded machine's own programs: of those that were seen, the one that others are compatible with.
fn source(architectures: &[Abi]) -> Option<Abi> {
    [Abi::X86_64, Abi::Aarch64, Abi::Riscv64, Abi::Ia32, Abi::Arm, Abi::X32]
        .into_iter()
        .find(|abi| architectures.contains(abi))
}

fn rules_of(syscalls: &[SyscallRule]) -> Rules {
    let rule = |rule: &SyscallRule| {
        let reasons = rule.reasons.iter().cloned().collect();
        let found = Found { reasons, arguments: rule.arguments.clone() };
        ((rule.abi, rule.name.clone()), found)
    };
    syscalls.iter().map(rule).collect()
}

fn finish(mut profile: Profile, rules: Rules, note: Note) -> Profile {
    let always = SyscallReason::AlwaysAllowed {};
    profile.syscalls = rules
        .into_iter()
        .map(|((abi, name), Found { mut reasons, arguments })| {
            // as where rules are made: one that is always allowed has no other reason
            if reasons.contains(&always) {
                reasons = BTreeSet::from([always.clone()]);
            } else if reasons.iter().any(|reason| !matches!(reason, SyscallReason::Portable { .. }))
            {
                reasons.retain(|reason| !matches!(reason, SyscallReason::Portable { .. }));
            }
            SyscallRule { abi, name, reasons: reasons.into_iter().collect(), arguments }
        })
        .collect();
    profile.notes.push(note);
    profile.notes.sort();
    profile
}
