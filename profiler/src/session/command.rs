//! Recording a command, in a cgroup of its own, from its first call.

use std::{path::Path, time::Duration};

use fs_err as fs;
use procfs::process::Process;
use rustix::process::{Pid, Signal as Number, kill_process};

use super::{
    child::{Running, program_of, shell_status},
    error::SessionError,
    event::Event,
    recorder::{Outcome, Plan, Recorded, Recorder, TICK, signal_ready},
    run::Circumstances,
    signals,
    verify::Confined,
    warden::Warden,
};
use crate::{
    kernel::cgroup,
    model::recording::{Missing, Target, TargetKind},
    observe::ebpf::SlotKind,
    target::{
        cgroup::{Cgroup, processes},
        command::{CommandCgroup, sweep},
    },
};

/// Runs the plan's command and records it until it ends.
///
/// # Errors
/// When the program cannot be run, or the host cannot record.
pub async fn record_command(
    plan: Plan,
    mut tell: impl FnMut(Event),
) -> Result<Outcome, SessionError> {
    program_of(&plan.command)?;
    let mut signals = signals::catch().map_err(SessionError::Signals)?;
    let setup = cgroup::detect(Path::new("/"))?;
    let mut recorder = Recorder::start(plan.observe, &mut tell)?;
    recorder.listen(plan.socket.as_deref(), &mut tell)?;
    sweep(Path::new("/"), &setup)?;
    let mut warden = Warden::start()?;
    let cgroup = CommandCgroup::announced(Path::new("/"), &setup, |dir| warden.watch(dir))?;
    let slots = [recorder.observer.watch(&[cgroup.cgroup().id], SlotKind::Command)?];
    let denying = inherits_filter() || plan.confined.is_some();
    recorder.observer.watch_exits(true, denying)?;
    tell(Event::Recording { kind: TargetKind::Command, name: plan.name.clone() });
    signal_ready(plan.ready);

    let confinement = plan.confined.as_ref().map(|confined| confined.follow(cgroup.cgroup()));
    let bounds = plan.confined.as_ref().and_then(Confined::bounds);
    let tail = bounds.map(|bounds| &bounds.tail);
    let mut running =
        Running::inside(&plan.command, confinement, recorder.socket(), tail, |pid| {
            let file = cgroup.procs_file();
            fs::write(&file, pid.to_string()).map_err(|source| SessionError::Io {
                verb: "write",
                path: file,
                source,
            })
        })?;
    if let Some(seal) = &plan.seal {
        seal.close(&mut tell);
    }
    let mut ticks = tokio::time::interval(TICK);
    let deadline = tokio::time::sleep(plan.duration.unwrap_or(Duration::MAX / 4));
    tokio::pin!(deadline);
    let limit = bounds.and_then(|bounds| bounds.limit);
    let overdue = tokio::time::sleep(limit.unwrap_or(Duration::MAX / 4));
    tokio::pin!(overdue);
    let mut is_overdue = false;
    let status = loop {
        tokio::select! {
            status = running.wait() => break status.ok().map(shell_status),
            Some(signal) = signals.recv() => running.pass_on(signal),
            () = &mut deadline, if plan.duration.is_some() => break None,
            () = &mut overdue, if limit.is_some() && !is_overdue => {
                is_overdue = true;
                kill_all(cgroup.cgroup()).await;
            }
            asked = recorder.asked() => recorder.label(asked)?,
            _ = ticks.tick() => tell(recorder.tick(&slots, false, denying)?),
        }
    };
    if let (None, Some(confined)) = (bounds, &plan.confined) {
        confined.left(&left_in(cgroup.cgroup()).await);
    }
    if let Some(bounds) = bounds {
        kill_all(cgroup.cgroup()).await; // the next run must find nothing of this one
        bounds.tail.end().await;
    }
    recorder.observer.stop()?;
    let evidence = recorder.evidence(&slots)?;
    // what was recorded is worth more than a tidy tree
    let still_runs = match cgroup.remove() {
        Ok(removal) => removal.moved > 0,
        Err(error) => {
            tell(Event::Leftover { error: error.to_string() });
            true
        }
    };
    let circumstances = Circumstances {
        target: Target { kind: TargetKind::Command, name: plan.name.clone() },
        clock: recorder.clock,
        command: plan.command,
        command_status: status,
        container: None,
        missing: if still_runs { vec![Missing::Shutdown] } else { Vec::new() },
        usage: None,
    };
    let entries = evidence.entries.clone();
    let recording = recorder.recording(circumstances, evidence);
    Ok(Outcome {
        recordings: vec![Recorded { name: plan.name, recording, entries, unseen: Vec::new() }],
        never_ran: Vec::new(),
        command_status: status,
    })
}

/// Kills what is in a cgroup, and what that starts meanwhile; gives up after a second.
async fn kill_all(cgroup: &Cgroup) {
    for _ in 0..100 {
        let pids = processes(cgroup);
        if pids.is_empty() {
            return;
        }
        for pid in pids.into_iter().filter_map(|pid| Pid::from_raw(pid.cast_signed())) {
            let _ = kill_process(pid, Number::KILL); // it may just have ended
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What is left in a cgroup, when what is about to end has had a second for it.
async fn left_in(cgroup: &Cgroup) -> Vec<u32> {
    for _ in 0..100 {
        if processes(cgroup).is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    processes(cgroup)
}

/// Whether this process runs under a seccomp filter, which a command inherits.
fn inherits_filter() -> bool {
    Process::myself().and_then(|own| own.status()).is_ok_and(|status| status.seccomp == Some(2))
}
