//! Whose the files of an image are, from the lower layers of an overlay: what not everybody may read, and what was where something is written or mounted.
//!
//! An image may be large, so it is walked in pieces. It never changes, so nothing is asked twice.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::fs::{AtFlags, Dir, FileType, Stat};

use super::{
    lower::{Lowers, is_whiteout},
    text,
    users::Ids,
};
use crate::model::usage::{self, Owned};

/// How many restricted files are kept.
pub const MAX_RESTRICTED: usize = 256;

/// Of how many paths that were changed, or are above such, the owner is kept.
pub const MAX_ORIGINALS: usize = 4_096;

/// How many entries of an image are walked over, and how deep.
const MAX_WALKED: u64 = 2_000_000;
const MAX_DEPTH: usize = 64;

/// How many directories around a file are told that bar others.
const MAX_BARS: usize = 4;

/// Permissions of others: to search a directory; to read a file, or at least to execute it.
const MAY_SEARCH: u32 = 0o001;
const MAY_READ: u32 = 0o005;

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
    originals: HashMap<PathBuf, Option<Owner>>,
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
        }
    }

    /// Whether both are of the same layers.
    #[must_use]
    pub fn is_of(&self, lowers: &[PathBuf]) -> bool {
        self.lowers == lowers
    }

    /// Walks on for about so long, if there is anything left.
    ///
    /// # Errors
    /// When a layer cannot be opened; the rest counts as not walked.
    pub fn walk(&mut self, time: Duration) -> io::Result<()> {
        if self.directories.is_empty() {
            return Ok(());
        }
        let deadline = Instant::now() + time;
        let lowers = Lowers::open(&self.root, &self.lowers)?;
        while Instant::now() < deadline
            && let Some(directory) = self.directories.pop_front()
        {
            if directory.depth > MAX_DEPTH || self.walked >= MAX_WALKED {
                self.more += 1;
                continue;
            }
            self.read(&lowers, &directory);
        }
        Ok(())
    }

    fn read(&mut self, lowers: &Lowers, directory: &Directory) {
        // each name as the uppermost layer has it, and the layers that go on below it
        let mut seen: HashMap<Vec<u8>, (Option<Stat>, Vec<usize>)> = HashMap::new();
        for &layer in &directory.layers {
            let Ok(dir) = lowers.directory(layer, &directory.path) else {
                self.more += 1;
                continue;
            };
            let Ok(entries) = Dir::read_from(&dir) else {
                self.more += 1;
                continue;
            };
            for entry in entries.flatten() {
                let name = entry.file_name();
                if matches!(name.to_bytes(), b"." | b"..") {
                    continue;
                }
                self.walked += 1;
                let is_open = |known: &(Option<Stat>, Vec<usize>)| !known.1.is_empty();
                if seen.get(name.to_bytes()).is_some_and(|known| !is_open(known)) {
                    continue;
                }
                let Ok(status) = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) else {
                    self.more += 1;
                    continue;
                };
                let is_directory = FileType::from_raw_mode(status.st_mode) == FileType::Directory;
                match seen.get_mut(name.to_bytes()) {
                    Some((_, layers)) if is_directory => layers.push(layer),
                    // a file below a directory is hidden, and so is what is below the file
                    Some((_, _)) => {}
                    None => {
                        let layers = if is_directory { vec![layer] } else { Vec::new() };
                        let there = (!is_whiteout(&status)).then_some(status);
                        seen.insert(name.to_bytes().to_vec(), (there, layers));
                    }
                }
            }
        }
        for (name, (status, layers)) in seen {
            let Some(status) = status else { continue };
            let path = directory.path.join(std::ffi::OsStr::from_bytes(&name));
            self.add(directory, path, &status, layers);
        }
    }

    fn add(&mut self, around: &Directory, path: PathBuf, status: &Stat, layers: Vec<usize>) {
        let owner = Owner::of(status);
        match FileType::from_raw_mode(status.st_mode) {
            FileType::Directory => {
                let mut bars = around.bars.clone();
                let is_bar = owner.mode & MAY_SEARCH == 0 && !bars.contains(&owner);
                if is_bar && bars.len() < MAX_BARS {
                    bars.push(owner);
                }
                self.directories.push_back(Directory {
                    path,
                    depth: around.depth + 1,
                    layers,
                    bars,
                });
            }
            FileType::RegularFile if owner.mode & SET_ID == 0 => {
                let own = (owner.mode & MAY_READ == 0).then_some(owner);
                for bar in around.bars.iter().copied().chain(own) {
                    self.restricted.insert((path.clone(), bar));
                }
                while self.restricted.len() > MAX_RESTRICTED {
                    self.restricted.pop_last();
                    self.more += 1;
                }
            }
            _ => {}
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
                if self.originals.len() >= MAX_ORIGINALS {
                    return Ok(());
                }
                if lowers.is_none() {
                    lowers = Some(Lowers::open(&self.root, &self.lowers)?);
                }
                let found = lowers.as_ref().and_then(|lowers| lowers.find(path));
                self.originals.insert(path.to_owned(), found.as_ref().map(Owner::of));
            }
        }
        Ok(())
    }

    /// What is known by now.
    #[must_use]
    pub fn told(&self, ids: &Ids) -> usage::Image {
        let left = u64::try_from(self.directories.len()).unwrap_or(u64::MAX);
        let originals =
            self.originals.iter().filter_map(|(path, owner)| Some(owner.as_ref()?.told(path, ids)));
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
            Image::new(self.0.path(), vec!["/top".into(), "/low".into()])
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
        fs::create_dir_all(at.0.path().join("top")).expect("creates");
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
        fs::create_dir_all(at.0.path().join("top")).expect("creates");
        let mut image = at.image();
        image
            .ask([Path::new("/srv/data/file"), Path::new("/srv/data/new/x")].into_iter())
            .expect("asks");
        let told = image.told(&Ids::default());
        let expected = [("/srv", 0o755), ("/srv/data", 0o750), ("/srv/data/file", 0o640)];
        assert_eq!(paths(&told.originals), expected);
    }
}
