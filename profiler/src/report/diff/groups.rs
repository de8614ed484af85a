//! Differences as people read them: a call once for all ABIs, the many that only go away in a few lines.

use std::collections::BTreeMap;

use crate::{
    model::{
        diff::{Entry, Kind, Subject, Users, Verdict},
        facts::Risk,
    },
    report::diff::Compared,
};

/// The same difference of one subject, on several ABIs.
pub(super) struct Group<'a> {
    /// `mount`, `CAP_NET_ADMIN`, `architecture ia32`. Hostile text.
    pub name: String,
    /// The ABIs, for a call.
    pub abis: Vec<&'static str>,
    /// The first of them.
    pub entry: &'a Entry,
    /// The gravest of them.
    pub risk: (Risk, &'a str),
    /// What the gate says.
    pub verdict: &'a Verdict,
    /// All who need it.
    pub users: Users,
}

/// The differences of two policies in three parts.
#[derive(Default)]
pub(super) struct Parts<'a> {
    /// Those that let more pass, most risky first.
    pub grows: Vec<Group<'a>>,
    /// Those that let less pass.
    pub shrinks: Vec<Group<'a>>,
    /// Those after which a refused call is answered otherwise.
    pub answers: Vec<Group<'a>>,
}

pub(super) fn parts<'a>(compared: &'a Compared<'a>) -> Parts<'a> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    let mut known: BTreeMap<_, usize> = BTreeMap::new();
    for (entry, verdict) in compared.diff.entries.iter().zip(&compared.verdicts) {
        let name = name(&entry.subject);
        let key = (name.clone(), &entry.change, entry.grows, verdict_order(verdict));
        let abi = match &entry.subject {
            Subject::Syscall { abi, .. } => Some(abi.name()),
            _ => None,
        };
        let risk = (entry.risk, entry.risk_reason.as_str());
        let group = known.get(&key).and_then(|&index| groups.get_mut(index));
        if let Some(group) = group {
            group.abis.extend(abi);
            group.users.join(&entry.users);
            group.risk = if risk.0 > group.risk.0 { risk } else { group.risk };
            continue;
        }
        known.insert(key, groups.len());
        let users = entry.users.clone();
        groups.push(Group { name, abis: abi.into_iter().collect(), entry, risk, verdict, users });
    }
    let mut parts = Parts::default();
    for group in groups {
        let part = match (group.entry.grows, group.entry.change.kind) {
            (true, _) => &mut parts.grows,
            (false, Kind::Action) if !is_restriction(&group.entry.subject) => &mut parts.answers,
            (false, _) => &mut parts.shrinks,
        };
        part.push(group);
    }
    parts.grows.sort_by_key(|group| std::cmp::Reverse(group.risk.0));
    parts
}

/// Whether it is a setting that takes something away, so that another value is no other answer.
const fn is_restriction(subject: &Subject) -> bool {
    matches!(subject, Subject::NoNewPrivileges | Subject::Capabilities | Subject::Harden(_))
}

const fn verdict_order(verdict: &Verdict) -> u8 {
    match verdict {
        Verdict::Fails => 0,
        Verdict::Expired(_) => 1,
        Verdict::Accepted(_) => 2,
        Verdict::Passes => 3,
    }
}

fn name(subject: &Subject) -> String {
    match subject {
        Subject::Policy => "policy".into(),
        Subject::Default => "default action".into(),
        Subject::Architecture(name) => format!("architecture {name}"),
        Subject::Flags => "flags".into(),
        Subject::Listener => "listener".into(),
        Subject::NoNewPrivileges => "no-new-privileges".into(),
        Subject::Capabilities => "capabilities".into(),
        Subject::Syscall { name, .. } => name.to_string(),
        Subject::Capability(name) => format!("CAP_{name}"),
        Subject::Harden(name) => name.clone(),
    }
}

/// Names that share what became of them: `EPERM -> ENOSYS`, and on which ABIs.
pub(super) fn by_change<'a>(groups: &'a [Group<'a>]) -> Vec<(String, Vec<&'a str>)> {
    let mut lists: Vec<(String, Vec<&str>)> = Vec::new();
    for group in groups {
        let change = &group.entry.change;
        let abis = group.abis.join(", ");
        let on = if abis.is_empty() { String::new() } else { format!(" ({abis})") };
        let what = format!("{} -> {}{on}", change.old, change.new);
        match lists.iter_mut().find(|list| list.0 == what) {
            Some(list) => list.1.push(&group.name),
            None => lists.push((what, vec![&group.name])),
        }
    }
    lists
}

/// `1 difference lets more pass`, for the head of a report.
pub(super) fn counts(compared: &Compared<'_>) -> String {
    let entries = &compared.diff.entries;
    let number = |count: usize| {
        if count == 1 { "1 difference".into() } else { format!("{count} differences") }
    };
    let grows = entries.iter().filter(|entry| entry.grows);
    let by_risk = Risk::ALL.map(|risk| {
        let count = grows.clone().filter(|entry| entry.risk == risk).count();
        (count > 0).then(|| format!("{count} {risk}"))
    });
    let by_risk: Vec<String> = by_risk.into_iter().rev().flatten().collect();
    match (entries.len(), by_risk.as_slice()) {
        (0, _) => "no difference".into(),
        (all, []) => format!("{}, none lets more pass", number(all)),
        (all, by_risk) => {
            format!(
                "{}, {} of them let more pass: {}",
                number(all),
                grows.count(),
                by_risk.join(", ")
            )
        }
    }
}

/// `called by nginx, sh; in upload; the runtime runc 1.1.5`. Each text goes through `escape`.
pub(super) fn who(users: &Users, escape: impl Fn(&str) -> String) -> String {
    /// As many are named.
    const MAX: usize = 6;
    let list = |texts: &[String]| {
        let mut shown: Vec<String> = texts.iter().take(MAX).map(|text| escape(text)).collect();
        if texts.len() > MAX {
            shown.push(format!("{} more", texts.len() - MAX));
        }
        shown.join(", ")
    };
    let mut parts = Vec::new();
    if !users.programs.is_empty() {
        parts.push(format!("needed by {}", list(&users.programs)));
    }
    match users.tests.as_slice() {
        [] => {}
        [_] => parts.push(format!("of all tests, in one only: {}", list(&users.tests))),
        _ => parts.push(format!("in tests {}", list(&users.tests))),
    }
    if !users.others.is_empty() {
        parts.push(list(&users.others));
    }
    parts.join("; ")
}
