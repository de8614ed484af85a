//! One of the two policies that are compared.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::model::{
    arch::Abi,
    capability,
    effective::Effective,
    harden::Harden,
    profile::{NoNewPrivileges, Profile, SyscallReason},
    syscall,
};

/// A policy: what its filter does, and what is known beside the filter.
#[derive(Debug, Clone)]
pub struct Side {
    /// What it is called in reports. Hostile text.
    pub label: String,
    /// What its filter does.
    pub effective: Effective,
    /// The capabilities that it adds back; `None` for a seccomp file, which says nothing of them.
    pub grants: Option<Grants>,
    /// Where `no-new-privileges` is set; `None` for a seccomp file.
    pub no_new_privileges: Option<NoNewPrivileges>,
    /// What it sets beyond both; `None` for a seccomp file.
    pub harden: Option<Harden>,
    /// Who makes the calls, where that is known.
    pub users: BTreeMap<(Abi, u32), Users>,
}

/// The capabilities of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grants {
    /// These and no others, by name without `CAP_`, with who needs them.
    Only(BTreeMap<String, Users>),
    /// What the engine grants: without evidence nothing may be dropped.
    Unknown,
}

/// Who needs something. All lists are sorted, and hostile text.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Users {
    /// Executables of the workload.
    pub programs: Vec<String>,
    /// Tests that were running.
    pub tests: Vec<String>,
    /// Other reasons, in words: the runtime, what is always allowed.
    pub others: Vec<String>,
}

/// What stands for a reason that leave-one-out gave.
const PROVEN: &str = "tests fail without it";

impl Users {
    /// Whether nobody is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.programs.is_empty() && self.tests.is_empty() && self.others.is_empty()
    }

    /// Adds everyone else's.
    pub fn join(&mut self, other: &Users) {
        for (all, more) in [
            (&mut self.programs, &other.programs),
            (&mut self.tests, &other.tests),
            (&mut self.others, &other.others),
        ] {
            let joined: BTreeSet<_> = all.drain(..).chain(more.iter().cloned()).collect();
            all.extend(joined);
        }
    }

    /// Those whom the reasons of a rule name.
    fn of_reasons(reasons: &[SyscallReason]) -> Users {
        let mut users = Users::default();
        for reason in reasons {
            let (programs, tests, other) = match reason {
                SyscallReason::Workload { programs, tests } => {
                    (programs.clone(), tests.clone(), vec![])
                }
                SyscallReason::Denied { programs, tests } => (
                    programs.clone(),
                    tests.clone(),
                    vec!["learnt from a denial while recording".to_owned()],
                ),
                SyscallReason::Handover { runtime, version, .. } => (
                    vec![],
                    vec![],
                    vec![format!("the runtime {runtime} {version}").trim_end().into()],
                ),
                SyscallReason::Floor { runtime, version, .. } => (
                    vec![],
                    vec![],
                    vec![format!("the runtime, as measured of {runtime} {version}")],
                ),
                SyscallReason::Portable { of } if of.is_empty() => {
                    (vec![], vec![], vec!["C libraries make it by themselves".into()])
                }
                SyscallReason::Portable { of } => {
                    (vec![], vec![], vec![format!("stands in for {}", of.join(", "))])
                }
                SyscallReason::Launch {} => (vec![], vec![], vec!["starts the target".into()]),
                SyscallReason::AlwaysAllowed {} => (vec![], vec![], vec!["always allowed".into()]),
                SyscallReason::Needed { .. } => (vec![], vec![], vec![PROVEN.into()]),
            };
            users.join(&Users { programs, tests, others: other });
        }
        users
    }
}

impl Side {
    /// A seccomp file by itself.
    #[must_use]
    pub fn of_filter(label: String, effective: Effective) -> Side {
        Side {
            label,
            effective,
            grants: None,
            no_new_privileges: None,
            harden: None,
            users: BTreeMap::new(),
        }
    }

    /// Nothing: the other side of a policy that is new, or gone. It refuses what that one names.
    #[must_use]
    pub fn nothing(label: String, other: &Side) -> Side {
        let mut effective = other.effective.clone();
        effective.forget();
        Side {
            label,
            effective,
            grants: other.grants.as_ref().map(|_| Grants::Only(BTreeMap::new())),
            no_new_privileges: other.no_new_privileges,
            harden: other.harden.clone(),
            users: BTreeMap::new(),
        }
    }

    /// A profile, whose seccomp file does what `effective` says.
    ///
    /// Calls that no table names are in the profile and cannot be in its file; they count as allowed.
    #[must_use]
    pub fn of_profile(label: String, profile: &Profile, mut effective: Effective) -> Side {
        let mut users: BTreeMap<(Abi, u32), Users> = BTreeMap::new();
        for rule in &profile.syscalls {
            let Some(nr) = syscall::parse(rule.abi, &rule.name) else { continue };
            if syscall::is_unnamed(&rule.name) {
                effective.allow(rule.abi, nr);
            }
            users.insert((rule.abi, nr), Users::of_reasons(&rule.reasons));
        }
        let capabilities = &profile.capabilities;
        let grants = if capabilities.known {
            let required = capabilities.required.iter().map(|rule| {
                let mut users = Users::default();
                for reason in &rule.reasons {
                    users.join(&Users {
                        programs: reason.programs.clone(),
                        tests: reason.tests.clone(),
                        others: vec![format!("{} {}", reason.abi, reason.syscall)],
                    });
                }
                users.others.extend(rule.needed.iter().map(|_| PROVEN.to_owned()));
                (rule.name.clone(), users)
            });
            Grants::Only(required.collect())
        } else {
            Grants::Unknown
        };
        let no_new_privileges = Some(profile.no_new_privileges());
        let harden = Some(profile.harden.clone().unwrap_or_default());
        Side { label, effective, grants: Some(grants), no_new_privileges, harden, users }
    }

    /// An engine's default: its filter, and the capabilities that it grants unless told otherwise.
    #[must_use]
    pub fn of_engine(label: String, effective: Effective) -> Side {
        let granted = capability::DOCKER_DEFAULT.iter().map(|&name| {
            (
                name.to_owned(),
                Users { others: vec!["the engine grants it".into()], ..Users::default() },
            )
        });
        Side {
            grants: Some(Grants::Only(granted.collect())),
            no_new_privileges: Some(NoNewPrivileges::Nowhere),
            harden: Some(Harden::default()),
            ..Side::of_filter(label, effective)
        }
    }
}
