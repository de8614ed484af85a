//! Which capabilities a target needs: from capability checks to four lists.
//!
//! Owns the difference between a need and a probe. The kernel asks for capabilities far more often than
//! anything depends on them: every mmap asks for CAP_SYS_ADMIN, and many calls take a privileged
//! shortcut if they may. A check counts as a need when it was made in earnest, for the container's
//! own user namespace, with the workload's own credentials, was granted, and the call around it succeeded.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    arch::Abi,
    capability,
    profile::{Capabilities, CapabilityReason, CapabilityRule, Outcome},
    recording::{
        AuditClass, CapabilityFact, Missing, Phase, Program, Recording, UserNamespace, Verdict,
    },
    syscall,
};

/// Checks that the kernel makes without audit although the call fails when they are refused.
///
/// A filter or a Landlock domain may be entered without `no_new_privs` only with CAP_SYS_ADMIN:
/// <https://github.com/torvalds/linux/blob/v6.18/kernel/seccomp.c> (`seccomp_prepare_filter`),
/// <https://github.com/torvalds/linux/blob/v6.18/security/landlock/syscalls.c>.
/// All other unaudited checks choose between two ways to succeed, or fill in fields of /proc.
const DECISIVE_WITHOUT_AUDIT: [(&str, &[&str]); 1] =
    [("SYS_ADMIN", &["seccomp", "prctl", "landlock_restrict_self"])];

/// What one kind of check says of its capability; the strongest wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Required,
    Probed,
    Denied,
    Runtime,
}

/// The reasons of one capability in one class: how the calls ended, and who made them.
type Reasons = BTreeMap<(Abi, u32), (Outcome, BTreeSet<String>)>;

/// Sorts the capability checks of a recording into the lists of a profile.
#[must_use]
pub fn derive(recording: &Recording) -> Capabilities {
    let mut found: BTreeMap<u8, BTreeMap<Class, Reasons>> = BTreeMap::new();
    for fact in &recording.capabilities {
        let outcome = outcome(fact);
        let Some(class) = classify(fact, outcome) else { continue };
        let reasons = found.entry(fact.capability).or_default().entry(class).or_default();
        let entry = reasons.entry((fact.abi, fact.nr)).or_insert((outcome, BTreeSet::new()));
        entry.0 = entry.0.min(outcome);
        entry.1.extend(fact.seen.values().filter_map(|seen| program_name(seen.first.by.as_ref())));
    }

    let unseen = |missing: &Missing| matches!(missing, Missing::Capabilities { .. });
    let mut capabilities = Capabilities {
        known: !recording.runs.values().any(|run| run.missing.iter().any(unseen)),
        required: Vec::new(),
        probed: Vec::new(),
        denied: Vec::new(),
        runtime: Vec::new(),
    };
    for (number, classes) in found {
        let Some((class, reasons)) = classes.into_iter().next() else { continue };
        let list = match class {
            Class::Required => &mut capabilities.required,
            Class::Probed => &mut capabilities.probed,
            Class::Denied => &mut capabilities.denied,
            Class::Runtime => &mut capabilities.runtime,
        };
        list.push(rule(number, reasons));
    }
    for list in [
        &mut capabilities.required,
        &mut capabilities.probed,
        &mut capabilities.denied,
        &mut capabilities.runtime,
    ] {
        list.sort_by(|a, b| a.name.cmp(&b.name));
    }
    capabilities
}

/// The name that a program has in a reason: its executable's, else the thread's.
#[must_use]
pub fn program_name(program: Option<&Program>) -> Option<String> {
    let program = program?;
    let name = if program.exe.is_empty() { &program.comm } else { &program.exe };
    (!name.is_empty()).then(|| name.clone())
}

fn classify(fact: &CapabilityFact, outcome: Outcome) -> Option<Class> {
    // Credentials that the kernel lent the thread, and namespaces that the workload made itself, are not
    // the container's. Memory accounting asks on every mmap and is never a need.
    if fact.overridden
        || fact.user_namespace == UserNamespace::Other
        || fact.audit == AuditClass::Memory
    {
        return None;
    }
    let earnest = fact.audit == AuditClass::Audited || is_decisive(fact);
    match (fact.phase, fact.verdict, earnest) {
        (Phase::Setup | Phase::Handover, _, true) => Some(Class::Runtime),
        (Phase::Setup | Phase::Handover, _, false) => None,
        (Phase::Workload, Verdict::Granted, true) => {
            Some(if outcome == Outcome::Failed { Class::Probed } else { Class::Required })
        }
        (Phase::Workload, Verdict::Granted, false) => Some(Class::Probed),
        (Phase::Workload, Verdict::Denied, true) => Some(Class::Denied),
        // Asked without audit and refused: the kernel went another way.
        (Phase::Workload, Verdict::Denied, false) => None,
    }
}

fn is_decisive(fact: &CapabilityFact) -> bool {
    let capability = capability::name(fact.capability);
    let syscall = syscall::name(fact.abi, fact.nr);
    DECISIVE_WITHOUT_AUDIT.iter().any(|(known, calls)| {
        capability == Some(known) && syscall.is_some_and(|name| calls.contains(&name))
    })
}

fn outcome(fact: &CapabilityFact) -> Outcome {
    let of_run = fact.seen.values().map(|seen| match (seen.succeeded, seen.failed) {
        (0, 0) => Outcome::NotObserved,
        (0, _) => Outcome::Failed,
        _ => Outcome::Succeeded,
    });
    of_run.min().unwrap_or(Outcome::NotObserved)
}

fn rule(number: u8, reasons: Reasons) -> CapabilityRule {
    let mut reasons: Vec<_> = reasons
        .into_iter()
        .map(|((abi, nr), (outcome, programs))| CapabilityReason {
            abi,
            syscall: syscall::display(abi, nr).into_owned(),
            outcome,
            programs: programs.into_iter().collect(),
        })
        .collect();
    reasons.sort();
    CapabilityRule { name: capability::display(number).into_owned(), reasons }
}
