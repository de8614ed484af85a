//! What is known of one container, or of the containers of one service, across restarts. No I/O.
//!
//! A name can mean several containers, one after the other or even at once, and each can be started
//! several times. So what runs is told start by start, never by name.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use super::{
    event::brief_list,
    run::denies,
    settings::{Joined, Settings},
    wanted::{Seen, Wanted},
};
use crate::{
    model::recording::{Container, Missing, Target},
    observe::{ebpf::Slot, evidence::Evidence},
    target::docker::ContainerInfo,
};

/// How long a container must have been gone to count as ended: `docker restart` is quicker.
pub const GRACE: Duration = Duration::from_secs(2);

/// A container by the name that the user wrote, or a service.
pub struct Followed {
    /// What is meant.
    pub wanted: Wanted,
    /// Evidence of starts whose cgroup is gone.
    pub evidence: Evidence,
    /// What its containers were started with.
    settings: Settings,
    /// A container that `compose run` made is among them.
    has_one_off: bool,
    /// What each of them is called, and its labels say.
    seen: BTreeMap<String, Seen>,
    /// Containers that were meant.
    ids: BTreeSet<String>,
    /// Those of them that were removed.
    removed: BTreeSet<String>,
    /// Those of them that exist and were not started yet.
    created: BTreeSet<String>,
    /// Every start that was recorded.
    starts: Vec<Start>,
    /// When the last one of them ended, if none runs.
    quiet_since: Option<Instant>,
    /// The engine starts it again by itself.
    restart_policy: bool,
    /// The engine will not.
    is_final: bool,
    started_before: bool,
}

/// One start of one container.
struct Start {
    id: String,
    /// Where its evidence is; none when that was taken over.
    slot: Option<Slot>,
    /// The engine said that it died.
    died: bool,
    /// Its cgroup is gone.
    ended: bool,
    /// Its entry point was executed, as far as anybody has looked.
    entered: Option<bool>,
}

impl Start {
    fn is_running(&self) -> bool {
        !self.died && !self.ended
    }
}

impl Followed {
    /// Nothing is known yet.
    pub fn new(wanted: Wanted) -> Self {
        Followed {
            wanted,
            settings: Settings::default(),
            has_one_off: false,
            evidence: Evidence::default(),
            seen: BTreeMap::new(),
            ids: BTreeSet::new(),
            removed: BTreeSet::new(),
            created: BTreeSet::new(),
            starts: Vec::new(),
            quiet_since: None,
            restart_policy: false,
            is_final: false,
            started_before: false,
        }
    }

    /// What it is, as a target.
    pub fn target(&self) -> Target {
        Target { kind: self.wanted.kind(), name: self.wanted.name().to_owned() }
    }

    /// Whether a container with this id was meant.
    pub fn knows(&self, id: &str) -> bool {
        self.ids.contains(id)
    }

    /// A container that is meant exists.
    pub fn exists(&mut self, id: &str) {
        if self.ids.insert(id.to_owned()) {
            self.created.insert(id.to_owned());
        }
    }

    /// It is called this, and its labels say this.
    pub fn meet(&mut self, seen: &Seen) {
        self.seen.insert(seen.id.clone(), seen.clone());
    }

    /// What is known of the containers that were started and count, in the order of their ids.
    pub fn counting(&self) -> impl Iterator<Item = &Seen> {
        let idle = self.idle();
        self.seen
            .values()
            .filter(move |one| self.was_started(&one.id) && !idle.contains(one.id.as_str()))
    }

    /// What a container is called; its id, when nobody said.
    pub fn name_of<'a>(&'a self, id: &'a str) -> &'a str {
        self.seen.get(id).map_or(id, |seen| seen.name.as_str())
    }

    /// Containers that were started and never executed their entry point, where another one did, or may have: nobody ran there, so
    /// they do not count.
    fn idle(&self) -> BTreeSet<&str> {
        let entered: BTreeSet<&str> = self
            .starts
            .iter()
            .filter(|start| start.entered != Some(false))
            .map(|start| start.id.as_str())
            .collect();
        if entered.is_empty() {
            return BTreeSet::new();
        }
        let all = self.starts.iter().map(|start| start.id.as_str());
        all.filter(|id| !entered.contains(id)).collect()
    }

    /// A container that `compose run` made is meant; whether it is the first.
    pub fn first_one_off(&mut self) -> bool {
        !std::mem::replace(&mut self.has_one_off, true)
    }

    /// Takes over what an inspection says.
    pub fn learn(&mut self, info: ContainerInfo) {
        self.exists(&info.id);
        self.meet(&Seen::from(&info));
        let one_off = info.membership.is_some_and(|member| member.one_off);
        if !one_off || self.settings.are_of_one_offs() {
            self.restart_policy = info.restart_policy;
        }
        self.settings.learn(&info.id, info.facts, one_off);
    }

    fn joined(&self) -> Option<Joined> {
        let idle = self.idle();
        self.settings.joined(|id| self.was_started(id) && !idle.contains(id))
    }

    /// What its containers were started with, as far as it is known; of all that were meant, the ids, though one was removed before it
    /// could be inspected.
    pub fn facts(&self) -> Option<Container> {
        let ids = self.ids.iter().cloned().collect();
        self.joined().map(|joined| Container { ids, ..joined.facts })
    }

    /// That its containers were started with different settings, if they were.
    pub fn difference(&self) -> Option<String> {
        let differ = self.joined()?.differ;
        let Target { kind, name } = self.target();
        (!differ.is_empty()).then(|| {
            format!(
                "containers of {} `{name}` were started with different settings ({}), and all of them count as it",
                kind.name(),
                differ.join(", ")
            )
        })
    }

    /// That some of its containers do not count, if so.
    pub fn idleness(&self) -> Option<String> {
        let idle = self.idle();
        let Target { kind, name } = self.target();
        (!idle.is_empty()).then(|| {
            format!(
                "{} `{name}`: {} never executed the entry point, so settings and use of such a container do not count; the runtime's calls for it do",
                kind.name(),
                brief_list(idle.into_iter().map(|id| self.name_of(id)))
            )
        })
    }

    /// Whether what a container used is the target's: not where it never executed its entry point, and another one did.
    pub fn counts(&self, id: &str) -> bool {
        !self.idle().contains(id)
    }

    /// Slots of which nobody has looked yet whether an entry point was executed, where that makes a difference.
    pub fn unsure(&self) -> Vec<Slot> {
        let first = self.starts.first().map(|start| start.id.as_str());
        let several = self.starts.iter().any(|start| Some(start.id.as_str()) != first);
        let unsure = self.starts.iter().filter(|start| several && start.entered.is_none());
        unsure.filter_map(|start| start.slot).collect()
    }

    /// Whether the entry point was executed in the start that writes to this slot.
    pub fn entered(&mut self, slot: Slot, entered: bool) {
        if let Some(start) = self.starts.iter_mut().find(|start| start.slot == Some(slot)) {
            start.entered = Some(start.entered == Some(true) || entered);
        }
    }

    /// It was started, and writes to this slot; true when none ran before.
    pub fn started(&mut self, id: &str, slot: Slot) -> bool {
        let first = !self.is_running();
        self.exists(id);
        self.created.remove(id);
        let start =
            Start { id: id.to_owned(), slot: Some(slot), died: false, ended: false, entered: None };
        self.starts.push(start);
        self.quiet_since = None;
        self.is_final = false;
        first
    }

    /// It ran before the recording began, and writes to this slot from now on.
    pub fn ran_before(&mut self, id: &str, slot: Slot) {
        self.started_before = true;
        self.started(id, slot);
        self.entered(slot, true);
    }

    /// The engine says that a start of this container ended; true when none runs any more. Events come
    /// in order, so it is the oldest that was not said of.
    pub fn died(&mut self, id: &str, now: Instant) -> bool {
        if let Some(start) = self.starts.iter_mut().find(|start| start.id == id && !start.died) {
            start.died = true;
        }
        self.note_quiet(now)
    }

    /// The cgroup of a start is gone, and its evidence is this; true when none runs any more.
    pub fn take_over(&mut self, slot: Slot, evidence: Evidence, now: Instant) -> bool {
        self.entered(slot, evidence.has_entered());
        self.evidence.absorb(evidence);
        if let Some(start) = self.starts.iter_mut().find(|start| start.slot == Some(slot)) {
            start.ended = true;
            start.slot = None;
        }
        self.note_quiet(now)
    }

    /// No process is left in the cgroup of a start; true when none runs any more.
    pub fn vacated(&mut self, slot: Slot, now: Instant) -> bool {
        if let Some(start) = self.starts.iter_mut().find(|start| start.slot == Some(slot)) {
            start.ended = true;
        }
        self.note_quiet(now)
    }

    fn note_quiet(&mut self, now: Instant) -> bool {
        let ends = !self.is_running() && self.ran() && self.quiet_since.is_none();
        if ends {
            self.quiet_since = Some(now);
        }
        ends
    }

    /// A container was removed; it will not be started again.
    pub fn removed(&mut self, id: &str) {
        self.created.remove(id);
        if self.knows(id) {
            self.removed.insert(id.to_owned());
        }
        if self.ran() && self.may_be_started().next().is_none() {
            self.is_final = true;
        }
    }

    /// Those that were started and not removed.
    pub fn may_be_started(&self) -> impl Iterator<Item = &str> {
        let starts = self.starts.iter().map(|start| start.id.as_str());
        let started: BTreeSet<&str> = starts.filter(|id| !self.removed.contains(*id)).collect();
        started.into_iter()
    }

    /// The engine does not start it again.
    pub fn stays_down(&mut self) {
        self.is_final = true;
    }

    /// Evidence slots in use.
    pub fn slots(&self) -> Vec<Slot> {
        self.starts.iter().filter_map(|start| start.slot).collect()
    }

    /// Whether a slot is in use by it.
    pub fn uses(&self, slot: Slot) -> bool {
        self.starts.iter().any(|start| start.slot == Some(slot))
    }

    /// Whether a start of this container was recorded.
    pub fn was_started(&self, id: &str) -> bool {
        self.starts.iter().any(|start| start.id == id)
    }

    /// It runs now.
    pub fn is_running(&self) -> bool {
        self.starts.iter().any(Start::is_running)
    }

    /// A start of it was recorded.
    pub fn ran(&self) -> bool {
        !self.starts.is_empty()
    }

    /// It ran, and will not come back by itself.
    pub fn is_over(&self, now: Instant) -> bool {
        let down = self.ran() && !self.is_running() && self.created.is_empty();
        down && (self.is_final || self.is_quiet(now) && !self.restart_policy)
    }

    /// It ended, and only the engine can tell whether it will be started again.
    pub fn may_come_back(&self, now: Instant) -> bool {
        self.is_quiet(now) && self.restart_policy && !self.is_final
    }

    fn is_quiet(&self, now: Instant) -> bool {
        self.quiet_since.is_some_and(|since| now.duration_since(since) >= GRACE)
    }

    /// Its filter denies, or nobody has said what filter it has.
    pub fn is_filtered(&self) -> bool {
        self.joined().is_none_or(|joined| denies(&joined.facts))
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
        if self.joined().is_some_and(|joined| joined.hides_handover) {
            missing.push(Missing::Handover);
        }
        if engine_gone {
            missing.push(Missing::Engine);
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::evidence::Entries;

    const LATER: Duration = Duration::from_secs(3);

    #[test]
    fn an_older_container_of_the_name_does_not_end_a_newer_one() {
        let now = Instant::now();
        let mut backend = Followed::new(Wanted::Container("backend".to_owned()));
        assert!(backend.started("old", 1));
        assert!(!backend.started("new", 2));
        assert!(!backend.died("old", now));
        backend.removed("old");
        assert!(backend.is_running() && !backend.is_over(now + LATER));
        assert!(backend.died("new", now));
        assert!(!backend.is_over(now) && backend.is_over(now + LATER));
    }

    #[test]
    fn a_late_word_of_death_is_about_the_older_start() {
        let now = Instant::now();
        let mut backend = Followed::new(Wanted::Container("backend".to_owned()));
        backend.started("id", 1);
        backend.started("id", 2); // restarted; its cgroup was found before the event was read
        assert!(!backend.died("id", now));
        assert!(backend.is_running());
        backend.take_over(1, Evidence::default(), now);
        assert!(backend.is_running());
        assert!(backend.take_over(2, Evidence::default(), now));
        assert!(!backend.is_running());
    }

    #[test]
    fn a_created_container_is_waited_for() {
        let now = Instant::now();
        let mut backend = Followed::new(Wanted::Container("backend".to_owned()));
        backend.started("one", 1);
        backend.died("one", now);
        backend.removed("one");
        assert!(backend.is_over(now));
        backend.exists("two");
        assert!(!backend.is_over(now + LATER));
        backend.removed("two");
        assert!(backend.is_over(now + LATER));
    }

    #[test]
    fn a_service_is_over_when_its_last_container_is() {
        let now = Instant::now();
        let mut web = Followed::new(Wanted::Service("web".to_owned()));
        web.restart_policy = true;
        assert!(web.started("one", 1));
        assert!(!web.started("two", 2));
        assert!(!web.died("two", now));
        web.removed("two"); // scaled down
        assert!(web.died("one", now), "the engine starts this one again");
        assert!(!web.is_over(now + LATER) && web.may_come_back(now + LATER));
        assert!(web.may_be_started().eq(["one"]));
        assert!(web.started("one", 3) && !web.is_over(now));
        web.died("one", now);
        web.removed("one");
        assert!(web.is_over(now));
        assert_eq!(web.target().kind.name(), "service");
    }

    #[test]
    fn a_container_that_never_executed_its_entry_point_counts_only_alone() {
        let now = Instant::now();
        let ran = || Evidence {
            entries: Entries { entered: 1, ..Entries::default() },
            ..Evidence::default()
        };
        let mut worker = Followed::new(Wanted::Service("worker".to_owned()));
        worker.meet(&Seen { id: "bad".into(), name: "x".repeat(500), membership: None });
        worker.started("bad", 1);
        assert!(worker.counts("bad"), "nobody has looked");
        worker.take_over(1, Evidence::default(), now);
        assert!(worker.counts("bad") && worker.idleness().is_none(), "there is no other one");

        worker.started("good", 2);
        assert!(!worker.counts("bad") && worker.counts("good"), "this one may run");
        assert_eq!(worker.unsure(), [2]);
        worker.entered(2, true);
        assert!(worker.unsure().is_empty());
        let told = worker.idleness().expect("one never ran");
        assert!(told.contains(&format!("`{}...`", "x".repeat(128))) && told.len() < 400, "{told}");
        worker.take_over(2, ran(), now);
        assert!(!worker.counts("bad"));

        worker.started("bad", 3);
        worker.take_over(3, ran(), now);
        assert!(worker.counts("bad") && worker.idleness().is_none(), "at its second start it ran");
        worker.started("late", 4);
        worker.take_over(4, Evidence::default(), now);
        assert!(!worker.counts("late"));
    }

    #[test]
    fn what_the_engine_restarts_is_over_when_the_engine_says_so() {
        let now = Instant::now();
        let mut backend = Followed::new(Wanted::Container("backend".to_owned()));
        backend.started("id", 1);
        backend.restart_policy = true;
        backend.died("id", now);
        assert!(!backend.is_over(now + LATER) && backend.may_come_back(now + LATER));
        backend.stays_down();
        assert!(backend.is_over(now + LATER) && !backend.may_come_back(now + LATER));
    }
}
