//! Recording a command, in a cgroup of its own, from its first call.

use std::{path::Path, time::Duration};

use super::{
    child::{Running, program_of, shell_status},
    error::SessionError,
    event::Event,
    recorder::{Outcome, Plan, Recorded, Recorder, TICK, signal_ready},
    run::Circumstances,
    signals,
};
use crate::{
    kernel::privileges,
    model::recording::{Missing, Target, TargetKind},
    observe::ebpf::SlotKind,
    target::command::CommandCgroup,
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
    let cgroup = CommandCgroup::create(Path::new("/"))?;
    let mut recorder = Recorder::start(plan.debug)?;
    let slots = [recorder.observer.watch(&[cgroup.id()], SlotKind::Command)?];
    // a filter on the recorder itself is inherited by the command
    let denying = privileges::of_process(Path::new("/")).is_ok_and(|own| own.seccomp_filter);
    recorder.observer.watch_exits(true, denying)?;
    tell(Event::Recording { kind: "command", name: plan.name.clone() });
    signal_ready(plan.ready);

    let mut running = Running::inside(&plan.command, |pid| Ok(cgroup.join(pid)?))?;
    let mut ticks = tokio::time::interval(TICK);
    let deadline = tokio::time::sleep(plan.duration.unwrap_or(Duration::MAX / 4));
    tokio::pin!(deadline);
    let status = loop {
        tokio::select! {
            status = running.wait() => break status.ok().map(shell_status),
            Some(signal) = signals.recv() => running.pass_on(signal),
            () = &mut deadline, if plan.duration.is_some() => break None,
            _ = ticks.tick() => tell(recorder.tick(&slots, false, denying)?),
        }
    };
    recorder.observer.stop()?;
    let left_behind = cgroup.remove()?;
    let circumstances = Circumstances {
        target: Target { kind: TargetKind::Command, name: plan.name.clone() },
        clock: recorder.clock,
        command: plan.command,
        command_status: status,
        container: None,
        missing: if left_behind > 0 { vec![Missing::Shutdown] } else { Vec::new() },
    };
    let recording = recorder.recording(&slots, circumstances)?;
    Ok(Outcome {
        recordings: vec![Recorded { name: plan.name, recording }],
        never_ran: Vec::new(),
        command_status: status,
    })
}
