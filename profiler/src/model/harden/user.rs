//! Who the first process is to be.
//!
//! A container whose first process is root and hands over to one user can be started as that user; then it lacks root's
//! capabilities, and root's way past the permission bits of files, which is [`super::access`]'s. A port below the first that a user may bind needs
//! no look: the kernel checks NET_BIND_SERVICE for it, so that is required then.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Evidence, ReadOnly,
    access::{Identity, barred},
    privileges::name,
    read_only::{parent, quoted},
};
use crate::model::{
    floor,
    recording::{Missing, Run},
    usage::{How, Role, Root, User},
};

/// What root's start-up needs to become another user and to give it what it needs.
const HAND_OVER: [&str; 8] =
    ["CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID"];

/// A user that no image has, for what needs to be nobody in particular.
pub const NOBODYS: Ids = Ids { uid: 65532, gid: 65532 };

/// The first port that any user may bind, unless the network namespace says another
/// (<https://docs.kernel.org/networking/ip-sysctl.html>, `ip_unprivileged_port_start`).
pub const FIRST_FREE_PORT: u16 = 1024;

/// As many paths are named.
const MAX_PATHS: usize = 16;

/// A user and a group, by number.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct Ids {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl std::fmt::Display for Ids {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.uid, self.gid)
    }
}

/// Which user the container is to be started as.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UserAdvice {
    /// Who; of several, which runs disagree on, none is set.
    pub users: BTreeSet<Ids>,
    /// The supplementary groups that this user was seen in.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub groups: BTreeSet<u32>,
    /// Directories that are writable for it only because they are made in memory.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub in_memory: BTreeSet<String>,
    /// It listens on a port below 1024, which a user may bind where the engine lets anybody, as Docker does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub low_port: bool,
    /// Every run was started as this user: only what has to name it does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub already: bool,
    /// Capabilities that root needed to become that user, and that this user has no use for. By name.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub falls_away: BTreeSet<String>,
    /// What the user has to be able to write: mounts, and paths that somebody else made. Hostile text.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub must_write: BTreeSet<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub why: BTreeSet<String>,
    /// What stands in the way: not empty, and the user stays as it is. May quote hostile text.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub not_because: BTreeSet<String>,
}

impl UserAdvice {
    /// Who it is to be started as.
    #[must_use]
    pub fn applied(&self) -> Option<Ids> {
        let only = self.users.first().copied().filter(|_| self.users.len() == 1);
        only.filter(|_| self.not_because.is_empty())
    }
}

/// `read_only` is the advice on the root, if it is to be followed.
pub(super) fn advise(evidence: &Evidence<'_>, read_only: Option<&ReadOnly>) -> UserAdvice {
    let mut advice = UserAdvice::default();
    advice.not_because.extend(evidence.gap_of_looks());
    let mut each = evidence.recording.runs.values();
    if each.any(|run| run.missing.contains(&Missing::Startup)) {
        advice
            .not_because
            .insert("start-up was not seen, so who the first process was is not known".to_owned());
    }
    let runs = || evidence.recording.runs.values();
    let users = |is_root: bool| {
        let runs = runs().filter(move |run| starts_as_root(run) == is_root);
        runs.filter_map(|run| run.usage.as_ref()).flat_map(|usage| &usage.users)
    };
    let all = || users(true).chain(users(false));
    let first: BTreeSet<Ids> = all().filter(|user| user.first).map(ids).collect();
    if first.is_empty() {
        advice.not_because.insert("the first process was not seen".to_owned());
        return advice;
    }
    let mut sockets = evidence.usages.iter().flat_map(|usage| &usage.sockets);
    advice.low_port =
        sockets.any(|socket| socket.role == Role::Listening && socket.port < FIRST_FREE_PORT);
    let others: BTreeSet<Ids> = users(true).map(ids).filter(|ids| ids.uid != 0).collect();
    // root may have handed over before the first look
    if runs().all(|run| !starts_as_root(run)) && first.iter().all(|first| first.uid != 0) {
        let groups = users(false).filter(|user| user.first).flat_map(|user| &user.groups);
        advice.groups =
            groups.copied().filter(|group| first.iter().all(|ids| ids.gid != *group)).collect();
        advice.users = first;
        advice.already = true;
        advice.why.insert("its first process is this user already".to_owned());
    } else if others.is_empty() {
        all_root(evidence, read_only, &mut advice);
    } else {
        handed_over(evidence, others, read_only, &mut advice);
    }
    if !advice.already
        && let Some(read_only) = read_only
    {
        advice.in_memory = read_only.in_memory().map(str::to_owned).collect();
    }
    if !advice.users.is_empty() {
        // a run that was started as somebody has to agree
        advice.users.extend(users(false).filter(|user| user.first).map(ids));
    }
    if advice.users.len() > 1 {
        advice.not_because.insert("its processes are of several users".to_owned());
    }
    advice
}

/// Whether the engine was told to start it as root, or nothing.
pub(super) fn starts_as_root(run: &Run) -> bool {
    let setting = run.container.as_ref().map(|container| container.user.as_str());
    floor::User::of_setting(setting.unwrap_or_default()) == floor::User::Root
}

fn ids(user: &User) -> Ids {
    Ids { uid: user.uid, gid: user.gid }
}

/// Root starts, and another user does the work.
fn handed_over(
    evidence: &Evidence<'_>,
    others: BTreeSet<Ids>,
    read_only: Option<&ReadOnly>,
    advice: &mut UserAdvice,
) {
    let stays = evidence.usages.iter().flat_map(|usage| &usage.users);
    let stays = stays.filter(|user| user.uid == 0 && !user.first).flat_map(|user| &user.programs);
    let stays: BTreeSet<&str> = stays.map(name).collect();
    for rule in &evidence.capabilities.required {
        if HAND_OVER.contains(&rule.name.as_str()) {
            advice.falls_away.insert(rule.name.clone());
        } else {
            advice.not_because.insert(format!("{} is required, which a user has not", rule.name));
        }
    }
    if !stays.is_empty() {
        let programs = stays.into_iter().collect::<Vec<_>>().join("`, `");
        advice.why.insert(format!("these ran as root beside the first process: `{programs}`"));
    }
    advice.why.insert("its first process is root, all others are this user at last".to_owned());
    for ids in &others {
        let seen = evidence.usages.iter().flat_map(|usage| &usage.users);
        let seen = seen.filter(|user| self::ids(user) == *ids).flat_map(|user| &user.groups);
        let groups: BTreeSet<u32> = seen.copied().filter(|group| *group != ids.gid).collect();
        let identity = Identity { ids: *ids, groups: &groups };
        advice.not_because.extend(barred(evidence, identity, read_only));
        advice.groups.extend(groups);
    }
    advice.must_write = written(evidence, &others, read_only);
    advice.users = others;
}

/// Nobody but root was seen.
fn all_root(evidence: &Evidence<'_>, read_only: Option<&ReadOnly>, advice: &mut UserAdvice) {
    for rule in &evidence.capabilities.required {
        advice.not_because.insert(format!("root needs {}, which a user has not", rule.name));
    }
    if !evidence.capabilities.known {
        advice.not_because.insert("which capabilities root needs could not be seen".to_owned());
    }
    let identity = Identity { ids: NOBODYS, groups: &BTreeSet::new() };
    advice.not_because.extend(barred(evidence, identity, read_only));
    advice.must_write = written(evidence, &BTreeSet::from([NOBODYS]), read_only);
    if advice.not_because.is_empty() {
        advice.users.insert(NOBODYS);
        advice
            .why
            .insert("all its processes are root, and nothing that was seen needs it".to_owned());
    }
}

/// Where something lasting is mounted that can be written to.
fn mounts<'a>(evidence: &'a Evidence<'_>) -> impl Iterator<Item = &'a str> {
    let mounts = evidence.usages.iter().flat_map(|usage| &usage.mounts);
    let lasting = mounts.filter(|mount| mount.filesystem != "tmpfs" && !mount.read_only);
    lasting.map(|mount| mount.path.as_str())
}

/// What these users would write, and others made; what is made for them anew is not told.
fn written(
    evidence: &Evidence<'_>,
    users: &BTreeSet<Ids>,
    read_only: Option<&ReadOnly>,
) -> BTreeSet<String> {
    let made = |path: &&str| read_only.is_some_and(|advice| advice.is_in_memory(path));
    let others = not_owned(evidence, users).filter(|path| !made(path));
    let paths: BTreeSet<String> = mounts(evidence).chain(others).map(quoted).collect();
    paths.into_iter().take(MAX_PATHS).collect()
}

/// Directories in which something was changed that others own: the names of files may differ from run to run.
fn not_owned<'a>(evidence: &Evidence<'a>, users: &BTreeSet<Ids>) -> impl Iterator<Item = &'a str> {
    let layers = evidence.usages.iter().filter_map(|usage| match &usage.root {
        Root::Layer { changes, .. } => Some(changes),
        _ => None,
    });
    let others = layers.flatten().filter(|change| {
        change.mode & 0o002 == 0 && users.iter().all(|user| user.uid != change.uid)
    });
    others.map(|change| match change.how {
        How::Visited => change.path.as_str(),
        _ => parent(&change.path),
    })
}
