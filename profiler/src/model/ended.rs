//! Whether a container held: what its states before and after a run say of what happened in between.
//!
//! Owns the one meaning of "held" that `verify`, `verify --quick` and `minimise` share. Looks at nothing itself.

/// Exit statuses of a container that ended because it was asked to: SIGTERM and SIGKILL, which an engine's stop sends.
const ASKED: [i64; 2] = [143, 137];

/// How a container is, as far as it is judged by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State<'a> {
    /// Its first process runs.
    pub running: bool,
    /// Exit status of its last end.
    pub exit_code: i64,
    /// How often the engine started it again.
    pub restarts: i64,
    /// It ran out of memory.
    pub out_of_memory: bool,
    /// Its health check says `unhealthy`.
    pub unhealthy: bool,
    /// What the engine or the runtime says went wrong. Hostile text.
    pub error: &'a str,
}

/// What is asked of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Must {
    /// It may end, but not in failure; a health check judges when the tests begin, no more.
    NotFail,
    /// It must run at the end, and be healthy where it has a health check.
    StayUp,
}

/// What happened to a container, in words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ended {
    /// By these it did not hold. Hostile text.
    pub failures: Vec<String>,
    /// What is only told. Hostile text.
    pub told: Vec<String>,
}

impl Ended {
    /// Whether nothing speaks against it.
    #[must_use]
    pub fn held(&self) -> bool {
        self.failures.is_empty()
    }
}

/// Judges by the states before and after; `stopped` says that somebody had the engine stop it in between.
#[must_use]
pub fn ended(before: &State<'_>, after: &State<'_>, stopped: bool, must: Must) -> Ended {
    let mut ended = Ended::default();
    let stays = must == Must::StayUp;
    let restarts = after.restarts - if stays { 0 } else { before.restarts };
    if restarts > 0 {
        ended.failures.push(format!("the engine started the container again, {restarts} times"));
    }
    if after.out_of_memory && (stays || !before.out_of_memory) {
        ended.failures.push("the container ran out of memory".to_owned());
    } else if before.out_of_memory {
        ended.told.push("the container had run out of memory before the tests".to_owned());
    }
    if !after.running {
        let code = after.exit_code;
        let why = if after.error.is_empty() { String::new() } else { format!(": {}", after.error) };
        if stays {
            ended.failures.push(format!("the container did not stay up: status {code}{why}"));
        } else if code != 0 && stopped && ASKED.contains(&code) {
            ended
                .told
                .push(format!("the container was stopped while the tests ran: status {code}"));
        } else if code != 0 {
            ended.failures.push(format!("the container ended with status {code}{why}"));
        }
    }
    if stays && after.unhealthy {
        ended.failures.push("its health check says `unhealthy`".to_owned());
    }
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP: State<'_> = State {
        running: true,
        exit_code: 0,
        restarts: 0,
        out_of_memory: false,
        unhealthy: false,
        error: "",
    };

    fn down(exit_code: i64) -> State<'static> {
        State { running: false, exit_code, ..UP }
    }

    #[test]
    fn an_end_in_failure_is_one_unless_the_engine_was_asked_for_it() {
        let held = |after: &State<'_>, stopped| ended(&UP, after, stopped, Must::NotFail).held();
        for (status, alone, stopped) in
            [(0, true, true), (3, false, false), (137, false, true), (143, false, true)]
        {
            assert_eq!(held(&down(status), false), alone, "{status}");
            assert_eq!(held(&down(status), true), stopped, "{status}, stopped");
        }
        assert!(!held(&down(159), true), "the filter's signal is never asked for");
        assert!(!ended(&down(3), &down(3), false, Must::NotFail).held(), "before the tests");
        let told = ended(&UP, &down(143), true, Must::NotFail).told;
        assert_eq!(told, ["the container was stopped while the tests ran: status 143"]);
        let said = State { error: "no such file", ..down(127) };
        let failures = ended(&UP, &said, false, Must::NotFail).failures;
        assert_eq!(failures, ["the container ended with status 127: no such file"]);
    }

    #[test]
    fn what_was_so_before_the_tests_is_not_held_against_it() {
        let worn = State { restarts: 2, out_of_memory: true, ..UP };
        assert!(ended(&worn, &worn, false, Must::NotFail).held());
        assert!(!ended(&UP, &worn, false, Must::NotFail).held());
        assert_eq!(ended(&UP, &worn, false, Must::NotFail).failures.len(), 2);
        assert_eq!(ended(&worn, &worn, false, Must::StayUp).failures.len(), 2, "of its own start");
    }

    #[test]
    fn what_must_stay_up_runs_and_is_healthy() {
        let held = |after: &State<'_>| ended(&UP, after, true, Must::StayUp).held();
        assert!(held(&UP));
        let sick = State { unhealthy: true, ..UP };
        for after in [down(0), down(3), down(143), sick.clone()] {
            assert!(!held(&after), "{after:?}");
        }
        assert!(ended(&UP, &sick, false, Must::NotFail).held());
    }
}
