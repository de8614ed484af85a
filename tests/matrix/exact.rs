//! What is recorded of a program whose calls are known, and whether what is emitted starts it: as root and as another
//! user, with and without no_new_privs, with a terminal, unconfined, under the engine's own filter; its start, and a
//! process that joins it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use camino::Utf8Path;

use crate::{
    harness::{
        evidence::{Emitted, Recording},
        machine::{Machine, Need},
        pair::{Filter, Options, Pair},
        program::{command, run},
        record::Record,
        test::Test,
    },
    matrix::{PAIRS, pair, program},
};

/// The pairs that cannot be, with what the runtime says to that.
const REFUSED: [(Pair, &str); 3] = [
    (pair("crun", "podman"), "cgroups in hybrid mode not supported"),
    (pair("crun", "containerd"), "cgroups in hybrid mode not supported"),
    (pair("crun", "docker26"), "unknown version specified"),
];

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    let needs = |pair: Pair| [Need::Bpf, Need::Tool("gcc", "gcc"), Need::Pair(pair)];
    let exact = PAIRS.into_iter().map(|pair| {
        let name = format!("matrix::{}_exact", pair.word());
        Test::new(name, &needs(pair), move |machine| exact(machine, pair))
    });
    let refused = REFUSED.into_iter().map(|(pair, says)| {
        let name = format!("matrix::{}_cannot_be", pair.word());
        Test::new(name, &needs(pair), move |machine| cannot_be(machine, pair, says))
    });
    exact.chain(refused).collect()
}

/// One way to run the program.
struct Case {
    what: &'static str,
    options: Options,
}

/// All ways, in one recording each.
fn cases(machine: &Machine) -> Vec<Case> {
    let permissive = || Filter::File(machine.permissive());
    let case = |what, user, no_new_privileges, terminal, filter| Case {
        what,
        options: Options { user, no_new_privileges, terminal, filter, ..Options::default() },
    };
    vec![
        case("root", None, false, false, permissive()),
        case("root-nnp", None, true, false, permissive()),
        case("user", Some(1000), false, false, permissive()),
        case("user-nnp", Some(1000), true, false, permissive()),
        case("terminal", None, false, true, permissive()),
        case("unconfined", None, false, false, Filter::Unconfined),
        case("default", None, false, false, Filter::Default),
    ]
}

fn exact(machine: &Machine, pair: Pair) -> Result<()> {
    let mut cases = cases(machine);
    let together = if pair.records_together() { cases.len() } else { 1 };
    while !cases.is_empty() {
        exact_cases(machine, pair, cases.drain(..together).collect())?;
    }
    Ok(())
}

/// One recording of several containers, and each again under what came of it.
fn exact_cases(machine: &Machine, pair: Pair, cases: Vec<Case>) -> Result<()> {
    let scratch = machine.scratch()?;
    let out = scratch.join("out");
    let mut cases: Vec<_> =
        cases.into_iter().map(|case| (pair.container(machine, case.what), case)).collect();
    let names: Vec<&str> = cases.iter().map(|(container, _)| container.name.as_str()).collect();
    let session = Record::pair(machine, &out, pair, &names)?.start()?;
    let mut printed = Vec::new();
    for (container, case) in &mut cases {
        let lines = program::run(container, &case.options).with_context(|| case.what)?;
        printed.push(lines);
    }
    let recorded = session.finish()?.expect(0)?;
    let alone = cases.len() == 1;
    for ((container, case), before) in cases.into_iter().zip(printed) {
        let dir = if alone { out.clone() } else { out.join(&container.name) };
        drop(container);
        judge(&dir, &case, pair.records_together())
            .with_context(|| format!("{}\n{}", case.what, recorded.output.stderr))?;
        let emitted = match pair.records_together() {
            true => Emitted::new(&dir),
            // A cgroup does not tell what it is started by.
            false => generated_for(machine, pair, &dir, &case)?,
        };
        let options = Options {
            filter: Filter::File(emitted.path("seccomp.json")),
            capabilities: Some(emitted.capabilities()?),
            ..case.options
        };
        let lines = program::run(&mut pair.container(machine, case.what), &options)
            .with_context(|| format!("{}, under what was emitted", case.what))?;
        ensure!(lines == before, "{}: it printed {before:?}, and enforced {lines:?}", case.what);
    }
    Ok(())
}

/// What is generated from a recording when the user says which runtime it is for.
fn generated_for(machine: &Machine, pair: Pair, dir: &Utf8Path, case: &Case) -> Result<Emitted> {
    let out = dir.join("for");
    let privileges =
        if case.options.no_new_privileges { "--no-new-privileges" } else { "--new-privileges" };
    let recording = dir.join("recording.json");
    let words = ["generate", recording.as_str(), "-o", out.as_str(), "--runtime", pair.family()];
    let mut generate = command(&machine.profiler, words);
    run(generate.arg(privileges), Duration::from_secs(60))?.expect(0)?;
    Ok(Emitted::new(&out))
}

/// The evidence is the program's own list, and the runtime's part is where it belongs. `told`: an engine said how the
/// container runs.
fn judge(dir: &Utf8Path, case: &Case, told: bool) -> Result<()> {
    let recording = Recording::read(dir)?;
    let expected = program::calls();
    let workload = recording.numbers("x86_64", "workload");
    let others: Vec<_> = recording
        .facts("syscalls")
        .filter(|fact| fact["phase"] == "workload")
        .filter(|fact| !expected.iter().any(|number| fact["nr"] == *number))
        .collect();
    ensure!(others.is_empty(), "the program does not make {others:?}");
    ensure!(workload == expected, "the program makes {expected:?}, and made {workload:?}");
    let setup = recording.names("setup")?;
    ensure!(setup.contains("pivot_root"), "set-up has no pivot_root: {setup:?}");
    let handover = recording.names("handover")?;
    let unconfined = matches!(case.options.filter, Filter::Unconfined);
    ensure!(
        handover.contains("execve") != unconfined,
        "hand-over of a container that is {}: {handover:?}",
        case.what
    );
    ensure!(handover.len() < 40, "hand-over has {} calls: {handover:?}", handover.len());
    let mut missing = recording.missing();
    match case.options.filter {
        Filter::Unconfined => ensure!(missing.remove("handover"), "hand-over is not said to miss"),
        // Of a cgroup it is not known what it runs under, as long as nothing is denied.
        Filter::Default if !told => {}
        Filter::Default => ensure!(missing.remove("filtered"), "the filter is not said to matter"),
        Filter::File(_) => {}
    }
    missing.remove("shutdown");
    ensure!(missing.is_empty(), "missing: {missing:?}");
    Ok(())
}

fn cannot_be(machine: &Machine, pair: Pair, says: &str) -> Result<()> {
    let mut container = pair.container(machine, "refused");
    let options = Options { filter: Filter::Unconfined, ..Options::default() };
    let output = container.start(&options, &["/bin/true"])?.wait(Duration::from_secs(60))?;
    ensure!(
        output.status != 0 && output.text().contains(says),
        "{} is thought to say {says:?}\n{}",
        pair.label(),
        output.text()
    );
    Ok(())
}
