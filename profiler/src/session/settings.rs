//! What the containers of one target were started with, joined so that what is said of all holds for each. No I/O.
//!
//! Containers of a service, or of a name, may differ, by mistake or because somebody wants it so. Then none of them may hide
//! what another one ran under.

use std::collections::BTreeSet;

use super::run::denies;
use crate::model::recording::{Container, SeccompSetting};

/// The settings of each container that was inspected, in the order of their first inspection.
#[derive(Default)]
pub struct Settings {
    known: Vec<Known>,
}

struct Known {
    id: String,
    facts: Container,
    /// `compose run` made it.
    one_off: bool,
}

/// The settings of several containers as those of one.
pub struct Joined {
    /// A filter that denies, if one had such; no-new-privileges, if all had it; privileged, if one was; the capabilities of all;
    /// otherwise as the first one.
    pub facts: Container,
    /// In what they differ.
    pub differ: Vec<&'static str>,
    /// Of one of them no hand-over was seen, though its setting is not the joined one.
    pub hides_handover: bool,
}

impl Settings {
    /// Takes over what an inspection says.
    pub fn learn(&mut self, id: &str, facts: Container, one_off: bool) {
        match self.known.iter_mut().find(|known| known.id == id) {
            Some(known) => known.facts = facts,
            None => self.known.push(Known { id: id.to_owned(), facts, one_off }),
        }
    }

    /// Nothing is known of any that `compose run` did not make.
    pub fn are_of_one_offs(&self) -> bool {
        self.known.iter().all(|known| known.one_off)
    }

    /// Joins those of the containers that ran; while none did, the last one's stand for them. `None` when nothing is known.
    pub fn joined(&self, ran: impl Fn(&str) -> bool) -> Option<Joined> {
        let mut all: Vec<&Known> = self.known.iter().filter(|known| ran(&known.id)).collect();
        if all.is_empty() {
            all.extend(self.known.last());
        }
        // what `compose run` was told to do otherwise is not the service's
        let own: Vec<&Container> = match all.iter().any(|known| !known.one_off) {
            true => all.iter().filter(|known| !known.one_off).map(|known| &known.facts).collect(),
            false => all.iter().map(|known| &known.facts).collect(),
        };
        let all: Vec<&Container> = all.into_iter().map(|known| &known.facts).collect();
        let first = *own.first()?;
        let mut facts = first.clone();
        // of those that are as safe, the first
        facts.seccomp = all
            .iter()
            .rev()
            .copied()
            .max_by_key(|one| caution(one))
            .map_or(facts.seccomp, |one| one.seccomp);
        facts.no_new_privileges = all.iter().all(|one| one.no_new_privileges);
        facts.privileged = all.iter().any(|one| one.privileged);
        let capabilities: BTreeSet<&String> =
            all.iter().flat_map(|one| &one.capabilities).collect();
        facts.capabilities = capabilities.into_iter().cloned().collect();

        let image = |one: &Container| (one.image.clone(), one.image_id.clone());
        let runtime = |one: &Container| (one.runtime.clone(), one.runtime_version.clone());
        let unlike = [
            ("image", own.iter().any(|one| image(one) != image(first))),
            ("user", own.iter().any(|one| one.user != first.user)),
            ("runtime", own.iter().any(|one| runtime(one) != runtime(first))),
            ("seccomp", all.iter().any(|one| one.seccomp != first.seccomp)),
            (
                "no-new-privileges",
                all.iter().any(|one| one.no_new_privileges != first.no_new_privileges),
            ),
            ("privileged", all.iter().any(|one| one.privileged != first.privileged)),
            ("capabilities", all.iter().any(|one| one.capabilities != first.capabilities)),
        ];
        let differ = unlike.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name);
        let is_unconfined = |one: &Container| one.seccomp == SeccompSetting::Unconfined;
        Some(Joined {
            differ: differ.collect(),
            hides_handover: !is_unconfined(&facts) && all.iter().any(|one| is_unconfined(one)),
            facts,
        })
    }
}

/// How much a filter keeps a recording from seeing.
fn caution(container: &Container) -> u8 {
    match container.seccomp {
        _ if denies(container) => 2,
        SeccompSetting::Unconfined => 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDING: &str = include_str!("../../tests/data/backend.json");

    fn container(change: impl FnOnce(&mut Container)) -> Container {
        let recording = crate::ingest::recording::parse(RECORDING).expect("a recording");
        let run = recording.runs.into_values().next().expect("a run");
        let mut container = run.container.expect("a container");
        container.seccomp = SeccompSetting::Permissive;
        change(&mut container);
        container
    }

    fn settings(of: Vec<Container>) -> Settings {
        let mut settings = Settings::default();
        for (number, facts) in of.into_iter().enumerate() {
            settings.learn(&number.to_string(), facts, false);
        }
        settings
    }

    #[test]
    fn a_second_container_takes_nothing_back_that_the_first_one_says() {
        let first = container(|it| {
            it.seccomp = SeccompSetting::EngineDefault;
            it.capabilities = vec!["CHOWN".into()];
        });
        let forged = container(|it| {
            it.seccomp = SeccompSetting::Unconfined;
            it.no_new_privileges = true;
            it.user = "65534".into();
            it.image = "other".into();
            it.capabilities = vec!["SYS_ADMIN".into()];
        });
        let differ = ["image", "user", "seccomp", "no-new-privileges", "capabilities"];
        let joined = settings(vec![first.clone(), forged.clone()]).joined(|_| true).expect("known");
        let mut expected = first.clone();
        expected.capabilities = vec!["CHOWN".into(), "SYS_ADMIN".into()];
        assert_eq!((joined.facts, joined.differ), (expected, differ.to_vec()));
        assert!(joined.hides_handover, "the second one's was not seen");

        let joined = settings(vec![forged.clone(), first]).joined(|_| true).expect("known");
        assert!(denies(&joined.facts) && !joined.facts.no_new_privileges);
        assert_eq!((joined.facts.user, joined.differ), (forged.user, differ.to_vec()));
    }

    #[test]
    fn like_containers_and_ones_that_never_ran_say_nothing() {
        let like = || container(|_| ());
        let old = container(|it| it.seccomp = SeccompSetting::Custom);
        let joined = settings(vec![like(), like()]).joined(|_| true).expect("known");
        assert_eq!((joined.facts, joined.differ, joined.hides_handover), (like(), vec![], false));
        let left_over = settings(vec![old.clone(), like()]);
        let joined = left_over.joined(|id| id == "1").expect("known");
        assert_eq!((joined.facts, joined.differ), (like(), vec![]));
        assert_eq!(
            settings(vec![like(), old.clone()]).joined(|_| false).expect("known").facts,
            old
        );
        assert!(Settings::default().joined(|_| true).is_none());
    }

    #[test]
    fn what_compose_run_was_told_is_not_the_services_but_its_filter_counts() {
        let mut settings = Settings::default();
        let one_off = container(|it| {
            it.user = "1000".into();
            it.seccomp = SeccompSetting::EngineDefault;
        });
        settings.learn("a", one_off, true);
        assert!(settings.are_of_one_offs());
        settings.learn("b", container(|_| ()), false);
        let joined = settings.joined(|_| true).expect("known");
        assert_eq!(joined.facts.user, container(|_| ()).user);
        assert!(denies(&joined.facts) && !settings.are_of_one_offs());
        assert_eq!(joined.differ, ["seccomp"]);
    }
}
