//! Of what an overlay is made, from its line in `mountinfo`, and what its lower layers hold.

use std::{
    ffi::OsString,
    io,
    os::{
        fd::OwnedFd,
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat},
    io::Errno,
};

use super::mounts::{Mounted, option};
use crate::model::usage::Root;

/// How many lower layers are looked at; the kernel takes 500.
const MAX_LOWERS: usize = 512;

/// The directories of an overlay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlay {
    /// What is written to.
    pub upper: PathBuf,
    /// The layers below it, the uppermost first.
    pub lowers: Vec<PathBuf>,
}

impl Overlay {
    /// Of what the root of a mount table is made.
    ///
    /// # Errors
    /// When it is no overlay that can be written to: what is known of it then.
    pub fn of_root(table: &[Mounted]) -> Result<Overlay, Root> {
        let unknown = |reason: String| Err(Root::Unknown { reason });
        let Some(root) = root_of(table) else {
            return unknown("its mount table names no root".to_owned());
        };
        if !root.writable {
            return Err(Root::ReadOnly {});
        }
        if root.filesystem != "overlay" {
            return unknown(format!("its root is no overlay, but `{}`", root.filesystem));
        }
        let Some(upper) = option(&root.options, b"upperdir").next().map(path) else {
            return Err(Root::ReadOnly {});
        };
        let lowers = lowers(root).map_err(|reason| Root::Unknown { reason })?;
        if !upper.is_absolute() {
            return unknown(RELATIVE.to_owned());
        }
        Ok(Overlay { upper, lowers })
    }
}

const RELATIVE: &str = "its overlay was mounted with relative paths";

/// The lower layers of the root of a mount table, the uppermost first, also of one that cannot be written to. `None` when it is no overlay, or
/// they cannot be told.
#[must_use]
pub fn lowers_of_root(table: &[Mounted]) -> Option<Vec<PathBuf>> {
    root_of(table).filter(|root| root.filesystem == "overlay").and_then(|root| lowers(root).ok())
}

/// An error says why they cannot be told.
fn lowers(root: &Mounted) -> Result<Vec<PathBuf>, String> {
    let listed = option(&root.options, b"lowerdir").flat_map(|list| split(&list));
    let single = option(&root.options, b"lowerdir+");
    let lowers: Vec<PathBuf> =
        listed.chain(single).filter(|layer| !layer.is_empty()).map(path).collect();
    if lowers.iter().any(|lower| !lower.is_absolute()) {
        return Err(RELATIVE.to_owned());
    }
    if lowers.is_empty() || lowers.len() > MAX_LOWERS {
        return Err(format!("its overlay names {} lower layers", lowers.len()));
    }
    Ok(lowers)
}

fn root_of(table: &[Mounted]) -> Option<&Mounted> {
    table.iter().rfind(|mounted| mounted.point == Path::new("/"))
}

fn path(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes))
}

/// Whether the root of a mount table is a mount of `host`'s, too. What a container mounts in a namespace of its own is not, and may name
/// directories that are none of its business.
#[must_use]
pub fn is_of_host(table: &[Mounted], host: &[Mounted]) -> bool {
    root_of(table).is_some_and(|root| {
        let same = |other: &Mounted| {
            (other.device, &other.filesystem, &other.options)
                == (root.device, &root.filesystem, &root.options)
        };
        host.iter().any(same)
    })
}

/// A list of layers: `:` between them, `::` before those that hold data only, and `\` before what is part of a path.
fn split(list: &[u8]) -> Vec<Vec<u8>> {
    let mut layers = vec![Vec::new()];
    let mut bytes = list.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b':' => layers.push(Vec::new()),
            b'\\' => layers.last_mut().into_iter().for_each(|layer| layer.extend(bytes.next())),
            other => layers.last_mut().into_iter().for_each(|layer| layer.push(other)),
        }
    }
    layers
}

/// The lower layers, open for a while.
pub struct Lowers(Vec<OwnedFd>);

impl Lowers {
    /// Opens them.
    ///
    /// # Errors
    /// When one cannot be opened: then nothing is known to be new.
    pub fn open(root: &Path, lowers: &[PathBuf]) -> io::Result<Lowers> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |path: &PathBuf| {
            rustix::fs::open(crate::kernel::cgroup::below(root, path), flags, Mode::empty())
        };
        Ok(Lowers(lowers.iter().map(open).collect::<Result<_, _>>()?))
    }

    /// Whether something other than directories is in a directory, or that cannot be told.
    #[must_use]
    pub fn is_occupied(&self, path: &Path) -> bool {
        self.0.iter().any(|lower| match directory(lower, path) {
            Ok(dir) => holds_files(&dir, 0),
            // a link, or nothing
            Err(_) => false,
        })
    }

    /// Opens a directory of one of the layers, counted from the uppermost.
    ///
    /// # Errors
    /// When there is none, or a link is on the way.
    pub(super) fn directory(&self, layer: usize, path: &Path) -> rustix::io::Result<OwnedFd> {
        directory(self.0.get(layer).ok_or(Errno::NOENT)?, path)
    }

    /// What is at a path, relative to the root of the layers, `None` when nothing is.
    #[must_use]
    pub fn find(&self, path: &Path) -> Option<Stat> {
        for lower in &self.0 {
            match beneath(lower, path) {
                Ok(status) if is_whiteout(&status) => return None,
                Ok(status) => return Some(status),
                Err(Errno::NOENT) => {}
                // a whiteout, a link or a file stands where the layers below have a directory
                Err(_) => return None,
            }
        }
        None
    }
}

/// What the kernel puts where something was removed.
#[must_use]
pub fn is_whiteout(status: &Stat) -> bool {
    FileType::from_raw_mode(status.st_mode) == FileType::CharacterDevice && status.st_rdev == 0
}

fn directory(dir: &OwnedFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    open_beneath(dir, path, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// Whether a directory has something other than directories in it; engines' own aside.
fn holds_files(dir: &OwnedFd, depth: usize) -> bool {
    const MAX_DEPTH: usize = 8;
    const ENGINES: [&[u8]; 2] = [b".containerenv", b"secrets"];
    let Ok(entries) = Dir::read_from(dir) else { return true };
    entries.flatten().any(|entry| {
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") || ENGINES.contains(&name) {
            return false;
        }
        let below = directory(dir, Path::new(std::ffi::OsStr::from_bytes(name)));
        depth == MAX_DEPTH || below.map_or(true, |below| holds_files(&below, depth + 1))
    })
}

/// What is at a path below a directory, over no link.
fn beneath(dir: &OwnedFd, path: &Path) -> rustix::io::Result<Stat> {
    let fd = open_beneath(dir, path, OFlags::PATH)?;
    rustix::fs::statat(&fd, "", AtFlags::EMPTY_PATH)
}

/// Opens what is at a path below a directory, over no link.
pub(super) fn open_beneath(
    dir: &OwnedFd,
    path: &Path,
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    rustix::fs::openat2(dir, path, flags, Mode::empty(), resolve)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounted(filesystem: &str, writable: bool, options: &str) -> Mounted {
        Mounted {
            device: (0, 50),
            root: "/".into(),
            point: "/".into(),
            writable,
            filesystem: filesystem.to_owned(),
            options: options.as_bytes().to_vec(),
        }
    }

    #[test]
    fn the_directories_of_a_root() {
        let made = Overlay::of_root(&[mounted(
            "overlay",
            true,
            "rw,lowerdir=/l/a\\134:b:/l/c\\054d::/l/data,upperdir=/u\\040p,workdir=/w",
        )]);
        let lowers = ["/l/a:b", "/l/c,d", "/l/data"].map(PathBuf::from).to_vec();
        assert_eq!(made, Ok(Overlay { upper: "/u p".into(), lowers }));
        let newer = mounted("overlay", true, "rw,lowerdir+=/a:b,lowerdir+=/c,upperdir=/u");
        let lowers = ["/a:b", "/c"].map(PathBuf::from).to_vec();
        assert_eq!(Overlay::of_root(&[newer]), Ok(Overlay { upper: "/u".into(), lowers }));
    }

    #[test]
    fn what_has_no_upper_layer_says_why() {
        for (table, expected) in [
            (vec![mounted("overlay", false, "rw,lowerdir=/a,upperdir=/u")], None),
            (vec![mounted("overlay", true, "rw,lowerdir=/a")], None),
            (vec![mounted("ext4", true, "rw")], Some("`ext4`")),
            (vec![mounted("fuse.fuse-overlayfs", true, "rw")], Some("fuse-overlayfs")),
            (
                vec![mounted("overlay", true, "rw,lowerdir=l/A:l/B,upperdir=x/diff")],
                Some("relative"),
            ),
            (vec![], Some("no root")),
        ] {
            match (Overlay::of_root(&table), expected) {
                (Err(Root::ReadOnly {}), None) => {}
                (Err(Root::Unknown { reason }), Some(part)) => {
                    assert!(reason.contains(part), "{reason}");
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn the_uppermost_layer_that_says_something_decides() {
        let dir = tempfile::tempdir().expect("a directory");
        for path in ["top/there", "low/there", "low/only/deep", "low/hidden/x"] {
            std::fs::create_dir_all(dir.path().join(path)).expect("creates");
        }
        std::fs::write(dir.path().join("top/hidden"), "a file").expect("writes");
        std::os::unix::fs::symlink("only", dir.path().join("low/link")).expect("links");
        let lowers = Lowers::open(dir.path(), &["/top".into(), "/low".into()]).expect("opens");
        for (path, there) in [
            ("there", true),
            ("only/deep", true),
            ("hidden", true),
            ("hidden/x", false),
            ("link", true),
            ("link/deep", false),
            ("nothing", false),
        ] {
            assert_eq!(lowers.find(Path::new(path)).is_some(), there, "{path}");
        }
        assert!(Lowers::open(dir.path(), &["/nothing".into()]).is_err());
    }
}
