//! What a profile is for: the runtimes that are to start the target, and how they are used.
//!
//! Owns the choice that `generate --runtime` offers and what follows from it for one recorded run. Which calls a
//! runtime makes is `floor`'s; which of them a profile allows, `policy`'s.

use std::str::FromStr;

use crate::model::floor::{self, RuntimeUse, User};

/// What was asked for. By default what was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Purpose {
    /// The runtime; the recorded one when it is `None`.
    pub runtime: Option<RuntimeChoice>,
    /// The setting of `no-new-privileges`; the recorded one when it is `None`.
    pub no_new_privileges: Option<bool>,
    /// Who the entry point is to run as; the recorded one when it is `None`.
    pub user: Option<User>,
}

/// A choice of runtimes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuntimeChoice {
    /// All that were measured, and the recorded one.
    Any,
    /// All measured versions of one, and the recorded one if it is of that kind.
    Every(&'static str),
    /// One version.
    One {
        /// `runc` or `crun`.
        runtime: &'static str,
        /// As it was typed; it has a number at its start.
        version: String,
    },
}

/// A text that names no runtime.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuntimeChoiceError {
    /// No floor is known for any version of it.
    #[error("`{}` was never measured: write `any`, or one of {known}", .name.escape_debug())]
    Unknown {
        /// What was typed.
        name: String,
        /// What could have been.
        known: String,
    },
    /// Versions are numbers.
    #[error("`{}` is no version: write `1.2.0`", .version.escape_debug())]
    Version {
        /// What was typed.
        version: String,
    },
}

impl FromStr for RuntimeChoice {
    type Err = RuntimeChoiceError;

    /// Reads `any`, `runc`, `runc:1.2.0`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "any" {
            return Ok(RuntimeChoice::Any);
        }
        let (name, version) =
            text.split_once(':').map_or((text, None), |(name, version)| (name, Some(version)));
        let Some((runtime, _)) = floor::measured().find(|(known, _)| *known == name) else {
            let mut known: Vec<String> = floor::measured()
                .map(|(runtime, version)| format!("`{runtime}:{version}`"))
                .collect();
            known.sort();
            return Err(RuntimeChoiceError::Unknown { name: name.into(), known: known.join(", ") });
        };
        match version {
            None => Ok(RuntimeChoice::Every(runtime)),
            Some(version) if version.starts_with(|c: char| c.is_ascii_digit()) => {
                Ok(RuntimeChoice::One { runtime, version: version.into() })
            }
            Some(version) => Err(RuntimeChoiceError::Version { version: version.into() }),
        }
    }
}

impl Purpose {
    /// Whether it is what was recorded.
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        *self == Purpose::default()
    }

    /// The uses that a run's profile is for. `recorded` is how the run's own runtime was used, if one was. A target that
    /// none started gets the larger floor: for any user, and with new privileges allowed unless told otherwise.
    #[must_use]
    pub fn uses(&self, recorded: Option<&RuntimeUse>) -> Vec<RuntimeUse> {
        let no_new_privileges = self
            .no_new_privileges
            .unwrap_or_else(|| recorded.is_some_and(|usage| usage.no_new_privileges));
        let user = self.user.or(recorded.map(|usage| usage.user)).unwrap_or(User::NonRoot);
        let of = |(runtime, version): (&str, &str)| RuntimeUse {
            runtime: runtime.into(),
            version: version.into(),
            no_new_privileges,
            user,
        };
        let own = recorded.map(|usage| of((&usage.runtime, &usage.version)));
        let (family, own) = match &self.runtime {
            None => return own.into_iter().collect(),
            Some(RuntimeChoice::One { runtime, version }) => return vec![of((runtime, version))],
            Some(RuntimeChoice::Any) => (None, own),
            Some(RuntimeChoice::Every(family)) => {
                (Some(*family), own.filter(|own| floor::family(&own.runtime) == Some(family)))
            }
        };
        let all = floor::measured().filter(|(name, _)| family.is_none_or(|family| family == *name));
        let others = all.map(of).filter(|usage| own.as_ref().is_none_or(|own| !own.is_same(usage)));
        others.chain(own.clone()).collect()
    }
}

/// Whether the calls that `recorded` was seen to make are evidence for `wanted`.
///
/// Without new privileges the filter is loaded later, and what is called after that was called after the earlier
/// load as well: more than is needed, so the measured floor takes its place where there is an exact one.
#[must_use]
pub fn is_evidence(recorded: &RuntimeUse, wanted: &RuntimeUse) -> bool {
    let loads_later = wanted.no_new_privileges && !recorded.no_new_privileges;
    recorded.is_same(wanted) && !(loads_later && floor::is_exact(wanted))
}

/// Whether they are all that `wanted` makes in a start: not when its filter is loaded earlier, or the user is not root any more.
#[must_use]
pub fn is_all(recorded: &RuntimeUse, wanted: &RuntimeUse) -> bool {
    is_evidence(recorded, wanted)
        && (wanted.no_new_privileges || !recorded.no_new_privileges)
        && (recorded.user == wanted.user || wanted.user == User::Root)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(runtime: &str, version: &str, no_new_privileges: bool) -> RuntimeUse {
        RuntimeUse {
            runtime: runtime.into(),
            version: version.into(),
            no_new_privileges,
            user: User::Root,
        }
    }

    fn chosen(text: &str) -> Purpose {
        Purpose { runtime: Some(text.parse().expect(text)), ..Purpose::default() }
    }

    #[test]
    fn choices_are_read() {
        assert_eq!("any".parse(), Ok(RuntimeChoice::Any));
        assert_eq!("runc".parse(), Ok(RuntimeChoice::Every("runc")));
        let one = RuntimeChoice::One { runtime: "crun", version: "1.21".into() };
        assert_eq!("crun:1.21".parse(), Ok(one));
        for bad in ["", "kata", "runc:", "runc:new", "RUNC", "any:1"] {
            assert!(bad.parse::<RuntimeChoice>().is_err(), "{bad}");
        }
        let error = "kata\u{1b}".parse::<RuntimeChoice>().expect_err("unknown").to_string();
        assert!(error.starts_with("`kata\\u{1b}` was never measured"), "{error}");
        assert!(error.contains("`runc:1.1.5`"), "{error}");
    }

    #[test]
    fn the_recorded_one_is_among_those_it_is_a_kind_of() {
        let recorded = usage("runc", "1.1.7", true);
        let of = |text: &str| chosen(text).uses(Some(&recorded));
        assert_eq!(Purpose::default().uses(Some(&recorded)), std::slice::from_ref(&recorded));
        assert!(of("any").contains(&recorded) && of("runc").contains(&recorded));
        assert!(!of("crun").contains(&recorded));
        assert_eq!(of("any").len(), floor::measured().count() + 1);
        assert_eq!(of("crun:9"), [usage("crun", "9", true)]);
        // A measured version is there once, as it was recorded.
        let measured = usage("runc", "1.1.5+ds1", false);
        let uses = chosen("any").uses(Some(&measured));
        assert_eq!(uses.len(), floor::measured().count());
        assert!(uses.contains(&measured));
    }

    #[test]
    fn a_target_without_a_runtime_gets_the_larger_floor() {
        assert_eq!(Purpose::default().uses(None), []);
        let uses = chosen("crun:1.8.1").uses(None);
        assert_eq!((uses[0].no_new_privileges, uses[0].user), (false, User::NonRoot));
    }

    #[test]
    fn evidence_of_an_earlier_load_gives_way_to_an_exact_floor_only() {
        let (early, late) = (usage("runc", "1.1.5", false), usage("runc", "1.1.5", true));
        assert!(is_evidence(&early, &early) && is_all(&early, &early));
        assert!(!is_evidence(&early, &late));
        assert!(is_evidence(&late, &early) && !is_all(&late, &early));
        let (early, late) = (usage("runc", "1.1.7", false), usage("runc", "1.1.7", true));
        assert!(is_evidence(&early, &late) && is_all(&early, &late));
        assert!(!is_evidence(&early, &usage("runc", "1.1.5", false)));
        assert!(!is_evidence(&early, &usage("crun", "1.1.7", false)));
    }
}
