//! Recording containers of a Docker engine, by name or as services of a compose project, each from its first call.
//!
//! While it waits, the kernel side adopts every new cgroup whose name is long enough to carry a
//! container id as a candidate, with evidence of its own, before any task is in it. Here it is found
//! out, a little later and with no haste, which container that is; candidates that are none of the
//! targets are released. So nothing depends on how fast the engine's events arrive.

mod meant;

use std::{
    collections::{BTreeSet, HashMap},
    io::ErrorKind,
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use tokio::{task::JoinSet, time::MissedTickBehavior};

use super::{
    child::program_of,
    ending::Ending,
    error::SessionError,
    event::Event,
    followed::Followed,
    origin,
    recorder::{Outcome, Plan, Recorded, Recorder, TICK, signal_ready},
    run::Circumstances,
    signals,
    usage::{self, Sampler, Started},
    wanted::{Seen, Whom},
};
use crate::{
    kernel::{
        cgroup::{self, CgroupSetup},
        usage::sockets::unprivileged_port_start,
    },
    model::{recording::Target, usage::Usage},
    observe::ebpf::{Candidate, Slot, SlotKind},
    target::{
        cgroup::{
            ScopeError, container_id_in, of_container, populated, processes, v2_root,
            with_descendants,
        },
        docker::{ContainerEvent, ContainerEventKind, ContainerInfo, Docker, EngineError, Origin},
    },
};

/// How long a candidate may stay without anyone knowing its container.
const UNKNOWN: Duration = Duration::from_secs(10);

/// How long one answer of the engine's is waited for; it is asked again.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long the engine's last events are waited for at the end: after the last one, and when it still has to say whose
/// a new cgroup is.
const LAST_EVENTS: Duration = Duration::from_millis(200);
const LAST_NAMES: Duration = Duration::from_secs(2);

/// Which containers, and what may be done to them.
pub struct ContainerPlan {
    /// Which.
    pub whom: Whom,
    /// Wait for those that are not there.
    pub wait: bool,
    /// Restart those that run, to see their start-up.
    pub restart: bool,
    /// Look at what they use beside calls and capabilities.
    pub usage: bool,
}

/// Records containers until the command ends, or else until they do, a signal comes or time is up.
///
/// # Errors
/// When the host cannot record, the engine does not answer, or a container is missing that is not
/// waited for.
pub async fn record_containers(
    plan: Plan,
    containers: ContainerPlan,
    docker: &Docker,
    mut tell: impl FnMut(Event),
) -> Result<Outcome, SessionError> {
    if !plan.command.is_empty() {
        program_of(&plan.command)?;
    }
    let signals = signals::catch().map_err(SessionError::Signals)?;
    // events are asked for from before the first cgroup can be adopted
    let since = SystemTime::now();
    let setup = cgroup::detect(Path::new("/"))?;
    v2_root(&setup)?;
    let sampler = containers.usage.then(|| Sampler::start(setup.clone())).transpose();
    let sampler = sampler.unwrap_or_else(|error| {
        tell(Event::Warning { text: format!("what containers use is not looked at: {error}") });
        None
    });
    let mut session = Session {
        docker,
        sampler,
        setup,
        recorder: Recorder::start(plan.observe, &mut tell)?,
        followed: containers.whom.followed(),
        whom: containers.whom,
        cgroups: HashMap::new(),
        told: HashMap::new(),
        told_of_odd: false,
        told_of: BTreeSet::new(),
        unknown: HashMap::new(),
        is_unsure: false,
        engine_gone: None,
    };
    session.recorder.listen(plan.socket.as_deref(), &mut tell)?;
    session.recorder.observer.watch_exits(true, true)?;
    session.recorder.observer.adopt_candidates()?;
    let mut events = docker.events(since).await?;
    let to_restart = session.find_all(containers.wait, containers.restart, &mut tell).await?;
    signal_ready(plan.ready);
    let mut restarts = JoinSet::new();
    for id in to_restart {
        let docker = docker.clone();
        restarts.spawn(async move { docker.restart(&id).await });
    }

    let socket = session.recorder.socket();
    let mut ending = Ending::start(&plan.command, socket, plan.duration, signals, plan.driver)?;
    if let Some(seal) = &plan.seal {
        seal.close(&mut tell);
    }
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let status = loop {
        tokio::select! {
            status = ending.wait() => break status,
            Some(Ok(restarted)) = restarts.join_next(), if !restarts.is_empty() => restarted?,
            event = events.next(), if session.engine_gone.is_none() => match event {
                Ok(event) => session.happened(event, &mut tell).await?,
                Err(gone) => session.lose_engine(gone.reason, &mut tell),
            },
            asked = session.recorder.asked() => session.recorder.label(asked)?,
            _ = ticks.tick() => {
                session.resolve(&mut tell).await?;
                let event = session.tick()?;
                tell(event);
                if !ending.has_command() {
                    session.ask_about_ended(&mut tell).await;
                    session.look_for_life(&mut tell)?;
                    if session.is_over() {
                        // one may have come back while others were asked about
                        session.resolve(&mut tell).await?;
                        if session.is_over() {
                            break None;
                        }
                    }
                }
            }
        }
    };
    session.resolve(&mut tell).await?;
    while session.engine_gone.is_none() {
        let patience = if session.is_unsure { LAST_NAMES } else { LAST_EVENTS };
        match tokio::time::timeout(patience, events.next()).await {
            Ok(Ok(event)) => session.happened(event, &mut tell).await?,
            Ok(Err(gone)) => session.lose_engine(gone.reason, &mut tell),
            Err(_) => break,
        }
        session.resolve(&mut tell).await?;
    }
    session.recorder.observer.stop()?;
    session.resolve(&mut tell).await?;
    session.find_idle()?;
    for text in session.doubts() {
        tell(Event::Warning { text });
    }
    session.finish(plan.command, status)
}

struct Session<'a> {
    docker: &'a Docker,
    sampler: Option<Sampler>,
    setup: CgroupSetup,
    recorder: Recorder,
    whom: Whom,
    followed: Vec<Followed>,
    /// The cgroup behind each slot in use.
    cgroups: HashMap<Slot, u64>,
    /// What the newest event of each container told, by id.
    told: HashMap<String, Seen>,
    /// It was said that there is a container of the project which is of none of its services.
    told_of_odd: bool,
    /// Other compose files than the given ones, of which it was said that containers name them.
    told_of: BTreeSet<Origin>,
    /// Since when a candidate's container could not be named, by cgroup id.
    unknown: HashMap<u64, Instant>,
    /// There is such a candidate.
    is_unsure: bool,
    engine_gone: Option<String>,
}

impl Session<'_> {
    /// Looks which of the containers that still have a slot have executed their entry point.
    fn find_idle(&mut self) -> Result<(), SessionError> {
        for followed in &mut self.followed {
            for slot in followed.unsure() {
                followed.entered(slot, self.recorder.evidence(&[slot])?.has_entered());
            }
        }
        Ok(())
    }

    /// What makes it doubtful whether all that was recorded belongs together.
    fn doubts(&self) -> Vec<String> {
        let idle = self.followed.iter().filter_map(Followed::idleness);
        let mut doubts: Vec<String> =
            idle.chain(self.followed.iter().filter_map(Followed::difference)).collect();
        if let Whom::Project(stack) = &self.whom {
            let all = self.followed.iter().flat_map(Followed::counting);
            doubts.extend(origin::difference(&stack.project, all));
            if stack.declared.is_none() {
                doubts.extend(self.followed.iter().filter_map(origin::by_hand));
            }
        }
        doubts
    }

    fn is_candidate(&mut self, id: &str) -> Result<bool, SessionError> {
        let candidates = self.recorder.observer.candidates()?;
        Ok(candidates.iter().any(|candidate| container_id_in(&candidate.name) == Some(id)))
    }

    /// Records a container that already runs, from now on; false when it has just ended.
    fn watch_running(&mut self, index: usize, pid: i32, id: &str) -> Result<bool, SessionError> {
        let cgroup = match of_container(Path::new("/"), &self.setup, pid, id) {
            Err(ScopeError::Ended { .. }) => return Ok(false),
            Err(ScopeError::Read { source, .. }) if source.kind() == ErrorKind::NotFound => {
                return Ok(false);
            }
            other => other?,
        };
        // its own first: what is created in it from now on comes into scope by itself
        let slot = self.recorder.observer.watch(&[cgroup.id], SlotKind::Running)?;
        if let Ok(inner) = with_descendants(&cgroup) {
            let inner: Vec<u64> = inner.iter().map(|cgroup| cgroup.id).collect();
            self.recorder.observer.watch_also(&inner, slot)?;
        }
        self.recorder.observer.note_members(processes(&cgroup), slot)?;
        self.cgroups.insert(slot, cgroup.id);
        self.followed[index].ran_before(id, slot);
        self.sample(index, id, cgroup.id, Some(pid));
        Ok(true)
    }

    /// Has what a container uses looked at; `ran` is its first process if it runs already.
    fn sample(&mut self, target: usize, id: &str, cgroup: u64, ran: Option<i32>) {
        let Some(sampler) = &mut self.sampler else { return };
        // that takes privileges which the recorder gives up when all is attached
        let port_start = ran.and_then(unprivileged_port_start);
        let (id, ran_before) = (id.to_owned(), ran.is_some());
        sampler.follow(Started { target, id, cgroup, ran_before, port_start });
    }

    /// Takes note of an event of the engine's.
    async fn happened(
        &mut self,
        event: ContainerEvent,
        tell: &mut impl FnMut(Event),
    ) -> Result<(), SessionError> {
        let seen = Seen::from(&event);
        self.told.insert(event.id.clone(), seen.clone());
        // only one that is made or runs brings a service into the list
        let index = match event.kind {
            ContainerEventKind::Create | ContainerEventKind::Start => self.meant(&seen, tell),
            _ => self.followed.iter().position(|one| one.knows(&event.id)),
        };
        let Some(index) = index else { return Ok(()) };
        let id = event.id.as_str();
        match event.kind {
            ContainerEventKind::Create | ContainerEventKind::Start => {
                self.followed[index].exists(id);
                if event.kind == ContainerEventKind::Create
                    && let Some(sampler) = &mut self.sampler
                {
                    sampler.expect(index, id);
                }
                let info = self.ask(id, tell).await.info();
                let pid = info.as_ref().and_then(|info| info.pid);
                if let Some(info) = info {
                    self.followed[index].learn(info);
                }
                self.resolve(tell).await?;
                // it runs, and no cgroup of its own was seen to be made: this says why, or attaches late
                if let Some(pid) = pid
                    && event.kind == ContainerEventKind::Start
                    && !self.followed[index].was_started(id)
                {
                    self.watch_running(index, pid, id)?;
                }
            }
            ContainerEventKind::Die => {
                self.resolve(tell).await?; // one that ended at once is found first
                if self.followed[index].died(id, Instant::now()) {
                    let Target { kind, name } = self.followed[index].target();
                    tell(Event::Ended { kind, name });
                }
            }
            ContainerEventKind::Destroy => self.followed[index].removed(id),
            _ => {}
        }
        Ok(())
    }

    /// Finds out which containers the candidates are; keeps the targets, releases the others.
    async fn resolve(&mut self, tell: &mut impl FnMut(Event)) -> Result<(), SessionError> {
        self.is_unsure = false;
        for candidate in self.recorder.observer.candidates()? {
            let known = self.followed.iter().position(|one| one.uses(candidate.slot));
            if let Some(index) = known {
                if candidate.ended {
                    self.harvest(index, &candidate, tell)?;
                }
                continue;
            }
            let Some(id) = container_id_in(&candidate.name) else {
                self.recorder.observer.release(&candidate)?;
                continue;
            };
            match self.whose(id, &candidate, tell).await {
                Whose::Target(index, info) => {
                    self.recorder.observer.keep(&candidate)?;
                    self.cgroups.insert(candidate.slot, candidate.cgroup_id);
                    self.sample(index, id, candidate.cgroup_id, None);
                    let followed = &mut self.followed[index];
                    if let Some(info) = info {
                        followed.learn(*info);
                    }
                    if followed.started(id, candidate.slot) {
                        let Target { kind, name } = followed.target();
                        tell(Event::Caught { kind, name });
                    }
                }
                Whose::Other => self.recorder.observer.release(&candidate)?,
                Whose::Unknown => self.is_unsure = true,
            }
        }
        Ok(())
    }

    /// Takes over the evidence of a start whose cgroup is gone, so that its slot can serve another.
    fn harvest(
        &mut self,
        index: usize,
        candidate: &Candidate,
        tell: &mut impl FnMut(Event),
    ) -> Result<(), SessionError> {
        let evidence = self.recorder.evidence(&[candidate.slot])?;
        self.recorder.observer.release(candidate)?;
        self.cgroups.remove(&candidate.slot);
        let followed = &mut self.followed[index];
        if followed.take_over(candidate.slot, evidence, Instant::now()) {
            let Target { kind, name } = followed.target();
            tell(Event::Ended { kind, name });
        }
        Ok(())
    }

    /// Without an engine to tell of ends, sees which cgroups have no process any more.
    fn look_for_life(&mut self, tell: &mut impl FnMut(Event)) -> Result<(), SessionError> {
        if self.engine_gone.is_none() {
            return Ok(());
        }
        let populated = populated(&self.setup)?;
        for followed in &mut self.followed {
            followed.stays_down();
            for slot in followed.slots() {
                let is_empty = self.cgroups.get(&slot).is_some_and(|id| !populated.contains(id));
                if is_empty && followed.vacated(slot, Instant::now()) {
                    let Target { kind, name } = followed.target();
                    tell(Event::Ended { kind, name });
                }
            }
        }
        Ok(())
    }

    /// Asks the engine about containers that ended although it would start them again.
    async fn ask_about_ended(&mut self, tell: &mut impl FnMut(Event)) {
        for index in 0..self.followed.len() {
            if !self.followed[index].may_come_back(Instant::now()) {
                continue;
            }
            let ids: Vec<String> = self.followed[index].may_be_started().map(Into::into).collect();
            let mut is_down = true;
            for id in ids {
                is_down &= match self.ask(&id, tell).await {
                    Answer::NoSuch => true,
                    Answer::Is(info) => !info.running,
                    Answer::None => false,
                };
            }
            if is_down {
                self.followed[index].stays_down();
            }
        }
    }

    async fn whose(
        &mut self,
        id: &str,
        candidate: &Candidate,
        tell: &mut impl FnMut(Event),
    ) -> Whose {
        if let Some(index) = self.followed.iter().position(|one| one.knows(id)) {
            return Whose::Target(index, None);
        }
        let answer = self.ask(id, tell).await;
        let is_silent = matches!(answer, Answer::None) && self.engine_gone.is_none();
        let info = answer.info();
        let seen = info.as_ref().map(Seen::from).or_else(|| self.told.get(id).cloned());
        let Some(seen) = seen else {
            let since = *self.unknown.entry(candidate.cgroup_id).or_insert_with(Instant::now);
            let wait = is_silent || since.elapsed() < UNKNOWN;
            return if wait { Whose::Unknown } else { Whose::Other };
        };
        let index = self.meant(&seen, tell);
        index.map_or(Whose::Other, |index| Whose::Target(index, info.map(Box::new)))
    }

    /// Asks the engine about a container; one that does not answer is no reason to stop recording.
    async fn ask(&mut self, id: &str, tell: &mut impl FnMut(Event)) -> Answer {
        if self.engine_gone.is_some() {
            return Answer::None;
        }
        // an engine holds its answer back while it starts or stops that container
        match tokio::time::timeout(PATIENCE, self.docker.find(id)).await {
            Ok(Ok(Some(info))) => Answer::Is(Box::new(info)),
            Ok(Ok(None)) => Answer::NoSuch,
            // what it refuses to tell of one container says nothing of the others
            Err(_) | Ok(Err(EngineError::Timeout { .. } | EngineError::Refused { .. })) => {
                Answer::None
            }
            Ok(Err(error)) => {
                self.lose_engine(error.to_string(), tell);
                Answer::None
            }
        }
    }

    fn lose_engine(&mut self, reason: String, tell: &mut impl FnMut(Event)) {
        if self.engine_gone.is_none() {
            tell(Event::EngineGone { reason: reason.clone() });
            self.engine_gone = Some(reason);
        }
    }

    fn tick(&mut self) -> Result<Event, SessionError> {
        let slots: Vec<Slot> = self.followed.iter().flat_map(Followed::slots).collect();
        let expecting = self.followed.iter().any(|followed| !followed.is_running());
        let denying = self.followed.iter().any(Followed::is_filtered);
        self.recorder.tick(&slots, expecting, denying)
    }

    fn is_over(&self) -> bool {
        let now = Instant::now();
        // of a project whose services nobody named, none may have been seen yet
        !self.followed.is_empty() && self.followed.iter().all(|followed| followed.is_over(now))
    }

    fn finish(
        mut self,
        command: Vec<std::ffi::OsString>,
        command_status: Option<i32>,
    ) -> Result<Outcome, SessionError> {
        let mut recordings = Vec::new();
        let mut never_ran = Vec::new();
        let mut used: Vec<Vec<(String, Usage)>> =
            self.followed.iter().map(|_| Vec::new()).collect();
        for ((index, id), usage) in self.sampler.take().map(Sampler::end).unwrap_or_default() {
            if self.followed.get(index).is_some_and(|followed| followed.counts(&id)) {
                used[index].push((id, usage));
            }
        }
        for (index, followed) in std::mem::take(&mut self.followed).into_iter().enumerate() {
            let target = followed.target();
            let name = target.name.clone();
            if !followed.ran() {
                never_ran.push(target);
                continue;
            }
            let slots = followed.slots();
            let used = std::mem::take(&mut used[index]);
            let named: Vec<(&str, &Usage)> =
                used.iter().map(|(id, usage)| (followed.name_of(id), usage)).collect();
            let (kind, unseen) = (target.kind.name(), usage::unseen(&named));
            let unseen =
                unseen.into_iter().map(|text| format!("{kind} `{name}`: {text}")).collect();
            let circumstances = Circumstances {
                target,
                clock: self.recorder.clock,
                command: command.clone(),
                command_status,
                missing: followed.missing(self.engine_gone.is_some()),
                container: followed.facts(),
                usage: usage::joined(used.into_iter().map(|(_, usage)| usage)),
            };
            let mut evidence = followed.evidence;
            evidence.absorb(self.recorder.evidence(&slots)?);
            let entries = evidence.entries.clone();
            let recording = self.recorder.recording(circumstances, evidence);
            recordings.push(Recorded { name, recording, entries, unseen });
        }
        Ok(Outcome { recordings, never_ran, command_status })
    }
}

/// What the engine says about a container.
enum Answer {
    Is(Box<ContainerInfo>),
    NoSuch,
    /// It does not say, now or ever.
    None,
}

impl Answer {
    fn info(self) -> Option<ContainerInfo> {
        match self {
            Answer::Is(info) => Some(*info),
            Answer::NoSuch | Answer::None => None,
        }
    }
}

/// Whose container a candidate is.
enum Whose {
    Target(usize, Option<Box<ContainerInfo>>),
    Other,
    Unknown,
}
