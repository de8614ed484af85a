//! What a person wants to know when a recording is done: what was seen, what it is worth, what to type next.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
    time::Duration,
};

use crate::{
    model::{
        self,
        arch::Abi,
        arguments::{Rule, call, watched_number},
        harden::Harden,
        recording::{DenialFact, Missing, Phase, Program, Recording, TargetKind},
    },
    report::{
        coverage, escape, harden, next,
        style::{BAD, COMMAND, FAINT, GOOD, HEADING, WARNING, paint},
        text, warning,
    },
};

/// The most lines of a table; the rest is counted.
const TABLE_LINES: usize = 24;

/// The most reasons or programs in one line.
const IN_A_LINE: usize = 3;

/// The class of a capability that the profile grants.
pub const REQUIRED: &str = "required";

/// What was derived from the recording, in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicySummary {
    /// Whether it is for containers with `no-new-privileges`.
    pub no_new_privileges: bool,
    /// System calls that the profile allows.
    pub allowed: usize,
    /// Those of them that only the OCI runtime needs.
    pub by_runtime_only: usize,
    /// Those of them that it allows with some arguments only, by name.
    pub narrowed: BTreeSet<String>,
    /// Calls that were refused while recording and that it allows for that, with any arguments.
    pub learned: BTreeSet<(Abi, u32)>,
    /// System calls that Docker's default profile allows.
    pub docker_default: usize,
    /// Capabilities that were asked for, in the order in which they are shown.
    pub capabilities: Vec<CapabilityLine>,
    /// Advice beyond calls, where it was asked for.
    pub harden: Option<Harden>,
    /// Further remarks of whoever derived the profile.
    pub notes: Vec<String>,
}

/// One capability and what was made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapabilityLine {
    /// Without `CAP_`.
    pub name: String,
    /// [`REQUIRED`], `probed`, `denied`, `runtime`.
    pub class: &'static str,
    /// Why, the best reason first. May hold hostile text.
    pub reasons: Vec<String>,
}

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenFile {
    /// Its path as the user would type it.
    pub path: String,
    /// What it is, in a few words.
    pub purpose: &'static str,
}

/// All that the summary tells.
pub struct Summary<'a> {
    /// The evidence.
    pub recording: &'a Recording,
    /// What was derived from it.
    pub policy: &'a PolicySummary,
    /// The output directory, as the user would type it.
    pub dir: &'a str,
    /// What the override of a compose service is added to, as options of compose, quoted.
    pub base: &'a str,
    /// The arguments of this program up to the command, if it recorded just now; hints begin with them.
    pub given: Option<&'a [String]>,
    /// What was written.
    pub files: &'a [WrittenFile],
    /// Path of the permissive recording profile, as the user would type it.
    pub permissive_profile: &'a str,
    /// The name of a system call.
    pub syscall_name: &'a dyn Fn(Abi, u32) -> Option<&'static str>,
}

/// Writes the summary, with styles.
pub fn write(summary: &Summary<'_>, out: &mut impl Write) -> io::Result<()> {
    title(summary, out)?;
    syscalls(summary, out)?;
    capabilities(summary, out)?;
    denials(summary, out)?;
    if let Some(advice) = &summary.policy.harden {
        harden::write(advice, summary.policy.no_new_privileges, Some(summary.recording), out)?;
    }
    warnings(summary, out)?;
    files(summary, out)?;
    next_commands(summary, out)
}

fn title(summary: &Summary<'_>, out: &mut impl Write) -> io::Result<()> {
    let recording = summary.recording;
    let kind = recording.target.kind.name();
    let name = escape::short(&recording.target.name, 80);
    let ms = recording.runs.values().fold(0_u64, |sum, run| sum.saturating_add(run.duration_ms));
    let mut during = format!("in {}", text::duration(Duration::from_millis(ms)));
    if recording.runs.len() != 1 {
        during = format!("{during}, {}", text::count(recording.runs.len(), "run"));
    }
    let engine = next::newest(recording).and_then(|run| run.container.as_ref()).map(|container| {
        let runtime = format!("{} {}", container.runtime, container.runtime_version);
        let engine = format!("{} {}", container.engine, container.engine_version);
        escape::line(&format!(" ({}, {})", engine.trim_end(), runtime.trim_end())).into_owned()
    });
    writeln!(
        out,
        "{} {during}{}\n",
        paint(HEADING, &format!("recorded {kind} `{name}`")),
        engine.unwrap_or_default()
    )
}

fn syscalls(summary: &Summary<'_>, out: &mut impl Write) -> io::Result<()> {
    let policy = summary.policy;
    let compared = match (policy.docker_default, policy.allowed) {
        (0, _) => String::new(),
        (default, allowed) if allowed <= default => {
            format!(", {} fewer than the {default} of Docker's default", default - allowed)
        }
        (default, allowed) => {
            format!(", {} more than the {default} of Docker's default", allowed - default)
        }
    };
    field(out, "system calls", &format!("{} allowed{compared}", policy.allowed))?;
    let seen = |phase: Phase| {
        let calls = summary.recording.syscalls.iter().filter(|fact| fact.phase == phase);
        calls.map(|fact| (fact.abi, fact.nr)).collect::<BTreeSet<_>>().len()
    };
    let mut phases = Vec::new();
    let set_up = match summary.recording.target.kind {
        TargetKind::Command => "by the launcher before it, not needed",
        TargetKind::Container | TargetKind::Service | TargetKind::Cgroup => {
            "by the runtime before it, not needed"
        }
    };
    for (phase, name) in [
        (Phase::Workload, "by the workload"),
        (Phase::Handover, "by the runtime under the filter"),
        (Phase::Setup, set_up),
    ] {
        let number = seen(phase);
        if number > 0 || phase == Phase::Workload {
            phases.push(format!("{number} {name}"));
        }
    }
    field(out, "", &format!("seen: {}", phases.join("; ")))?;
    if let Some(most) = most_made(summary) {
        field(out, "", &most)?;
    }
    if policy.by_runtime_only > 0 {
        field(out, "", &format!("{} allowed for the runtime only", policy.by_runtime_only))?;
    }
    if !policy.narrowed.is_empty() {
        let names = policy.narrowed.iter().cloned().collect::<Vec<_>>().join(", ");
        field(out, "", &format!("{} by their arguments: {names}", policy.narrowed.len()))?;
    }
    let abis: BTreeSet<&str> =
        summary.recording.syscalls.iter().map(|fact| fact.abi.name()).collect();
    field(out, "ABIs", &abis.into_iter().collect::<Vec<_>>().join(", "))?;
    field(
        out,
        "coverage",
        &escape::line(&coverage::line(&model::coverage::coverage(summary.recording))),
    )
}

/// How often the workload made which calls, if they were counted.
fn most_made(summary: &Summary<'_>) -> Option<String> {
    const NAMED: usize = 5;
    let workload = summary.recording.syscalls.iter().filter(|fact| fact.phase == Phase::Workload);
    let mut counts: BTreeMap<(Abi, u32), u64> = BTreeMap::new();
    for fact in workload {
        for count in fact.seen.values().filter_map(|seen| seen.count) {
            let sum = counts.entry((fact.abi, fact.nr)).or_default();
            *sum = sum.saturating_add(count);
        }
    }
    let all = counts.values().fold(0_u64, |sum, count| sum.saturating_add(*count));
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let named = counts.iter().take(NAMED).map(|((abi, nr), count)| {
        let name = (summary.syscall_name)(*abi, *nr).map_or_else(|| nr.to_string(), str::to_owned);
        format!("{count} {name}")
    });
    let named = named.collect::<Vec<_>>().join(", ");
    (!counts.is_empty()).then(|| format!("counted: {all} by the workload; most of them {named}"))
}

fn capabilities(summary: &Summary<'_>, out: &mut impl Write) -> io::Result<()> {
    let lines = &summary.policy.capabilities;
    let required = lines.iter().filter(|line| line.class == REQUIRED).count();
    let container = next::newest(summary.recording).and_then(|run| run.container.as_ref());
    let runs = &summary.recording.runs;
    let unseen = !runs.is_empty()
        && runs.values().all(|run| {
            run.missing.iter().any(|missing| matches!(missing, Missing::Capabilities { .. }))
        });
    let told = match (unseen, container) {
        (true, _) => "not observed".to_owned(),
        (false, Some(container)) => {
            format!(
                "{required} required of the {} it was started with",
                container.capabilities.len()
            )
        }
        (false, None) if required == 0 => "none required".to_owned(),
        (false, None) => format!("{required} required"),
    };
    field(out, "capabilities", &told)?;
    writeln!(out)?;
    if lines.is_empty() {
        return Ok(());
    }
    let width =
        lines.iter().map(|line| escape::line(&line.name).chars().count()).max().unwrap_or(0);
    for line in lines.iter().take(TABLE_LINES) {
        let style = if line.class == REQUIRED { GOOD } else { FAINT };
        let name = escape::line(&line.name);
        let class = line.class;
        write!(out, "  {} {}", paint(style, &format!("{name:width$}")), paint(style, class))?;
        if !line.reasons.is_empty() {
            let reasons = line.reasons.iter().map(|reason| escape::short(reason, 120));
            // As wide as the longest class.
            let gap = REQUIRED.len().saturating_sub(class.len()) + 1;
            write!(out, "{:gap$}{}", "", some_of(reasons, "; "))?;
        }
        writeln!(out)?;
    }
    rest(out, lines.len())?;
    writeln!(out)
}

fn denials(summary: &Summary<'_>, out: &mut impl Write) -> io::Result<()> {
    let rows = denied_calls(&summary.recording.denials);
    if rows.is_empty() {
        return Ok(());
    }
    let learned = &summary.policy.learned;
    let is_learned = |abi: Abi, nr: u32| learned.contains(&(abi, nr));
    let now = match rows.keys().filter(|(abi, nr, ..)| is_learned(*abi, *nr)).count() {
        0 => "",
        some if some == rows.len() => "; the profile allows them",
        _ => "; the profile allows those that say so",
    };
    let calls = text::count(rows.len(), "call");
    let heading = format!("{calls} refused by the filter while recording{now}");
    writeln!(out, "{}", paint(HEADING, &heading))?;
    let named: Vec<(String, &Denied)> =
        rows.iter().map(|((abi, nr, ..), row)| (call_name(summary, *abi, *nr), row)).collect();
    let width = named.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for ((abi, nr, errno, killed), (name, row)) in rows.keys().zip(&named).take(TABLE_LINES) {
        let times = if row.count == 1 { "once".to_owned() } else { format!("{} times", row.count) };
        let by = some_of(row.programs.iter().map(text::program), ", ");
        let by = if by.is_empty() { by } else { format!(" by {by}") };
        let answer = if *killed { "killed".to_owned() } else { text::errno(*errno) };
        let (style, now) = match is_learned(*abi, *nr) {
            true => (HEADING, learned_as(*abi, *nr)),
            false => (BAD, ""),
        };
        writeln!(out, "  {} {answer:8} {times}{by}{now}", paint(style, &format!("{name:width$}")))?;
        if let Some(arguments) = row.arguments {
            let called = call::call(*abi, &model::syscall::display(*abi, *nr), &arguments);
            writeln!(out, "      {}", paint(FAINT, &called))?;
        }
    }
    rest(out, rows.len())?;
    writeln!(out)
}

/// What is allowed of a call that was refused while recording: only a first one's arguments are known, and others may have had
/// others.
fn learned_as(abi: Abi, nr: u32) -> &'static str {
    match watched_number(abi, nr) {
        Some(row) if row.rule != Rule::Never => "; learned: allowed with any arguments",
        _ => "; learned: allowed",
    }
}

/// How often one call got one error, and who made it.
#[derive(Default)]
struct Denied {
    count: u64,
    programs: BTreeSet<Program>,
    /// Of a first one.
    arguments: Option<[u64; 6]>,
}

fn denied_calls(facts: &[DenialFact]) -> BTreeMap<(Abi, u32, i32, bool), Denied> {
    let mut rows: BTreeMap<(Abi, u32, i32, bool), Denied> = BTreeMap::new();
    for fact in facts {
        let row = rows.entry((fact.abi, fact.nr, fact.errno, fact.killed)).or_default();
        for sighting in fact.seen.values() {
            row.count = row.count.saturating_add(sighting.count);
            row.programs.extend(sighting.sighting.programs.iter().cloned());
            row.arguments = row.arguments.or(sighting.arguments);
        }
    }
    rows
}

/// The native name alone; the ABI with it where the number is of another one.
fn call_name(summary: &Summary<'_>, abi: Abi, nr: u32) -> String {
    let name = match (summary.syscall_name)(abi, nr) {
        Some(name) => name.to_owned(),
        None => format!("number {nr}"),
    };
    match abi {
        Abi::Ia32 | Abi::X32 | Abi::Arm => format!("{name} ({abi})"),
        Abi::X86_64 | Abi::Aarch64 | Abi::Riscv64 => name,
    }
}

fn warnings(summary: &Summary<'_>, out: &mut impl Write) -> io::Result<()> {
    let found = warning::warnings(
        summary.recording,
        summary.given,
        summary.dir,
        summary.permissive_profile,
    );
    for warning in &found {
        let label = if warning.minor { paint(FAINT, "note:") } else { paint(WARNING, "warning:") };
        writeln!(out, "{label} {}", warning.text)?;
        for hint in &warning.hints {
            writeln!(out, "  {} {hint}", paint(COMMAND, "hint:"))?;
        }
    }
    for note in &summary.policy.notes {
        let mut parts = note.split("\nhint: ");
        let text = parts.next().unwrap_or_default();
        writeln!(out, "{} {}", paint(FAINT, "note:"), escape::line(text))?;
        for hint in parts {
            writeln!(out, "  {} {}", paint(COMMAND, "hint:"), escape::line(hint))?;
        }
    }
    if found.is_empty() && summary.policy.notes.is_empty() { Ok(()) } else { writeln!(out) }
}

fn files(summary: &Summary<'_>, out: &mut impl Write) -> io::Result<()> {
    if summary.files.is_empty() {
        return Ok(());
    }
    writeln!(out, "{}", paint(HEADING, "written"))?;
    let shown: Vec<_> = summary.files.iter().map(|file| escape::line(&file.path)).collect();
    let width = shown.iter().map(|path| path.chars().count()).max().unwrap_or(0);
    for (path, file) in shown.iter().zip(summary.files) {
        writeln!(out, "  {path:width$}  {}", paint(FAINT, file.purpose))?;
    }
    writeln!(out)
}

fn next_commands(summary: &Summary<'_>, out: &mut impl Write) -> io::Result<()> {
    if !summary.recording.syscalls.iter().any(|fact| fact.phase == Phase::Workload) {
        return Ok(()); // nothing runs under a profile of nothing
    }
    writeln!(out, "{}", paint(HEADING, "next: run it under the profile"))?;
    let harden = summary.policy.harden.as_ref();
    let not_added = harden.map(|harden| harden.not_added(summary.policy.no_new_privileges));
    let not_added = not_added.unwrap_or_default();
    let lines = summary.policy.capabilities.iter().filter(|line| line.class == REQUIRED);
    let added: Vec<&str> =
        lines.map(|line| line.name.as_str()).filter(|name| !not_added.contains(name)).collect();
    for command in next::enforce(
        summary.recording,
        summary.policy.no_new_privileges,
        summary.dir,
        &added,
        harden,
        summary.base,
    ) {
        writeln!(out, "  {}", paint(COMMAND, &command))?;
    }
    Ok(())
}

fn field(out: &mut impl Write, name: &str, value: &str) -> io::Result<()> {
    writeln!(out, "  {name:<13} {value}")
}

fn rest(out: &mut impl Write, lines: usize) -> io::Result<()> {
    match lines.saturating_sub(TABLE_LINES) {
        0 => Ok(()),
        left => writeln!(out, "  {}", paint(FAINT, &format!("and {left} more"))),
    }
}

/// The first few, and the number of the others.
fn some_of(items: impl ExactSizeIterator<Item = String>, between: &str) -> String {
    let left = items.len().saturating_sub(IN_A_LINE);
    let shown: Vec<String> = items.take(IN_A_LINE).collect();
    let shown = shown.join(between);
    if left == 0 { shown } else { format!("{shown} and {left} more") }
}

#[cfg(test)]
mod tests;
