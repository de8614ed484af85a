//! Rules against each other, and against the default.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    effective::Outcome,
    lint::{Edit, Finding, Lint, Severity, Subject, compatible::conflict, finding::some_of},
    seccomp::{Arg, Op, Rule},
};

/// Rules that are compared with each other for one name. More than any file has; bounds the work for hostile ones.
const COMPARED: usize = 64;

pub(super) fn check(subject: &Subject<'_>, found: &mut Vec<Finding>) {
    for (index, rule) in subject.file.syscalls.iter().enumerate() {
        alone(subject, index, rule, found);
    }
    let mut by_name: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, rule) in subject.file.syscalls.iter().enumerate() {
        for name in rule.all_names().collect::<BTreeSet<_>>() {
            by_name.entry(name).or_default().push(index);
        }
    }
    let mut pairs: BTreeMap<(usize, usize, Kind), Vec<&str>> = BTreeMap::new();
    for (name, rules) in by_name {
        let rules = rules.get(..COMPARED).unwrap_or(&rules);
        for (at, &first) in rules.iter().enumerate() {
            for &second in rules.iter().skip(at + 1) {
                if let Some(kind) = against(subject, first, second) {
                    pairs.entry((first, second, kind)).or_default().push(name);
                }
            }
        }
    }
    found.extend(pairs.into_iter().map(|((first, second, kind), names)| {
        let names = some_of(&names);
        let (lint, severity, message) = match kind {
            Kind::FirstWins => (Lint::TwoActions, Severity::Error,
                format!("another action for {names} than rule {first} has, which wins")),
            Kind::Hidden => (Lint::TwoActions, Severity::Error,
                format!("rules {first} and {second} have different actions for {names}; the one without conditions wins, whatever the arguments")),
            Kind::Overlapping => (Lint::TwoActions, Severity::Warning,
                format!("the conditions on {names} can hold together with those of rule {first}, which has another action; which wins is not promised")),
            Kind::Again => (Lint::NoEffect, Severity::Note,
                format!("rule {first} has {names} already, with the same action")),
            Kind::Comparisons => (Lint::OverlappingComparisons, Severity::Warning,
                format!("{names}: comparisons of one argument overlap with those of rule {first}; use lists of `SCMP_CMP_EQ`, or masks of 32 bits")),
        };
        Finding::new(lint, severity, format!("/syscalls/{second}"), message)
    }));
}

fn alone(subject: &Subject<'_>, index: usize, rule: &Rule, found: &mut Vec<Finding>) {
    let pointer = format!("/syscalls/{index}");
    let count = rule.all_names().filter(|name| !name.is_empty()).count();
    if count == 0 {
        let finding =
            Finding::new(Lint::NoEffect, Severity::Note, &pointer, "the rule names no call");
        found.push(finding.fix(Edit::RemoveRule(index)));
        return;
    }
    let distinct: BTreeSet<&str> = rule.all_names().collect();
    if distinct.len() < count {
        let mut seen = BTreeSet::new();
        let again: Vec<&str> = rule.all_names().filter(|name| !seen.insert(*name)).collect();
        let message = format!("the rule names {} more than once", some_of(&again));
        found.push(Finding::new(
            Lint::NoEffect,
            Severity::Note,
            format!("{pointer}/names"),
            message,
        ));
    }
    if outcome(rule) == subject.default() {
        let message = "the rule has the default action, and runtimes skip it: it overrides nothing";
        let finding = Finding::new(Lint::NoEffect, Severity::Note, &pointer, message);
        found.push(finding.fix(Edit::RemoveRule(index)));
    }
    let mut indices = BTreeSet::new();
    let again: BTreeSet<u32> =
        rule.args.iter().map(|arg| arg.index).filter(|index| !indices.insert(*index)).collect();
    if let Some(argument) = again.first() {
        let message = format!(
            "argument {argument} has two conditions: runc applies the rule when any condition of it holds, crun refuses it"
        );
        found.push(Finding::new(
            Lint::RepeatedIndex,
            Severity::Error,
            format!("{pointer}/args"),
            message,
        ));
    }
}

fn outcome(rule: &Rule) -> Outcome {
    let by_name = rule.errno.as_deref().and_then(crate::model::error_number::parse);
    Outcome::new(rule.action, rule.errno_ret.or(by_name))
}

impl Subject<'_> {
    pub(super) fn default(&self) -> Outcome {
        let file = self.file;
        let by_name = file.default_errno.as_deref().and_then(crate::model::error_number::parse);
        Outcome::new(file.default_action, file.default_errno_ret.or(by_name))
    }
}

/// How two rules for one call stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    FirstWins,
    Hidden,
    Overlapping,
    Again,
    Comparisons,
}

fn against(subject: &Subject<'_>, first: usize, second: usize) -> Option<Kind> {
    let a = subject.file.syscalls.get(first)?;
    let b = subject.file.syscalls.get(second)?;
    if conflict(&[a, b]).is_some() {
        return None;
    }
    let default = subject.default();
    let (of_a, of_b) = (outcome(a), outcome(b));
    if of_a == default || of_b == default {
        return None; // skipped, and told of as such
    }
    if of_a == of_b {
        let conditional = a.includes != b.includes || a.excludes != b.excludes;
        return match (a.args.is_empty(), b.args.is_empty()) {
            // What one engine keeps by a condition, the other rule may give without it: that is how they are written.
            _ if conditional => None,
            (true, _) => Some(Kind::Again),
            (false, true) => None,
            (false, false) if a.args == b.args => Some(Kind::Again),
            (false, false) => delicate(a, b).then_some(Kind::Comparisons),
        };
    }
    match (a.args.is_empty(), b.args.is_empty()) {
        (true, true) => Some(Kind::FirstWins),
        (true, false) | (false, true) => Some(Kind::Hidden),
        (false, false) => (!disjoint(a, b)).then_some(Kind::Overlapping),
    }
}

/// Whether both compare one argument, and not both by equality or 32-bit masks.
fn delicate(a: &Rule, b: &Rule) -> bool {
    let simple = |arg: &Arg| match arg.op {
        Op::Eq => true,
        Op::MaskedEq => arg.value <= u64::from(u32::MAX),
        _ => false,
    };
    a.args.iter().any(|x| {
        b.args.iter().any(|y| x.index == y.index && !(simple(x) && simple(y)) && !apart(x, y))
    })
}

/// Whether no arguments meet the conditions of both rules, as far as pairs of conditions tell.
fn disjoint(a: &Rule, b: &Rule) -> bool {
    a.args.iter().any(|x| b.args.iter().any(|y| x.index == y.index && apart(x, y)))
}

/// Whether no value of their argument meets both conditions.
fn apart(x: &Arg, y: &Arg) -> bool {
    if let (Op::MaskedEq, Op::MaskedEq) = (x.op, y.op) {
        let both = x.value & y.value;
        return x.value_two & both != y.value_two & both;
    }
    let holds = |arg: &Arg, value: u64| match arg.op {
        Op::Ne => value != arg.value,
        Op::Lt => value < arg.value,
        Op::Le => value <= arg.value,
        Op::Eq => value == arg.value,
        Op::Ge => value >= arg.value,
        Op::Gt => value > arg.value,
        Op::MaskedEq => value & arg.value == arg.value_two,
    };
    let masked = x.op == Op::MaskedEq || y.op == Op::MaskedEq;
    if masked && x.op != Op::Eq && y.op != Op::Eq {
        return false; // cannot be told by trying the ends
    }
    // Ranges and points meet, if anywhere, at an end of one or beside it.
    let ends =
        [x.value, y.value].into_iter().flat_map(|v| [v.saturating_sub(1), v, v.saturating_add(1)]);
    !ends.chain([0, u64::MAX]).any(|value| holds(x, value) && holds(y, value))
}
