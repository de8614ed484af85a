//! From maps to facts.

use std::collections::{BTreeMap, BTreeSet};

use aya::Ebpf;
use profiler_common::{
    evidence::{
        CALLERS, CallKey, Check, CheckKey, Denial, DenialKey, Seen, Sighting as RawSighting, abi,
        check, phase,
    },
    scope::{Slot, Target, loss, slot_kind},
};

use super::{
    callers::classify,
    error::ObserveError,
    slots::{array, hash, map_error, text},
    symbols::Symbols,
};
use crate::{
    model::{
        arch::Abi,
        recording::{
            AuditClass, CapabilityFact, CheckSighting, DenialFact, DenialSighting, Missing, Phase,
            Program, Sighting, SyscallFact, UserNamespace, Verdict,
        },
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
];

/// What has been found so far.
pub fn found(
    ebpf: &mut Ebpf,
    slots: &[Slot],
    symbols: &mut Symbols,
) -> Result<Found, ObserveError> {
    let phases = Phases::of(ebpf, slots)?;
    let calls: BTreeSet<(u8, u32)> = calls(ebpf, slots)?
        .into_iter()
        .filter(|key| phases.get(key.slot, key.phase) != Phase::Setup)
        .map(|key| (key.abi, key.nr))
        .collect();
    let mut checks = checks(ebpf, slots)?;
    checks.retain(|(key, _)| phases.get(key.slot, key.phase) == Phase::Workload);
    symbols.learn(checks.iter().map(|(key, _)| key));
    checks.retain(|(key, _)| {
        key.flags & check::MOOT == 0
            && classify(&symbols.callers(key), audited(key.flags)).0 == AuditClass::Audited
    });
    let capabilities: BTreeSet<u8> = checks
        .iter()
        .filter(|(key, check)| key.flags & check::DENIED == 0 && check.failed <= check.succeeded)
        .map(|(key, _)| key.capability)
        .collect();
    let denials: BTreeSet<(u8, u32)> = hash::<DenialKey, Denial>(ebpf, "DENIALS")?
        .keys()
        .filter_map(Result::ok)
        .filter(|key| slots.contains(&key.call.slot))
        .filter(|key| phases.get(key.call.slot, key.call.phase) != Phase::Setup)
        .map(|key| (key.call.abi, key.call.nr))
        .collect();
    Ok(Found { syscalls: calls, capabilities, denials, checks: checks.len() })
}

/// Everything that was written to the slots, as facts of one run.
pub fn evidence(
    ebpf: &mut Ebpf,
    slots: &[Slot],
    run: &str,
    armed_ns: u64,
    symbols: &mut Symbols,
) -> Result<Evidence, ObserveError> {
    let phases = Phases::of(ebpf, slots)?;
    let mut missing = losses(ebpf)?;
    let mut inner_cgroups = 0;
    for target in targets(ebpf, slots)? {
        inner_cgroups += target.inner_cgroups;
        if target.left > 0 {
            missing.push(Missing::Left { count: target.left });
        }
    }
    Ok(Evidence {
        syscalls: syscall_facts(ebpf, slots, run, armed_ns, &phases)?,
        capabilities: capability_facts(ebpf, slots, run, armed_ns, symbols, &phases)?,
        denials: denial_facts(ebpf, slots, run, armed_ns, &phases)?,
        missing,
        inner_cgroups,
        has_runtime: phases.plain.len() < slots.len(),
    })
}

/// The phases of what was written to slots.
struct Phases {
    /// Slots of cgroups in which no runtime showed: all that happened there is the target's.
    plain: BTreeSet<Slot>,
}

impl Phases {
    fn of(ebpf: &mut Ebpf, slots: &[Slot]) -> Result<Self, ObserveError> {
        let is_plain = |target: &Target| {
            matches!(target.kind, slot_kind::CGROUP | slot_kind::RUNNING_CGROUP)
                && target.runtime == 0
        };
        let targets = targets(ebpf, slots)?;
        let plain = slots.iter().zip(&targets).filter(|(_, target)| is_plain(target));
        Ok(Phases { plain: plain.map(|(slot, _)| *slot).collect() })
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

fn targets(ebpf: &mut Ebpf, slots: &[Slot]) -> Result<Vec<Target>, ObserveError> {
    let map = array::<Target>(ebpf, "SLOTS")?;
    slots.iter().map(|slot| map.get(slot, 0).map_err(map_error("SLOTS"))).collect()
}

fn syscall_facts(
    ebpf: &mut Ebpf,
    slots: &[Slot],
    run: &str,
    armed_ns: u64,
    phases: &Phases,
) -> Result<Vec<SyscallFact>, ObserveError> {
    let mut found: BTreeMap<(Abi, u32, Phase), Option<RawSighting>> = BTreeMap::new();
    for key in calls(ebpf, slots)? {
        let first = hash::<CallKey, RawSighting>(ebpf, "FIRST")?.get(&key, 0).ok();
        let phase = phases.get(key.slot, key.phase);
        let entry = found.entry((abi_of(key.abi), key.nr, phase)).or_default();
        *entry = earlier(*entry, first);
    }
    Ok(found
        .into_iter()
        .map(|((abi, nr, phase), first)| SyscallFact {
            abi,
            nr,
            phase,
            seen: BTreeMap::from([(run.to_owned(), sighting(first, armed_ns))]),
        })
        .collect())
}

fn capability_facts(
    ebpf: &mut Ebpf,
    slots: &[Slot],
    run: &str,
    armed_ns: u64,
    symbols: &mut Symbols,
    phases: &Phases,
) -> Result<Vec<CapabilityFact>, ObserveError> {
    type Key = (u8, Phase, Verdict, AuditClass, UserNamespace, bool, Abi, u32, String);
    let mut found: BTreeMap<Key, Check> = BTreeMap::new();
    let checks = checks(ebpf, slots)?;
    symbols.learn(checks.iter().map(|(key, _)| key));
    for (key, check) in checks {
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
        found
            .entry(key)
            .and_modify(|sum| {
                sum.count += check.count;
                sum.succeeded += check.succeeded;
                sum.failed += check.failed;
                sum.unsettled += check.unsettled;
                if check.first.at_ns < sum.first.at_ns {
                    sum.first = check.first;
                }
            })
            .or_insert(check);
    }
    Ok(found
        .into_iter()
        .map(
            |(
                (capability, phase, verdict, audit, user_namespace, overridden, abi, nr, asked_by),
                check,
            )| {
                let seen = CheckSighting {
                    checks: check.count,
                    succeeded: check.succeeded,
                    failed: check.failed,
                    unsettled: check.unsettled,
                    sighting: sighting(Some(check.first), armed_ns),
                };
                CapabilityFact {
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
                }
            },
        )
        .collect())
}

fn denial_facts(
    ebpf: &mut Ebpf,
    slots: &[Slot],
    run: &str,
    armed_ns: u64,
    phases: &Phases,
) -> Result<Vec<DenialFact>, ObserveError> {
    let mut found: BTreeMap<(Abi, u32, Phase, i32), Denial> = BTreeMap::new();
    let map = hash::<DenialKey, Denial>(ebpf, "DENIALS")?;
    for (key, denial) in map.iter().filter_map(Result::ok) {
        if !slots.contains(&key.call.slot) {
            continue;
        }
        let phase = phases.get(key.call.slot, key.call.phase);
        let call = (abi_of(key.call.abi), key.call.nr, phase, key.errno);
        found
            .entry(call)
            .and_modify(|sum| {
                sum.count += denial.count;
                if denial.first.at_ns < sum.first.at_ns {
                    sum.first = denial.first;
                }
            })
            .or_insert(denial);
    }
    Ok(found
        .into_iter()
        .map(|((abi, nr, phase, errno), denial)| {
            let seen = DenialSighting {
                count: denial.count,
                sighting: sighting(Some(denial.first), armed_ns),
            };
            DenialFact { abi, nr, phase, errno, seen: BTreeMap::from([(run.to_owned(), seen)]) }
        })
        .collect())
}

fn losses(ebpf: &mut Ebpf) -> Result<Vec<Missing>, ObserveError> {
    let counters = array::<u64>(ebpf, "LOSSES")?;
    let mut missing = Vec::new();
    for (index, what) in LOSSES {
        let count = counters.get(&index, 0).map_err(map_error("LOSSES"))?;
        if count > 0 {
            missing.push(Missing::Lost { what: what.to_owned(), count });
        }
    }
    Ok(missing)
}

/// Every call in the slots, from the dense table and the sparse one.
fn calls(ebpf: &mut Ebpf, slots: &[Slot]) -> Result<Vec<CallKey>, ObserveError> {
    let mut found = Vec::new();
    let seen = array::<Seen>(ebpf, "SEEN")?;
    for slot in slots {
        let calls = seen.get(slot, 0).map_err(map_error("SEEN"))?.calls;
        for (phase, abis) in calls.iter().enumerate() {
            for (abi, numbers) in abis.iter().enumerate() {
                for (nr, _) in numbers.iter().enumerate().filter(|(_, seen)| **seen != 0) {
                    found.push(CallKey {
                        slot: *slot,
                        nr: nr as u32,
                        abi: abi as u8,
                        phase: phase as u8,
                        reserved: 0,
                    });
                }
            }
        }
    }
    let sparse = hash::<CallKey, u64>(ebpf, "SPARSE")?;
    found.extend(sparse.keys().filter_map(Result::ok).filter(|key| slots.contains(&key.slot)));
    Ok(found)
}

fn checks(ebpf: &mut Ebpf, slots: &[Slot]) -> Result<Vec<(CheckKey, Check)>, ObserveError> {
    let map = hash::<CheckKey, Check>(ebpf, "CHECKS")?;
    let own = map.iter().filter_map(Result::ok).filter(|(key, _)| slots.contains(&key.slot));
    Ok(own.flat_map(|(key, check)| each(key).map(move |key| (key, check))).collect())
}

/// The checks that an entry stands for: an implied one holds a set of capabilities, and has no callers.
fn each(key: CheckKey) -> impl Iterator<Item = CheckKey> {
    let is_set = key.flags & check::IMPLIED != 0;
    let capabilities = if is_set { key.callers[0] } else { 1 << key.capability };
    let callers = if is_set { [0; CALLERS] } else { key.callers };
    (0..64)
        .filter(move |capability| capabilities & (1 << capability) != 0)
        .map(move |capability| CheckKey { capability, callers, ..key })
}

fn earlier(a: Option<RawSighting>, b: Option<RawSighting>) -> Option<RawSighting> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b.at_ns < a.at_ns { b } else { a }),
        (a, b) => a.or(b),
    }
}

fn sighting(raw: Option<RawSighting>, armed_ns: u64) -> Sighting {
    Sighting {
        first_ms: raw.map(|raw| raw.at_ns.saturating_sub(armed_ns) / 1_000_000),
        programs: raw
            .map(|raw| Program { comm: text(&raw.comm), exe: text(&raw.exe) })
            .into_iter()
            .collect(),
        tests: BTreeSet::new(),
    }
}

/// The model's name for a number space of this machine.
const fn abi_of(raw: u8) -> Abi {
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
