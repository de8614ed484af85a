//! Which entries of a profile a run used, or asked for in vain, as its recording shows.

use std::collections::BTreeSet;

use crate::model::{
    arguments::Masked,
    minimise::Entry,
    policy::{self, Options},
    profile::{Profile, SyscallReason},
    recording::{ArgumentFact, Missing, Phase, Recording},
    syscall,
};

/// Those of `profile`. `None` when a table was full: then most may be missing.
///
/// It guides a search and proves nothing: what is dropped was refused in runs that passed. So what only may be missing, as where
/// processes left, costs runs at most.
#[must_use]
pub fn made(profile: &Profile, recording: &Recording) -> Option<Vec<Entry>> {
    let lost = |missing: &Missing| match missing {
        Missing::Lost { what, .. } => {
            ["syscalls", "capabilities", "denials", "scopes"].contains(&what.as_str())
        }
        _ => false,
    };
    if recording.runs.values().any(|run| run.missing.iter().any(lost)) {
        return None;
    }
    let seen = policy::derive(recording, &Options::default());
    let by_someone = |reason: &SyscallReason| {
        matches!(reason, SyscallReason::Workload { .. } | SyscallReason::Handover { .. })
    };
    let calls = seen.syscalls.iter().filter(|rule| rule.reasons.iter().any(by_someone));
    let refused = recording.denials.iter().filter(|fact| fact.phase != Phase::Setup);
    let refused = refused.map(|fact| syscall::display(fact.abi, fact.nr).into_owned());
    let mut all: BTreeSet<Entry> =
        calls.map(|rule| rule.name.clone()).chain(refused).map(Entry::Syscall).collect();
    let lists = &seen.capabilities;
    let asked = lists.required.iter().chain(&lists.denied);
    all.extend(asked.map(|rule| Entry::Capability(rule.name.clone())));
    let granted = profile.capabilities.required.iter();
    let granted: BTreeSet<Entry> =
        granted.map(|rule| Entry::Capability(rule.name.clone())).collect();
    if !lists.known {
        all.extend(granted.iter().cloned());
    }
    for rule in &profile.syscalls {
        let seen = rule.arguments.iter().flatten().filter(|it| it.seen && !it.values.is_empty());
        let used = seen.filter(|it| may_have_made(recording, &rule.name, &it.values));
        all.extend(
            used.map(|it| Entry::Arguments { call: rule.name.clone(), values: it.values.clone() }),
        );
    }
    let names: BTreeSet<&str> = profile.syscalls.iter().map(|rule| rule.name.as_str()).collect();
    let is_entry = |entry: &Entry| match entry {
        Entry::Syscall(name) => names.contains(name.as_str()),
        Entry::Arguments { .. } => true,
        Entry::Capability(_) => granted.contains(entry),
    };
    Some(all.into_iter().filter(is_entry).collect())
}

/// Whether a call was made, or asked for, with these arguments, as far as they were seen.
fn may_have_made(recording: &Recording, name: &str, values: &[Masked]) -> bool {
    let is_it = |abi, nr, phase| phase != Phase::Setup && syscall::name(abi, nr) == Some(name);
    let mut denials = recording.denials.iter().filter(|it| is_it(it.abi, it.nr, it.phase));
    let refused = denials.any(|fact| {
        let of_one = |registers: [u64; 6]| values.iter().all(|it| it.holds(&registers));
        // those of one denial stand for all
        fact.seen.values().any(|seen| seen.count > 1 || seen.arguments.is_none_or(of_one))
    });
    let mut calls = recording.syscalls.iter().filter(|it| is_it(it.abi, it.nr, it.phase));
    refused
        || calls.any(|call| {
            let mut facts = recording
                .arguments
                .iter()
                .filter(|it| (it.abi, it.nr, it.phase) == (call.abi, call.nr, call.phase))
                .peekable();
            let meets = |fact: &ArgumentFact| {
                let known = |it: &Masked| fact.values.iter().find(|known| known.index == it.index);
                values
                    .iter()
                    .all(|it| known(it).is_none_or(|known| known.value & it.mask == it.value))
            };
            facts.peek().is_none() || facts.any(meets)
        })
}
