//! From two policies to their differences.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    arch::Abi,
    arguments::{Masked, call},
    diff::{
        Change, Diff, Entry, Extent, Grants, Kind, Relation, Side, Subject, Users, compare,
        hardening, risk,
    },
    effective::{Condition, Decision, Outcome, word_mask},
    facts::Risk,
    narrow::{self, Cube},
    seccomp::Op,
    syscall,
};

/// Flags of seccomp(2) that make a filter weaker.
const WEAKENING_FLAGS: [&str; 1] = ["SECCOMP_FILTER_FLAG_SPEC_ALLOW"];

/// As many conditions of a call are told.
const MAX_TOLD: usize = 8;

/// All differences between two policies.
#[must_use]
pub fn diff(old: &Side, new: &Side) -> Diff {
    let mut entries = settings(old, new);
    entries.extend(architectures(old, new));
    for abi in old.effective.abis.intersection(&new.effective.abis) {
        entries.extend(calls(*abi, old, new));
    }
    let mut notes = Vec::new();
    match (&old.grants, &new.grants) {
        (Some(before), Some(after)) => entries.extend(capabilities(before, after)),
        (None, None) => {}
        (None, Some(_)) => notes.push(uncompared(&old.label)),
        (Some(_), None) => notes.push(uncompared(&new.label)),
    }
    if let (Some(before), Some(after)) = (&old.harden, &new.harden) {
        entries.extend(hardening::entries(before, after));
    }
    Diff { old: old.label.clone(), new: new.label.clone(), entries, notes }
}

/// The differences when a policy is no more. Each call goes, and yet more may pass: nothing says what runs in its stead.
#[must_use]
pub fn gone(old: &Side, label: String) -> Diff {
    let mut diff = diff(old, &Side::nothing(label, old));
    let reason = "the container runs under the engine's default, or under no filter";
    let risk = (Risk::Critical, reason);
    let entry = setting(Subject::Policy, "in force".into(), "gone".into(), true, risk);
    diff.entries.insert(0, entry);
    diff
}

fn uncompared(label: &str) -> String {
    format!(
        "capabilities and what is beyond were not compared: `{label}` is a seccomp file, which says nothing of them"
    )
}

fn setting(subject: Subject, old: String, new: String, grows: bool, risk: (Risk, &str)) -> Entry {
    Entry {
        subject,
        change: Change { kind: Kind::Action, old, new },
        grows,
        risk: risk.0,
        risk_reason: risk.1.into(),
        users: Users::default(),
    }
}

fn settings(old: &Side, new: &Side) -> Vec<Entry> {
    let mut entries = Vec::new();
    let (before, after) = (&old.effective, &new.effective);
    if before.default != after.default {
        let grows = after.default.may_pass() && !before.default.may_pass();
        let risk = if grows {
            (Risk::High, "every call that no rule names passes")
        } else {
            (Risk::Low, "no call passes by it that did not before")
        };
        entries.push(setting(
            Subject::Default,
            before.default.to_string(),
            after.default.to_string(),
            grows,
            risk,
        ));
    }
    if before.flags != after.flags {
        let mut added = after.flags.difference(&before.flags);
        let grows = added.any(|flag| WEAKENING_FLAGS.contains(&flag.as_str()));
        let risk = if grows {
            (Risk::Moderate, "it leaves out the kernel's defence against speculative store bypass")
        } else {
            (Risk::Low, "it changes what is logged or how the filter is loaded")
        };
        entries.push(setting(Subject::Flags, list(&before.flags), list(&after.flags), grows, risk));
    }
    if before.listener != after.listener {
        let text = |listener: &Option<String>| listener.clone().unwrap_or_else(|| "none".into());
        let risk = (Risk::Moderate, "whoever listens there decides for the filter");
        let grows = after.listener.is_some();
        let (old, new) = (text(&before.listener), text(&after.listener));
        entries.push(setting(Subject::Listener, old, new, grows, risk));
    }
    if let (Some(before), Some(after)) = (old.no_new_privileges, new.no_new_privileges)
        && before != after
    {
        let grows = after < before;
        let risk = if !grows {
            (Risk::Low, "programs with set-user-id bits or file capabilities gain nothing by them")
        } else {
            (Risk::Moderate, "programs with set-user-id bits or file capabilities gain by them")
        };
        let (old, new) = (before.to_string(), after.to_string());
        entries.push(setting(Subject::NoNewPrivileges, old, new, grows, risk));
    }
    entries
}

fn list(texts: &BTreeSet<String>) -> String {
    if texts.is_empty() {
        return "none".into();
    }
    texts.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// ABIs that one of them does not admit. What their calls may do is said of the ABI, not of each.
fn architectures(old: &Side, new: &Side) -> Vec<Entry> {
    let (before, after) = (&old.effective, &new.effective);
    let mut entries = Vec::new();
    for &abi in before.abis.symmetric_difference(&after.abis) {
        let added = after.abis.contains(&abi);
        let side = if added { after } else { before };
        let numbers = || syscall::table(abi).iter().map(|&(nr, _)| nr);
        let passing: Vec<u32> = numbers()
            .filter(|&nr| side.decision(abi, nr).outcomes().any(|outcome| outcome.may_pass()))
            .collect();
        let worst = passing.iter().map(|&nr| (risk::of_call(abi, nr).0, nr));
        let (risk, risk_reason) =
            match worst.max_by_key(|&(risk, nr)| (risk, std::cmp::Reverse(nr))) {
                Some((risk, nr)) => {
                    let name = syscall::display(abi, nr);
                    (risk, format!("{} of its calls can pass, `{name}` among them", passing.len()))
                }
                None => (Risk::Low, "none of its calls can pass".into()),
            };
        let mut users = Users::default();
        for (_, of_call) in
            (if added { &new.users } else { &old.users }).iter().filter(|(call, _)| call.0 == abi)
        {
            users.join(&Users { others: vec![], ..of_call.clone() });
        }
        entries.push(architecture(abi.name().into(), added, risk, risk_reason, users));
    }
    for name in before.other_architectures.symmetric_difference(&after.other_architectures) {
        let added = after.other_architectures.contains(name);
        let reason = "this profiler has no table of its calls".to_owned();
        entries.push(architecture(name.clone(), added, Risk::Moderate, reason, Users::default()));
    }
    entries
}

fn architecture(name: String, added: bool, risk: Risk, risk_reason: String, users: Users) -> Entry {
    let (kind, old, new) = if added {
        (Kind::Added, "not admitted", "admitted")
    } else {
        (Kind::Removed, "admitted", "not admitted")
    };
    Entry {
        subject: Subject::Architecture(name),
        change: Change { kind, old: old.into(), new: new.into() },
        grows: added,
        risk,
        risk_reason,
        users,
    }
}

fn calls(abi: Abi, old: &Side, new: &Side) -> Vec<Entry> {
    let (before, after) = (&old.effective, &new.effective);
    let ruled = before.ruled().chain(after.ruled());
    let numbers: BTreeSet<u32> = ruled.filter(|call| call.0 == abi).map(|call| call.1).collect();
    let bits = if word_mask(abi) == u64::MAX { 64 } else { 32 };
    let mut entries: Vec<Entry> = numbers
        .into_iter()
        .filter_map(|nr| {
            let (was, is) = (before.decision(abi, nr), after.decision(abi, nr));
            // Left to a default that is a difference of its own.
            if was == Decision::always(before.default) && is == Decision::always(after.default) {
                return None;
            }
            let comparison = compare(&was, &is, bits);
            if comparison.alike {
                return None;
            }
            let kind = match (comparison.passing, comparison.old, comparison.new) {
                (Relation::Same, ..) => Kind::Action,
                (_, Extent::Never, _) => Kind::Added,
                (_, _, Extent::Never) => Kind::Removed,
                (Relation::Wider, ..) => Kind::Wider,
                (Relation::Narrower, ..) => Kind::Narrower,
                (Relation::Disjoint, ..) => Kind::Disjoint,
                (Relation::Overlapping | Relation::Undecided, ..) => Kind::Changed,
            };
            let (risk, risk_reason) = risk::of_call(abi, nr);
            let side = if kind == Kind::Removed { old } else { new };
            Some(Entry {
                subject: Subject::syscall(abi, nr),
                change: Change {
                    kind,
                    old: told(abi, nr, &was, &is),
                    new: told(abi, nr, &is, &was),
                },
                grows: !matches!(kind, Kind::Action | Kind::Removed | Kind::Narrower),
                risk,
                risk_reason,
                users: users(side, abi, nr),
            })
        })
        .collect();
    entries.sort_by(|a, b| a.subject.cmp(&b.subject));
    entries
}

/// Who makes a call. A file has no rules for one ABI, so a name that one needs is allowed for all.
fn users(side: &Side, abi: Abi, nr: u32) -> Users {
    if let Some(users) = side.users.get(&(abi, nr)) {
        return users.clone();
    }
    let name = syscall::name(abi, nr);
    let others = side
        .users
        .keys()
        .filter(|call| name.is_some() && call.0 != abi && syscall::name(call.0, call.1) == name);
    let others = others.map(|call| format!("comes with {}, where it is needed", call.0)).collect();
    Users { others, ..Users::default() }
}

/// A decision in words: of conditions that `other` has, too, only how many they are.
fn told(abi: Abi, nr: u32, decision: &Decision, other: &Decision) -> String {
    let name = syscall::display(abi, nr);
    let words =
        |conditions: &[Condition]| call::conditions(Some(abi), &name, conditions).join(" and ");
    let decision = &turned(decision).unwrap_or_else(|| decision.clone());
    let other = turned(other).unwrap_or_else(|| other.clone());
    let is_common = other.otherwise == decision.otherwise;
    // Outcomes in the order of their first rule.
    let mut cases: Vec<(Outcome, Vec<String>, usize)> = Vec::new();
    for rule in &decision.rules {
        let (conditions, outcome) = rule;
        if cases.last().is_none_or(|case| case.0 != *outcome) {
            cases.push((*outcome, Vec::new(), 0));
        }
        let Some(case) = cases.last_mut() else { continue };
        if is_common && other.rules.contains(rule) {
            case.2 += 1;
        } else {
            case.1.push(words(conditions));
        }
    }
    let mut text = String::new();
    for (outcome, mut conditions, common) in cases {
        let more = conditions.len().saturating_sub(MAX_TOLD);
        conditions.truncate(MAX_TOLD);
        if more > 0 {
            conditions.push(format!("{more} more"));
        }
        if common > 0 {
            conditions.push(format!("{common} that both have"));
        }
        text.push_str(&format!("{outcome} if {}, else ", conditions.join(" or ")));
    }
    text + &decision.otherwise.to_string()
}

/// The same decision by what its rules leave out, where that is less: all but two requests are some dozen conditions.
fn turned(decision: &Decision) -> Option<Decision> {
    let (_, outcome) = decision.rules.first()?;
    let cube = |(conditions, of): &(Vec<Condition>, Outcome)| -> Option<Cube> {
        let masked = |it: &Condition| {
            let Condition { index, op, value, value_two } = *it;
            (op == Op::MaskedEq).then_some(Masked { index, mask: value, value: value_two })
        };
        conditions.iter().map(masked).collect::<Option<Cube>>().filter(|_| of == outcome)
    };
    let cubes: Vec<Cube> = decision.rules.iter().map(cube).collect::<Option<_>>()?;
    let rest = narrow::rest(&cubes, cubes.len() / 2)?;
    let rule = |cube: Cube| {
        let condition = |it: &Masked| Condition {
            index: it.index,
            op: Op::MaskedEq,
            value: it.mask,
            value_two: it.value,
        };
        (cube.iter().map(condition).collect(), decision.otherwise)
    };
    let rules: Vec<_> = rest.into_iter().map(rule).collect();
    (!rules.is_empty()).then_some(Decision { rules, otherwise: *outcome })
}

fn capabilities(old: &Grants, new: &Grants) -> Vec<Entry> {
    let none = BTreeMap::new();
    let (before, after) = match (old, new) {
        (Grants::Only(before), Grants::Only(after)) => (before, after),
        (Grants::Unknown, Grants::Unknown) => (&none, &none),
        (Grants::Only(_), Grants::Unknown) => {
            let risk = (Risk::Moderate, "nothing is dropped of what the engine grants");
            return vec![setting(
                Subject::Capabilities,
                "listed".into(),
                "not known".into(),
                true,
                risk,
            )];
        }
        (Grants::Unknown, Grants::Only(_)) => {
            let risk = (Risk::Low, "all but those listed are dropped");
            return vec![setting(
                Subject::Capabilities,
                "not known".into(),
                "listed".into(),
                false,
                risk,
            )];
        }
    };
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let changed = names.into_iter().filter_map(|name| {
        let (added, users) = match (before.get(name), after.get(name)) {
            (None, Some(users)) => (true, users),
            (Some(users), None) => (false, users),
            _ => return None,
        };
        let (risk, risk_reason) = risk::of_capability(name);
        let (kind, old, new) = if added {
            (Kind::Added, "dropped", "granted")
        } else {
            (Kind::Removed, "granted", "dropped")
        };
        Some(Entry {
            subject: Subject::Capability(name.clone()),
            change: Change { kind, old: old.into(), new: new.into() },
            grows: added,
            risk,
            risk_reason,
            users: users.clone(),
        })
    });
    changed.collect()
}
