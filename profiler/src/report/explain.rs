//! Answers about a policy, for people and machines.

use std::io::{self, Write};

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    model::{
        arguments::call,
        error_number,
        explain::{Class, DecidedBy, Entry, Kind, Standing, WhyNot},
        facts::Risk,
        harden::Harden,
        profile::{CapabilityReason, DeniedCall, Outcome, SyscallReason},
    },
    report::{
        escape,
        style::{BAD, FAINT, GOOD, HEADING, WARNING, paint},
        text,
    },
};

/// Names of programs and tests that are shown in a line of the list.
const IN_A_LINE: usize = 3;

/// The JSON form of entries; more fields may come, none goes.
#[derive(Serialize, JsonSchema)]
#[schemars(title = "explain", description = "What `profiler explain --format json` prints.")]
pub struct Entries<'a> {
    /// The riskiest first.
    pub entries: &'a [Entry],
    /// Of the whole policy: what was asked for while recording and is not in it.
    pub left_out: &'a [Entry],
    /// Advice beyond calls: of the whole policy, or the one that was asked for; from `profile.json`. Hostile text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub harden: Option<&'a Harden>,
}

/// The JSON form of answers; more fields may come, none goes.
#[derive(Serialize, JsonSchema)]
#[schemars(
    title = "why-not",
    description = "What `profiler explain --why-not --format json` prints."
)]
pub struct Answers<'a> {
    /// One for each ABI that the filter admits.
    pub answers: &'a [WhyNot],
}

/// Writes a document as JSON, with nothing in it that acts on a terminal.
///
/// # Errors
/// When `out` takes no more.
pub fn json(document: &impl Serialize, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}", escape::json(&serde_json::to_string_pretty(document)?))
}

/// Writes the whole policy, a line for each entry, grouped by risk, and then what was asked for and is not in it.
///
/// # Errors
/// When `out` takes no more.
pub fn ranked(entries: &[Entry], left_out: &[Entry], out: &mut impl Write) -> io::Result<()> {
    // A call of several ABIs is one line, named after the first.
    let groups = entries.chunk_by(|a, b| (a.kind, &a.name) == (b.kind, &b.name));
    let native = entries.iter().filter_map(|entry| entry.abi).min();
    let lines: Vec<(&Entry, String)> = groups
        .filter_map(|group| group.first())
        .map(|entry| (entry, label(entry, entry.abi != native)))
        .collect();
    let of = |kind| lines.iter().filter(|(entry, _)| entry.kind == kind).count();
    let capabilities = match of(Kind::Capability) {
        0 => String::new(),
        1 => " and 1 capability".to_owned(),
        some => format!(" and {some} capabilities"),
    };
    writeln!(out, "{}{capabilities}, the riskiest first", text::count(of(Kind::Syscall), "call"))?;
    let width = lines.iter().map(|(_, name)| name.chars().count()).max().unwrap_or(0);
    for risk in Risk::ALL.into_iter().rev() {
        let mut group = lines.iter().filter(|(entry, _)| entry.risk == risk).peekable();
        if group.peek().is_none() {
            continue;
        }
        writeln!(out, "\n{} {}", risk_name(risk), paint(FAINT, risk.meaning()))?;
        for (entry, name) in group {
            let some = match entry.standing {
                Standing::Conditional => "; some arguments only",
                _ => "",
            };
            let by = short_reasons(entry);
            let by = if by.is_empty() { by } else { paint(FAINT, &format!("  {by}")) };
            let name = paint(HEADING, &format!("{name:width$}"));
            writeln!(out, "  {name}  {}{some}{by}", entry.what)?;
        }
    }
    if left_out.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "\nnot in it {}",
        paint(FAINT, "asked for while recording, or with other arguments")
    )?;
    let names: Vec<String> =
        left_out.iter().map(|entry| label(entry, entry.abi != native)).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    for (entry, name) in left_out.iter().zip(names) {
        let name = paint(HEADING, &format!("{name:width$}"));
        let asked = entry.denied.iter().flat_map(|denied| &denied.programs);
        let asked = asked.chain(entry.capability_reasons.iter().flat_map(|it| &it.programs));
        let by = by(asked.map(String::as_str).collect());
        let by = if by.is_empty() { by } else { paint(FAINT, &format!("  {by}")) };
        writeln!(out, "  {name}  {}{by}", class(entry))?;
    }
    Ok(())
}

/// Why an entry is not in the policy, or is.
fn class(entry: &Entry) -> &'static str {
    match entry.class {
        Some(Class::Required) => "required",
        Some(Class::Probed) => "probed: asked for, and no call is known to have succeeded by it",
        Some(Class::Denied) => "denied: asked for and refused",
        Some(Class::Runtime) => "runtime: only the OCI runtime asked for it, and has it anyway",
        None if entry.standing == Standing::Conditional => {
            "refused by the filter that was in force; with some arguments it is allowed"
        }
        None if !entry.denied.is_empty() => "refused by the filter that was in force",
        None => "no need of it is known",
    }
}

/// Writes all that is known about single entries.
///
/// # Errors
/// When `out` takes no more.
pub fn detailed(entries: &[Entry], out: &mut impl Write) -> io::Result<()> {
    for (index, entry) in entries.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        writeln!(out, "{}: {}", paint(HEADING, &label(entry, true)), entry.what)?;
        field(out, "risk", &format!("{}: {}", risk_name(entry.risk), entry.why))?;
        field(out, "Docker default", &entry.docker_default)?;
        let policy = match (entry.standing, entry.verdict.as_slice()) {
            (Standing::Unknown, _) => "a seccomp file has no capabilities".to_owned(),
            (Standing::Allowed, []) => class(entry).to_owned(),
            (_, []) => format!("not added; {}", class(entry)),
            // the file's rules are these, written out
            (Standing::Conditional, _) if !entry.arguments.is_empty() => {
                "some arguments only".to_owned()
            }
            (_, verdict) => verdict.join("\n"),
        };
        field(out, "this policy", &policy)?;
        let arguments: Vec<_> = entry.arguments.iter().map(|it| escape::short(it, 200)).collect();
        field(out, "arguments", &arguments.join("\n"))?;
        let mut reasons: Vec<String> = entry.reasons.iter().map(reason).collect();
        reasons.extend(entry.capability_reasons.iter().map(capability_reason));
        reasons.extend(entry.needed.as_deref().map(proven));
        field(out, "because", &reasons.join("\n"))?;
        let refused: Vec<String> = entry.denied.iter().map(refusal).collect();
        field(out, "refused", &refused.join("\n"))?;
        let ways: Vec<String> =
            entry.asked_first.iter().map(|way| escape::short(way, 200)).collect();
        field(out, "without it", &ways.join("\n"))?;
        if !ways.is_empty() {
            let text = "the kernel asks before it looks at other ways; `profiler minimise` tells";
            field(out, "", text)?;
        }
        field(out, "source", &entry.source)?;
    }
    Ok(())
}

/// Writes what would happen to a call.
///
/// # Errors
/// When `out` takes no more.
pub fn why_not(answers: &[WhyNot], out: &mut impl Write) -> io::Result<()> {
    for (index, answer) in answers.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        let called = call::call(answer.abi, &escape::line(&answer.call), &answer.arguments);
        let outcome = match (&answer.outcome, answer.passes) {
            (Some(outcome), Some(true)) => paint(GOOD, outcome),
            (Some(outcome), _) => paint(BAD, outcome),
            (None, _) => paint(WARNING, "depends on its arguments"),
        };
        writeln!(out, "{} on {}: {outcome}", paint(HEADING, &called), answer.abi)?;
        let by = match answer.by {
            DecidedBy::Rule { index } => format!("rule {index}, `/syscalls/{index}`"),
            DecidedBy::Default {} => "the default action: no rule applies".to_owned(),
            DecidedBy::Architecture {} => "the filter does not admit the architecture".to_owned(),
            DecidedBy::Arguments {} => String::new(),
        };
        field(out, "decided by", &by)?;
        if answer.verdict.len() > 1 {
            field(out, "in order", &answer.verdict.join("\n"))?;
        }
        let left_out: Vec<String> = answer.left_out.iter().map(ToString::to_string).collect();
        if !left_out.is_empty() {
            let text = format!(
                "{} {}: conditions that do not hold here",
                if left_out.len() == 1 { "rule" } else { "rules" },
                left_out.join(", ")
            );
            field(out, "left out", &text)?;
        }
        if answer.above_largest {
            let text =
                "ENOSYS whatever the filter says: the number is above all that the file names";
            field(out, "under runc", text)?;
        }
    }
    Ok(())
}

/// The name, the ABI where that is not clear, and `CAP_` before a capability.
fn label(entry: &Entry, with_abi: bool) -> String {
    let name = escape::line(&entry.name);
    match entry.abi {
        Some(abi) if with_abi => format!("{name} ({abi})"),
        Some(_) => name.into_owned(),
        None => format!("CAP_{name}"),
    }
}

fn risk_name(risk: Risk) -> String {
    let style = match risk {
        Risk::Critical | Risk::High => BAD,
        Risk::Moderate => WARNING,
        Risk::Low => GOOD,
    };
    paint(style, risk.name())
}

/// A line, or several below each other; nothing when there is nothing to say.
fn field(out: &mut impl Write, name: &str, value: &str) -> io::Result<()> {
    for (index, line) in value.lines().enumerate() {
        writeln!(out, "  {:<15} {line}", if index == 0 { name } else { "" })?;
    }
    Ok(())
}

fn short_reasons(entry: &Entry) -> String {
    let programs: Vec<&str> = entry
        .reasons
        .iter()
        .flat_map(|reason| match reason {
            SyscallReason::Workload { programs, .. } | SyscallReason::Denied { programs, .. } => {
                programs.as_slice()
            }
            _ => &[],
        })
        .chain(entry.capability_reasons.iter().flat_map(|reason| &reason.programs))
        .map(String::as_str)
        .collect();
    match by(programs) {
        by if by.is_empty() && entry.runtime_only => "the runtime's".to_owned(),
        by => by,
    }
}

/// Programs in a line, each once.
fn by(mut programs: Vec<&str>) -> String {
    programs.sort_unstable();
    programs.dedup();
    if programs.is_empty() {
        return String::new();
    }
    let left = programs.len().saturating_sub(IN_A_LINE);
    let shown: Vec<String> =
        programs.iter().take(IN_A_LINE).map(|name| escape::short(name, 40)).collect();
    let more = if left == 0 { String::new() } else { format!(" and {left} more") };
    format!("by {}{more}", shown.join(", "))
}

fn list(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| escape::short(name, 120)).collect();
    names.join(", ")
}

fn users(programs: &[String], tests: &[String]) -> String {
    let by = match programs {
        [] => "a program that was not seen".to_owned(),
        programs => list(programs),
    };
    if tests.is_empty() { by } else { format!("{by}; in {}", list(tests)) }
}

fn reason(reason: &SyscallReason) -> String {
    let named = |runtime: &str, version: &str| {
        format!("{} {}", escape::short(runtime, 40), escape::short(version, 40)).trim().to_owned()
    };
    match reason {
        SyscallReason::Workload { programs, tests } => {
            format!("made by {}", users(programs, tests))
        }
        SyscallReason::Denied { programs, tests } => {
            format!("refused while recording, and learned; asked for by {}", users(programs, tests))
        }
        SyscallReason::Handover { runtime, version, optional } => {
            let spared = if *optional { "; it starts without, too" } else { "" };
            format!("the runtime made it under the filter: {}{spared}", named(runtime, version))
        }
        SyscallReason::Floor { runtime, version, stands_in_for, .. } => {
            let instead = stands_in_for.as_deref().map_or_else(String::new, |used| {
                format!(", taken for {}", escape::short(used, 80))
            });
            format!("the runtime is known to need it: {}{instead}", named(runtime, version))
        }
        SyscallReason::Portable { of } if of.is_empty() => {
            "nobody was seen to make it: C libraries make it by themselves, some of them".to_owned()
        }
        SyscallReason::Portable { of } => format!(
            "nobody was seen to make it: stands in for {} in other C libraries, kernels or architectures",
            escape::line(&of.join(", "))
        ),
        SyscallReason::Launch {} => "whoever loads the filter starts the target with it".to_owned(),
        SyscallReason::AlwaysAllowed {} => {
            "always allowed: tests rarely make it, and nothing works without".to_owned()
        }
        SyscallReason::Needed { output } => proven(output),
    }
}

fn refusal(denied: &DeniedCall) -> String {
    let how = match denied.errno {
        _ if denied.killed => "the caller was ended".to_owned(),
        0 => "a success was claimed".to_owned(),
        errno => error_number::display(errno.unsigned_abs()).into_owned(),
    };
    format!("{how} while recording, asked for by {}", users(&denied.programs, &denied.tests))
}

fn proven(output: &str) -> String {
    match output {
        "" => "tests fail without it".to_owned(),
        output => format!("tests fail without it: {}", escape::short(output, 120)),
    }
}

fn capability_reason(reason: &CapabilityReason) -> String {
    let outcome = match reason.outcome {
        Outcome::Succeeded => "succeeded",
        Outcome::NotObserved => "its end was not seen",
        Outcome::Failed => "failed",
    };
    let call = escape::line(&reason.syscall);
    format!("{call} by {} ({outcome})", users(&reason.programs, &reason.tests))
}
