//! One verification: the recorder armed, the target under the policy, the tests, and what was seen.

use std::{
    cell::RefCell,
    ffi::OsString,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::{mpsc::UnboundedReceiver, oneshot};

use super::{
    policy::Policy,
    target::{Enforced, Place, Start},
    watch::{Evidence, Fault, InForce, Subject, Watch},
};
use crate::{
    model::{
        ended::{Ended, Must, ended},
        recording::{Recording, Target, TargetKind},
    },
    observe::ebpf::Options,
    session::{
        child::{Running, program_of, shell_status},
        command::record_command,
        confine::Confinement,
        containers::{ContainerPlan, record_containers},
        error::SessionError,
        event::Event,
        recorder::{Outcome, Plan},
        signals::{self, Signal},
        tail::Tail,
        wanted::Whom,
    },
    target::{
        cgroup::Cgroup,
        docker::{ContainerState, Docker},
    },
};

/// How long the filter of a container that runs may take to be looked up.
const LOOKED_UP: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(10);

/// What to verify.
pub struct Verification {
    /// What is put in force.
    pub policy: Policy,
    /// The container, or `None` for the command itself.
    pub place: Option<Place>,
    /// What the target is called.
    pub name: String,
    /// The tests, or the command.
    pub command: Vec<OsString>,
    /// How to observe.
    pub observe: Options,
}

/// What was seen.
#[derive(Debug)]
pub struct Verified {
    /// What the target did; none when it never ran.
    pub recording: Option<Recording>,
    /// The target.
    pub target: Target,
    /// What was seen of the filter.
    pub in_force: InForce,
    /// Status of the tests, as a shell would report it; none when they were not run or not waited for.
    pub status: Option<i32>,
    /// Why the target did not run as it should; the tests were not run then. Hostile text.
    pub down: Option<String>,
    /// It was not even started: the engine refused.
    pub refused: bool,
    /// The container before the tests, after them, and when it was stopped.
    pub states: Vec<ContainerState>,
    /// Somebody had the engine stop the container while the tests ran.
    pub stopped: bool,
    /// A signal asked for the end.
    pub interrupted: bool,
}

impl Verified {
    /// What happened to the container while the tests ran; nothing to a command.
    #[must_use]
    pub fn ended(&self, must: Must) -> Ended {
        match self.states.as_slice() {
            [before, after, ..] => {
                ended(&before.judged_by(), &after.judged_by(), self.stopped, must)
            }
            _ => Ended::default(),
        }
    }
}

/// How a run is kept from showing and from staying, when it is one of many.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// Where its output goes.
    pub tail: Tail,
    /// After this time it is killed.
    pub limit: Option<Duration>,
}

/// A confined command, and who looks at it.
pub struct Confined {
    confinement: Confinement,
    watch: Arc<Watch>,
    bounds: Option<Bounds>,
}

impl Confined {
    /// From now on the processes in its cgroup are looked at.
    pub(in crate::session) fn follow(&self, cgroup: &Cgroup) -> &Confinement {
        self.watch.follow(Subject { cgroup: cgroup.clone(), is_command: true });
        &self.confinement
    }

    /// These processes outlive the command.
    pub(in crate::session) fn left(&self, pids: &[u32]) {
        self.watch.left(pids);
    }

    /// How it is bounded; with bounds, nothing that it starts outlives it.
    pub(in crate::session) fn bounds(&self) -> Option<&Bounds> {
        self.bounds.as_ref()
    }
}

/// Runs the tests against the target under the policy, and records both.
///
/// # Errors
/// When the host cannot record, the engine does not answer, or there is no such target. Whatever happens, what was changed
/// is undone.
pub async fn verify(
    plan: Verification,
    engine: Option<&Docker>,
    tell: impl FnMut(Event),
) -> Result<Verified, SessionError> {
    bounded(plan, engine, None, tell).await
}

/// The same, within bounds.
///
/// # Errors
/// As [`verify`].
pub async fn bounded(
    plan: Verification,
    engine: Option<&Docker>,
    bounds: Option<Bounds>,
    tell: impl FnMut(Event),
) -> Result<Verified, SessionError> {
    program_of(&plan.command)?;
    match (&plan.place, engine) {
        (Some(place), Some(docker)) => against(&plan, place, docker, bounds, tell).await,
        _ => directly(plan, bounds, tell).await,
    }
}

async fn directly(
    plan: Verification,
    bounds: Option<Bounds>,
    tell: impl FnMut(Event),
) -> Result<Verified, SessionError> {
    let confinement = Confinement {
        filter: plan.policy.program.clone(),
        capabilities: plan.policy.capabilities.clone(),
        no_new_privileges: plan.policy.no_new_privileges.unwrap_or(false),
    };
    let policy = Arc::new(plan.policy);
    let watch = Arc::new(Watch::start(Arc::clone(&policy))?);
    let confined = Confined { confinement, watch: Arc::clone(&watch), bounds };
    let target = Target { kind: TargetKind::Command, name: plan.name.clone() };
    let recording = Plan {
        name: plan.name,
        command: plan.command,
        duration: None,
        ready: None,
        observe: plan.observe,
        socket: None,
        confined: Some(confined),
        driver: None,
        seal: None,
    };
    let outcome = record_command(recording, tell).await?;
    let mut in_force = watch.found();
    learn(&outcome, &policy, &mut in_force);
    in_force.evidence.get_or_insert(Evidence::Loaded);
    let status = outcome.command_status;
    Ok(Verified {
        recording: first(outcome),
        target,
        in_force,
        status,
        down: None,
        refused: false,
        states: Vec::new(),
        stopped: false,
        interrupted: false,
    })
}

fn learn(outcome: &Outcome, policy: &Policy, in_force: &mut InForce) {
    for recorded in &outcome.recordings {
        in_force.learn(&recorded.entries, policy, &recorded.name);
    }
}

fn first(outcome: Outcome) -> Option<Recording> {
    outcome.recordings.into_iter().next().map(|recorded| recorded.recording)
}

/// How the tests went.
struct Tested {
    /// The container is no longer there.
    gone: bool,
    status: Option<i32>,
    down: Option<String>,
    refused: bool,
    states: Vec<ContainerState>,
    stopped: bool,
}

async fn against(
    plan: &Verification,
    place: &Place,
    docker: &Docker,
    bounds: Option<Bounds>,
    tell: impl FnMut(Event),
) -> Result<Verified, SessionError> {
    let signals = signals::catch().map_err(SessionError::Signals)?;
    let interrupted = AtomicBool::new(false);
    let watch = Watch::start(Arc::new(plan.policy.clone()))?;
    let sockets = tempfile::tempdir()
        .map_err(|source| SessionError::Temporary { path: std::env::temp_dir(), source })?;
    let socket = sockets.path().join("socket");
    let tell = RefCell::new(tell);
    let mut enforced = Enforced::prepare(&plan.policy, place, docker).await?;
    let (armed, is_armed) = oneshot::channel();
    let (done, is_done) = oneshot::channel();
    let recorded = Plan {
        name: plan.name.clone(),
        command: plan.command.clone(),
        duration: None,
        ready: None,
        observe: plan.observe,
        socket: Some(socket.clone()),
        confined: None,
        driver: Some(is_done),
        seal: None,
    };
    let containers = ContainerPlan {
        whom: Whom::containers([enforced.id()]),
        wait: true,
        restart: false,
        usage: false,
    };
    let armed = RefCell::new(Some(armed));
    let recording = record_containers(recorded, containers, docker, |event| {
        if matches!(event, Event::Waiting { .. } | Event::Recording { .. })
            && let Some(armed) = armed.borrow_mut().take()
        {
            let _ = armed.send(()); // the other side has failed and says so
        }
        // the id says nothing to anybody
        if matches!(event, Event::NoSocket { .. } | Event::EngineGone { .. }) {
            (tell.borrow_mut())(event);
        }
    });
    let testing = async {
        let _ = is_armed.await; // the recorder has failed, then, and says so
        let tested = test(Test {
            plan,
            enforced: &mut enforced,
            watch: &watch,
            socket: &socket,
            signals,
            interrupted: &interrupted,
            bounds: bounds.as_ref(),
            tell: &|text: String| (tell.borrow_mut())(Event::Step { text }),
        })
        .await;
        let _ = done.send(tested.as_ref().ok().and_then(|tested| tested.status)); // as above
        tested
    };
    let both: Result<(Outcome, Tested), SessionError> = tokio::try_join!(recording, testing);
    let cleaned = enforced.clean().await;
    let (outcome, tested) = both?;
    cleaned?;
    let mut in_force = watch.end();
    learn(&outcome, &plan.policy, &mut in_force);
    if tested.gone {
        in_force.faults.push(Fault::Gone { program: plan.name.clone() });
    }
    let target = Target { kind: TargetKind::Container, name: plan.name.clone() };
    // it was recorded by its id
    let recording =
        first(outcome).map(|recording| Recording { target: target.clone(), ..recording });
    Ok(Verified {
        recording,
        target,
        in_force,
        status: tested.status,
        down: tested.down,
        refused: tested.refused,
        states: tested.states,
        stopped: tested.stopped,
        interrupted: interrupted.into_inner(),
    })
}

/// What the tests are run with.
struct Test<'a> {
    plan: &'a Verification,
    enforced: &'a mut Enforced,
    watch: &'a Watch,
    socket: &'a std::path::Path,
    signals: UnboundedReceiver<Signal>,
    interrupted: &'a AtomicBool,
    bounds: Option<&'a Bounds>,
    tell: &'a dyn Fn(String),
}

/// Starts the target, runs the tests, stops the target.
async fn test(test: Test<'_>) -> Result<Tested, SessionError> {
    let Test { plan, enforced, watch, socket, mut signals, interrupted, bounds, tell } = test;
    let start = {
        let beginning = enforced.begin(watch, interrupted);
        tokio::pin!(beginning);
        // not cut off: a request to the engine that was sent is waited for
        loop {
            tokio::select! {
                start = &mut beginning => break start?,
                Some(signal) = signals.recv() => {
                    interrupted.fetch_or(signal.asks_to_end(), Ordering::Relaxed);
                }
            }
        }
    };
    let began = SystemTime::now();
    let states = enforced.state().await?.into_iter().collect();
    let refused = matches!(start, Start::Refused { .. });
    let mut tested =
        Tested { gone: false, status: None, down: None, refused, states, stopped: false };
    if let Start::Refused { reason } | Start::Down { reason } = start {
        tested.down = Some(reason);
    } else if !interrupted.load(Ordering::Relaxed) {
        looked_up(watch).await;
        if watch.found().faults.is_empty() {
            let program = plan.command.first().map(|word| word.to_string_lossy());
            let program = program.unwrap_or_default();
            tell(format!("`{}` is under the profile: `{program}` runs", plan.name));
            let environment = enforced.environment().await?;
            let tail = bounds.map(|bounds| &bounds.tail);
            let mut running = Running::plain(&plan.command, Some(socket), &environment, tail)?;
            let limit = bounds.and_then(|bounds| bounds.limit);
            let overdue = tokio::time::sleep(limit.unwrap_or(Duration::MAX / 4));
            tokio::pin!(overdue);
            let mut is_overdue = false;
            tested.status = loop {
                tokio::select! {
                    status = running.wait() => break status.ok().map(shell_status),
                    () = &mut overdue, if limit.is_some() && !is_overdue => {
                        is_overdue = true;
                        running.kill();
                    }
                    Some(signal) = signals.recv() => {
                        interrupted.fetch_or(signal.asks_to_end(), Ordering::Relaxed);
                        running.pass_on(signal);
                    }
                }
            };
            if let Some(bounds) = bounds {
                running.kill(); // the next run must find nothing of this one
                bounds.tail.end().await;
            }
        }
    }
    let after = enforced.state().await?;
    tested.gone = after.is_none();
    if let Some(after) = after {
        if !after.running {
            tested.stopped = enforced.was_stopped(began).await?;
        }
        tested.states.push(after);
        enforced.end().await?;
        tested.states.extend(enforced.state().await?);
    }
    Ok(tested)
}

/// Waits until it is known what is in force, for a while.
async fn looked_up(watch: &Watch) {
    let deadline = Instant::now() + LOOKED_UP;
    loop {
        let found = watch.found();
        let is_known = found.evidence.is_some() || found.unread.is_some();
        if is_known || !found.faults.is_empty() || Instant::now() > deadline {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}
