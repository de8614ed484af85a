//! From evidence to policy: which calls a profile allows.
//!
//! Owns the rules by which a recording becomes a profile, and nothing of how either is written. The
//! allowed set only grows with evidence: merging in another run never removes a call. A run is the unit:
//! whether the runtime's floor is added is decided for each run by itself.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    arch::Abi,
    floor::{self, RuntimeUse, User, When},
    harden::{self, Harden},
    merge, narrow,
    needs::{self, Users},
    notes, portable,
    profile::{self, Arguments, DeniedCall, MadeFor, Profile, SyscallReason, SyscallRule},
    purpose::{self, Purpose},
    recording::{Missing, Phase, Recording, Run, RunId, SeccompSetting, TargetKind},
    syscall,
};

/// Calls that are allowed whatever was seen: ends of processes and signal handlers, restarts made by the
/// kernel, and the calls behind the vDSO, which are real calls on a host whose clock source has none.
pub const ALWAYS_ALLOWED: [&str; 10] = [
    "clock_gettime",
    "clock_gettime64",
    "exit",
    "exit_group",
    "getcpu",
    "gettimeofday",
    "restart_syscall",
    "rt_sigreturn",
    "sigreturn",
    "time",
];

/// Choices that a user makes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// Also allow the calls that a filter refused while recording.
    pub learn_denied: bool,
    /// What the profile is for.
    pub purpose: Purpose,
    /// Also allow what stands in for allowed calls in other C libraries and on other kernels.
    pub portable: bool,
    /// The machine's ABI to make it for; the recorded one when it is `None`.
    pub arch: Option<Abi>,
    /// Which arguments it looks into.
    pub arguments: Arguments,
    /// Advice beyond calls that it is to carry, and to be made for.
    pub harden: BTreeSet<harden::Kind>,
}

/// The ABI of a machine's own programs, by `uname -m`.
#[must_use]
pub fn native_abi(machine: &str) -> Option<Abi> {
    match machine {
        "x86_64" => Some(Abi::X86_64),
        "i386" | "i486" | "i586" | "i686" => Some(Abi::Ia32),
        "aarch64" => Some(Abi::Aarch64),
        "armv6l" | "armv7l" | "armv8l" => Some(Abi::Arm),
        "riscv64" => Some(Abi::Riscv64),
        _ => None,
    }
}

/// Derives the policy from the evidence, whatever the order of its facts.
#[must_use]
pub fn derive(recording: &Recording, options: &Options) -> Profile {
    // Two accounts of one fact in one run are one sighting, as they would be after writing and reading.
    let recording = &merge::canonical(recording.clone());
    let capabilities = needs::derive(recording);
    let harden = (!options.harden.is_empty())
        .then(|| harden::advise(recording, &capabilities, &options.harden));
    let options =
        &Options { purpose: hardened(&options.purpose, harden.as_ref()), ..options.clone() };
    let mut rules = Rules::default();
    let mut architectures: BTreeSet<Abi> =
        recording.runs.values().filter_map(|run| native_abi(&run.host.machine)).collect();

    for fact in recording.syscalls.iter().filter(|fact| fact.phase != Phase::Setup) {
        architectures.insert(fact.abi);
        match fact.phase {
            Phase::Workload => {
                rules.made.entry((fact.abi, fact.nr)).or_default().extend(fact.seen.values());
            }
            _ => {
                let runs =
                    fact.seen.keys().filter(|id| is_evidence(recording, id, &options.purpose));
                rules.handed_over(fact.abi, fact.nr, recording, runs);
            }
        }
    }
    for fact in recording.denials.iter().filter(|fact| fact.phase != Phase::Setup) {
        // Its programs ran although the call was refused, so its ABI is one that the target uses.
        architectures.insert(fact.abi);
        if options.learn_denied {
            let users = rules.denied.entry((fact.abi, fact.nr)).or_default();
            users.extend(fact.seen.values().map(|seen| &seen.sighting));
        }
    }
    for (id, run) in &recording.runs {
        let Some(native) = native_abi(&run.host.machine) else { continue };
        let recorded = runtime_use(run);
        for usage in options.purpose.uses(recorded.as_ref()) {
            let seen = recorded.as_ref().is_some_and(|recorded| purpose::is_all(recorded, &usage));
            rules.floor(native, &usage, !seen || needs_floor(recording, id, run));
        }
    }
    rules.joins();
    // After all floors, so that the order of runs does not show.
    for run in recording.runs.values() {
        if let Some(native) = native_abi(&run.host.machine) {
            rules.launch(native, recording.target.kind);
        }
    }
    for &abi in &architectures {
        for name in ALWAYS_ALLOWED {
            if let Some(nr) = syscall::number(abi, name) {
                rules.add(abi, nr, SyscallReason::AlwaysAllowed {});
            }
        }
    }

    let mut syscalls = rules.finish();
    let counts = |id: &RunId| is_evidence(recording, id, &options.purpose);
    let narrowed = narrow::narrow(&mut syscalls, recording, options.arguments, &counts);
    let uses = |run: &Run| options.purpose.uses(runtime_use(run).as_ref());
    let made_for = MadeFor {
        runtimes: distinct(recording.runs.values().flat_map(uses)),
        recorded_under: distinct(
            recording.runs.values().filter_map(|run| Some(run.container.as_ref()?.seccomp)),
        ),
        arguments: options.arguments,
    };
    let mut notes = notes::derive(recording, &syscalls, &made_for);
    notes.extend(notes::any_arguments(&narrowed));
    if !options.purpose.is_recorded() {
        let Options { learn_denied, arguments, .. } = *options;
        let as_recorded = Options { learn_denied, arguments, ..Options::default() };
        notes.extend(notes::purpose(&derive(recording, &as_recorded), &made_for, &syscalls));
    }
    notes.sort();
    let profile = Profile {
        schema_version: profile::SCHEMA_VERSION,
        target: recording.target.clone(),
        made_for,
        architectures: architectures.into_iter().collect(),
        notes,
        syscalls,
        denied: denied(recording),
        capabilities,
        harden,
    };
    let profile = match options.arch {
        Some(abi) => portable::translate(profile, abi, options.arguments),
        None => profile,
    };
    let mut profile =
        if options.portable { portable::widen(profile, options.arguments) } else { profile };
    profile.notes.extend(notes::arguments(&profile));
    profile.notes.sort();
    profile
}

/// What it is for, when the advice is followed. What was asked for in words goes first.
fn hardened(purpose: &Purpose, harden: Option<&Harden>) -> Purpose {
    let advised = harden.and_then(|harden| harden.no_new_privileges.as_ref());
    let user = harden.and_then(|harden| harden.user.as_ref()?.applied());
    Purpose {
        no_new_privileges: purpose
            .no_new_privileges
            .or(advised.filter(|advice| advice.is_advised()).map(|_| true)),
        user: user.filter(|ids| ids.uid != 0).map(|_| User::NonRoot),
        ..purpose.clone()
    }
}

/// The calls that a run's runtime always makes under the filter were not, or not all, seen.
fn needs_floor(recording: &Recording, id: &RunId, run: &Run) -> bool {
    let unconfined = run
        .container
        .as_ref()
        .is_some_and(|container| container.seccomp == SeccompSetting::Unconfined);
    // A late start may still see the hand-over of a process that joins; the first one's differs.
    let missing = run.missing.iter().any(|m| matches!(m, Missing::Handover | Missing::Startup));
    let seen = || {
        let mut handover = recording.syscalls.iter().filter(|fact| fact.phase == Phase::Handover);
        handover.any(|fact| fact.seen.contains_key(id))
    };
    unconfined || missing || !seen()
}

/// Whether a run's hand-over tells what a profile for `purpose` must allow. It does when it is not known whose it was.
fn is_evidence(recording: &Recording, id: &RunId, purpose: &Purpose) -> bool {
    recording.runs.get(id).and_then(runtime_use).is_none_or(|recorded| {
        let wanted = purpose.uses(Some(&recorded));
        wanted.iter().any(|wanted| purpose::is_evidence(&recorded, wanted))
    })
}

/// How the run's runtime was used; `None` for a target that no runtime started.
fn runtime_use(run: &Run) -> Option<RuntimeUse> {
    let container = run.container.as_ref()?;
    Some(RuntimeUse {
        runtime: container.runtime.clone(),
        version: container.runtime_version.clone(),
        no_new_privileges: container.no_new_privileges,
        user: User::of_setting(&container.user),
    })
}

fn denied(recording: &Recording) -> Vec<DeniedCall> {
    let mut found: BTreeMap<(Abi, String, i32, bool), Users> = BTreeMap::new();
    for fact in recording.denials.iter().filter(|fact| fact.phase != Phase::Setup) {
        let name = syscall::display(fact.abi, fact.nr).into_owned();
        let users = found.entry((fact.abi, name, fact.errno, fact.killed)).or_default();
        users.extend(fact.seen.values().map(|seen| &seen.sighting));
    }
    let call = |((abi, name, errno, killed), users): (_, Users)| {
        let (programs, tests) = users.into_lists();
        DeniedCall { abi, name, errno, killed, programs, tests }
    };
    found.into_iter().map(call).collect()
}

/// Sorted, each once.
fn distinct<T: Ord>(items: impl Iterator<Item = T>) -> Vec<T> {
    items.collect::<BTreeSet<_>>().into_iter().collect()
}

/// The rules while they are collected.
#[derive(Default)]
struct Rules {
    made: BTreeMap<(Abi, u32), Users>,
    denied: BTreeMap<(Abi, u32), Users>,
    other: BTreeMap<(Abi, u32), BTreeSet<SyscallReason>>,
    /// What runtimes call for processes that join.
    joins: BTreeMap<(Abi, u32), BTreeSet<SyscallReason>>,
}

impl Rules {
    fn add(&mut self, abi: Abi, nr: u32, reason: SyscallReason) {
        self.other.entry((abi, nr)).or_default().insert(reason);
    }

    fn handed_over<'a>(
        &mut self,
        abi: Abi,
        nr: u32,
        recording: &Recording,
        runs: impl Iterator<Item = &'a RunId>,
    ) {
        let mut runs = runs.peekable();
        if runs.peek().is_none() {
            return;
        }
        let name = syscall::name(abi, nr).unwrap_or_default();
        let uses = runs.filter_map(|id| recording.runs.get(id).and_then(runtime_use));
        let mut reasons: BTreeSet<_> = uses
            .map(|usage| SyscallReason::Handover {
                optional: floor::is_known_to_do_without(&usage, name),
                runtime: usage.runtime,
                version: usage.version,
            })
            .collect();
        if reasons.is_empty() {
            // Joined from outside into a target that no runtime is known of.
            let (runtime, version) = (String::new(), String::new());
            reasons.insert(SyscallReason::Handover { runtime, version, optional: false });
        }
        self.other.entry((abi, nr)).or_default().extend(reasons);
    }

    /// `whole`: the part that a recording of a start would have, too.
    fn floor(&mut self, native: Abi, usage: &RuntimeUse, whole: bool) {
        for floor in floor::lookup(usage) {
            let reason = |when| SyscallReason::Floor {
                runtime: floor.runtime.into(),
                version: floor.version.into(),
                no_new_privileges: usage.no_new_privileges,
                when,
                stands_in_for: (!floor.exact).then(|| usage.label()),
            };
            let only_joining = &floor.join - &floor.always;
            for name in floor.sometimes.union(&only_joining) {
                // Whether a run happened to see it must not show in a committed file.
                let seen =
                    syscall::number(native, name).and_then(|nr| self.other.get_mut(&(native, nr)));
                if let Some(reasons) = seen {
                    reasons.retain(|reason| !matches!(reason, SyscallReason::Handover { .. }));
                }
            }
            let always = floor.always.iter().filter(|_| whole);
            for nr in
                always.chain(&floor.sometimes).filter_map(|name| syscall::number(native, name))
            {
                self.add(native, nr, reason(When::Start));
            }
            for nr in floor.join.iter().filter_map(|name| syscall::number(native, name)) {
                self.joins.entry((native, nr)).or_default().insert(reason(When::Join));
            }
        }
    }

    /// Engines run health checks and `exec` whether or not a recording saw one: what the start of the container does not
    /// need already is allowed for them.
    fn joins(&mut self) {
        for (call, joins) in std::mem::take(&mut self.joins) {
            let reasons = self.other.entry(call).or_default();
            if reasons.is_empty() {
                reasons.extend(joins);
            }
        }
    }

    /// Whatever loads the filter then executes the target. A container's runtime was seen doing it, or has it in its floor.
    fn launch(&mut self, native: Abi, kind: TargetKind) {
        let Some(nr) = syscall::number(native, "execve") else { return };
        if !kind.is_container() || !self.other.contains_key(&(native, nr)) {
            self.add(native, nr, SyscallReason::Launch {});
        }
    }

    fn finish(self) -> Vec<SyscallRule> {
        let mut reasons = self.other;
        for (call, users) in self.made {
            let (programs, tests) = users.into_lists();
            reasons.entry(call).or_default().insert(SyscallReason::Workload { programs, tests });
        }
        for (call, users) in self.denied {
            let (programs, tests) = users.into_lists();
            reasons.entry(call).or_default().insert(SyscallReason::Denied { programs, tests });
        }
        let mut rules: Vec<_> = reasons
            .into_iter()
            .map(|((abi, nr), mut reasons)| {
                // Allowed whoever makes it; whether a run happens to depends on timing and on the vDSO.
                let always = SyscallReason::AlwaysAllowed {};
                if reasons.contains(&always) {
                    reasons = BTreeSet::from([always]);
                }
                profile::settle(&mut reasons);
                let name = syscall::display(abi, nr).into_owned();
                SyscallRule { abi, name, reasons: reasons.into_iter().collect(), arguments: None }
            })
            .collect();
        rules.sort_by(|a, b| (a.abi, &a.name).cmp(&(b.abi, &b.name)));
        rules
    }
}
