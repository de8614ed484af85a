//! Below the floor: ways that could cost less than a program on `sys_enter` for all, or a cheaper way to find the scope. What
//! they cost per call, and what they lose. docs/performance.md says what follows from it.

use std::{collections::BTreeSet, fmt::Write as _, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use profiler::{
    ingest,
    kernel::{btf::Btf, cgroup, libseccomp::Libseccomp, version},
    model::{
        effective::{Context, Engine},
        policy,
        seccomp::{Action, Arg, KernelVersion, Op, SeccompFile},
    },
    target::command::CommandCgroup,
};

use crate::{
    attached::SetUp,
    beside::{self, Beside},
    caller::{self, Call},
    table::{self, Row},
};

/// Rounds; the least of them counts.
const ROUNDS: usize = 10;

/// Calls in a measurement.
const CALLS: u64 = 200_000;

/// The same where a call takes microseconds.
const SLOW_CALLS: u64 = 20_000;

/// How many different calls are made that a filter does not know.
const UNKNOWN: u64 = 10_000;

/// The tracepoint of a call that is not made.
const ANOTHER: &str = "swapoff";

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
    /// A filter that knows the call, and what it does with others.
    Known(Action),
    /// A filter that knows the call with the argument that it has.
    KnownArgument,
    /// No filter, while another process is under one.
    BystanderOfFilter,
    /// A filter that does not know the call.
    Unknown(Action),
}

impl Way {
    const PLAIN: [Way; 16] = [
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
        Way::Known(Action::Log),
        Way::Known(Action::Notify),
        Way::BystanderOfFilter,
        Way::Unknown(Action::Log),
        Way::Unknown(Action::Notify),
    ];

    const WATCHED: [Way; 4] = [
        Way::Of(SetUp::Untraced),
        Way::Of(SetUp::Floor),
        Way::Of(SetUp::Recorded),
        Way::KnownArgument,
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
            Way::Known(Action::Notify) => "filter that asks a listener, known call",
            Way::Known(_) => "filter that logs, known call",
            Way::KnownArgument => "filter that logs, known call with a known argument",
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
    Ok(format!("{}\n{}", table::markdown(&series), bench.once()?))
}

/// What the measurements share.
struct Bench {
    dir: tempfile::TempDir,
    program: Utf8PathBuf,
    cgroup: CommandCgroup,
    id: u64,
    offsets: Vec<String>,
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
        let id = std::os::unix::fs::MetadataExt::ino(&cgroup.cgroup().dir.metadata()?);
        let offsets = offsets.context("the kernel's types lack a field")?;
        let bench = Self { program, cgroup, id, offsets, dir };
        for (call, argument) in [(Call::Plain, None), (Call::Watched, Some(1))] {
            let file = bench.recorded(call)?;
            for action in [Action::Log, Action::Notify] {
                bench.filter(&file, call, action, argument)?;
            }
        }
        Ok(bench)
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// The filter of a caller that was recorded.
    fn recorded(&self, call: Call) -> Result<SeccompFile> {
        let itself = std::env::current_exe()?;
        let out = self.path(call.name());
        let status = Command::new(itself.with_file_name("profiler"))
            .args(["record", "-o", &out, "--"])
            .arg(&itself)
            .args([caller::WORD, "5000", call.name()])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status()?;
        ensure!(status.success(), "the caller could not be recorded");
        Ok(ingest::seccomp::parse(&fs_err::read_to_string(format!("{out}/seccomp.json"))?)?)
    }

    /// Compiles it, so that it passes what is known and does something else with the rest. With a number, fcntl is known
    /// with that command only.
    fn filter(
        &self,
        file: &SeccompFile,
        call: Call,
        action: Action,
        argument: Option<u64>,
    ) -> Result<()> {
        let mut file = file.clone();
        file.default_action = action;
        file.syscalls.retain(|rule| rule.action == Action::Allow);
        if let Some(value) = argument {
            let mut rule = file.syscalls[0].clone();
            rule.names = vec![call.name().to_owned()];
            rule.args = vec![Arg { index: 1, value, value_two: 0, op: Op::Eq }];
            for other in &mut file.syscalls {
                other.names.retain(|name| name != call.name());
            }
            file.syscalls.push(rule);
        }
        let context = Context {
            native: policy::native_abi(std::env::consts::ARCH).context("no table")?,
            capabilities: BTreeSet::new(),
            kernel: KernelVersion::of_release(&version::uname().release).context("no version")?,
            engine: Engine::Oci,
        };
        let compiled = Libseccomp::open()?.compile(&file, &context)?;
        fs_err::write(self.filter_path(call, action), compiled.program.bytes())?;
        Ok(())
    }

    fn filter_path(&self, call: Call, action: Action) -> String {
        self.path(&format!("{}-{action:?}", call.name()))
    }

    /// How it is started under a filter.
    fn under(&self, call: Call, action: Action) -> [String; 3] {
        let verb = if action == Action::Notify { "notify" } else { "filter" };
        [self.program.to_string(), verb.to_owned(), self.filter_path(call, action)]
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
            Way::Known(action) => self.filtered(CALLS, call, call, action),
            Way::KnownArgument => self.filtered(CALLS, call, call, Action::Log),
            Way::Unknown(action) => self.filtered(SLOW_CALLS, call, Call::Watched, action),
            Way::BystanderOfFilter => {
                let [program, verb, file] = self.under(call, Action::Log);
                let mut other = Command::new(program)
                    .args([&verb, &file, "cat"])
                    .stdin(std::process::Stdio::piped())
                    .spawn()?;
                let ns = caller::measure(CALLS, call, None, &[]);
                drop(other.stdin.take());
                other.wait()?;
                ns.map(Some)
            }
        }
    }

    /// Under the filter of the caller that makes `known`.
    fn filtered(&self, calls: u64, call: Call, known: Call, action: Action) -> Result<Option<f64>> {
        let under = self.under(known, action);
        caller::measure(calls, call, None, &under.each_ref().map(String::as_str)).map(Some)
    }

    /// What does not happen per call.
    fn once(&self) -> Result<String> {
        let mut table = String::from("| what | measured |\n|---|---:|\n");
        if let Some(all) = Beside::start(&self.program, &["tracepoints", "all"])? {
            let said: Vec<f64> = all.ready.split(' ').filter_map(|w| w.parse().ok()).collect();
            let [count, attached, kib] = said[..] else { anyhow::bail!("`{}`", all.ready) };
            let detached: f64 = all.end()?.trim().parse()?;
            let _ = writeln!(table, "| tracepoints of calls | {count} |");
            let _ = writeln!(table, "| a program on each, attached after, ms | {attached:.0} |");
            let _ = writeln!(table, "| kernel memory of it, KiB | {kib} |");
            let _ = writeln!(table, "| one of them detached, ms | {:.1} |", detached / count);
        }
        if let Some(listen) = Beside::start(&self.program, &["listen"])? {
            let (ns, _) = self.flooded(Action::Log)?;
            let said = listen.end()?;
            let (log, audit) = said.trim().split_once(' ').context("two numbers")?;
            let _ =
                writeln!(table, "| {UNKNOWN} different unknown calls logged, ns each | {ns:.0} |");
            let _ = writeln!(table, "| of these in the kernel's log | {log} |");
            let _ = writeln!(table, "| of these read from audit's multicast group | {audit} |");
        }
        let (ns, seen) = self.flooded(Action::Notify)?;
        let _ = writeln!(
            table,
            "| {UNKNOWN} different unknown calls, listener asked, ns each | {ns:.0} |"
        );
        let _ = writeln!(table, "| of these seen by the listener | {seen} |");
        Ok(table)
    }

    /// Nanoseconds of each of many different calls that a filter does not know, and what it said beside.
    fn flooded(&self, action: Action) -> Result<(f64, String)> {
        let [program, verb, file] = self.under(Call::Plain, action);
        let output = Command::new(&program)
            .args([&verb, &file, &program, "flood", &UNKNOWN.to_string()])
            .output()?;
        let said = String::from_utf8(output.stderr)?;
        ensure!(output.status.success(), "flooding failed: {said}");
        Ok((String::from_utf8(output.stdout)?.trim().parse()?, said.trim().to_owned()))
    }
}
