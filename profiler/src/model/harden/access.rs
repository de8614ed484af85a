//! Whether a user gets at what root was seen to use, by the owners and permission bits of files, directories and mounts.
//!
//! Root passes all of them, so a recording of root says little of what a user may do. What the image and the mounts say of it is
//! judged here; what else a user could be kept from (access control lists, a network file system) is not known.

use std::collections::BTreeSet;

use super::{
    Evidence, ReadOnly,
    read_only::{is_below, is_of_engine, parent, quoted},
    user::Ids,
};
use crate::model::usage::{Change, FileKind, How, Image, Mount, Owned, Root, Usage};

/// As many paths are named of each kind.
const MAX_PATHS: usize = 8;

/// Files that root has to itself in images of distributions, and that services do not read: of accounts and their copies, package managers and root's shell.
const OF_SYSTEM: [&str; 31] = [
    "/etc/.pwd.lock",
    "/etc/crontabs",
    "/etc/group-",
    "/etc/gshadow",
    "/etc/gshadow-",
    "/etc/passwd-",
    "/etc/security/opasswd",
    "/etc/shadow",
    "/etc/shadow-",
    "/etc/subgid-",
    "/etc/subuid-",
    "/etc/sudoers",
    "/root/.bash_history",
    "/root/.bashrc",
    "/root/.cache/pip",
    "/root/.npm",
    "/root/.profile",
    "/root/.wget-hsts",
    "/var/cache/apt",
    "/var/cache/debconf",
    "/var/cache/ldconfig",
    "/var/lib/apt",
    "/var/lib/dpkg",
    "/var/lib/rpm",
    "/var/log/apt",
    "/var/log/btmp",
    "/var/log/dpkg.log",
    "/var/log/faillog",
    "/var/log/lastlog",
    "/var/log/wtmp",
    "/var/spool/cron",
];

/// What permission bits may allow.
#[derive(Clone, Copy)]
enum Wanted {
    Read,
    Write,
}

/// Who is to be let in.
#[derive(Clone, Copy)]
pub(super) struct Identity<'a> {
    /// User and group.
    pub ids: Ids,
    /// Supplementary groups.
    pub groups: &'a BTreeSet<u32>,
}

impl std::fmt::Display for Identity<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.ids.fmt(f)
    }
}

/// What stands in the way of this user; nothing when it gets at all that root used. `read_only` is the advice on the root, if it is to be followed.
pub(super) fn barred(
    evidence: &Evidence<'_>,
    who: Identity<'_>,
    read_only: Option<&ReadOnly>,
) -> BTreeSet<String> {
    let mut reasons = BTreeSet::new();
    for usage in &evidence.usages {
        let Some(image) = &usage.image else {
            reasons.insert("whose the files of the image are is not known".to_owned());
            continue;
        };
        if image.more > 0 {
            reasons.insert(
                "the image was not read to its end, or more files are for some only than are kept"
                    .to_owned(),
            );
        }
        reasons.extend(named(restricted(image, who)));
        let originals = Originals(&image.originals);
        reasons.extend(usage.mounts.iter().filter_map(|mount| mounted(mount, originals, who)));
        reasons.extend(named(written(usage, originals, who, read_only)));
    }
    reasons
}

/// Whether permission bits let a user do something; what capabilities would let it is not asked. Of a directory it is what is in it that counts.
fn lets(owned: &Owned, who: Identity<'_>, wanted: Wanted) -> bool {
    let wanted = match (wanted, owned.directory) {
        // what somebody may execute is a program, or a script, which is read
        (Wanted::Read, false) if owned.mode & 0o111 != 0 => 0o5,
        (Wanted::Read, false) => 0o4,
        (Wanted::Read, true) => 0o1,
        (Wanted::Write, false) => 0o2,
        (Wanted::Write, true) => 0o3,
    };
    let class = match owned {
        _ if owned.uid == who.ids.uid => 6,
        _ if owned.gid == who.ids.gid || who.groups.contains(&owned.gid) => 3,
        _ => 0,
    };
    owned.mode >> class & wanted == wanted
}

fn whose(owned: &Owned) -> String {
    format!("{}:{}'s with mode {:o}", owned.uid, owned.gid, owned.mode)
}

/// The first of them; of the others, how many.
fn named(reasons: BTreeSet<String>) -> impl Iterator<Item = String> {
    let more = reasons.len().saturating_sub(MAX_PATHS);
    let rest = (more > 0).then(|| {
        format!(
            "there are {more} more like: {}",
            reasons.iter().nth(MAX_PATHS).map_or("", String::as_str)
        )
    });
    reasons.into_iter().take(MAX_PATHS).chain(rest)
}

/// Files that it cannot read. Whether root read them leaves no trace.
fn restricted(image: &Image, who: Identity<'_>) -> BTreeSet<String> {
    let of_system = |owned: &&Owned| OF_SYSTEM.iter().any(|system| is_below(&owned.path, system));
    let barred = image
        .restricted
        .iter()
        .filter(|owned| !of_system(owned) && !lets(owned, who, Wanted::Read));
    barred
        .map(|owned| {
            let (path, whose) = (quoted(&owned.path), whose(owned));
            let is = if owned.directory { "is in a directory that is" } else { "is" };
            format!(
                "{path} of the image {is} {whose}, and root may have read it: let {who} read it"
            )
        })
        .collect()
}

/// What the image has at a path.
#[derive(Clone, Copy)]
struct Originals<'a>(&'a BTreeSet<Owned>);

impl<'a> Originals<'a> {
    /// At the path itself; more than one where containers of several images were recorded.
    fn at(self, path: &str) -> Vec<&'a Owned> {
        self.0.iter().filter(|owned| owned.path == path).collect()
    }

    /// At the path, or at the nearest directory above it that the image has.
    fn at_or_above(self, path: &str) -> Vec<&'a Owned> {
        let mut path = path;
        loop {
            let found = self.at(path);
            if !found.is_empty() || path == "/" {
                return found;
            }
            path = parent(path);
        }
    }
}

/// A directory above a path that keeps it out.
fn barrier<'a>(path: &str, originals: Originals<'a>, who: Identity<'_>) -> Option<&'a Owned> {
    let mut above = originals
        .0
        .iter()
        .filter(|owned| owned.directory && owned.path != path && is_below(path, &owned.path));
    above.find(|owned| !lets(owned, who, Wanted::Read))
}

/// Why a mount is of no use to it.
fn mounted(mount: &Mount, originals: Originals<'_>, who: Identity<'_>) -> Option<String> {
    let path = quoted(&mount.path);
    if mount.owners.is_empty() {
        return Some(format!("{path} is mounted, and whose it is could not be asked"));
    }
    // first, as it holds whenever one looked: at a start root may give it away before or after a look
    if mount.volume && !mount.read_only {
        let originals = originals.at(&mount.path);
        if originals.is_empty() || originals.iter().any(|owned| !lets(owned, who, Wanted::Write)) {
            return Some(format!(
                "a new volume at {path} is not {who}'s: give it the directory in the image, and an existing volume"
            ));
        }
    }
    let wanted = if mount.read_only { Wanted::Read } else { Wanted::Write };
    if let Some(owned) = mount.owners.iter().find(|owned| !lets(owned, who, wanted)) {
        return Some(format!("{path} is mounted, and was {}: give it to {who}", whose(owned)));
    }
    let owned = barrier(&mount.path, originals, who)?;
    let (around, whose) = (quoted(&owned.path), whose(owned));
    Some(format!("{path} is mounted, and {around} above it is {whose} in the image"))
}

/// Directories and files of the image that it would have to change, and cannot.
fn written(
    usage: &Usage,
    originals: Originals<'_>,
    who: Identity<'_>,
    read_only: Option<&ReadOnly>,
) -> BTreeSet<String> {
    let changes = match &usage.root {
        Root::ReadOnly {} => return BTreeSet::new(),
        Root::Layer { changes, more: 0 } => changes,
        Root::Layer { .. } => {
            return ["more was written to the root than is kept".to_owned()].into();
        }
        Root::Unknown { reason } => {
            return [format!("what was written to the root is not known: {reason}")].into();
        }
    };
    let mut reasons = BTreeSet::new();
    for change in changes {
        let is_in_memory = read_only.is_some_and(|advice| advice.is_in_memory(&change.path));
        if is_in_memory || is_of_engine(change, usage) {
            continue;
        }
        let (path, found) = needed(change, originals);
        if let Some(owned) = barrier(path, originals, who) {
            let (around, whose) = (quoted(&owned.path), whose(owned));
            reasons.insert(format!(
                "{} is written to, and {around} above it is {whose} in the image",
                quoted(path)
            ));
        }
        let is_owned = change.how != How::Changed
            || change.file != FileKind::Directory
            || found.iter().all(|owned| owned.uid == who.ids.uid);
        if found.is_empty() {
            reasons
                .insert(format!("{} is written to, and is not {who}'s in the image", quoted(path)));
        } else if let Some(owned) =
            found.iter().find(|owned| !is_owned || !lets(owned, who, Wanted::Write))
        {
            let (path, whose) = (quoted(&owned.path), whose(owned));
            reasons.insert(format!(
                "{path} is written to, and is {whose} in the image: give it to {who} there"
            ));
        }
    }
    reasons
}

/// What has to be writable for a change, and what the image has there.
fn needed<'a, 'b>(change: &'a Change, originals: Originals<'b>) -> (&'a str, Vec<&'b Owned>) {
    let path = change.path.as_str();
    match change.how {
        How::Created => (parent(path), originals.at_or_above(parent(path))),
        How::Removed => (parent(path), originals.at(parent(path))),
        How::Changed | How::Visited => (path, originals.at(path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_that_a_user_is_in_decides() {
        let file = |uid, gid, mode| Owned { path: "/x".into(), uid, gid, mode, directory: false };
        let directory = |uid, gid, mode| Owned { directory: true, ..file(uid, gid, mode) };
        let groups = [9].into();
        let who = Identity { ids: Ids { uid: 7, gid: 8 }, groups: &groups };
        for (owned, wanted, expected) in [
            (file(7, 0, 0o600), Wanted::Read, true),
            (file(7, 0, 0o066), Wanted::Read, false),
            (file(0, 8, 0o640), Wanted::Read, true),
            (file(0, 9, 0o640), Wanted::Read, true),
            (file(0, 8, 0o640), Wanted::Write, false),
            (file(0, 8, 0o604), Wanted::Read, false),
            (directory(0, 9, 0o710), Wanted::Read, true),
            (directory(0, 0, 0o744), Wanted::Read, false),
            (directory(0, 0, 0o1777), Wanted::Write, true),
            (directory(0, 0, 0o776), Wanted::Write, false),
            (directory(0, 0, 0o755), Wanted::Write, false),
        ] {
            assert_eq!(lets(&owned, who, wanted), expected, "{owned:?}");
        }
    }
}
