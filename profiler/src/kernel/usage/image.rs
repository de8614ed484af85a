//! Whose the files of an image are, from the lower layers of an overlay: what not everybody may read, and what was where something is written or mounted.
//!
//! An image may be large, so it is walked in pieces. It never changes, so containers of the same layers share what is known of it. Whether a directory
//! hides the one below it (`trusted.overlay.opaque`) only CAP_SYS_ADMIN may ask: what such a one hides is taken to be there.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::fs::{AtFlags, Dir, FileType, Stat};

use super::{lower::Lowers, text, users::Ids};
use crate::model::usage::{self, Owned};

/// How many restricted files are kept.
pub const MAX_RESTRICTED: usize = 1_024;

/// Of how many paths that were changed, or are above such, the owner is kept.
pub const MAX_ORIGINALS: usize = 4_096;

/// How many entries of an image are walked over, and of one directory; how deep, and how many directories wait to be read.
const MAX_WALKED: u64 = 2_000_000;
const MAX_ENTRIES: usize = 65_536;
const MAX_DEPTH: usize = 64;
const MAX_WAITING: usize = 32_768;

/// The longest path of a directory that is read, in bytes.
const MAX_PATH: usize = 1_024;

/// How many directories around a file are told that bar others.
const MAX_BARS: usize = 4;

/// Permissions of others, and of anybody.
const OTHERS_READ: u32 = 0o004;
const OTHERS_EXECUTE: u32 = 0o001;
const EXECUTE: u32 = 0o111;

/// A program that takes its owner's or group's rights: those who may execute it are not expected to read it.
const SET_ID: u32 = 0o6000;

/// The image of a container, as it is walked.
pub struct Image {
    root: PathBuf,
    lowers: Vec<PathBuf>,
    /// What is to be read still; the next one first.
    directories: VecDeque<Directory>,
    walked: u64,
    restricted: BTreeSet<(PathBuf, Owner)>,
    more: u64,
    originals: HashMap<PathBuf, Owner>,
    /// Paths that were asked for and are not in the image; forgotten when there are many.
    misses: HashSet<PathBuf>,
}

/// A directory of the merged layers.
struct Directory {
    path: PathBuf,
    depth: usize,
    /// In which of the layers it is, the uppermost first.
    layers: Vec<usize>,
    /// Directories around it that not everybody may search.
    bars: Vec<Owner>,
}

/// A name in the layers that were read so far.
struct Seen {
    /// As the uppermost layer has it.
    owner: Owner,
    is_file: bool,
    /// Those in which it is a directory, the uppermost first.
    layers: Vec<usize>,
    /// The next layer may add to it.
    goes_on: bool,
}

/// User, group and permission bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Owner {
    uid: u32,
    gid: u32,
    mode: u32,
    directory: bool,
}

impl Owner {
    fn of(status: &Stat) -> Owner {
        Owner {
            uid: status.st_uid,
            gid: status.st_gid,
            mode: status.st_mode & 0o7777,
            directory: FileType::from_raw_mode(status.st_mode) == FileType::Directory,
        }
    }

    fn told(self, path: &Path, ids: &Ids) -> Owned {
        Owned {
            path: text(Path::new("/").join(path).as_os_str().as_bytes()),
            uid: ids.user(self.uid),
            gid: ids.group(self.gid),
            mode: self.mode,
            directory: self.directory,
        }
    }
}

impl Image {
    /// Nothing of it is read yet. `root` is put before the paths of the layers, of which the uppermost is the first.
    #[must_use]
    pub fn new(root: &Path, lowers: Vec<PathBuf>) -> Image {
        let layers = (0..lowers.len()).collect();
        let whole = Directory { path: PathBuf::new(), depth: 0, layers, bars: Vec::new() };
        Image {
            root: root.to_owned(),
            lowers,
            directories: [whole].into(),
            walked: 0,
            restricted: BTreeSet::new(),
            more: 0,
            originals: HashMap::new(),
            misses: HashSet::new(),
        }
    }

    /// Whether both are of the same layers.
    #[must_use]
    pub fn is_of(&self, lowers: &[PathBuf]) -> bool {
        self.lowers == lowers
    }

    /// Whether it was walked to its end, or cannot be.
    #[must_use]
    pub fn is_walked(&self) -> bool {
        self.directories.is_empty()
    }

    /// Walks on for about so long, if there is anything left.
    ///
    /// # Errors
    /// When a layer cannot be opened; the rest counts as not read.
    pub fn walk(&mut self, time: Duration) -> io::Result<()> {
        let deadline = Instant::now() + time;
        let lowers = Lowers::open(&self.root, &self.lowers).inspect_err(|_| {
            self.more += 1;
            self.directories.clear();
        })?;
        while Instant::now() < deadline
            && let Some(directory) = self.directories.pop_front()
        {
            self.read(&lowers, &directory);
        }
        Ok(())
    }

    fn read(&mut self, lowers: &Lowers, directory: &Directory) {
        let mut seen: HashMap<Vec<u8>, Seen> = HashMap::new();
        for &layer in &directory.layers {
            let entries = lowers
                .directory(layer, &directory.path)
                .and_then(|dir| Ok((Dir::read_from(&dir)?, dir)));
            let Ok((entries, dir)) = entries else {
                self.more += 1;
                continue;
            };
            for entry in entries.flatten() {
                let name = entry.file_name();
                if matches!(name.to_bytes(), b"." | b"..") {
                    continue;
                }
                if seen.len() >= MAX_ENTRIES || self.walked >= MAX_WALKED {
                    self.more += 1;
                    break;
                }
                self.walked += 1;
                if seen.get(name.to_bytes()).is_some_and(|seen| !seen.goes_on) {
                    continue;
                }
                let Ok(status) = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) else {
                    self.more += 1;
                    continue;
                };
                let owner = Owner::of(&status);
                let seen = seen.entry(name.to_bytes().to_vec()).or_insert_with(|| Seen {
                    owner,
                    is_file: FileType::from_raw_mode(status.st_mode) == FileType::RegularFile,
                    layers: Vec::new(),
                    goes_on: true,
                });
                // a file, a whiteout or a link hides what is below it, and is hidden by a directory
                seen.goes_on = owner.directory;
                seen.layers.extend(owner.directory.then_some(layer));
            }
        }
        for (name, seen) in seen {
            let path = directory.path.join(std::ffi::OsStr::from_bytes(&name));
            self.add(directory, path, seen);
        }
    }

    fn add(
        &mut self,
        around: &Directory,
        path: PathBuf,
        Seen { owner, is_file, layers, .. }: Seen,
    ) {
        if owner.directory {
            let is_long = path.as_os_str().len() > MAX_PATH || around.depth >= MAX_DEPTH;
            if is_long || self.directories.len() >= MAX_WAITING {
                self.more += 1;
                return;
            }
            let mut bars = around.bars.clone();
            let is_bar = owner.mode & OTHERS_EXECUTE == 0 && !bars.contains(&owner);
            if is_bar && bars.len() < MAX_BARS {
                bars.push(owner);
            }
            self.directories.push_back(Directory { path, depth: around.depth + 1, layers, bars });
        } else if is_file && owner.mode & SET_ID == 0 {
            let is_closed = owner.mode & OTHERS_READ == 0
                || owner.mode & EXECUTE != 0 && owner.mode & OTHERS_EXECUTE == 0;
            for bar in around.bars.iter().copied().chain(is_closed.then_some(owner)) {
                self.restricted.insert((path.clone(), bar));
            }
            while self.restricted.len() > MAX_RESTRICTED {
                self.restricted.pop_last();
                self.more += 1;
            }
        }
    }

    /// Asks whose these are in the image, and the directories above them. They are absolute.
    ///
    /// # Errors
    /// When a layer cannot be opened; what is not known is left out.
    pub fn ask<'a>(&mut self, paths: impl Iterator<Item = &'a Path>) -> io::Result<()> {
        let mut lowers = None;
        for path in paths {
            let relative = path.strip_prefix("/").unwrap_or(path);
            for path in relative.ancestors().filter(|path| !path.as_os_str().is_empty()) {
                if self.originals.contains_key(path) {
                    break;
                }
                if self.misses.contains(path) {
                    continue;
                }
                if lowers.is_none() {
                    lowers = Some(Lowers::open(&self.root, &self.lowers)?);
                }
                match lowers.as_ref().and_then(|lowers| lowers.find(path)) {
                    Some(_) if self.originals.len() >= MAX_ORIGINALS => {
                        self.more += 1;
                        return Ok(());
                    }
                    Some(status) => {
                        self.originals.insert(path.to_owned(), Owner::of(&status));
                    }
                    None => {
                        if self.misses.len() >= MAX_ORIGINALS {
                            self.misses.clear();
                        }
                        self.misses.insert(path.to_owned());
                    }
                }
            }
        }
        Ok(())
    }

    /// What is known by now.
    #[must_use]
    pub fn told(&self, ids: &Ids) -> usage::Image {
        let left = u64::try_from(self.directories.len()).unwrap_or(u64::MAX);
        let originals = self.originals.iter().map(|(path, owner)| owner.told(path, ids));
        usage::Image {
            originals: originals.collect(),
            restricted: self.restricted.iter().map(|(path, owner)| owner.told(path, ids)).collect(),
            more: self.more.saturating_add(left),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt as _, symlink},
    };

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    struct Layers(tempfile::TempDir);

    impl Layers {
        fn put(&self, path: &str, mode: u32) {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().expect("a directory")).expect("creates");
            fs::write(&path, "x").expect("writes");
            self.mode(path.to_str().expect("text"), mode);
        }

        fn mode(&self, path: &str, mode: u32) {
            let path = self.0.path().join(path);
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("sets");
        }

        fn image(&self) -> Image {
            let lowers = ["top", "middle", "low"];
            for lower in lowers {
                fs::create_dir_all(self.0.path().join(lower)).expect("creates");
            }
            Image::new(self.0.path(), lowers.map(|lower| format!("/{lower}").into()).to_vec())
        }
    }

    fn layers() -> Layers {
        Layers(tempfile::tempdir().expect("a directory"))
    }

    fn paths(owned: &BTreeSet<Owned>) -> Vec<(&str, u32)> {
        owned.iter().map(|one| (one.path.as_str(), one.mode)).collect()
    }

    #[test]
    fn what_not_everybody_may_read() {
        let at = layers();
        at.put("low/app/key", 0o600);
        at.put("low/app/open", 0o644);
        at.put("low/app/again", 0o600);
        at.put("top/app/again", 0o644);
        at.put("low/app/closed", 0o644);
        at.put("top/app/closed", 0o640);
        at.put("low/app/su", 0o4110);
        at.put("low/app/run", 0o711);
        at.put("low/app/start", 0o744);
        at.put("low/app/tool", 0o755);
        at.put("top/again/new", 0o644);
        at.put("middle/again", 0o644);
        at.put("low/again/old", 0o600);
        at.put("low/open/listed", 0o644);
        at.put("low/root/a", 0o644);
        at.put("low/root/b", 0o600);
        at.put("low/dir-or-file/hidden", 0o600);
        at.put("top/dir-or-file", 0o644);
        fs::create_dir_all(at.0.path().join("low/empty")).expect("creates");
        symlink("/etc", at.0.path().join("low/link")).expect("links");
        for path in ["low/root", "low/empty"] {
            at.mode(path, 0o700);
        }
        at.mode("low/open", 0o711);
        let mut image = at.image();
        assert!(image.told(&Ids::default()).more > 0, "not walked yet");
        image.walk(LONG).expect("walks");
        let told = image.told(&Ids::default());
        assert_eq!(
            paths(&told.restricted),
            [
                ("/app/closed", 0o640),
                ("/app/key", 0o600),
                ("/app/run", 0o711),
                ("/app/start", 0o744),
                ("/root/a", 0o700),
                ("/root/b", 0o600),
                ("/root/b", 0o700),
            ]
        );
        assert_eq!(told.more, 0);
    }

    #[test]
    fn no_more_than_a_bounded_number_is_kept() {
        let at = layers();
        for number in 0..MAX_RESTRICTED + 3 {
            at.put(&format!("low/{number:04}"), 0o600);
        }
        let mut image = at.image();
        image.walk(LONG).expect("walks");
        let told = image.told(&Ids::default());
        assert_eq!((told.restricted.len(), told.more), (MAX_RESTRICTED, 3));
    }

    #[test]
    fn whose_it_was_before() {
        let at = layers();
        at.put("low/srv/data/file", 0o640);
        at.mode("low/srv/data", 0o750);
        at.mode("low/srv", 0o755);
        let mut image = at.image();
        image
            .ask([Path::new("/srv/data/file"), Path::new("/srv/data/new/x")].into_iter())
            .expect("asks");
        let told = image.told(&Ids::default());
        let expected = [("/srv", 0o755), ("/srv/data", 0o750), ("/srv/data/file", 0o640)];
        assert_eq!(paths(&told.originals), expected);
    }
}
