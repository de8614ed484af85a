//! Advice beyond calls: what, and from which evidence; and why there is none.
//!
//! Peaks are told here, of the recording at hand; the committed advice has rounded numbers only, and without a recording the margins are told.

use std::{
    collections::BTreeSet,
    io::{self, Write},
};

use crate::{
    model::{
        harden::{
            Harden, Kind, Limits, Network, ReadOnly, UserAdvice,
            network::Port,
            resources::{FILES_MARGIN, MEMORY_MARGIN, PIDS_MARGIN},
        },
        recording::Recording,
        usage::Resources,
    },
    report::{
        escape,
        style::{FAINT, GOOD, HEADING, WARNING, paint},
    },
};

/// The most lines about one thing; the rest is counted.
const LINES: usize = 12;

/// A line: what is advised, its value, and the evidence.
struct Row {
    name: &'static str,
    value: String,
    evidence: String,
}

/// Writes the section, for all kinds of advice that were asked for. `no_new_privileges`: the profile is for containers that have it set.
///
/// # Errors
/// When `out` takes no more.
pub fn write(
    harden: &Harden,
    no_new_privileges: bool,
    recording: Option<&Recording>,
    out: &mut impl Write,
) -> io::Result<()> {
    writeln!(out, "{}", paint(HEADING, "beyond calls: advice, proven by a run under it only"))?;
    let mut rows = Vec::new();
    let mut not = Vec::new();
    if let Some(advice) = &harden.read_only {
        read_only(advice, &mut rows);
        not.extend(refusals(Kind::ReadOnly, &advice.not_because));
    }
    if let Some(advice) = &harden.user {
        user(advice, &mut rows);
        not.extend(refusals(Kind::User, &advice.not_because));
    }
    if let Some(advice) = &harden.no_new_privileges {
        match advice.is_advised() && no_new_privileges {
            true => rows.push(row("no-new-privs", "on", "no program was executed that gives more")),
            false if advice.is_advised() => not
                .push((Kind::NoNewPrivileges, "the profile is for a container without".to_owned())),
            false => {}
        }
        not.extend(refusals(Kind::NoNewPrivileges, &advice.not_because));
    }
    if let Some(advice) = &harden.network {
        network(advice, &mut rows);
        not.extend(refusals(Kind::Network, &advice.not_because));
    }
    if let Some(limits) = &harden.resources {
        resources(limits, recording, &mut rows);
        not.extend(refusals(Kind::Resources, &limits.not_because));
    }
    let shown = |row: &Row| (row.name, escape::short(&row.value, 80));
    let width = rows.iter().map(|row| shown(row).1.chars().count()).max().unwrap_or(0);
    for row in &rows {
        let (name, value) = shown(row);
        let evidence = paint(FAINT, &escape::short(&row.evidence, 160));
        writeln!(out, "  {name:<13} {}  {evidence}", paint(GOOD, &format!("{value:width$}")))?;
    }
    for (kind, reason) in not.iter().take(LINES) {
        let kind = paint(WARNING, &format!("no {}:", kind.name()));
        writeln!(out, "  {kind} {}", escape::short(reason, 240))?;
    }
    if let Some(left @ 1..) = not.len().checked_sub(LINES) {
        writeln!(out, "  {}", paint(FAINT, &format!("and {left} more")))?;
    }
    writeln!(out)
}

fn row(name: &'static str, value: impl Into<String>, evidence: impl Into<String>) -> Row {
    Row { name, value: value.into(), evidence: evidence.into() }
}

fn refusals(kind: Kind, reasons: &BTreeSet<String>) -> impl Iterator<Item = (Kind, String)> {
    reasons.iter().map(move |reason| (kind, reason.clone()))
}

fn read_only(advice: &ReadOnly, rows: &mut Vec<Row>) {
    if !advice.is_advised() {
        return;
    }
    let why = match advice.places.len() {
        0 => "nothing is written to it".to_owned(),
        1 => "all writes are to one directory".to_owned(),
        some => format!("all writes are to {some} directories"),
    };
    rows.push(row("root", "read-only", why));
    for place in &advice.places {
        let why = place.why.iter().cloned().collect::<Vec<_>>().join("; ");
        match &place.tmpfs {
            Some(tmpfs) => {
                let exec = if tmpfs.exec { ", exec" } else { "" };
                let size = format!("{} {} MiB{exec}", place.path, tmpfs.size_mib);
                rows.push(row("tmpfs", size, why));
            }
            None => rows.push(row("volume", place.path.clone(), why)),
        }
    }
}

fn user(advice: &UserAdvice, rows: &mut Vec<Row>) {
    let Some(ids) = advice.applied() else { return };
    let why = advice.why.iter().cloned().collect::<Vec<_>>().join("; ");
    rows.push(row("user", ids.to_string(), why));
    if !advice.groups.is_empty() {
        let groups = advice.groups.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
        rows.push(row("groups", groups, "it was seen in them"));
    }
    let list = |texts: &BTreeSet<String>| texts.iter().cloned().collect::<Vec<_>>().join(", ");
    if !advice.falls_away.is_empty() {
        let why = "what becoming this user takes";
        rows.push(row("then without", list(&advice.falls_away), why));
    }
    if !advice.must_write.is_empty() {
        let by = "must be writable by it: others made what is there";
        rows.push(row("writes", list(&advice.must_write), by));
    }
}

fn network(advice: &Network, rows: &mut Vec<Row>) {
    if !advice.is_advised() {
        return;
    }
    let list =
        |ports: &BTreeSet<Port>| ports.iter().map(Port::to_string).collect::<Vec<_>>().join(", ");
    for (name, ports, evidence) in [
        ("listens", &advice.listens, "others reach it"),
        ("loopback", &advice.loopback, "only it reaches itself"),
        ("connects", &advice.connects, "ports of others"),
    ] {
        if !ports.is_empty() {
            rows.push(row(name, list(ports), evidence));
        }
    }
    let reasons = advice.bind_service.iter();
    rows.extend(reasons.map(|reason| row("bind service", "", reason.clone())));
}

fn resources(limits: &Limits, recording: Option<&Recording>, rows: &mut Vec<Row>) {
    let peak = |of: &dyn Fn(&Resources) -> Option<u64>| {
        let runs = recording.iter().flat_map(|recording| recording.runs.values());
        let usages = runs.filter_map(|run| run.usage.as_ref());
        usages.filter_map(|usage| of(&usage.resources)).max()
    };
    // what is told of the peak, and what of the rule where peaks are not at hand
    let seen = |peak: Option<u64>, unit: &str, rule: String| match peak {
        Some(peak) => format!("peak {peak}{unit}"),
        None if recording.is_some() => "of the committed profile".to_owned(),
        None => rule,
    };
    let times = |margin: u64| format!("at least {margin} times the peak of its runs");
    let mib = |bytes: Option<u64>| bytes.map(|bytes| bytes.div_ceil(1 << 20));
    if let Some(limit) = limits.memory_mib {
        let value = match limits.reserved_mib {
            Some(reserved) => format!("{limit} MiB, {reserved} MiB reserved"),
            None => format!("{limit} MiB"),
        };
        let bytes = peak(&|seen| seen.memory_bytes.or(seen.anonymous_bytes));
        rows.push(row("memory", value, seen(mib(bytes), " MiB", times(MEMORY_MARGIN))));
    }
    if let Some(limit) = limits.pids {
        rows.push(row(
            "pids",
            limit.to_string(),
            seen(peak(&|seen| seen.pids), "", times(PIDS_MARGIN)),
        ));
    }
    if let Some(limit) = limits.open_files {
        let most = peak(&|seen| seen.open_files);
        rows.push(row(
            "open files",
            limit.to_string(),
            seen(most, " in a process", times(FILES_MARGIN)),
        ));
    }
    if let Some(limit) = limits.cpu_millis {
        let whole = format!("{}.{}", limit / 1000, limit % 1000 / 100);
        let value = match limits.reserved_cpu_millis {
            Some(reserved) => format!("{whole}, {reserved} thousandths reserved"),
            None => whole,
        };
        rows.push(row(
            "processors",
            value,
            seen(
                peak(&|seen| seen.cpu_millis),
                " thousandths of one",
                "as many as were busy".to_owned(),
            ),
        ));
    }
}
