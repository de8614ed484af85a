//! A process that is moved into a cgroup from outside, enters a mount namespace, loads a filter and executes a program: what a
//! container's runtime does, without one.

use std::{collections::BTreeSet, os::unix::fs::MetadataExt as _, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use camino::Utf8PathBuf;
use profiler::{
    kernel::{btf::Btf, cgroup},
    model::recording::{Missing, Phase, Verdict},
    observe::{
        ebpf::{Observer, Options, SlotKind, Twins},
        evidence::Evidence,
    },
};
use rustix::process::Signal;

use crate::harness::{
    machine::{Machine, Need},
    program,
    syscalls::{self, NATIVE},
    test::Test,
};

const NEEDS: [Need; 2] = [Need::Bpf, Need::Tool("gcc", "gcc")];
const SOON: Duration = Duration::from_secs(60);

/// What the filter refuses, what it does not, and how the program ends.
const DENIED: &str = "tee";
const ALLOWED: &str = "vmsplice";
const EPERM: i32 = 1;

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![Test::new("kernel::phases_of_a_join", &NEEDS, phases).on_every_machine()]
}

fn phases(machine: &Machine) -> Result<()> {
    for twins in [None, Some(Twins::Both), Some(Twins::Second)] {
        of_a_join(machine, twins).with_context(|| format!("attached: {twins:?}"))?;
    }
    Ok(())
}

fn of_a_join(machine: &Machine, twins: Option<Twins>) -> Result<()> {
    let number = syscalls::number;
    let (refused, allowed) = (number(DENIED)?, number(ALLOWED)?);
    let (exit_group, execve, unshare) =
        (number("exit_group")?, number("execve")?, number("unshare")?);
    let (calls, filtered) = (machine.fixture("calls")?, machine.fixture("filtered")?);
    let cgroup = Cgroup::create()?;
    let options = Options { twins, ..Options::default() };
    let mut observer = Observer::start(Path::new("/sys"), options)?;
    match observer.watches_twins() {
        None => ensure!(twins.is_none(), "programs have no twins"),
        Some(watches) => ensure!(watches == counts_runs()?, "twins are watched: {watches}"),
    }
    let slot = observer.watch(&[cgroup.id()?], SlotKind::Container)?;
    observer.watch_exits(true, true)?;

    let script =
        format!("kill -STOP $$; exec {filtered} -m {refused} -- {calls} -q {refused} {allowed}");
    let joining = program::start(&mut program::command("/bin/sh", ["-c", &script]), &[])?;
    let status = format!("/proc/{}/status", joining.pid());
    program::until("the process stops", SOON, || {
        fs_err::read_to_string(&status).is_ok_and(|text| text.contains("State:\tT"))
    })?;
    fs_err::write(cgroup.path.join("cgroup.procs"), joining.pid().to_string())?;
    joining.signal(Signal::CONT);
    joining.wait(SOON)?.expect(0)?;
    observer.stop()?;
    let evidence = observer.evidence(&[slot], "run", 0, 0)?;

    let setup = calls_in(&evidence, Phase::Setup);
    for what in ["execve", "unshare", "prctl"] {
        ensure!(setup.contains(&number(what)?), "{what} is not in the set-up: {setup:?}");
    }
    let handover = calls_in(&evidence, Phase::Handover);
    ensure!(handover == [execve].into(), "between filter and program is execve, not {handover:?}");
    let workload = calls_in(&evidence, Phase::Workload);
    ensure!(
        workload == [allowed, exit_group].into(),
        "the program makes {ALLOWED} and exit_group, not {workload:?}"
    );
    let denials: Vec<_> = evidence
        .denials
        .iter()
        .map(|fact| (fact.abi.name(), fact.nr, fact.errno, fact.phase))
        .collect();
    ensure!(
        denials == [(NATIVE, refused, EPERM, Phase::Workload)],
        "the filter refuses {DENIED}, not {denials:?}"
    );
    // CAP_SYS_ADMIN (21), for the mount namespace
    let asked = evidence.capabilities.iter().any(|fact| {
        fact.capability == 21
            && fact.nr == unshare
            && (fact.phase, fact.verdict) == (Phase::Setup, Verdict::Granted)
    });
    ensure!(asked, "unshare's check is not in the set-up: {:?}", evidence.capabilities);
    // on kernels whose tracepoints can be preempted, and then perhaps another process's
    let skipped = |missing: &&Missing| matches!(missing, Missing::Skipped { .. });
    let missing: Vec<_> = evidence.missing.iter().filter(|missing| !skipped(missing)).collect();
    ensure!(missing.is_empty(), "missing: {missing:?}");
    Ok(())
}

/// Whether the kernel counts the programs that run on each processor: since 5.12.
fn counts_runs() -> Result<bool> {
    let types = fs_err::read("/sys/kernel/btf/vmlinux")?;
    Ok(Btf::parse(&types)?.offset("bpf_prog", "active").is_some())
}

fn calls_in(evidence: &Evidence, phase: Phase) -> BTreeSet<u32> {
    let facts = evidence.syscalls.iter().filter(|fact| fact.phase == phase);
    facts.map(|fact| fact.nr).collect()
}

/// A cgroup of the test's own; gone when it is dropped.
struct Cgroup {
    path: Utf8PathBuf,
}

impl Cgroup {
    fn create() -> Result<Self> {
        let mount = cgroup::detect(Path::new("/"))?.v2_mount.context("cgroup v2 is mounted")?;
        let name = format!("profiler-test-join-{}", std::process::id());
        let path = Utf8PathBuf::try_from(mount.join(name))?;
        fs_err::create_dir(&path)?;
        Ok(Self { path })
    }

    /// The kernel's id of it: its inode.
    fn id(&self) -> Result<u64> {
        Ok(fs_err::metadata(&self.path)?.ino())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Err(error) = fs_err::remove_dir(&self.path) {
            eprintln!("a test's cgroup stays: {error}");
        }
    }
}
