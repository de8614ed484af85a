//! From maps to facts.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use aya::Ebpf;
use profiler_common::{
    evidence::{
        CALLERS, CallKey, Check, CheckKey, Denial, DenialKey, KILLED, MakerKey, Makers, Seen,
        Sighting as RawSighting, abi, check, phase,
    },
    scope::{Slot, Target, loss, slot_kind, slot_of},
};

use super::{
    arguments::Combinations,
    callers::classify,
    error::ObserveError,
    files::{ByRoot, Files},
    labels::Labels,
    slots::{array, counts, hash, map_error, text},
    stacks::Stacks,
    symbols::Symbols,
};
use crate::{
    model::{
        arch::Abi,
        arguments::Masked,
        recording::{
            ArgumentFact, AuditClass, CapabilityFact, CheckSighting, DenialFact, DenialSighting,
            Missing, Phase, Program, Sighting, SyscallFact, UserNamespace, Verdict,
        },
        syscall,
    },
    observe::evidence::{Evidence, Found},
};

/// Names of the loss counters, by index.
const LOSSES: [(u32, &str); loss::COUNT as usize] = [
    (loss::SYSCALLS, "syscalls"),
    (loss::CAPABILITIES, "capabilities"),
    (loss::DENIALS, "denials"),
    (loss::ATTRIBUTION, "attribution"),
    (loss::SCOPES, "scopes"),
    (loss::THREADS, "threads"),
    (loss::STACKS, "stacks"),
    (loss::ARGUMENTS, "arguments"),
    (loss::FILES, "files"),
    (loss::COUNTS, "counts"),
];

/// How many files are named whose capabilities could not be read.
const MAX_UNREAD: usize = 16;

/// What has been found so far, of targets and the slots of each.
pub fn found(
    ebpf: &mut Ebpf,
    targets: &BTreeMap<Slot, Vec<Slot>>,
    symbols: &mut Symbols,
) -> Result<Found, ObserveError> {
    let phases = Phases::of(ebpf, targets)?;
    let slots: Vec<Slot> = targets.values().flatten().copied().collect();
    let calls: BTreeSet<(u8, u32)> = calls(ebpf, &slots)?
        .into_keys()
        .filter(|key| phases.get(key.slot, key.phase) != Phase::Setup)
        .map(|key| (key.abi, key.nr))
        .collect();
    let mut checks = checks(ebpf, &slots)?;
    checks.retain(|(key, ..)| phases.get(key.slot, key.phase) == Phase::Workload);
    symbols.learn(checks.iter().map(|(key, ..)| key));
    checks.retain(|(key, ..)| {
        key.flags & check::MOOT == 0
            && classify(&symbols.callers(key), audited(key.flags)).0 == AuditClass::Audited
    });
    let capabilities: BTreeSet<u8> = checks
        .iter()
        .filter(|(key, _, check)| key.flags & check::DENIED == 0 && check.failed <= check.succeeded)
        .map(|(key, ..)| key.capability)
        .collect();
    let denials: BTreeSet<(u8, u32)> = hash::<DenialKey, Denial>(ebpf, "DENIALS")?
        .keys()
        .filter_map(Result::ok)
        .filter(|key| slots.contains(&key.call.slot))
        .filter(|key| phases.get(key.call.slot, key.call.phase) != Phase::Setup)
        .map(|key| (key.call.abi, key.call.nr))
        .collect();
    let checks =
        checks.iter().map(|(key, about, _)| (key.abi, key.nr, key.capability, *about)).collect();
    Ok(Found { syscalls: calls, capabilities, denials, checks })
}

/// Turns what is in slots into facts of one run.
pub struct Drain<'a> {
    /// The run.
    pub run: &'a str,
    /// When it was armed, CLOCK_MONOTONIC.
    pub armed_ns: u64,
    /// Names of kernel functions.
    pub symbols: &'a mut Symbols,
    /// Where calls were made first.
    pub stacks: &'a Stacks,
    /// Files that root executed.
    pub files: &'a Files,
}

impl Drain<'_> {
    /// Everything that a target wrote to slots, each with its labels.
    pub fn facts(
        &mut self,
        ebpf: &mut Ebpf,
        target: Slot,
        slots: &BTreeMap<Slot, Labels>,
    ) -> Result<Evidence, ObserveError> {
        self.stacks.learn();
        let executed = self.files.executed(ebpf, &slots.keys().copied().collect::<Vec<_>>())?;
        let seen = Sightings::read(ebpf, slots, self.armed_ns)?;
        let slots: Vec<Slot> = slots.keys().copied().collect();
        let phases = Phases::of(ebpf, &BTreeMap::from([(target, slots.clone())]))?;
        let calls = calls(ebpf, &slots)?;
        let arguments = Combinations::read(ebpf, &slots)?;
        let capabilities =
            capability_facts(ebpf, &slots, self.run, &seen, self.symbols, &phases, &executed)?;
        let counts = counts(ebpf)?;
        // when nobody wants to know, there is one entry, and that is never written
        let count = |key: &CallKey| Some(counts.get(key, 0).ok()?.iter().sum());
        let syscalls =
            syscall_facts(&calls, &arguments, self.run, &seen, &phases, self.stacks, count);
        Ok(Evidence {
            syscalls,
            arguments: argument_facts(&calls, &arguments, self.run, &seen, &phases),
            capabilities,
            denials: denial_facts(ebpf, &slots, self.run, &seen, &phases)?,
            has_runtime: phases.plain.is_empty(),
            missing: unread(&executed, &phases),
            ..Evidence::default()
        })
    }
}

/// What a target's own counters say, as evidence without facts.
pub fn counted(ebpf: &mut Ebpf, target: Slot) -> Result<Evidence, ObserveError> {
    let Target { inner_cgroups, left: count, .. } = targets_entry(ebpf, target)?;
    let missing = if count > 0 { vec![Missing::Left { count }] } else { Vec::new() };
    Ok(Evidence { inner_cgroups, missing, ..Evidence::default() })
}

/// Who did what, when and in which tests.
struct Sightings<'a> {
    armed_ns: u64,
    makers: BTreeMap<(CallKey, u32), Sighting>,
    labels: &'a BTreeMap<Slot, Labels>,
}

impl<'a> Sightings<'a> {
    fn read(
        ebpf: &mut Ebpf,
        labels: &'a BTreeMap<Slot, Labels>,
        armed_ns: u64,
    ) -> Result<Self, ObserveError> {
        let mut makers: BTreeMap<(CallKey, u32), Sighting> = BTreeMap::new();
        let map = hash::<MakerKey, RawSighting>(ebpf, "MAKERS")?;
        for key in map.keys().filter_map(Result::ok) {
            if labels.contains_key(&key.call.slot)
                && let Ok(raw) = map.get(&key, 0)
            {
                let sum = makers.entry((key.call, key.about)).or_default();
                sum.join(sighting(&raw, armed_ns));
            }
        }
        Ok(Sightings { armed_ns, makers, labels })
    }

    /// Of something in a slot; `about` as in [`MakerKey`].
    fn of(&self, call: CallKey, about: u32) -> Sighting {
        self.labelled(self.makers.get(&(call, about)).cloned().unwrap_or_default(), call.slot)
    }

    /// Of something in a slot, with the slot's labels.
    fn labelled(&self, mut sighting: Sighting, slot: Slot) -> Sighting {
        if let Some(labels) = self.labels.get(&slot) {
            sighting.tests.extend(labels.iter().cloned());
        }
        sighting
    }
}

/// The phases of what was written to slots.
struct Phases {
    /// Slots of cgroups in which no runtime showed: all that happened there is the target's.
    plain: BTreeSet<Slot>,
}

impl Phases {
    /// Of targets and the slots of each.
    fn of(ebpf: &mut Ebpf, targets: &BTreeMap<Slot, Vec<Slot>>) -> Result<Self, ObserveError> {
        let mut plain = BTreeSet::new();
        for (target, slots) in targets {
            let target = targets_entry(ebpf, *target)?;
            if matches!(target.kind, slot_kind::CGROUP | slot_kind::RUNNING_CGROUP)
                && target.runtime == 0
            {
                plain.extend(slots);
            }
        }
        Ok(Phases { plain })
    }

    fn get(&self, slot: Slot, raw: u8) -> Phase {
        match raw {
            _ if self.plain.contains(&slot) => Phase::Workload,
            phase::SETUP => Phase::Setup,
            phase::HANDOVER => Phase::Handover,
            _ => Phase::Workload,
        }
    }
}

fn targets_entry(ebpf: &mut Ebpf, target: Slot) -> Result<Target, ObserveError> {
    array::<Target>(ebpf, "SLOTS")?.get(&target, 0).map_err(map_error("SLOTS"))
}

fn syscall_facts(
    calls: &BTreeMap<CallKey, Makers>,
    arguments: &Combinations,
    run: &str,
    seen: &Sightings<'_>,
    phases: &Phases,
    stacks: &Stacks,
    count: impl Fn(&CallKey) -> Option<u64>,
) -> Vec<SyscallFact> {
    let mut found: BTreeMap<(Abi, u32, Phase), Sighting> = BTreeMap::new();
    for key in calls.keys() {
        let stack = stacks.of(key);
        let mut sighting = Sighting { stack, count: count(key), ..seen.of(*key, 0) };
        arguments.abouts(key).for_each(|about| sighting.join(seen.of(*key, about)));
        let fact = (abi_of(key.abi), key.nr, phases.get(key.slot, key.phase));
        joined(&mut found, fact, sighting);
    }
    let of_run = |sighting| BTreeMap::from([(run.to_owned(), sighting)]);
    found
        .into_iter()
        .map(|((abi, nr, phase), seen)| SyscallFact { abi, nr, phase, seen: of_run(seen) })
        .collect()
}

fn argument_facts(
    calls: &BTreeMap<CallKey, Makers>,
    arguments: &Combinations,
    run: &str,
    seen: &Sightings<'_>,
    phases: &Phases,
) -> Vec<ArgumentFact> {
    let mut found: BTreeMap<(Abi, u32, Phase, Vec<Masked>), Sighting> = BTreeMap::new();
    for (key, makers) in calls {
        for (values, about) in arguments.values(key, *makers).into_iter().flatten() {
            let fact = (abi_of(key.abi), key.nr, phases.get(key.slot, key.phase), values);
            joined(&mut found, fact, seen.of(*key, about));
        }
    }
    let of_run = |sighting| BTreeMap::from([(run.to_owned(), sighting)]);
    found
        .into_iter()
        .map(|((abi, nr, phase, values), seen)| ArgumentFact {
            abi,
            nr,
            phase,
            values,
            seen: of_run(seen),
        })
        .collect()
}

/// Adds a sighting of a fact. There is no default to join with: one without tests was seen outside of them.
fn joined<K: Ord>(found: &mut BTreeMap<K, Sighting>, fact: K, sighting: Sighting) {
    match found.entry(fact) {
        Entry::Occupied(mut sum) => sum.get_mut().add(sighting),
        Entry::Vacant(place) => {
            place.insert(sighting);
        }
    }
}

fn capability_facts(
    ebpf: &mut Ebpf,
    slots: &[Slot],
    run: &str,
    sightings: &Sightings<'_>,
    symbols: &mut Symbols,
    phases: &Phases,
    executed: &[ByRoot],
) -> Result<Vec<CapabilityFact>, ObserveError> {
    type Key = (u8, Phase, Verdict, AuditClass, UserNamespace, bool, Abi, u32, String);
    let mut found: BTreeMap<Key, CheckSighting> = BTreeMap::new();
    let checks = checks(ebpf, slots)?;
    symbols.learn(checks.iter().map(|(key, ..)| key));
    for (key, about, check) in checks {
        let seen = CheckSighting {
            checks: check.count,
            succeeded: check.succeeded,
            failed: check.failed,
            unsettled: check.unsettled,
            sighting: sightings.of(key.call(), about),
        };
        let (mut audit, asked_by) = classify(&symbols.callers(&key), audited(key.flags));
        if key.flags & check::IMPLIED != 0 {
            let retained = key.flags & check::RETAINED != 0;
            audit = if retained { AuditClass::Retained } else { AuditClass::Implied };
        } else if key.flags & check::MOOT != 0 {
            audit = AuditClass::Noaudit;
        }
        let key = (
            key.capability,
            phases.get(key.slot, key.phase),
            if key.flags & check::DENIED == 0 { Verdict::Granted } else { Verdict::Denied },
            audit,
            namespace_of(key.flags),
            key.flags & check::OVERRIDDEN != 0,
            abi_of(key.abi),
            key.nr,
            asked_by.to_owned(),
        );
        found.entry(key).and_modify(|sum| sum.add(&seen)).or_insert(seen);
    }
    for ByRoot { key, executed, needs } in executed {
        let phase = phases.get(key.slot, key.phase);
        for capability in bits(needs.unwrap_or(0)) {
            let sighting = sighting(&executed.first, sightings.armed_ns);
            let seen = CheckSighting {
                checks: executed.count,
                succeeded: executed.count,
                failed: 0,
                unsettled: 0,
                sighting: sightings.labelled(sighting, key.slot),
            };
            let (verdict, audit) = (Verdict::Granted, AuditClass::Implied);
            let (namespace, abi) = (namespace_of(key.flags), abi_of(abi::NATIVE));
            let Some(execve) = syscall::number(abi, "execve") else { continue };
            let key =
                (capability, phase, verdict, audit, namespace, false, abi, execve, String::new());
            found.entry(key).and_modify(|sum| sum.add(&seen)).or_insert(seen);
        }
    }
    Ok(found
        .into_iter()
        .map(
            |(
                (capability, phase, verdict, audit, user_namespace, overridden, abi, nr, asked_by),
                seen,
            )| CapabilityFact {
                capability,
                phase,
                verdict,
                audit,
                user_namespace,
                overridden,
                abi,
                nr,
                asked_by,
                seen: BTreeMap::from([(run.to_owned(), seen)]),
            },
        )
        .collect())
}

fn denial_facts(
    ebpf: &mut Ebpf,
    slots: &[Slot],
    run: &str,
    seen: &Sightings<'_>,
    phases: &Phases,
) -> Result<Vec<DenialFact>, ObserveError> {
    let mut found: BTreeMap<(Abi, u32, Phase, i32, bool), DenialSighting> = BTreeMap::new();
    let map = hash::<DenialKey, Denial>(ebpf, "DENIALS")?;
    for (key, denial) in map.iter().filter_map(Result::ok) {
        if !slots.contains(&key.call.slot) {
            continue;
        }
        let phase = phases.get(key.call.slot, key.call.phase);
        let killed = key.errno == KILLED;
        let errno = if killed { 0 } else { key.errno };
        let call = (abi_of(key.call.abi), key.call.nr, phase, errno, killed);
        let seen = DenialSighting {
            count: denial.count,
            arguments: Some(denial.arguments),
            sighting: seen.of(key.call, key.about()),
        };
        found.entry(call).and_modify(|sum| sum.add(&seen)).or_insert(seen);
    }
    Ok(found
        .into_iter()
        .map(|((abi, nr, phase, errno, killed), seen)| DenialFact {
            abi,
            nr,
            phase,
            errno,
            killed,
            seen: BTreeMap::from([(run.to_owned(), seen)]),
        })
        .collect())
}

/// What was lost on the way here: the kernel side has not counted it.
pub struct Uncounted {
    /// Lacks attribution.
    pub unlabelled: u64,
    /// Stacks without names.
    pub stacks: u64,
    /// Files that could not be read, and are not named.
    pub files: u64,
}

/// What found its table full, by the kernel side's count, and what was lost besides.
pub fn losses(ebpf: &mut Ebpf, uncounted: &Uncounted) -> Result<Vec<Missing>, ObserveError> {
    let counters = array::<u64>(ebpf, "LOSSES")?;
    let mut missing = Vec::new();
    for (index, what) in LOSSES {
        let mut count = counters.get(&index, 0).map_err(map_error("LOSSES"))?;
        count += match index {
            loss::ATTRIBUTION => uncounted.unlabelled,
            loss::STACKS => uncounted.stacks,
            loss::FILES => uncounted.files,
            _ => 0,
        };
        if count > 0 {
            missing.push(Missing::Lost { what: what.to_owned(), count });
        }
    }
    Ok(missing)
}

/// Every call in the slots, with its word, from the dense table and the others.
fn calls(ebpf: &mut Ebpf, slots: &[Slot]) -> Result<BTreeMap<CallKey, Makers>, ObserveError> {
    let mut found = BTreeMap::new();
    let seen = array::<Seen>(ebpf, "SEEN")?;
    for slot in slots {
        let calls = seen.get(slot, 0).map_err(map_error("SEEN"))?.calls;
        for (nr, makers) in calls.iter().enumerate().filter(|(_, makers)| **makers != 0) {
            let (abi, phase) = (abi::NATIVE, phase::WORKLOAD);
            let key = CallKey { slot: *slot, nr: nr as u32, abi, phase, reserved: 0 };
            found.insert(key, *makers);
        }
    }
    for name in ["BESIDE", "SPARSE"] {
        let map = hash::<CallKey, Makers>(ebpf, name)?;
        let entries = map.iter().filter_map(Result::ok);
        found.extend(entries.filter(|(key, _)| slots.contains(&key.slot)));
    }
    Ok(found)
}

/// Every check in the slots, with [`CheckKey::about`] of the entry that it comes from.
fn checks(ebpf: &mut Ebpf, slots: &[Slot]) -> Result<Vec<(CheckKey, u32, Check)>, ObserveError> {
    let map = hash::<CheckKey, Check>(ebpf, "CHECKS")?;
    let own =
        map.iter().filter_map(Result::ok).filter(|(key, _)| slots.contains(&slot_of(key.slot)));
    Ok(own.flat_map(|(key, check)| each(key).map(move |one| (one, key.about(), check))).collect())
}

/// The checks that an entry stands for: an implied one holds a set of capabilities, and has no callers.
fn each(key: CheckKey) -> impl Iterator<Item = CheckKey> {
    let is_set = key.flags & check::IMPLIED != 0;
    let capabilities = if is_set { key.callers[0] } else { 1 << key.capability };
    let callers = if is_set { [0; CALLERS] } else { key.callers };
    bits(capabilities).map(move |capability| CheckKey { capability, callers, ..key })
}

/// The capabilities of a set.
fn bits(set: u64) -> impl Iterator<Item = u8> {
    (0..64).filter(move |capability| set & (1 << capability) != 0)
}

/// What the target's workload executed as root, and could not be read.
fn unread(executed: &[ByRoot], phases: &Phases) -> Vec<Missing> {
    let unread = executed.iter().filter(|one| {
        one.needs.is_none() && phases.get(one.key.slot, one.key.phase) == Phase::Workload
    });
    let programs: BTreeSet<String> = unread.map(|one| text(&one.executed.first.exe)).collect();
    programs.into_iter().map(|program| Missing::Unread { program }).collect()
}

/// Keeps the first of those that could not be read, and says how many more there are.
pub fn bound_unread(missing: &mut Vec<Missing>) -> u64 {
    let is_unread = |missing: &Missing| matches!(missing, Missing::Unread { .. });
    let mut rest = 0;
    let mut kept = 0;
    missing.sort();
    missing.retain(|one| {
        let keeps = !is_unread(one) || kept < MAX_UNREAD;
        kept += usize::from(is_unread(one));
        rest += u64::from(!keeps);
        keeps
    });
    rest
}

fn sighting(raw: &RawSighting, armed_ns: u64) -> Sighting {
    let program = Program { comm: text(&raw.comm), exe: text(&raw.exe) };
    Sighting {
        first_ms: Some(raw.at_ns.saturating_sub(armed_ns) / 1_000_000),
        programs: BTreeSet::from([program]),
        ..Sighting::default()
    }
}

/// The model's name for a number space of this machine.
pub const fn abi_of(raw: u8) -> Abi {
    match raw {
        abi::COMPAT if cfg!(target_arch = "aarch64") => Abi::Arm,
        abi::COMPAT => Abi::Ia32,
        abi::X32 => Abi::X32,
        _ if cfg!(target_arch = "aarch64") => Abi::Aarch64,
        _ => Abi::X86_64,
    }
}

/// What the kernel's own argument said, where it was seen.
const fn audited(flags: u8) -> Option<bool> {
    match flags & (check::AUDITED | check::NOAUDIT) {
        0 => None,
        flags => Some(flags & check::AUDITED != 0),
    }
}

const fn namespace_of(flags: u8) -> UserNamespace {
    if flags & check::HOST_NS != 0 {
        UserNamespace::Host
    } else if flags & check::OWN_NS != 0 {
        UserNamespace::Own
    } else {
        UserNamespace::Other
    }
}
