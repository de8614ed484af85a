//! Which capabilities a target needs: from capability checks to four lists.
//!
//! Owns the difference between a need and a probe. The kernel asks for capabilities far more often than
//! anything depends on them: every mmap asks for CAP_SYS_ADMIN, and many calls take a privileged
//! shortcut if they may. A check counts as a need when it was made in earnest, for the container's
//! own user namespace, with the workload's own credentials, was granted, and the call around it succeeded. One whose answer changes
//! nothing is not made in earnest; where that cannot be told, [`crate::model::facts::ASKED_FIRST`] has the call.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    arch::Abi,
    capability,
    profile::{Capabilities, CapabilityReason, CapabilityRule, Outcome},
    recording::{
        AuditClass, CapabilityFact, CheckSighting, Missing, Phase, Program, Recording, Run, RunId,
        Sighting, UserNamespace, Verdict,
    },
    syscall,
};

/// Checks that the kernel makes without audit although the call fails when they are refused, by capability and call.
///
/// A filter or a Landlock domain may be entered without `no_new_privs` only with CAP_SYS_ADMIN, and mounts that are
/// out of reach are told to it only:
/// <https://github.com/torvalds/linux/blob/v6.18/kernel/seccomp.c> (`seccomp_prepare_filter`),
/// <https://github.com/torvalds/linux/blob/v6.18/security/landlock/syscalls.c>,
/// <https://github.com/torvalds/linux/blob/v6.18/fs/namespace.c> (`do_statmount`, `do_listmount`).
/// All unaudited checks that are neither here nor in [`DECISIVE_ASKERS`] choose between two ways to succeed, or fill in
/// fields of /proc.
const DECISIVE_CALLS: [(&str, &[&str]); 1] =
    [("SYS_ADMIN", &["seccomp", "prctl", "landlock_restrict_self", "statmount", "listmount"])];

/// The same, by the kernel function that asks, whatever the call: it opens or writes a file of /proc/sys, or goes through
/// mount namespaces.
///
/// The permission bits of a sysctl are the owner's for who has the capability. Root has them anyway, and reading
/// most files takes neither; neither is told from here, so the capability counts as needed.
/// <https://github.com/torvalds/linux/blob/v6.18/net/sysctl_net.c>,
/// <https://github.com/torvalds/linux/blob/v6.18/ipc/ipc_sysctl.c>,
/// <https://github.com/torvalds/linux/blob/v6.18/fs/namespace.c> (`get_sequential_mnt_ns`).
const DECISIVE_ASKERS: [&str; 3] =
    ["net_ctl_permissions", "ipc_permissions", "get_sequential_mnt_ns"];

/// Asks for CAP_SYS_ADMIN on /proc/sys/kernel/pid_max, which everyone may read, so only writing is decided by it:
/// <https://github.com/torvalds/linux/blob/v6.18/kernel/pid_namespace.c>.
const PID_MAX_ASKER: &str = "pid_table_root_permissions";

/// They ask with the thread's real ids, so the kernel lends them credentials that are its own.
const ACCESS: [&str; 3] = ["access", "faccessat", "faccessat2"];

/// What writes a file. An open for writing that nothing is written to is no need.
const WRITES: [&str; 8] =
    ["write", "writev", "pwrite64", "pwritev", "pwritev2", "sendfile", "splice", "copy_file_range"];

/// What one kind of check says of its capability; the strongest wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Required,
    Probed,
    Denied,
    Runtime,
}

/// The reasons of one capability in one class: how the calls ended, and who made them.
type Reasons = BTreeMap<(Abi, u32), (Outcome, Users)>;

/// Sorts the capability checks of a recording into the lists of a profile.
#[must_use]
pub fn derive(recording: &Recording) -> Capabilities {
    let mut found: BTreeMap<u8, BTreeMap<Class, Reasons>> = BTreeMap::new();
    for fact in &recording.capabilities {
        let outcome = outcome(fact);
        let insists = || insists_on_retained(recording, fact);
        let Some(class) = classify(fact, outcome, insists) else { continue };
        let reasons = found.entry(fact.capability).or_default().entry(class).or_default();
        let entry = reasons.entry((fact.abi, fact.nr)).or_insert((outcome, Users::default()));
        entry.0 = entry.0.min(outcome);
        entry.1.extend(fact.seen.values().map(|seen| &seen.sighting));
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

/// The sightings that make capabilities required: capability number, run and sighting.
pub fn required(recording: &Recording) -> impl Iterator<Item = (u8, &RunId, &Sighting)> {
    let is_required = |fact: &&CapabilityFact| {
        let insists = || insists_on_retained(recording, fact);
        classify(fact, outcome(fact), insists) == Some(Class::Required)
    };
    recording.capabilities.iter().filter(is_required).flat_map(|fact| {
        let needed = fact.seen.iter().filter(|(_, seen)| outcome_of_run(seen) != Outcome::Failed);
        needed.map(|(run, seen)| (fact.capability, run, &seen.sighting))
    })
}

/// Who did something, and in which tests.
#[derive(Debug, Default)]
pub struct Users {
    programs: BTreeSet<String>,
    tests: BTreeSet<String>,
}

impl Users {
    /// Adds those of sightings.
    pub fn extend<'a>(&mut self, sightings: impl Iterator<Item = &'a Sighting>) {
        for sighting in sightings {
            self.programs.extend(sighting.programs.iter().filter_map(program_name));
            self.tests.extend(sighting.tests.iter().cloned());
        }
    }

    /// Programs and tests, sorted.
    #[must_use]
    pub fn into_lists(self) -> (Vec<String>, Vec<String>) {
        (self.programs.into_iter().collect(), self.tests.into_iter().collect())
    }
}

/// The name that a program has in a reason: its executable's, else the thread's.
fn program_name(program: &Program) -> Option<String> {
    let name = if program.exe.is_empty() { &program.comm } else { &program.exe };
    (!name.is_empty()).then(|| name.clone())
}

/// Whether a program that wrote back its whole permitted set may insist on it.
///
/// A program that reads the set, changes a bit and writes it back would be content with less; one that has a list
/// of its own fails with less. Where the container has at least what every engine gives to all, the first is likely; where
/// it has been given less, that may be the program's list.
fn insists_on_retained(recording: &Recording, fact: &CapabilityFact) -> bool {
    let chosen = |run: &Run| {
        let container = run.container.as_ref()?;
        let has = |name: &&str| container.capabilities.iter().any(|held| held == *name);
        Some(!capability::PODMAN_DEFAULT.iter().all(has))
    };
    fact.seen.keys().filter_map(|id| recording.runs.get(id)).any(|run| chosen(run) == Some(true))
}

fn classify(
    fact: &CapabilityFact,
    outcome: Outcome,
    insists_on_retained: impl Fn() -> bool,
) -> Option<Class> {
    // Credentials that the kernel lent the thread, and namespaces that the workload made itself, are not
    // the container's. Memory accounting asks on every mmap and is never a need. access(2) lends the thread its own.
    if fact.overridden && !is_call_of(fact, &ACCESS)
        || fact.user_namespace == UserNamespace::Other
        || fact.audit == AuditClass::Memory
    {
        return None;
    }
    let decisive = fact.audit == AuditClass::Noaudit && is_decisive(fact);
    if decisive && fact.verdict == Verdict::Denied && outcome == Outcome::Succeeded {
        return None; // it was not needed
    }
    let earnest = match fact.audit {
        AuditClass::Audited | AuditClass::Implied => true,
        AuditClass::Retained if !insists_on_retained() => return None,
        AuditClass::Retained => true,
        AuditClass::Noaudit | AuditClass::Memory => decisive,
    };
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
    DECISIVE_ASKERS.contains(&fact.asked_by.as_str())
        || fact.asked_by == PID_MAX_ASKER && is_call_of(fact, &WRITES)
        || DECISIVE_CALLS
            .iter()
            .any(|(known, calls)| capability == Some(known) && is_call_of(fact, calls))
}

fn is_call_of(fact: &CapabilityFact, calls: &[&str]) -> bool {
    syscall::name(fact.abi, fact.nr).is_some_and(|name| calls.contains(&name))
}

fn outcome(fact: &CapabilityFact) -> Outcome {
    fact.seen.values().map(outcome_of_run).min().unwrap_or(Outcome::NotObserved)
}

fn outcome_of_run(seen: &CheckSighting) -> Outcome {
    match (seen.succeeded, seen.failed, seen.unsettled) {
        (1.., ..) => Outcome::Succeeded,
        // One that was not seen to end may have succeeded.
        (0, _, 1..) | (0, 0, 0) => Outcome::NotObserved,
        (0, 1.., 0) => Outcome::Failed,
    }
}

fn rule(number: u8, reasons: Reasons) -> CapabilityRule {
    let mut reasons: Vec<_> = reasons
        .into_iter()
        .map(|((abi, nr), (outcome, users))| {
            let (programs, tests) = users.into_lists();
            let syscall = syscall::display(abi, nr).into_owned();
            CapabilityReason { abi, syscall, outcome, programs, tests }
        })
        .collect();
    reasons.sort();
    CapabilityRule { name: capability::display(number).into_owned(), reasons, needed: None }
}
