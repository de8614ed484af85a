//! What the upper layer of an overlay says of what was done to it.
//!
//! The kernel copies a file up when it is opened for writing or its attributes change, and a directory when something in it is created,
//! removed or changed; it keeps the times of a directory that it copies. So one whose time of change is not that of the image
//! was itself changed. Whiteouts are devices 0:0. Whether a directory hides the one below it (`trusted.overlay.opaque`) only CAP_SYS_ADMIN
//! may ask: what was made anew in one that was removed counts as changed, where it has the name of something in the image.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    io,
    os::{
        fd::OwnedFd,
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, StatxFlags};

use super::{
    lower::{Lowers, Overlay, is_whiteout, open_beneath},
    text,
    users::Ids,
};
use crate::model::usage::{Change, FileKind, How};

/// How many changes are kept.
pub const MAX_CHANGES: usize = 4_096;

/// How deep a layer is walked.
pub const MAX_DEPTH: usize = 64;

/// Over how many entries it is walked at one look, and for how long.
pub const MAX_WALKED: usize = 32_768;
const MAX_TIME: Duration = Duration::from_millis(250);

/// An upper layer, held open, and what was seen of it.
pub struct Layer {
    root: PathBuf,
    overlay: Overlay,
    upper: OwnedFd,
    /// What the image has at a path; it never changes.
    below: HashMap<PathBuf, Option<Below>>,
    /// Whether a file that may be executed looks like a program, by inode and time.
    programs: HashMap<PathBuf, ((u64, i64, u64), bool)>,
    /// The largest size of each path.
    peaks: HashMap<PathBuf, u64>,
    /// What was executed, and seen in the layer then.
    executed: BTreeMap<PathBuf, Change>,
    changes: BTreeSet<Change>,
    more: u64,
    /// A look came to its end.
    is_known: bool,
}

/// What an image has at a path.
#[derive(Debug, Clone, Copy)]
struct Below {
    kind: FileKind,
    mode: u32,
    owner: (u32, u32),
    changed: (i64, u64),
}

/// An entry of the upper layer.
struct Entry {
    path: PathBuf,
    status: Stat,
    below: Option<Below>,
    /// Held by it, or by all below it.
    bytes: u64,
}

impl Entry {
    fn is_directory(&self) -> bool {
        kind(&self.status) == FileKind::Directory
    }
}

/// What of a layer is not the workload's, and what is known of it from elsewhere.
pub struct Around<'a> {
    /// Where something is mounted: the runtime made that, and the directories on the way.
    pub mount_points: &'a BTreeSet<PathBuf>,
    /// What was executed, absolute.
    pub executed: &'a BTreeSet<PathBuf>,
    /// The container's ids.
    pub ids: &'a Ids,
}

impl Layer {
    /// Takes hold of an upper layer. `merged` is what the container has for its root, `None` when that cannot be asked.
    ///
    /// # Errors
    /// Why it cannot be read, for people.
    pub fn open(root: &Path, overlay: Overlay, merged: Option<u64>) -> Result<Layer, String> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let path = crate::kernel::cgroup::below(root, &overlay.upper);
        let upper = rustix::fs::open(&path, flags, Mode::empty())
            .map_err(|error| format!("its upper layer cannot be opened: {error}"))?;
        let status = rustix::fs::fstat(&upper).map_err(|error| error.to_string())?;
        if merged.is_some_and(|merged| merged != status.st_ino) {
            return Err("its upper layer is elsewhere than its mount says".to_owned());
        }
        Ok(Layer {
            root: root.to_owned(),
            overlay,
            upper,
            below: HashMap::new(),
            programs: HashMap::new(),
            peaks: HashMap::new(),
            executed: BTreeMap::new(),
            changes: BTreeSet::new(),
            more: 0,
            is_known: false,
        })
    }

    /// Those of these directories in which the image has more than directories.
    #[must_use]
    pub fn occupied(&self, paths: impl IntoIterator<Item = &'static str>) -> BTreeSet<String> {
        let lowers = Lowers::open(&self.root, &self.overlay.lowers);
        let has_files = |path: &&str| match &lowers {
            Ok(lowers) => lowers.is_occupied(Path::new(path.trim_start_matches('/'))),
            Err(_) => true,
        };
        paths.into_iter().filter(has_files).map(str::to_owned).collect()
    }

    /// Whether it was looked at.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.is_known
    }

    /// Whether both are of one directory.
    #[must_use]
    pub fn is_of(&self, other: &Layer) -> bool {
        self.overlay == other.overlay
    }

    /// What was seen at the last look, and what had been executed before and was gone; how many more there were.
    #[must_use]
    pub fn changes(&self) -> (BTreeSet<Change>, u64) {
        let mut changes = self.changes.clone();
        let known: BTreeSet<&str> =
            self.changes.iter().map(|change| change.path.as_str()).collect();
        let gone = self.executed.values().filter(|change| !known.contains(change.path.as_str()));
        changes.extend(gone.cloned());
        (changes, self.more)
    }

    /// Looks once more. What the engine removes meanwhile does not count.
    ///
    /// # Errors
    /// When the layer cannot be read, or is being removed; then the last look stands.
    pub fn look(&mut self, around: &Around<'_>) -> io::Result<()> {
        self.expect_whole()?;
        let (mut entries, unseen) = self.walk()?;
        self.expect_whole()?;
        sum(&mut entries);
        for entry in &mut entries {
            if let Some(peak) = self.peaks.get_mut(&entry.path) {
                *peak = entry.bytes.max(*peak);
                entry.bytes = *peak;
            } else if self.peaks.len() < MAX_WALKED {
                self.peaks.insert(entry.path.clone(), entry.bytes);
            }
        }
        let mut changes = self.told(&entries, around);
        self.more = unseen;
        while changes.len() > MAX_CHANGES {
            changes.pop_last();
            self.more += 1;
        }
        self.changes = changes;
        self.is_known = true;
        Ok(())
    }

    /// The engine renames a layer, then empties it.
    fn expect_whole(&self) -> io::Result<()> {
        let path = crate::kernel::cgroup::below(&self.root, &self.overlay.upper);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let there = rustix::fs::fstat(rustix::fs::open(path, flags, Mode::empty())?)?;
        let held = rustix::fs::fstat(&self.upper)?;
        match (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino) {
            true => Ok(()),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// All entries, those of a directory after itself; and how many there are beyond what is walked, at the least.
    fn walk(&mut self) -> io::Result<(Vec<Entry>, u64)> {
        let deadline = Instant::now() + MAX_TIME;
        let mut lowers = None;
        let mut entries: Vec<Entry> = Vec::new();
        let mut unseen = 0;
        let mut directories = VecDeque::from([(PathBuf::new(), 0, false)]);
        while let Some((path, depth, is_new)) = directories.pop_front() {
            if depth > MAX_DEPTH || entries.len() >= MAX_WALKED || Instant::now() > deadline {
                unseen += 1;
                continue;
            }
            let open = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOATIME;
            let dir = open_beneath(&self.upper, &path, open)
                .or_else(|_| open_beneath(&self.upper, &path, OFlags::RDONLY | OFlags::DIRECTORY));
            let dir = match dir {
                Ok(dir) => dir,
                Err(error) if depth == 0 => return Err(error.into()),
                // it went away meanwhile, or its path is longer than a call takes
                Err(rustix::io::Errno::NOENT) => continue,
                Err(_) => {
                    unseen += 1;
                    continue;
                }
            };
            for name in Dir::read_from(&dir)?.flatten() {
                let name = name.file_name();
                if matches!(name.to_bytes(), b"." | b"..") {
                    continue;
                }
                if entries.len() >= MAX_WALKED {
                    unseen += 1;
                    continue;
                }
                let Ok(status) = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) else {
                    continue;
                };
                let path = path.join(std::ffi::OsStr::from_bytes(name.to_bytes()));
                let below = match is_new {
                    true => None,
                    false => self.below(&mut lowers, &path)?,
                };
                if kind(&status) == FileKind::Directory {
                    let is_new = below.is_none_or(|below| below.kind != FileKind::Directory);
                    directories.push_back((path.clone(), depth + 1, is_new));
                }
                let bytes = held(&status);
                entries.push(Entry { path, status, below, bytes });
            }
        }
        Ok((entries, unseen))
    }

    /// What the image has at a path.
    fn below(&mut self, lowers: &mut Option<Lowers>, path: &Path) -> io::Result<Option<Below>> {
        if let Some(known) = self.below.get(path) {
            return Ok(*known);
        }
        if lowers.is_none() {
            *lowers = Some(Lowers::open(&self.root, &self.overlay.lowers)?);
        }
        let found = lowers.as_ref().and_then(|lowers| lowers.find(path)).map(|status| Below {
            kind: kind(&status),
            mode: permissions(&status),
            owner: (status.st_uid, status.st_gid),
            changed: (status.st_mtime, status.st_mtime_nsec),
        });
        if self.below.len() < MAX_WALKED {
            self.below.insert(path.to_owned(), found);
        }
        Ok(found)
    }

    /// What follows from the entries.
    fn told(&mut self, entries: &[Entry], around: &Around<'_>) -> BTreeSet<Change> {
        let relative = |path: &PathBuf| path.strip_prefix("/").ok().map(Path::to_owned);
        let points: BTreeSet<PathBuf> = around.mount_points.iter().filter_map(relative).collect();
        let on_the_way: BTreeSet<&Path> =
            points.iter().flat_map(|point| point.ancestors().skip(1)).collect();
        // directories that something in them explains, and those that only lead there
        let (mut explained, mut leads) = (BTreeSet::new(), BTreeSet::new());
        let mut changes = BTreeSet::new();
        // the deepest first: a directory comes after what is in it
        for entry in entries.iter().rev() {
            let path = entry.path.as_path();
            let parent = path.parent().unwrap_or(Path::new(""));
            let is_runtimes = points.contains(path)
                || entry.is_directory() && on_the_way.contains(path) && !leads.contains(path);
            let how = match &entry.below {
                _ if is_whiteout(&entry.status) => How::Removed,
                None if is_runtimes => {
                    explained.insert(parent);
                    continue;
                }
                None => How::Created,
                Some(below) if !entry.is_directory() || below.kind != FileKind::Directory => {
                    How::Changed
                }
                Some(below) => {
                    let status = &entry.status;
                    let owner = (status.st_uid, status.st_gid);
                    let changed = (status.st_mtime, status.st_mtime_nsec);
                    if (permissions(status), owner) != (below.mode, below.owner) {
                        How::Changed
                    } else if explained.contains(path)
                        || leads.contains(path) && changed == below.changed
                    {
                        leads.insert(parent);
                        continue;
                    } else {
                        How::Visited
                    }
                }
            };
            leads.insert(parent);
            if matches!(how, How::Created | How::Removed) {
                explained.insert(parent);
            }
            changes.insert(self.change(entry, how, around));
        }
        if !explained.contains(Path::new("")) && self.root_was_changed() {
            let bytes = entries.iter().filter(|entry| !entry.is_directory());
            let bytes = bytes.map(|entry| entry.bytes).sum();
            if let Ok(status) = rustix::fs::fstat(&self.upper) {
                let root = Entry { path: PathBuf::new(), status, below: None, bytes };
                changes.insert(self.change(&root, How::Visited, around));
            }
        }
        changes
    }

    /// The uppermost directory is no copy: it is as old as the layer.
    fn root_was_changed(&self) -> bool {
        let wanted = StatxFlags::MTIME | StatxFlags::BTIME;
        let Ok(status) = rustix::fs::statx(&self.upper, "", AtFlags::EMPTY_PATH, wanted) else {
            return false;
        };
        let has_birth = status.stx_mask & StatxFlags::BTIME.bits() != 0;
        let time = |at: &rustix::fs::StatxTimestamp| (at.tv_sec, at.tv_nsec);
        // the engine makes it, and what it puts there at once
        let (birth, change) = (time(&status.stx_btime), time(&status.stx_mtime));
        has_birth && change > birth
    }

    fn change(&mut self, entry: &Entry, how: How, around: &Around<'_>) -> Change {
        let absolute = Path::new("/").join(&entry.path);
        let file = match (how, &entry.below) {
            (How::Removed, Some(below)) => below.kind,
            (How::Removed, None) => FileKind::Other,
            _ => kind(&entry.status),
        };
        let removed = entry.below.filter(|_| how == How::Removed);
        let (uid, gid) =
            removed.map_or((entry.status.st_uid, entry.status.st_gid), |below| below.owner);
        let is_new = matches!(how, How::Created | How::Changed);
        let change = Change {
            path: text(absolute.as_os_str().as_bytes()),
            how,
            file,
            mode: removed.map_or(permissions(&entry.status), |below| below.mode),
            uid: around.ids.user(uid),
            gid: around.ids.group(gid),
            bytes: if how == How::Removed { 0 } else { entry.bytes },
            executed: around.executed.contains(&absolute)
                || file == FileKind::Directory && self.ran_what_is_gone(&absolute, around)
                || is_new && file == FileKind::Regular && self.is_program(entry),
        };
        if change.executed && is_new && self.executed.len() < MAX_CHANGES {
            self.executed.insert(entry.path.clone(), change.clone());
        }
        change
    }

    /// Something was executed, or mapped so, that was in a directory of the upper layer and is neither there nor in the image any more.
    fn ran_what_is_gone(&self, dir: &Path, around: &Around<'_>) -> bool {
        let mut in_it = around.executed.iter().filter(|path| path.parent() == Some(dir));
        in_it.any(|path| {
            let relative = path.strip_prefix("/").unwrap_or(path);
            let is_of_image = Lowers::open(&self.root, &self.overlay.lowers)
                .is_ok_and(|lowers| lowers.find(relative).is_some());
            !is_of_image && open_beneath(&self.upper, relative, OFlags::PATH).is_err()
        })
    }

    /// It begins as a program or a library does, or as a script that somebody may execute.
    fn is_program(&mut self, entry: &Entry) -> bool {
        let status = &entry.status;
        let version = (status.st_ino, status.st_ctime, status.st_ctime_nsec);
        if let Some((known, is_program)) = self.programs.get(&entry.path)
            && *known == version
        {
            return *is_program;
        }
        let may_run = status.st_mode & 0o111 != 0;
        let is_program = self.begins_so(&entry.path, may_run).unwrap_or(false);
        if self.programs.len() < MAX_WALKED {
            self.programs.insert(entry.path.clone(), (version, is_program));
        }
        is_program
    }

    fn begins_so(&self, path: &Path, may_run: bool) -> rustix::io::Result<bool> {
        // what is no regular file by now is not opened to be read
        let fd = open_beneath(&self.upper, path, OFlags::PATH)?;
        if kind(&rustix::fs::fstat(&fd)?) != FileKind::Regular {
            return Ok(false);
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = open_beneath(&self.upper, path, flags)?;
        let mut bytes = [0; 4];
        let read = rustix::io::read(&fd, &mut bytes)?;
        let is_script = may_run && bytes[..read].starts_with(b"#!");
        Ok(bytes[..read].starts_with(b"\x7fELF") || is_script)
    }
}

/// Adds what entries hold to the directories that they are in.
fn sum(entries: &mut [Entry]) {
    let places: HashMap<PathBuf, usize> =
        entries.iter().enumerate().map(|(place, entry)| (entry.path.clone(), place)).collect();
    // each comes after its directory
    for place in (0..entries.len()).rev() {
        let bytes = entries[place].bytes;
        let parent = entries[place].path.parent().and_then(|parent| places.get(parent));
        if let Some(&parent) = parent {
            entries[parent].bytes = entries[parent].bytes.saturating_add(bytes);
        }
    }
}

/// What a file takes: of one with holes what is not one.
fn held(status: &Stat) -> u64 {
    if kind(status) != FileKind::Regular {
        return 0;
    }
    let size = u64::try_from(status.st_size).unwrap_or(0);
    match u64::try_from(status.st_blocks).unwrap_or(0) {
        0 => size.min(4_096),
        blocks => size.min(blocks.saturating_mul(512)),
    }
}

fn kind(status: &Stat) -> FileKind {
    match FileType::from_raw_mode(status.st_mode) {
        FileType::Directory => FileKind::Directory,
        FileType::RegularFile => FileKind::Regular,
        _ => FileKind::Other,
    }
}

fn permissions(status: &Stat) -> u32 {
    status.st_mode & 0o7777
}

/// An absolute path that a link of `/proc/PID` shows, without what the kernel adds for a file that was removed.
#[must_use]
pub fn shown(link: &Path) -> Option<PathBuf> {
    let bytes = link.as_os_str().as_bytes();
    let bytes = bytes.strip_suffix(b" (deleted)").unwrap_or(bytes);
    let path = PathBuf::from(std::ffi::OsString::from_vec(bytes.to_vec()));
    path.is_absolute().then_some(path)
}

#[cfg(test)]
mod tests;
