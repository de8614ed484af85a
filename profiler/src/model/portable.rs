//! A policy for other C libraries, kernels and architectures than the one that was recorded.
//!
//! Owns what is added and what is assumed; which calls stand in for each other is `families`'. What is added here is marked as
//! such: nobody was seen to make it.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    arch::Abi,
    families::{self, LIBC},
    narrow,
    policy::Arguments,
    profile::{Combination, Note, NoteKind, Profile, SyscallReason, SyscallRule},
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
    let mut wanted: BTreeMap<(Abi, &str), BTreeSet<&str>> = BTreeMap::new();
    for (abi, name) in &known {
        for (_, partner) in families::partners(*abi, name) {
            wanted.entry((*abi, partner)).or_default().insert(name);
        }
    }
    for abi in &profile.architectures {
        for name in LIBC.iter().filter(|name| syscall::number(*abi, name).is_some()) {
            wanted.entry((*abi, name)).or_default();
        }
    }
    for ((abi, name), of) in wanted {
        let key = (abi, name.to_owned());
        if !known.contains(&key) {
            let of = of.into_iter().map(str::to_owned).collect();
            let reasons = BTreeSet::from([SyscallReason::Portable { of }]);
            let arguments = narrow::substitute(name, choice);
            rules.insert(key, Found { reasons, arguments });
        } else if let Some(found) = rules.get_mut(&key).filter(|found| found.is_narrow()) {
            narrow::join(&mut found.arguments, narrow::substitute(name, choice).as_deref());
        }
    }
    // It would go round conditions on clone, which libc takes in its place.
    for &abi in &profile.architectures {
        let clone = rules.get(&(abi, "clone".to_owned()));
        let key = (abi, "clone3".to_owned());
        if clone.is_some_and(Found::is_narrow) && !known.contains(&key) {
            rules.remove(&key);
        }
    }
    let text = "made for other C libraries and kernels, too: calls are allowed that stand in for others, and nobody was seen to make them";
    finish(profile, rules, Note { kind: NoteKind::Portable, text: text.into() })
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
    let mut stands_in: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let mut replaced: BTreeSet<&str> = BTreeSet::new();
    let mut dropped: BTreeSet<&str> = BTreeSet::new();
    let mut widened: BTreeSet<&str> = BTreeSet::new();
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
            stands_in.entry(name).or_default().insert(rule.name.clone());
        }
    }
    for (name, of) in stands_in {
        let reason = SyscallReason::Portable { of: of.into_iter().collect() };
        let found = rules.entry((abi, name.to_owned())).or_insert_with(|| Found {
            arguments: narrow::substitute(name, choice),
            ..Found::default()
        });
        found.reasons.insert(reason);
    }
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
