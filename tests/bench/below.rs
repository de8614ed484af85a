//! Below the floor: ways that could cost less than a program on `sys_enter` for all, or a cheaper way to find the scope. What
//! they cost per call, and what they lose. docs/performance.md says what follows from it.

use std::{
    fmt::{Display, Write as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use profiler::{
    kernel::{btf::Btf, cgroup},
    model::seccomp::Action,
    target::command::CommandCgroup,
};

use crate::{
    attached::SetUp,
    beside::{self, Beside},
    caller::{self, Call},
    filters::{Filter, Filters},
    table::{self, Row},
};

/// Rounds; the least of them counts.
const ROUNDS: usize = 10;

/// Calls in a measurement.
const CALLS: u64 = 200_000;

/// The same where a call takes microseconds.
const SLOW_CALLS: u64 = 20_000;

/// How many different calls are made that a filter does not know; the table says it in words.
const UNKNOWN: u64 = 10_000;

/// The tracepoint of a call that is not made.
const ANOTHER: &str = "swapoff";

/// Filters that know the plain call, one that does not, and one that knows the other with its argument.
const KNOWN: Filter = Filter::Of(Call::Plain, Action::Log);
const KNOWN_ASKING: Filter = Filter::Of(Call::Plain, Action::Notify);
const UNKNOWN_ASKING: Filter = Filter::Of(Call::Watched, Action::Notify);
const KNOWN_ARGUMENT: Filter = Filter::Of(Call::Watched, Action::Log);

/// The fields that lead from a task to its cgroup's id.
const TO_ID: [(&str, &str); 4] =
    [("task_struct", "cgroups"), ("css_set", "dfl_cgrp"), ("cgroup", "kn"), ("kernfs_node", "id")];

/// What is measured beside the recorder's own set-ups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// One of the recorder's.
    Of(SetUp),
    /// A program that finds the slot in the task's storage; whether the caller has one.
    Storage(bool),
    /// The same program, by the cgroup's id.
    Loads(bool),
    /// A program on the tracepoint of this call alone.
    Tracepoint(&'static str),
    /// The same once that is detached.
    Detached,
    /// A filter that knows the call.
    Under(Filter),
    /// No filter, while another process is under one.
    BystanderOfFilter,
    /// A filter that does not know the call.
    Unknown(Action),
}

impl Way {
    const PLAIN: [Way; 17] = [
        Way::Of(SetUp::Untraced),
        Way::Of(SetUp::Floor),
        Way::Of(SetUp::Recorded),
        Way::Of(SetUp::Bystander),
        Way::Storage(true),
        Way::Loads(true),
        Way::Storage(false),
        Way::Loads(false),
        Way::Tracepoint("getppid"),
        Way::Tracepoint(ANOTHER),
        Way::Detached,
        Way::Under(Filter::Docker),
        Way::Under(KNOWN),
        Way::Under(KNOWN_ASKING),
        Way::BystanderOfFilter,
        Way::Unknown(Action::Log),
        Way::Unknown(Action::Notify),
    ];

    const WATCHED: [Way; 4] = [
        Way::Of(SetUp::Untraced),
        Way::Of(SetUp::Floor),
        Way::Of(SetUp::Recorded),
        Way::Under(KNOWN_ARGUMENT),
    ];

    fn name(self) -> &'static str {
        match self {
            Way::Of(set_up) => set_up.name(),
            Way::Storage(true) => "small program, task storage, recorded",
            Way::Storage(false) => "small program, task storage, bystander",
            Way::Loads(true) => "small program, cgroup's id, recorded",
            Way::Loads(false) => "small program, cgroup's id, bystander",
            Way::Tracepoint(ANOTHER) => "empty program on the tracepoint of another call",
            Way::Tracepoint(_) => "empty program on the call's own tracepoint",
            Way::Detached => "after tracepoints are detached",
            Way::Under(Filter::Docker) => "Docker's default filter",
            Way::Under(KNOWN) => "filter that logs, known call",
            Way::Under(KNOWN_ASKING) => "filter that asks a listener, known call",
            Way::Under(_) => "filter that logs, known call with a known argument",
            Way::BystanderOfFilter => "no filter, another process under one",
            Way::Unknown(Action::Notify) => {
                "filter that asks a listener, unknown call, let go on, each time"
            }
            Way::Unknown(_) => "filter that logs, unknown call, each time",
        }
    }
}

/// Measures, and gives two tables: per call, and what happens once.
pub fn tables() -> Result<String> {
    let bench = Bench::new()?;
    let mut series =
        [(Call::Plain, &Way::PLAIN[..]), (Call::Watched, &Way::WATCHED)].map(|(call, ways)| {
            let row = |way: &Way| (*way, Some(Row::new(call.name(), way.name())));
            (call, ways.iter().map(row).collect::<Vec<_>>())
        });
    for round in 0..ROUNDS {
        eprintln!("round {} of {ROUNDS}", round + 1);
        for (call, rows) in &mut series {
            for (way, place) in rows {
                let Some(row) = place else { continue };
                match bench.measure(*way, *call)? {
                    Some(ns) => row.push(ns),
                    None => *place = None,
                }
            }
        }
    }
    let series = series.map(|(_, rows)| rows.into_iter().filter_map(|(_, row)| row).collect());
    let tables = format!("{}\n{}", table::markdown(&series), bench.once()?);
    bench.cgroup.remove()?;
    Ok(tables)
}

/// What the measurements share.
struct Bench {
    program: Utf8PathBuf,
    filters: Filters,
    cgroup: CommandCgroup,
    id: u64,
    offsets: Vec<String>,
    _dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let path = Utf8Path::from_path(dir.path()).context("not UTF-8")?;
        let program = beside::build(path)?;
        let types = fs_err::read("/sys/kernel/btf/vmlinux")?;
        let btf = Btf::parse(&types)?;
        let offset = |(of, field)| btf.offset(of, field).map(|offset| offset.to_string());
        let offsets = TO_ID.into_iter().map(offset).collect::<Option<_>>();
        let root = Path::new("/");
        let cgroup = CommandCgroup::create(root, &cgroup::detect(root)?)?;
        let id = cgroup.cgroup().dir.metadata()?.ino();
        let offsets = offsets.context("the kernel's types lack a field")?;
        let filters = Filters::new(path, &program)?;
        Ok(Self { program, filters, cgroup, id, offsets, _dir: dir })
    }

    /// Nanoseconds per call; `None` when this kernel has not what it needs.
    fn measure(&self, way: Way, call: Call) -> Result<Option<f64>> {
        match way {
            Way::Of(set_up) => set_up.measure(CALLS, call).map(Some),
            Way::Storage(recorded) => {
                let Some(mut beside) = Beside::start(&self.program, &["storage"])? else {
                    return Ok(None);
                };
                let place = |pid| if recorded { beside.tell(pid) } else { Ok(()) };
                caller::measure_placed(CALLS, call, &[], place).map(Some)
            }
            Way::Loads(recorded) => {
                let offsets = self.offsets.iter().map(String::as_str);
                let args: Vec<&str> = std::iter::once("loads").chain(offsets).collect();
                let Some(mut beside) = Beside::start(&self.program, &args)? else {
                    return Ok(None);
                };
                beside.tell(self.id)?;
                let dir = recorded.then_some(self.cgroup.cgroup().dir.as_path());
                caller::measure(CALLS, call, dir, &[]).map(Some)
            }
            Way::Tracepoint(name) => {
                let Some(_beside) = Beside::start(&self.program, &["tracepoints", name])? else {
                    return Ok(None);
                };
                caller::measure(CALLS, call, None, &[]).map(Some)
            }
            Way::Detached => {
                if let Some(beside) = Beside::start(&self.program, &["tracepoints", call.name()])? {
                    beside.end()?;
                }
                caller::measure(CALLS, call, None, &[]).map(Some)
            }
            Way::Under(filter) => self.filtered(CALLS, call, filter).map(Some),
            Way::Unknown(action) => {
                let filter = Filter::Of(Call::Watched, action);
                self.filtered(SLOW_CALLS, call, filter).map(Some)
            }
            Way::BystanderOfFilter => {
                let [program, verb, file] = self.filters.under(KNOWN);
                let mut other = Command::new(program)
                    .args([&verb, &file, "cat"])
                    .stdin(Stdio::piped())
                    .spawn()?;
                let ns = caller::measure(CALLS, call, None, &[]);
                drop(other.stdin.take());
                other.wait()?;
                ns.map(Some)
            }
        }
    }

    fn filtered(&self, calls: u64, call: Call, filter: Filter) -> Result<f64> {
        let under = self.filters.under(filter);
        caller::measure(calls, call, None, &under.each_ref().map(String::as_str))
    }

    /// What does not happen per call.
    fn once(&self) -> Result<String> {
        let mut table = String::from("| what | measured |\n|---|---:|\n");
        let mut row = |what: &str, value: &dyn Display| {
            let _ = writeln!(table, "| {what} | {value} |");
        };
        if let Some(all) = Beside::start(&self.program, &["tracepoints", "all"])? {
            let said: Vec<f64> = all.ready.split(' ').filter_map(|w| w.parse().ok()).collect();
            let [count, attached, kib] = said[..] else { bail!("`{}`", all.ready) };
            let detached: f64 = all.end()?.trim().parse()?;
            row("tracepoints of calls", &count);
            row("an empty program on each: attached in, ms", &attached.round());
            row("growth of the kernel's memory by it, KiB", &kib);
            row("the same, detached in, ms", &detached.round());
        }
        if let Some(listen) = Beside::start(&self.program, &["listen"])? {
            let (ns, _) = self.flooded(Action::Log)?;
            let said = listen.end()?;
            let (log, audit) = said.trim().split_once(' ').context("two numbers")?;
            row("10,000 different unknown calls logged, ns each", &ns.round());
            row("of these in the kernel's log", &log);
            row("of these sent to audit's multicast group", &audit);
        }
        let (ns, seen) = self.flooded(Action::Notify)?;
        row("10,000 different unknown calls, a listener asked, ns each", &ns.round());
        row("of these seen by the listener", &seen);
        let [program, verb, file] = self.filters.under(UNKNOWN_ASKING);
        let output = Command::new(&program).args([&verb, &file, &program, "orphan"]).output()?;
        let said = String::from_utf8(output.stdout)?;
        row("an unknown call after the listener was killed", &said.trim());
        Ok(table)
    }

    /// Nanoseconds of each of many different calls that a filter does not know, and what it said beside.
    fn flooded(&self, action: Action) -> Result<(f64, String)> {
        let [program, verb, file] = self.filters.under(Filter::Of(Call::Plain, action));
        let output = Command::new(&program)
            .args([&verb, &file, &program, "flood", &UNKNOWN.to_string()])
            .output()?;
        let said = String::from_utf8(output.stderr)?;
        ensure!(output.status.success(), "flooding failed: {said}");
        Ok((String::from_utf8(output.stdout)?.trim().parse()?, said.trim().to_owned()))
    }
}
