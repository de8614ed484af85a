//! Advice beyond calls and capabilities: what a container can be run without, from what it was seen to use.
//!
//! Owns which advice follows from a [`Usage`], with a reason for each, and why where none follows. It is part of a committed file:
//! what varies from run to run is rounded, with the margins of [`resources`] and [`read_only`]. How it is written for an engine
//! is `render`'s; that the tests pass with it only a run under it proves.

mod access;
mod join;
pub mod network;
pub mod privileges;
pub mod read_only;
pub mod resources;
pub mod settings;
pub mod user;

use std::{
    collections::{BTreeMap, BTreeSet},
    str::FromStr,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::{
    network::Network, privileges::NoNewPrivileges, read_only::ReadOnly, resources::Limits,
    settings::Setting, user::UserAdvice,
};
use crate::model::{profile::Capabilities, recording::Recording, usage::Usage};

/// What advice is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A root file system that cannot be written to.
    ReadOnly,
    /// Who the first process is.
    User,
    /// No program gives more than its caller has.
    NoNewPrivileges,
    /// Ports and peers.
    Network,
    /// Memory, processes, descriptors, processors.
    Resources,
}

impl Kind {
    /// All, in the order in which they are shown.
    pub const ALL: [Kind; 5] =
        [Kind::ReadOnly, Kind::User, Kind::NoNewPrivileges, Kind::Network, Kind::Resources];

    /// As `--harden` takes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Kind::ReadOnly => "read-only",
            Kind::User => "user",
            Kind::NoNewPrivileges => "no-new-privileges",
            Kind::Network => "network",
            Kind::Resources => "resources",
        }
    }
}

/// A text that names no kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is none of {}", .name.escape_debug(), Kind::ALL.map(Kind::name).join(", "))]
pub struct KindError {
    /// What was typed.
    pub name: String,
}

impl FromStr for Kind {
    type Err = KindError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Kind::ALL.into_iter().find(|kind| kind.name() == text);
        known.ok_or_else(|| KindError { name: text.to_owned() })
    }
}

/// Advice that was asked for. What is absent was not asked for, and everything about it stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Harden {
    /// The root file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only: Option<ReadOnly>,
    /// The user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserAdvice>,
    /// `no-new-privileges`. In force where [`crate::model::profile::MadeFor::no_new_privileges`] says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_new_privileges: Option<NoNewPrivileges>,
    /// The network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// Limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Limits>,
}

impl Harden {
    /// What it is about.
    #[must_use]
    pub fn kinds(&self) -> BTreeSet<Kind> {
        let has = |kind: &Kind| match kind {
            Kind::ReadOnly => self.read_only.is_some(),
            Kind::User => self.user.is_some(),
            Kind::NoNewPrivileges => self.no_new_privileges.is_some(),
            Kind::Network => self.network.is_some(),
            Kind::Resources => self.resources.is_some(),
        };
        Kind::ALL.into_iter().filter(has).collect()
    }

    /// The advice of this kind alone; `None` when there is none.
    #[must_use]
    pub fn only(&self, kind: Kind) -> Option<Harden> {
        let all = self.clone();
        let one = match kind {
            Kind::ReadOnly => Harden { read_only: all.read_only, ..Harden::default() },
            Kind::User => Harden { user: all.user, ..Harden::default() },
            Kind::NoNewPrivileges => {
                Harden { no_new_privileges: all.no_new_privileges, ..Harden::default() }
            }
            Kind::Network => Harden { network: all.network, ..Harden::default() },
            Kind::Resources => Harden { resources: all.resources, ..Harden::default() },
        };
        (one != Harden::default()).then_some(one)
    }

    /// Whether all that a rendering writes as it stands is harmless: it was read from a file that anybody may have edited.
    #[must_use]
    pub fn is_well_formed(&self) -> bool {
        self.read_only.as_ref().is_none_or(ReadOnly::is_well_formed)
            && self.resources.as_ref().is_none_or(Limits::is_well_formed)
    }

    /// Required capabilities that an engine need not add, by name: the advised user would have none of them in force, and under no-new-privileges no
    /// program gives them to it.
    #[must_use]
    pub fn not_added(&self, no_new_privileges: bool) -> BTreeSet<&str> {
        let user = self.user.as_ref().filter(|user| no_new_privileges && user.applied().is_some());
        user.iter().flat_map(|user| &user.falls_away).map(String::as_str).collect()
    }

    /// The user that it is to be started as where a new volume takes no owner from the image, and a low port takes a capability: none where it would lack one of
    /// these.
    #[must_use]
    pub fn user_in_kubernetes(&self) -> Option<&UserAdvice> {
        let user = self.user.as_ref().filter(|user| user.applied().is_some())?;
        let places = self.read_only.iter().filter(|advice| advice.is_advised());
        let has_volume = || places.flat_map(|advice| &advice.places).any(|it| it.tmpfs.is_none());
        let lacks = || self.binds_low() || !user.must_write.is_empty() || has_volume();
        (user.already || !lacks()).then_some(user)
    }

    /// Whether a port is listened on that takes a capability where nothing else is said.
    #[must_use]
    pub fn binds_low(&self) -> bool {
        let is_low = |advice: &Network| {
            let mut ports = advice.listens.iter().chain(&advice.loopback);
            advice.is_advised() && ports.any(|port| port.port < user::FIRST_FREE_PORT)
        };
        self.user.as_ref().is_some_and(|user| user.low_port && user.applied().is_some())
            || self.network.as_ref().is_some_and(is_low)
    }

    /// The settings that it comes to where it is followed, by name, each with its reasons. These may quote hostile text.
    #[must_use]
    pub fn settings(&self) -> BTreeMap<String, (Setting, BTreeSet<String>)> {
        settings::of(self)
    }

    /// What a target may do under either.
    #[must_use]
    pub fn union(one: Option<&Harden>, other: Option<&Harden>) -> Option<Harden> {
        join::join(one, other)
    }
}

/// Advice of these kinds from the evidence. `capabilities` are those that follow from it.
#[must_use]
pub fn advise(
    recording: &Recording,
    capabilities: &Capabilities,
    kinds: &BTreeSet<Kind>,
) -> Harden {
    let evidence = Evidence::of(recording, capabilities);
    let asked = |kind| kinds.contains(&kind);
    let mut read_only = read_only::advise(&evidence);
    let user = asked(Kind::User)
        .then(|| user::advise(&evidence, asked(Kind::ReadOnly).then_some(&read_only)));
    if let Some(ids) = user.as_ref().and_then(UserAdvice::applied) {
        read_only.give_to(ids);
    }
    Harden {
        user,
        resources: asked(Kind::Resources).then(|| {
            let in_memory = if asked(Kind::ReadOnly) && read_only.is_advised() {
                read_only::bytes_in_memory(&evidence)
            } else {
                0
            };
            resources::advise(&evidence, in_memory)
        }),
        read_only: asked(Kind::ReadOnly).then_some(read_only),
        no_new_privileges: asked(Kind::NoNewPrivileges).then(|| privileges::advise(&evidence)),
        network: asked(Kind::Network).then(|| network::advise(&evidence)),
    }
}

/// What advice is made from.
struct Evidence<'a> {
    recording: &'a Recording,
    capabilities: &'a Capabilities,
    usages: Vec<&'a Usage>,
    /// A run has none.
    is_partial: bool,
}

impl<'a> Evidence<'a> {
    fn of(recording: &'a Recording, capabilities: &'a Capabilities) -> Evidence<'a> {
        let usages: Vec<&Usage> =
            recording.runs.values().filter_map(|run| run.usage.as_ref()).collect();
        let is_partial = usages.len() < recording.runs.len() || usages.is_empty();
        Evidence { recording, capabilities, usages, is_partial }
    }

    /// Why nothing can be said that rests on what containers used.
    fn gap(&self) -> Option<String> {
        if self.is_partial {
            let text =
                "a run does not say what the container used: record it again with this version";
            return Some(text.to_owned());
        }
        let is_blind = |usage: &&Usage| usage.looks == 0 || usage.longest_gap_ms > LONGEST_GAP_MS;
        self.usages.iter().any(is_blind).then(|| {
            format!("a run was not looked at, or not for more than {} s", LONGEST_GAP_MS / 1000)
        })
    }

    /// The same for what is seen only by looking.
    fn gap_of_looks(&self) -> Option<String> {
        let once = || self.usages.iter().any(|usage| usage.looks < 2);
        self.gap().or_else(|| {
            once().then(|| {
                "a run was looked at once only: record for longer than a moment".to_owned()
            })
        })
    }

    fn requires(&self, name: &str) -> bool {
        self.capabilities.required.iter().any(|rule| rule.name == name)
    }
}

/// Without a look for longer than this, a run says too little.
const LONGEST_GAP_MS: u64 = 10_000;

/// No number that is advised is larger: no engine takes it.
const MOST: u64 = 1 << 40;

/// The smallest power of two that is no less, and at least `least`, which is one, and at most [`MOST`].
fn up_to_power(value: u64, least: u64) -> u64 {
    value.min(MOST).next_power_of_two().max(least)
}

/// Bytes as MiB, none left out.
fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}
