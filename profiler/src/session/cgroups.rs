//! Recording a cgroup by its path, from the first call when it does not exist yet.
//!
//! The kernel side knows the path before the cgroup exists and puts it in scope when it is created, before any
//! task is in it; each time anew, all writing to one slot. Here only its comings and goings are told.

use std::{
    collections::BTreeSet,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use procfs::process::Process;

use super::{
    child::program_of,
    ending::Ending,
    error::SessionError,
    event::Event,
    followed::GRACE,
    recorder::{Outcome, Plan, Recorded, Recorder, TICK, signal_ready},
    run::Circumstances,
    signals,
};
use crate::{
    kernel::cgroup::{self, CgroupSetup},
    model::recording::{Missing, Target, TargetKind},
    observe::ebpf::{Slot, SlotKind},
    target::{
        cgroup::{is_populated, processes, with_descendants},
        place::{Place, PlaceError},
    },
};

/// How long after a start a filter may yet be loaded.
const SETTLED: Duration = Duration::from_secs(5);

/// The most processes that are asked whether they have a filter.
const ASKED: usize = 256;

/// Which cgroup.
pub struct CgroupPlan {
    /// How the user named it.
    pub place: Named,
    /// Wait for it when it does not exist.
    pub wait: bool,
}

/// How a cgroup is named.
pub enum Named {
    /// By its path.
    Path(PathBuf),
    /// By a process that has it for itself.
    Pid(i32),
}

/// Records a cgroup until the command ends, or else until it is removed, a signal comes or time is up.
///
/// # Errors
/// When the host cannot record, or the cgroup cannot be recorded.
pub async fn record_cgroup(
    plan: Plan,
    wanted: CgroupPlan,
    mut tell: impl FnMut(Event),
) -> Result<Outcome, SessionError> {
    if !plan.command.is_empty() {
        program_of(&plan.command)?;
    }
    let signals = signals::catch().map_err(SessionError::Signals)?;
    let root = Path::new("/");
    let setup = cgroup::detect(root)?;
    let place = match &wanted.place {
        Named::Path(path) => Place::by_path(root, &setup, path)?,
        Named::Pid(pid) => Place::by_pid(root, &setup, *pid)?,
    };
    if !wanted.wait && place.cgroup(&setup)?.is_none() {
        return Err(PlaceError::NotThere { path: place.path }.into());
    }
    let mut recorder = Recorder::start(plan.observe, &mut tell)?;
    recorder.listen(plan.socket.as_deref(), &mut tell)?;
    recorder.observer.watch_exits(true, true)?;
    let mut session = Session::arm(recorder, setup, place)?;
    let name = session.name.clone();
    tell(if session.alive.is_empty() {
        Event::Waiting { kind: TargetKind::Cgroup, name }
    } else {
        Event::Recording { kind: TargetKind::Cgroup, name }
    });
    signal_ready(plan.ready);

    let socket = session.recorder.socket();
    let mut ending = Ending::start(&plan.command, socket, plan.duration, signals, plan.driver)?;
    if let Some(seal) = &plan.seal {
        seal.close(&mut tell);
    }
    let mut ticks = tokio::time::interval(TICK);
    let status = loop {
        tokio::select! {
            status = ending.wait() => break status,
            asked = session.recorder.asked() => session.recorder.label(asked)?,
            _ = ticks.tick() => {
                session.look(&mut tell)?;
                tell(session.tick()?);
                if !ending.has_command() && session.is_over() {
                    break None;
                }
            }
        }
    };
    session.recorder.observer.stop()?;
    session.look(&mut tell)?;
    session.finish(plan.command, status)
}

struct Session {
    recorder: Recorder,
    setup: CgroupSetup,
    place: Place,
    /// The path, for people.
    name: String,
    slot: Slot,
    /// Processes were in it before.
    late: bool,
    /// The cgroups at the path that exist: one, or none.
    alive: BTreeSet<u64>,
    /// Since when it exists, or does not.
    since: Option<Instant>,
    /// A filter was seen on one of its processes.
    filtered: bool,
}

impl Session {
    /// Lets the kernel side wait for the cgroup, and takes the one that is there.
    fn arm(mut recorder: Recorder, setup: CgroupSetup, place: Place) -> Result<Self, SessionError> {
        let before = place.cgroup(&setup)?;
        let late = before.as_ref().is_some_and(is_populated);
        let kind = if late { SlotKind::RunningCgroup } else { SlotKind::Cgroup };
        let slot = recorder.observer.watch(&[], kind)?;
        if place.awaitable {
            recorder.observer.want(place.path.as_os_str().as_bytes(), slot)?;
        } else if before.is_none() {
            return Err(PlaceError::NotAwaitable { path: place.path }.into());
        }
        let name = place.path.to_string_lossy().into_owned();
        let mut session = Session {
            recorder,
            setup,
            place,
            name,
            slot,
            late,
            alive: BTreeSet::new(),
            since: None,
            filtered: false,
        };
        session.take_existing()?;
        Ok(session)
    }

    /// Takes the cgroup that is there, unless the kernel side was faster.
    fn take_existing(&mut self) -> Result<(), SessionError> {
        let Some(cgroup) = self.place.cgroup(&self.setup)? else { return Ok(()) };
        let observer = &mut self.recorder.observer;
        if observer.candidates()?.iter().any(|candidate| candidate.cgroup_id == cgroup.id) {
            return Ok(());
        }
        // itself first: what is created in it from now on comes into scope by itself
        observer.adopt_one(cgroup.id, self.slot)?;
        if let Ok(inner) = with_descendants(&cgroup) {
            let inner: Vec<u64> = inner.iter().skip(1).map(|cgroup| cgroup.id).collect();
            observer.watch_also(&inner, self.slot)?;
        }
        observer.note_members(processes(&cgroup), self.slot)?;
        self.late |= is_populated(&cgroup);
        self.alive.insert(cgroup.id);
        self.since = Some(Instant::now());
        Ok(())
    }

    /// Notices that the cgroup was created or removed.
    fn look(&mut self, tell: &mut impl FnMut(Event)) -> Result<(), SessionError> {
        let (kind, slot) = (TargetKind::Cgroup, self.slot);
        for candidate in self.recorder.observer.candidates()? {
            if candidate.slot != slot {
                continue;
            }
            if self.alive.insert(candidate.cgroup_id) {
                self.recorder.observer.keep(&candidate)?;
                self.since = Some(Instant::now());
                tell(Event::Caught { kind, name: self.name.clone() });
            }
            if candidate.ended {
                self.recorder.observer.forget(&candidate)?;
                self.alive.remove(&candidate.cgroup_id);
                self.since = Some(Instant::now());
                tell(Event::Ended { kind, name: self.name.clone() });
            }
        }
        Ok(())
    }

    fn tick(&mut self) -> Result<Event, SessionError> {
        let inside = self.processes();
        if !self.filtered {
            self.filtered = inside.iter().take(ASKED).any(|pid| has_filter(*pid));
        }
        let settled = self.since.is_some_and(|since| since.elapsed() >= SETTLED);
        let expecting = inside.is_empty() || !settled;
        self.recorder.tick(&[self.slot], expecting, self.filtered)
    }

    fn processes(&self) -> Vec<u32> {
        let cgroup = self.place.cgroup(&self.setup).ok().flatten();
        cgroup.as_ref().map(processes).unwrap_or_default()
    }

    /// It was there, and is gone for good.
    fn is_over(&self) -> bool {
        self.alive.is_empty() && self.since.is_some_and(|since| since.elapsed() >= GRACE)
    }

    fn finish(
        mut self,
        command: Vec<std::ffi::OsString>,
        command_status: Option<i32>,
    ) -> Result<Outcome, SessionError> {
        let target = Target { kind: TargetKind::Cgroup, name: self.name.clone() };
        if self.since.is_none() {
            let never_ran = vec![target];
            return Ok(Outcome { recordings: Vec::new(), never_ran, command_status });
        }
        let mut missing = Vec::new();
        if self.late {
            missing.push(Missing::Startup);
        }
        if !self.processes().is_empty() {
            missing.push(Missing::Shutdown);
        }
        let evidence = self.recorder.evidence(&[self.slot])?;
        let circumstances = Circumstances {
            target,
            clock: self.recorder.clock,
            command,
            command_status,
            container: None,
            missing,
            usage: None,
        };
        let entries = evidence.entries.clone();
        let recording = self.recorder.recording(circumstances, evidence);
        let recordings = vec![Recorded { name: self.name, recording, entries, unseen: Vec::new() }];
        Ok(Outcome { recordings, never_ran: Vec::new(), command_status })
    }
}

/// Whether a process runs under a seccomp filter. One that has ended does not.
fn has_filter(pid: u32) -> bool {
    let status = i32::try_from(pid).ok().map(|pid| Process::new(pid).and_then(|one| one.status()));
    status.and_then(Result::ok).is_some_and(|status| status.seccomp == Some(2))
}
