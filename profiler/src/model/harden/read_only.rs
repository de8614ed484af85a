//! A read-only root: which directories stay writable, and how.
//!
//! A tmpfs hides what the image has at its place, so it is used only where nothing is: well-known scratch directories in which
//! the image has no files, and directories that are not in the image. Any other directory becomes a volume,
//! which Docker and podman fill with what the image has there. What is in the way of that is told, and the root stays writable.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Evidence, MOST, mib, up_to_power,
    user::{Ids, starts_as_root},
};
use crate::model::usage::{Change, FileKind, How, Root, Usage};

/// A tmpfs has room for this many times what was seen in it, rounded up to a power of two MiB.
pub const SIZE_MARGIN: u64 = 4;

/// And for as much at least, in MiB: a file that has no name any more is not seen.
const LEAST_SIZE_MIB: u64 = 16;

/// More places than this are a program that writes all over the image.
const MAX_PLACES: usize = 32;

/// The longest path of a place, in bytes.
const MAX_PATH: usize = 512;

/// Directories that are for scratch in every image, with the mode that they have.
pub const SCRATCH: [(&str, u32); 6] = [
    ("/dev/shm", 0o1777),
    ("/run", 0o755),
    ("/run/lock", 0o1777),
    ("/tmp", 0o1777),
    ("/var/run", 0o755),
    ("/var/tmp", 0o1777),
];

/// Directories of programs and settings, which a volume would freeze: with what is below them no place.
const SYSTEM: [&str; 11] = [
    "/bin", "/boot", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/sbin", "/sys",
    "/usr",
];

/// What engines put into every container.
const ENGINES: [&str; 7] = [
    "/.dockerenv",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/mtab",
    "/etc/resolv.conf",
    "/run/.containerenv",
    "/run/secrets",
];

/// Whether the root can be read-only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadOnly {
    /// What stays writable, by path.
    pub places: Vec<Place>,
    /// What stands in the way: not empty, and the root stays as it is. May quote hostile text.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub not_because: BTreeSet<String>,
}

/// A directory that stays writable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// Absolute; letters, digits and `/._+@%=~-` only.
    pub path: String,
    /// How it is made in memory. Absent: it is a volume, because the image may have something there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tmpfs: Option<Tmpfs>,
    /// Why it is there. Sorted.
    pub why: BTreeSet<String>,
}

/// A tmpfs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tmpfs {
    /// Its size in MiB, a power of two, [`SIZE_MARGIN`] times what was seen at least.
    pub size_mib: u64,
    /// Permission bits of its root.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Something in it was executed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exec: bool,
}

/// The bit of a directory in which a file is removed by its owner only.
pub(super) const STICKY: u32 = 0o1000;

/// The bits by which others than its owner make and remove files in a directory.
const WRITE_OF_OTHERS: u32 = 0o022;

impl Tmpfs {
    /// Whether nobody but the directory's owner removes what others have made in it.
    pub(super) fn keeps_files(&self) -> bool {
        self.mode & STICKY != 0 || self.mode & WRITE_OF_OTHERS == 0
    }

    /// Its mount options, as engines take them after the path and a colon.
    #[must_use]
    pub fn options(&self) -> String {
        let Tmpfs { size_mib, mode, uid, gid, exec } = self;
        let owner = match (uid, gid) {
            (0, 0) => String::new(),
            _ => format!(",uid={uid},gid={gid}"),
        };
        let exec = if *exec { "exec" } else { "noexec" };
        format!("size={size_mib}m,mode={mode:o}{owner},{exec},nosuid,nodev")
    }
}

impl ReadOnly {
    /// Whether the root is made read-only.
    #[must_use]
    pub fn is_advised(&self) -> bool {
        self.not_because.is_empty()
    }

    /// Whether its paths can stand in a mount option, each once.
    #[must_use]
    pub fn is_well_formed(&self) -> bool {
        let good = |place: &Place| {
            is_plain(&place.path)
                && place.tmpfs.is_none_or(|tmpfs| {
                    (1..=MOST).contains(&tmpfs.size_mib) && tmpfs.mode <= 0o7777
                })
        };
        // one that is there twice would be compared as one, and mounted as two
        self.places.iter().all(good) && self.places.is_sorted_by(|one, next| one.path < next.path)
    }

    /// The directories that are made in memory; none where the root stays as it is.
    pub(super) fn in_memory(&self) -> impl Iterator<Item = &str> {
        let places = self.places.iter().filter(|place| self.is_advised() && place.tmpfs.is_some());
        places.map(|place| place.path.as_str())
    }

    /// Whether a path is in one of them.
    pub(super) fn is_in_memory(&self, path: &str) -> bool {
        self.in_memory().any(|place| is_below(path, place))
    }

    /// Makes what only its owner can write to another's.
    pub(super) fn give_to(&mut self, ids: Ids) {
        let owned = self.places.iter_mut().filter_map(|place| place.tmpfs.as_mut());
        for tmpfs in owned.filter(|tmpfs| tmpfs.mode & 0o002 == 0) {
            (tmpfs.uid, tmpfs.gid) = (ids.uid, ids.gid);
        }
    }
}

/// Whether a path can be written as a mount point in every format without quotes that some reader gets wrong.
#[must_use]
pub fn is_plain(path: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._+@%=~-".contains(c);
    let whole = |part: &str| !matches!(part, "" | "." | "..") && part.chars().all(plain);
    path.len() <= MAX_PATH && path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(whole))
}

/// What is known of a place while changes are gathered.
#[derive(Default)]
struct Gathered {
    /// Something of the image was touched there, or it is not known to be scratch.
    has_content: bool,
    /// It is not in the image.
    own: Option<(u32, u32, u32)>,
    /// A run was started as root, which may make in it what it gives to others.
    by_root: bool,
    bytes: u64,
    exec: bool,
    owners: BTreeSet<(u32, u32)>,
    why: BTreeSet<String>,
}

pub(super) fn advise(evidence: &Evidence<'_>) -> ReadOnly {
    let mut advice = ReadOnly::default();
    advice.not_because.extend(evidence.gap());
    let mut places: BTreeMap<String, Gathered> = BTreeMap::new();
    for usage in &evidence.usages {
        match &usage.root {
            Root::ReadOnly {} => {}
            Root::Unknown { reason } => {
                advice
                    .not_because
                    .insert(format!("what was written to the root is not known: {reason}"));
            }
            Root::Layer { more: 1.., .. } => {
                advice.not_because.insert("more was written to the root than is kept".to_owned());
            }
            Root::Layer { changes, .. } => {
                gather(changes, usage, &mut places, &mut advice.not_because);
            }
        }
    }
    if places.len() > MAX_PLACES {
        advice.not_because.insert(format!("more than {MAX_PLACES} directories are written to"));
        places.clear();
    }
    advice.places = places
        .into_iter()
        .map(|(path, mut found)| {
            found.by_root = evidence.recording.runs.values().any(starts_as_root);
            found.has_content |= evidence.usages.iter().any(|usage| usage.occupied.contains(&path));
            let tmpfs = (!found.has_content).then(|| found.tmpfs(&path));
            Place { path, tmpfs, why: found.why }
        })
        .collect();
    leave_out_covered(&mut advice.places);
    advice
}

/// Leaves out what is in a volume anyway.
pub(super) fn leave_out_covered(places: &mut Vec<Place>) {
    let volumes: Vec<String> = places
        .iter()
        .filter(|place| place.tmpfs.is_none())
        .map(|place| place.path.clone())
        .collect();
    let in_other =
        |path: &str| volumes.iter().any(|volume| volume != path && is_below(path, volume));
    places.retain(|place| !in_other(&place.path));
}

/// How much of what was written would be in memory, at most in one run.
pub(super) fn bytes_in_memory(evidence: &Evidence<'_>) -> u64 {
    let of = |usage: &&Usage| {
        let mut places = BTreeMap::new();
        if let Root::Layer { changes, .. } = &usage.root {
            gather(changes, usage, &mut places, &mut BTreeSet::new());
        }
        let in_memory = places
            .iter()
            .filter(|(path, place)| !place.has_content && !usage.occupied.contains(*path));
        in_memory.fold(0_u64, |sum, (_, place)| sum.saturating_add(place.bytes))
    };
    evidence.usages.iter().map(of).max().unwrap_or(0)
}

impl Gathered {
    fn tmpfs(&self, path: &str) -> Tmpfs {
        let size_mib = up_to_power(mib(self.bytes.saturating_mul(SIZE_MARGIN)), LEAST_SIZE_MIB);
        let exec = self.exec;
        if let Some((mode, uid, gid)) = self.own {
            return Tmpfs { size_mib, mode: mode & 0o7777, uid, gid, exec };
        }
        let known = SCRATCH.iter().find(|(scratch, _)| *scratch == path);
        let mode = known.map_or(0o755, |(_, mode)| *mode);
        // what root does not own was made by root for somebody, or by whom the directory is open to
        let owner =
            self.owners.first().copied().filter(|_| self.owners.len() == 1 && !self.by_root);
        let (uid, gid) = match owner {
            Some(owner) if mode & 0o002 == 0 => owner,
            _ => (0, 0),
        };
        Tmpfs { size_mib, mode, uid, gid, exec }
    }
}

/// Sorts the changes of one run by the directory that has to stay writable for them.
fn gather(
    changes: &BTreeSet<Change>,
    usage: &Usage,
    places: &mut BTreeMap<String, Gathered>,
    not_because: &mut BTreeSet<String>,
) {
    let made: BTreeSet<&str> = changes
        .iter()
        .filter(|change| change.how == How::Created && change.file == FileKind::Directory)
        .map(|change| change.path.as_str())
        .filter(|path| !holds_mount(usage, path))
        .collect();
    let mut sums: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for change in changes {
        let path = change.path.as_str();
        if is_of_engine(change, usage) {
            continue;
        }
        let top = topmost(&made, path);
        let is_top = top.is_none_or(|top| top == path);
        let at = match place(change, top) {
            Ok(at) => at,
            Err(reason) => {
                not_because.insert(reason);
                continue;
            }
        };
        let found = places.entry(at.path.to_owned()).or_default();
        found.exec |= change.executed;
        found.has_content |= at.has_content;
        found.why.insert(at.why.to_owned());
        if is_top && top == Some(at.path) {
            found.own = Some((change.mode, change.uid, change.gid));
        } else if is_top && change.how == How::Created {
            found.owners.insert((change.uid, change.gid));
        }
        let (tops, files) = sums.entry(at.path.to_owned()).or_default();
        if is_top {
            *tops = tops.saturating_add(change.bytes);
        }
        if change.file == FileKind::Regular {
            *files = files.saturating_add(change.bytes);
        }
    }
    for (path, (tops, files)) in sums {
        if let Some(found) = places.get_mut(&path) {
            found.bytes = found.bytes.max(tops).max(files);
        }
    }
}

/// Whether the engine made it, or it is not of the root.
pub(super) fn is_of_engine(change: &Change, usage: &Usage) -> bool {
    let path = change.path.as_str();
    ENGINES.iter().any(|engines| is_below(path, engines))
        || usage.mounts.iter().any(|mount| is_below(path, &mount.path))
        || change.how == How::Created && holds_mount(usage, path)
}

fn holds_mount(usage: &Usage, path: &str) -> bool {
    usage.mounts.iter().any(|mount| is_below(&mount.path, path))
}

/// Where a change has to be possible.
struct At<'a> {
    path: &'a str,
    has_content: bool,
    why: &'static str,
}

/// The directory that has to stay writable for a change; `top` is the outermost directory around it that is not in the image.
/// An error says why there is none.
fn place<'a>(change: &'a Change, top: Option<&'a str>) -> Result<At<'a>, String> {
    let path = change.path.as_str();
    let outer = top.unwrap_or(path);
    let (at, has_content, why) = match change.how {
        How::Created => (parent(outer), !is_scratch(parent(outer)), "something is created in it"),
        How::Visited => (path, !is_scratch(path), "something is created in it, and removed"),
        How::Changed if change.file == FileKind::Directory => {
            (path, true, "its owner, mode or times are changed")
        }
        How::Changed => (parent(path), true, "a file of the image is changed in it"),
        How::Removed => (parent(path), true, "something of the image is removed from it"),
    };
    let shown = quoted(path);
    if is_system(at) {
        return match (change.how, top) {
            // it is not in the image, so nothing is hidden; whoever makes it finds it there
            (How::Created, Some(top)) if is_plain(top) => {
                Ok(At { path: top, has_content: false, why: "it is not in the image, and created" })
            }
            (How::Created, _) => Err(format!("{shown} is created where no volume can be")),
            (How::Visited, _) => Err(format!("something is created and removed in {shown}")),
            (How::Changed, _) => Err(format!("{shown} of the image is changed")),
            (How::Removed, _) => Err(format!("{shown} of the image is removed")),
        };
    }
    if !is_plain(at) {
        return Err(format!("the name of {} cannot be that of a mount", quoted(at)));
    }
    Ok(At { path: at, has_content, why })
}

/// The outermost of the directories that were made, around a path or the path itself.
fn topmost<'a>(made: &BTreeSet<&'a str>, path: &str) -> Option<&'a str> {
    let ends = path.char_indices().filter(|(at, c)| *c == '/' && *at > 0).map(|(at, _)| at);
    let mut around = ends.chain([path.len()]).filter_map(|end| path.get(..end));
    around.find_map(|outer| made.get(outer).copied())
}

pub(super) fn parent(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", _)) | None => "/",
        Some((parent, _)) => parent,
    }
}

fn is_scratch(path: &str) -> bool {
    SCRATCH.iter().any(|(scratch, _)| *scratch == path)
}

fn is_system(path: &str) -> bool {
    path == "/" || SYSTEM.iter().any(|system| is_below(path, system))
}

/// Whether it is `outer`, or in it.
pub(super) fn is_below(path: &str, outer: &str) -> bool {
    path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A path in a reason: bounded, as a committed file is read by people.
pub(super) fn quoted(path: &str) -> String {
    const CHARS: usize = 200;
    let mut shown: String = path.chars().take(CHARS).collect();
    if shown.len() < path.len() {
        shown.push('…');
    }
    format!("`{shown}`")
}

/// A name that engines take, and that no other directory of any service has.
#[must_use]
pub fn volume_name(service: &str, path: &str) -> String {
    const CHARS: usize = 40;
    let safe = |text: &str| -> String {
        let name = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        text.trim_matches('/').chars().map(name).take(CHARS).collect()
    };
    let number = fnv(&[service, "\0", path]);
    format!("w-{}-{}-{number:08x}", safe(service), safe(path))
}

/// FNV-1a.
fn fnv(parts: &[&str]) -> u32 {
    let bytes = parts.iter().flat_map(|part| part.bytes());
    bytes.fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_volumes_are_apart() {
        assert_eq!(volume_name("web", "/opt/odd"), "w-web-opt-odd-0a8716d3");
        let pairs = [("a", "/b/c"), ("a-b", "/c"), ("a", "/b-c"), ("A", "/b/c"), ("a/b", "/c")];
        let names: std::collections::BTreeSet<String> =
            pairs.iter().map(|(service, path)| volume_name(service, path)).collect();
        assert_eq!(names.len(), pairs.len(), "{names:?}");
        let hostile = volume_name("x\ny: {}\u{202e}", &"/é".repeat(2000));
        assert!(
            hostile.len() < 100 && hostile.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        );
    }
}
