//! When the end of calls is worth its price.
//!
//! A program on `sys_exit` costs every call of the host about as much again as the one on
//! `sys_enter`. It tells how the calls around capability checks ended, so it is attached from the
//! start and whenever a new kind of check appears, and detached when none has appeared for a while.
//! It also tells denied calls, so it stays while a target's filter denies, or while it is not known
//! whether one will. A check whose syscall ended unobserved counts as needed.

use std::time::Duration;

/// How long no new kind of check must have appeared.
const QUIET: Duration = Duration::from_secs(5);

/// Decides what `sys_exit` is wanted for.
#[derive(Debug, Default)]
pub struct Exits {
    checks: usize,
    last_new: Duration,
}

impl Exits {
    /// Whether outcomes are wanted, given the time since armed and the kinds of check so far.
    /// `expecting` holds while a target may yet start.
    pub fn outcomes(&mut self, now: Duration, checks: usize, expecting: bool) -> bool {
        if checks != self.checks {
            self.checks = checks;
            self.last_new = now;
        }
        expecting || now.saturating_sub(self.last_new) < QUIET
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rests_when_nothing_new_appears_and_wakes_when_something_does() {
        let second = Duration::from_secs;
        let mut exits = Exits::default();
        assert!(exits.outcomes(second(0), 0, false));
        assert!(exits.outcomes(second(3), 7, false));
        assert!(exits.outcomes(second(7), 7, false));
        assert!(!exits.outcomes(second(8), 7, false));
        assert!(exits.outcomes(second(9), 8, false));
        assert!(exits.outcomes(second(99), 8, true));
        assert!(!exits.outcomes(second(100), 8, false));
    }
}
