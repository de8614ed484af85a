//! One run under enforcement: a command of its own, or the tests against a copy of a container, under a reduced profile.
//!
//! It is recorded like any other, so it is known which calls were made and refused. What it starts does not outlive it. That an
//! engine does not start the target is an error and says nothing of the profile, unless what was left out is why.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use super::{Original, Trial, Tried, original::ENGINE_TIMEOUT};
use crate::{
    model::{
        ended::Must,
        minimise::{Entry, made},
        profile::Profile,
    },
    observe::ebpf::Options,
    session::{
        SessionError,
        tail::Tail,
        verify::{self, Bounds, Fault, Place, Policy, Verification, Verified},
    },
    target::docker::Docker,
};

/// A run may take this many times what the longest under the whole profile took, and this long in any case.
const PATIENCE: u32 = 10;
const AT_LEAST: Duration = Duration::from_secs(30);

/// Runs under enforcement.
pub struct Enforcing<'a> {
    /// The whole profile.
    pub profile: &'a Profile,
    /// What is put in force when these entries are left out.
    pub policy: &'a (dyn Fn(&BTreeSet<Entry>) -> Result<Policy, SessionError> + Sync),
    /// The container, and its engine; without, the command itself is run under the profile.
    pub place: Option<(Place, &'a Original<'a>)>,
    /// What the target is called.
    pub name: String,
    /// The tests, or the command.
    pub command: Vec<OsString>,
    /// How to observe.
    pub observe: Options,
    /// After this time a run is ended, and has failed; by what the whole profile took, if `None`.
    pub limit: Option<Duration>,
    /// The longest run under the whole profile, in milliseconds; 0 when there was none.
    pub longest_ms: AtomicU64,
}

impl Trial for Enforcing<'_> {
    fn run(&self, removed: &BTreeSet<Entry>) -> Result<Tried, SessionError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime
            .map_err(|source| SessionError::Spawn { program: "a run".to_owned(), source })?;
        let bounds = Bounds { tail: Tail::default(), limit: self.limit() };
        let started = Instant::now();
        let verified = runtime.block_on(self.verify(removed, bounds.clone()))?;
        let passed = passes(&verified);
        if removed.is_empty() && passed {
            let took = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.longest_ms.fetch_max(took, Ordering::Relaxed);
        }
        in_force(&verified)?;
        let made = verified.recording.as_ref().and_then(|recording| made(self.profile, recording));
        if let (true, Some(reason)) = (verified.refused, &verified.down)
            && !(may_be_why(removed, made.as_deref()) && runtime.block_on(self.starts())?)
        {
            return Err(SessionError::NotStarted { reason: reason.clone() });
        }
        let written = bounds.tail.text();
        let overdue = bounds.limit.filter(|limit| started.elapsed() >= *limit);
        Ok(Tried {
            passed,
            made,
            output: match (verified.down, overdue) {
                (Some(reason), _) => reason,
                (None, Some(limit)) => {
                    format!("{written}\nnot done after {} s, and ended", limit.as_secs())
                }
                (None, None) if written.trim().is_empty() => status(verified.status),
                (None, None) => written,
            },
        })
    }
}

impl Enforcing<'_> {
    fn limit(&self) -> Option<Duration> {
        let longest = Duration::from_millis(self.longest_ms.load(Ordering::Relaxed));
        let by_longest = (!longest.is_zero()).then(|| (longest * PATIENCE).max(AT_LEAST));
        self.limit.or(by_longest)
    }

    /// Whether the target is started at all, under the whole profile.
    async fn starts(&self) -> Result<bool, SessionError> {
        let bounds = Bounds { tail: Tail::default(), limit: self.limit() };
        Ok(!self.verify(&BTreeSet::new(), bounds).await?.refused)
    }

    async fn verify(
        &self,
        removed: &BTreeSet<Entry>,
        bounds: Bounds,
    ) -> Result<Verified, SessionError> {
        let plan = Verification {
            policy: (self.policy)(removed)?,
            place: self.place.as_ref().map(|(place, ..)| place.clone()),
            name: self.name.clone(),
            command: self.command.clone(),
            observe: self.observe,
        };
        let docker = match &self.place {
            None => None,
            Some((_, Original { endpoint, environment, .. })) => {
                Some(Docker::connect_or_podman(endpoint, environment, ENGINE_TIMEOUT).await?)
            }
        };
        verify::bounded(plan, docker.as_ref(), Some(bounds), |_| ()).await
    }
}

/// Whether the tests passed, and the container held.
fn passes(verified: &Verified) -> bool {
    verified.status == Some(0) && verified.down.is_none() && verified.ended(Must::NotFail).held()
}

/// Whether a target may not have been started for what was left out: something asked for it, or it is a capability, which a file
/// may want of the kernel without a check that is seen.
fn may_be_why(removed: &BTreeSet<Entry>, made: Option<&[Entry]>) -> bool {
    removed.iter().any(|entry| {
        matches!(entry, Entry::Capability(_)) || made.is_some_and(|made| made.contains(entry))
    })
}

/// A run under another filter says nothing.
fn in_force(verified: &Verified) -> Result<(), SessionError> {
    let why = match verified.in_force.faults.first() {
        None => return Ok(()),
        Some(Fault::Unfiltered { program }) => format!("`{program}` ran without it"),
        Some(Fault::Another { program, .. }) => format!("`{program}` ran under another"),
        Some(Fault::Capabilities { program, names }) => {
            format!(
                "`{program}` could have capabilities that it does not give: {}",
                names.join(", ")
            )
        }
        Some(Fault::NewPrivileges { program }) => format!("`{program}` may gain privileges"),
        Some(Fault::Gone { program }) => format!("`{program}` was removed by the tests"),
    };
    Err(SessionError::NotInForce { why })
}

fn status(status: Option<i32>) -> String {
    match status {
        Some(signal @ 129..) => format!("ended by signal {}", signal - 128),
        Some(code) => format!("exit status {code}"),
        None => "not run".to_owned(),
    }
}
