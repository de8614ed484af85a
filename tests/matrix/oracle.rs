//! Hand-over, told by another: what `strace` saw the runtime do between loading the filter and the entry point's execve
//! is what was recorded, in the very same run.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail, ensure};
use camino::Utf8Path;

use crate::{
    harness::{
        evidence::Recording,
        machine::{Machine, Need},
        pair::{Filter, Options, Pair},
        record::Record,
        test::Test,
    },
    matrix::{pair, program},
};

/// One pair for each runtime.
const PAIRS: [Pair; 4] = [
    pair("runc", "podman-cgroup2"),
    pair("crun", "podman-cgroup2"),
    pair("runc-trixie", "podman-cgroup2"),
    pair("crun-trixie", "podman-cgroup2"),
];

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    let test = |pair: Pair| {
        let strace = Need::Tool("strace", "strace");
        let needs = [Need::Bpf, Need::Tool("gcc", "gcc"), strace, Need::Pair(pair)];
        let name = format!("matrix::{}_handover_as_strace_saw_it", pair.word());
        Test::new(name, &needs, move |machine| as_strace_saw_it(machine, pair))
    };
    PAIRS.into_iter().map(test).collect()
}

fn as_strace_saw_it(machine: &Machine, pair: Pair) -> Result<()> {
    for no_new_privileges in [false, true] {
        let (scratch, traces) = (machine.scratch()?, machine.scratch()?);
        let out = scratch.join("out");
        let mut container = pair.container(machine, "traced");
        container.trace(traces.path())?;
        let session = Record::pair(machine, &out, pair, &[&container.name])?.start()?;
        let filter = Filter::File(machine.permissive());
        let options = Options { user: Some(1000), no_new_privileges, filter, ..Options::default() };
        program::run(&mut container, &options)?;
        session.finish()?.expect(0)?;
        let recorded = Recording::read(&out)?.names("handover")?;
        let (traced, processes) = handover(traces.path())?;
        ensure!(processes == 2, "strace saw {processes} processes load a filter, not two");
        ensure!(
            recorded == traced,
            "only recorded: {:?}, only traced: {:?}",
            recorded.difference(&traced),
            traced.difference(&recorded)
        );
    }
    Ok(())
}

/// The calls of all threads that loaded a filter, from then to their execve, and how many threads did.
fn handover(traces: &Utf8Path) -> Result<(BTreeSet<String>, usize)> {
    let (mut calls, mut processes) = (BTreeSet::new(), 0);
    for entry in traces.read_dir_utf8()? {
        let path = entry?.into_path();
        if path.extension().is_none_or(|end| end.parse::<u32>().is_err()) {
            continue;
        }
        // The entry point may have written anything.
        let text = String::from_utf8_lossy(&fs_err::read(&path)?).into_owned();
        if let Some(part) = filtered(&text).with_context(|| format!("`{path}`"))? {
            calls.extend(part);
            processes += 1;
        }
    }
    Ok((calls, processes))
}

/// The calls after the load of a filter, up to the execve; none when no filter was loaded.
fn filtered(trace: &str) -> Result<Option<BTreeSet<String>>> {
    const LOADS: [&str; 2] = ["seccomp(SECCOMP_SET_MODE_FILTER, ", "prctl(PR_SET_SECCOMP, "];
    let loads = |line: &&str| {
        LOADS.iter().any(|load| line.starts_with(load)) && line.trim_end().ends_with("= 0")
    };
    let mut lines = trace.lines();
    if !lines.by_ref().any(|line| loads(&line)) {
        return Ok(None);
    }
    let mut calls = BTreeSet::new();
    for line in lines {
        // Signals and ends are no calls.
        let Some((name, _)) = line.split_once('(').filter(|_| !line.starts_with(['-', '+'])) else {
            continue;
        };
        if matches!(name, "clone" | "clone3" | "fork" | "vfork") {
            bail!("a thread begins under the filter: {line}");
        }
        calls.insert(name.to_owned());
        if name == "execve" && line.trim_end().ends_with("= 0") {
            return Ok(Some(calls));
        }
    }
    bail!("no execve after the filter");
}
