//! `no-new-privileges`: whether a program was executed that gives more than its caller has.
//!
//! The kernel's records of an execve tell what a file's capabilities, or set-user-ID root, gave to who is not root. What gives the
//! identity of another user that is not root shows in who the processes were.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Evidence, user::starts_as_root};
use crate::model::{
    capability,
    recording::{AuditClass, Missing, Phase, Program, Run, Verdict},
    syscall,
};

/// Calls that execute a program.
const EXECUTES: [&str; 2] = ["execve", "execveat"];

/// Whether no program has to give more than its caller has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoNewPrivileges {
    /// Every run was started with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub already: bool,
    /// What stands in the way: not empty, and it stays as it is. May quote hostile text.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub not_because: BTreeSet<String>,
}

impl NoNewPrivileges {
    /// Whether it is to be set.
    #[must_use]
    pub fn is_advised(&self) -> bool {
        self.not_because.is_empty()
    }
}

pub(super) fn advise(evidence: &Evidence<'_>) -> NoNewPrivileges {
    let mut not_because = BTreeSet::new();
    let runs = || evidence.recording.runs.values();
    let missing = |is: &dyn Fn(&Missing) -> bool| runs().any(|run| run.missing.iter().any(is));
    if missing(&|missing| matches!(missing, Missing::Startup)) {
        not_because.insert("start-up was not seen".to_owned());
    }
    if !evidence.capabilities.known {
        not_because.insert("capabilities could not be seen".to_owned());
    }
    if missing(&|missing| matches!(missing, Missing::Lost { what, .. } if what == "capabilities")) {
        not_because.insert("evidence about capabilities was lost".to_owned());
    }
    not_because.extend(gains(evidence));
    not_because.extend(other_user(evidence));
    let is_set =
        |run: &Run| run.container.as_ref().is_some_and(|container| container.no_new_privileges);
    NoNewPrivileges { already: runs().all(is_set), not_because }
}

/// Programs that had capabilities from their files. To root they give none.
fn gains(evidence: &Evidence<'_>) -> Vec<String> {
    let mut users = evidence.usages.iter().flat_map(|usage| &usage.users);
    let all_root =
        !evidence.is_partial && users.clone().next().is_some() && users.all(|user| user.uid == 0);
    if all_root {
        return vec![];
    }
    let facts = evidence.recording.capabilities.iter().filter(|fact| {
        fact.phase == Phase::Workload
            && fact.audit == AuditClass::Implied
            && fact.verdict == Verdict::Granted
            && syscall::name(fact.abi, fact.nr).is_some_and(|name| EXECUTES.contains(&name))
    });
    facts
        .map(|fact| {
            let programs = fact.seen.values().flat_map(|seen| &seen.sighting.programs);
            let programs: BTreeSet<&str> = programs.map(name).collect();
            let programs = programs.into_iter().collect::<Vec<_>>().join("`, `");
            format!("`{programs}` has {} from its file", capability::display(fact.capability))
        })
        .collect()
}

/// Programs of a user that nobody could become: none was root, and none changed its user in earnest.
fn other_user(evidence: &Evidence<'_>) -> Vec<String> {
    if evidence.requires("SETUID") || evidence.requires("SETGID") {
        return vec![];
    }
    let mut found = Vec::new();
    let runs = evidence.recording.runs.values().filter(|run| !starts_as_root(run));
    for usage in runs.filter_map(|run| run.usage.as_ref()) {
        let first = usage.users.iter().find(|user| user.first);
        let Some(first) = first.filter(|_| usage.users.iter().all(|user| user.uid != 0)) else {
            continue;
        };
        for user in usage.users.iter().filter(|user| user.uid != first.uid) {
            let programs: Vec<&str> = user.programs.iter().map(name).collect();
            let programs = programs.join("`, `");
            found
                .push(format!("`{programs}` ran as {} and was started by {}", user.uid, first.uid));
        }
    }
    found
}

/// The name of a program in a reason.
pub(super) fn name(program: &Program) -> &str {
    if program.exe.is_empty() { &program.comm } else { &program.exe }
}
