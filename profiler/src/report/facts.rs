//! A policy as plain lines, one fact each: what `git diff` shows in place of JSON.

use std::fmt::Write as _;

use crate::{
    model::{
        arguments::call,
        effective::{Condition, Outcome},
        harden::Harden,
        narrow,
        profile::{CapabilityRule, Profile, SyscallReason},
        seccomp::{Arg, SeccompFile},
    },
    report::escape::line,
};

/// A profile: a line for each rule, with who needs it.
#[must_use]
pub fn profile(profile: &Profile) -> String {
    let mut out = String::new();
    for abi in &profile.architectures {
        let _ = writeln!(out, "architecture {abi}");
    }
    let set = if profile.made_for.no_new_privileges() { "set" } else { "not set" };
    let _ = writeln!(out, "no-new-privileges {set}");
    for rule in &profile.syscalls {
        let reasons: Vec<String> = rule.reasons.iter().map(reason).collect();
        let verb = if rule.allows() { "allow" } else { "replace" };
        let _ = writeln!(out, "{verb} {} {}: {}", rule.abi, rule.name, reasons.join("; "));
        for combination in rule.arguments.iter().flatten() {
            let one = std::slice::from_ref(combination);
            let words = narrow::words(&rule.name, one, profile.made_for.arguments).join("");
            let _ = writeln!(out, "allow {} {} with {}", rule.abi, rule.name, line(&words));
        }
    }
    let lists = &profile.capabilities;
    if !lists.known {
        let _ = writeln!(out, "capabilities not known");
    }
    for (class, rules) in [
        ("required", &lists.required),
        ("probed", &lists.probed),
        ("denied", &lists.denied),
        ("runtime", &lists.runtime),
    ] {
        for rule in rules {
            let _ = writeln!(out, "capability {class} {}: {}", rule.name, checks(rule));
        }
    }
    for (name, (setting, why)) in profile.harden.iter().flat_map(Harden::settings) {
        let why = if why.is_empty() { String::new() } else { format!(": {}", list(&why)) };
        let _ = writeln!(out, "harden {name} {setting}{why}");
    }
    for call in &profile.denied {
        let who = who(&call.programs, &call.tests);
        let answer = if call.killed { "SIGSYS".to_owned() } else { call.errno.to_string() };
        let _ = writeln!(out, "denied {} {} with {answer}{who}", call.abi, call.name);
    }
    for note in &profile.notes {
        let _ = writeln!(out, "note {}", line(&note.text));
    }
    out
}

/// A seccomp file: a line for each name of each rule.
#[must_use]
pub fn seccomp(file: &SeccompFile) -> String {
    let mut out = String::new();
    let default = Outcome::new(file.default_action, file.default_errno_ret);
    let _ = writeln!(out, "default {default}");
    for name in &file.architectures {
        let _ = writeln!(out, "architecture {}", line(name));
    }
    for map in &file.arch_map {
        let subs = map.sub_architectures.join(", ");
        let _ = writeln!(out, "architecture {} with {}", line(&map.architecture), line(&subs));
    }
    for flag in &file.flags {
        let _ = writeln!(out, "flag {}", line(flag));
    }
    for rule in &file.syscalls {
        let mut given = Vec::new();
        for (word, filter) in [("includes", &rule.includes), ("excludes", &rule.excludes)] {
            let texts = filter.caps.iter().chain(&filter.arches).cloned();
            let kernel = filter.min_kernel.map(|version| format!("kernel {version}"));
            let texts: Vec<String> = texts.chain(kernel).collect();
            if !texts.is_empty() {
                given.push(format!("{word} {}", texts.join(", ")));
            }
        }
        let on_arguments: Vec<Condition> = rule.args.iter().map(condition).collect();
        for name in rule.all_names() {
            let mut conditions = call::conditions(None, name, &on_arguments);
            conditions.extend_from_slice(&given);
            let when = if conditions.is_empty() {
                String::new()
            } else {
                format!(" when {}", conditions.join("; "))
            };
            let outcome = Outcome::new(rule.action, rule.errno_ret);
            let _ = writeln!(out, "{} {outcome}{}", line(name), line(&when));
        }
    }
    out
}

/// No call has an argument of an index that does not fit.
fn condition(arg: &Arg) -> Condition {
    let index = u8::try_from(arg.index).unwrap_or(u8::MAX);
    Condition { index, op: arg.op, value: arg.value, value_two: arg.value_two }
}

fn reason(reason: &SyscallReason) -> String {
    match reason {
        SyscallReason::Workload { programs, tests } => format!("workload{}", who(programs, tests)),
        SyscallReason::Denied { programs, tests } => format!("denied{}", who(programs, tests)),
        SyscallReason::Handover { runtime, version, optional } => {
            let spared = if *optional { ", which does without" } else { "" };
            format!("handover {}{spared}", line(&format!("{runtime} {version}")))
        }
        SyscallReason::Floor { runtime, version, no_new_privileges, when, stands_in_for } => {
            let nnp = if *no_new_privileges { " with no-new-privileges" } else { "" };
            let instead = stands_in_for.as_ref().map(|other| format!(" for {}", line(other)));
            let runtime = line(&format!("{runtime} {version}")).into_owned();
            let join = if when.is_start() { "" } else { " joining" };
            format!("floor {runtime}{join}{nnp}{}", instead.unwrap_or_default())
        }
        SyscallReason::Portable { of } if of.is_empty() => "portable".into(),
        SyscallReason::Portable { of } => format!("portable for {}", line(&of.join(", "))),
        SyscallReason::Launch {} => "launch".into(),
        SyscallReason::AlwaysAllowed {} => "always allowed".into(),
        SyscallReason::Needed { output } => proven(output),
    }
}

fn checks(rule: &CapabilityRule) -> String {
    let checks = rule.reasons.iter().map(|reason| {
        let who = who(&reason.programs, &reason.tests);
        format!("{} {}{who}", reason.abi, reason.syscall)
    });
    let proven = rule.needed.as_deref().map(proven);
    checks.chain(proven).collect::<Vec<_>>().join("; ")
}

fn proven(output: &str) -> String {
    format!("needed: {}", line(output))
}

fn list<'a>(texts: impl IntoIterator<Item = &'a String>) -> String {
    texts.into_iter().map(|text| line(text).into_owned()).collect::<Vec<_>>().join(", ")
}

fn who(programs: &[String], tests: &[String]) -> String {
    let mut text = String::new();
    if !programs.is_empty() {
        text.push_str(&format!(" by {}", list(programs)));
    }
    if !tests.is_empty() {
        text.push_str(&format!(" in {}", list(tests)));
    }
    text
}
