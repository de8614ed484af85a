//! The recorder's own filter: in force for every thread, and what it refuses. That nothing lacks, all other tests show: they
//! record under it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use profiler::{
    kernel::filters,
    model::{
        arch::Abi,
        bpf::{Data, Program, outcome_of},
        effective::Outcome,
        seccomp::Action,
        syscall,
    },
};

use crate::harness::{
    machine::{Machine, Need},
    program,
    record::Record,
    test::Test,
};

const LIMIT: Duration = Duration::from_secs(20);

/// Calls with a first argument, which a recorder needs before its target runs, or never.
const REFUSED: [(&str, u64); 18] = [
    ("bpf", 0), // BPF_MAP_CREATE
    ("bpf", 5), // BPF_PROG_LOAD
    ("capset", 0),
    ("clone3", 0),
    ("execve", 0),
    ("execveat", 0),
    ("finit_module", 0),
    ("fork", 0),
    ("kexec_load", 0),
    ("mount", 0),
    ("open_by_handle_at", 0),
    ("perf_event_open", 0),
    ("process_vm_writev", 0),
    ("ptrace", 0),
    ("setns", 0),
    ("setuid", 0),
    ("socket", 17), // AF_PACKET
    ("unshare", 0),
];

/// What it cannot do without.
const ALLOWED: [(&str, u64); 6] =
    [("bpf", 1), ("bpf", 17), ("exit_group", 0), ("openat", 0), ("renameat", 0), ("write", 0)];

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![Test::new("privilege::its_own_filter_refuses_what_it_never_needs", &[Need::Bpf], refuses)]
}

fn refuses(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let session =
        Record::new(machine, scratch.join("out")).workload(["/bin/sleep", "3"]).start()?;
    let pid = session.running.pid();
    let is_sealed = || {
        fs_err::read_to_string(format!("/proc/{pid}/status"))
            .is_ok_and(|status| status.lines().any(|line| line == "Seccomp:\t2"))
    };
    program::until("it has loaded its filter", LIMIT, is_sealed)
        .with_context(|| session.running.stderr())?;
    let mut threads = 0;
    for task in fs_err::read_dir(format!("/proc/{pid}/task"))? {
        let tid = task?.file_name().to_string_lossy().parse()?;
        let loaded = filters::of_thread(tid)?;
        let [filter] = loaded.as_slice() else {
            anyhow::bail!("thread {tid} has {} filters", loaded.len())
        };
        for (call, argument) in REFUSED {
            let outcome = outcome(filter, call, argument)?;
            ensure!(outcome.action == Action::Errno, "{call}({argument}) of {tid}: {outcome}");
        }
        for (call, argument) in ALLOWED {
            let outcome = outcome(filter, call, argument)?;
            ensure!(outcome.action == Action::Allow, "{call}({argument}) of {tid}: {outcome}");
        }
        threads += 1;
    }
    ensure!(threads >= 4, "{threads} threads were looked at");
    session.finish()?.expect(0)?.emitted().committed()?;

    let unfiltered = Record::new(machine, scratch.join("without"))
        .args(["--unfiltered"])
        .workload(["/bin/true"])
        .run()?
        .expect(0)?;
    unfiltered.emitted().committed()?;
    Ok(())
}

fn outcome(filter: &Program, call: &str, argument: u64) -> Result<Outcome> {
    let nr = syscall::number(Abi::X86_64, call).with_context(|| format!("no call {call}"))?;
    let word = filter.run(&Data::of(Abi::X86_64, nr, [argument, 0, 0, 0, 0, 0]));
    outcome_of(word).with_context(|| format!("{call}: {word:#x}"))
}
