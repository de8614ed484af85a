//! What is known of one container that is being recorded, across its restarts. No I/O.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use crate::{
    model::recording::{Container, Missing, SeccompSetting},
    observe::{ebpf::Slot, evidence::Evidence},
    target::docker::{ContainerInfo, is_named},
};

/// How long a container must have been gone to count as ended: `docker restart` is quicker.
const GRACE: Duration = Duration::from_secs(2);

/// A container by the name that the user wrote.
pub struct Followed {
    /// As the user wrote it.
    pub name: String,
    /// Evidence slots in use: normally one.
    pub slots: Vec<Slot>,
    /// Evidence of starts whose cgroup is gone.
    pub evidence: Evidence,
    /// A start of it was recorded.
    pub ran: bool,
    /// Its settings, from the last inspection.
    pub facts: Option<Container>,
    /// Ids of its incarnations.
    pub ids: BTreeSet<String>,
    /// It ran before the recording began.
    pub started_before: bool,
    /// The engine starts it again by itself.
    restart_policy: bool,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Expected,
    Running,
    Ended(Instant),
    Removed,
}

impl Followed {
    /// Nothing is known yet.
    pub fn new(name: String) -> Self {
        Followed {
            name,
            slots: Vec::new(),
            evidence: Evidence::default(),
            ran: false,
            facts: None,
            ids: BTreeSet::new(),
            started_before: false,
            restart_policy: false,
            state: State::Expected,
        }
    }

    /// Whether a container with this id and name is meant.
    pub fn is(&self, id: &str, name: &str) -> bool {
        self.ids.contains(id) || is_named(&self.name, id, name)
    }

    /// Takes over what an inspection says.
    pub fn learn(&mut self, info: ContainerInfo) {
        self.ids.insert(info.id);
        self.restart_policy = info.restart_policy;
        let mut facts = info.facts;
        facts.ids = self.ids.iter().cloned().collect();
        self.facts = Some(facts);
    }

    /// It runs, and writes to this slot; true when it did not run before.
    pub fn runs(&mut self, slot: Slot) -> bool {
        let started = self.state != State::Running;
        self.slots.push(slot);
        self.state = State::Running;
        self.ran = true;
        started
    }

    /// It ended; true when it ran before.
    pub fn ended(&mut self, now: Instant) -> bool {
        let ran = self.state == State::Running;
        if self.state != State::Removed {
            self.state = State::Ended(now);
        }
        ran
    }

    /// It was removed.
    pub fn removed(&mut self) {
        if self.state != State::Expected {
            self.state = State::Removed;
        }
    }

    /// It runs now.
    pub fn is_running(&self) -> bool {
        self.state == State::Running
    }

    /// It will not come back by itself.
    pub fn is_over(&self, now: Instant) -> bool {
        self.state == State::Removed || self.has_ended_for_long(now) && !self.restart_policy
    }

    /// It ended, and only the engine can tell whether it will be started again.
    pub fn may_come_back(&self, now: Instant) -> bool {
        self.has_ended_for_long(now) && self.restart_policy
    }

    fn has_ended_for_long(&self, now: Instant) -> bool {
        matches!(self.state, State::Ended(at) if now.duration_since(at) >= GRACE)
    }

    /// Its filter denies, as far as is known.
    pub fn is_filtered(&self) -> bool {
        self.facts.as_ref().is_some_and(|facts| {
            matches!(facts.seccomp, SeccompSetting::EngineDefault | SeccompSetting::Custom)
        })
    }

    /// What its recording lacks.
    pub fn missing(&self, engine_gone: bool) -> Vec<Missing> {
        let mut missing = Vec::new();
        if self.started_before {
            missing.push(Missing::Startup);
        }
        if self.is_running() {
            missing.push(Missing::Shutdown);
        }
        if engine_gone {
            missing.push(Missing::Engine);
        }
        missing
    }
}
