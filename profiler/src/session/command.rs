//! Recording a command, in a cgroup of its own, from its first call.

use std::{path::Path, time::Duration};

use fs_err as fs;
use procfs::process::Process;

use super::{
    child::{Running, program_of, shell_status},
    error::SessionError,
    event::Event,
    recorder::{Outcome, Plan, Recorded, Recorder, TICK, signal_ready},
    run::Circumstances,
    signals,
};
use crate::{
    kernel::cgroup,
    model::recording::{Missing, Target, TargetKind},
    observe::ebpf::SlotKind,
    target::command::{CommandCgroup, sweep},
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
    let mut recorder = Recorder::start(plan.observe)?;
    recorder.listen(plan.socket.as_deref(), &mut tell)?;
    sweep(Path::new("/"), &setup)?;
    let cgroup = CommandCgroup::create(Path::new("/"), &setup)?;
    let slots = [recorder.observer.watch(&[cgroup.cgroup().id], SlotKind::Command)?];
    let denying = inherits_filter() || plan.confined.is_some();
    recorder.observer.watch_exits(true, denying)?;
    tell(Event::Recording { kind: TargetKind::Command, name: plan.name.clone() });
    signal_ready(plan.ready);

    let confinement = plan.confined.as_ref().map(|confined| confined.follow(cgroup.cgroup()));
    let mut running = Running::inside(&plan.command, confinement, recorder.socket(), |pid| {
        let file = cgroup.procs_file();
        fs::write(&file, pid.to_string()).map_err(|source| SessionError::Io {
            verb: "write",
            path: file,
            source,
        })
    })?;
    let mut ticks = tokio::time::interval(TICK);
    let deadline = tokio::time::sleep(plan.duration.unwrap_or(Duration::MAX / 4));
    tokio::pin!(deadline);
    let status = loop {
        tokio::select! {
            status = running.wait() => break status.ok().map(shell_status),
            Some(signal) = signals.recv() => running.pass_on(signal),
            () = &mut deadline, if plan.duration.is_some() => break None,
            asked = recorder.asked() => recorder.label(asked)?,
            _ = ticks.tick() => tell(recorder.tick(&slots, false, denying)?),
        }
    };
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
    };
    let recording = recorder.recording(circumstances, evidence);
    Ok(Outcome {
        recordings: vec![Recorded { name: plan.name, recording }],
        never_ran: Vec::new(),
        command_status: status,
    })
}

/// Whether this process runs under a seccomp filter, which a command inherits.
fn inherits_filter() -> bool {
    Process::myself().and_then(|own| own.status()).is_ok_and(|status| status.seccomp == Some(2))
}
