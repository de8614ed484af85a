//! Files of a root file system that is not this process's: opened so that no symbolic link and no `..` leads out of it.
//! The kernel resolves (`openat2`, RESOLVE_IN_ROOT). What is in there is hostile.

use std::{
    fs::File,
    io::Read as _,
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, openat2};

/// More is not unpacked, in bytes.
const MAX_UNPACKED: u64 = 32 << 30;
/// A larger file is not read, in bytes.
const MAX_FILE: u64 = 1 << 30;
/// Directories below each other that are walked.
const MAX_DEPTH: usize = 24;
/// Files that a walk names.
const MAX_FILES: usize = 1 << 20;

/// A root.
#[derive(Debug)]
pub struct Rootfs {
    root: File,
    path: PathBuf,
}

/// A file, known apart from its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(u64, u64);

impl Rootfs {
    /// The root at `path`, a directory or `/proc/PID/root`.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        let root = File::open(path)?;
        if !root.metadata()?.is_dir() {
            return Err(std::io::ErrorKind::NotADirectory.into());
        }
        let path = std::fs::canonicalize(path)?;
        Ok(Self { root, path })
    }

    /// A file's identity and its real path inside the root; `None` when it is no regular file, or too large.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<(Id, String)> {
        let (file, id) = self.file(path)?;
        let link = std::fs::read_link(format!("/proc/self/fd/{}", fd(&file))).ok()?;
        let real = link.strip_prefix(&self.path).map_or(link.clone(), |inside| Path::new("/").join(inside));
        Some((id, real.to_str().map_or_else(|| path.to_owned(), str::to_owned)))
    }

    /// The content of a regular file.
    #[must_use]
    pub fn read(&self, path: &str) -> Option<Vec<u8>> {
        let (file, _) = self.file(path)?;
        let mut bytes = Vec::new();
        file.take(MAX_FILE).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    /// The first `max` bytes of a regular file.
    #[must_use]
    pub fn head(&self, path: &str, max: u64) -> Option<Vec<u8>> {
        let (file, _) = self.file(path)?;
        let mut bytes = Vec::new();
        file.take(max).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    /// Whether there is a directory.
    #[must_use]
    pub fn is_dir(&self, path: &str) -> bool {
        self.open_inside(path, OFlags::DIRECTORY).is_some()
    }

    /// The names in a directory, sorted, and whether each is a directory itself; links are not followed.
    #[must_use]
    pub fn list(&self, path: &str) -> Vec<(String, bool)> {
        let mut names = Vec::new();
        let Some(dir) = self.open_inside(path, OFlags::DIRECTORY) else { return names };
        let Ok(entries) = Dir::read_from(&dir) else { return names };
        for entry in entries.filter_map(Result::ok) {
            if let Ok(name) = entry.file_name().to_str()
                && !matches!(name, "." | "..")
            {
                names.push((name.to_owned(), entry.file_type() == FileType::Directory));
            }
        }
        names.sort();
        names
    }

    /// The paths of all files below a directory that `wanted` takes, sorted; links to directories are not followed.
    #[must_use]
    pub fn walk(&self, path: &str, wanted: &dyn Fn(&str) -> bool) -> Vec<String> {
        let mut found = Vec::new();
        let mut todo = vec![(path.trim_end_matches('/').to_owned(), 0)];
        while let Some((dir, depth)) = todo.pop() {
            for (name, is_dir) in self.list(if dir.is_empty() { "/" } else { &dir }) {
                let path = format!("{dir}/{name}");
                if is_dir && depth < MAX_DEPTH && !matches!(&*path, "/proc" | "/sys" | "/dev") {
                    todo.push((path, depth + 1));
                } else if !is_dir && found.len() < MAX_FILES && wanted(&path) {
                    found.push(path);
                }
            }
        }
        found.sort();
        found
    }

    fn file(&self, path: &str) -> Option<(File, Id)> {
        // opening a device or a pipe may do something: it is looked at first
        let look = self.open_inside(path, OFlags::PATH)?;
        let metadata = look.metadata().ok()?;
        if !metadata.is_file() || metadata.len() > MAX_FILE {
            return None;
        }
        let file = File::open(format!("/proc/self/fd/{}", fd(&look))).ok()?;
        Some((file, Id(metadata.dev(), metadata.ino())))
    }

    fn open_inside(&self, path: &str, flags: OFlags) -> Option<File> {
        let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::CLOEXEC;
        openat2(self.root.as_fd(), path, flags, Mode::empty(), inside).ok().map(File::from)
    }
}

/// Unpacks files, directories and links of a tar archive below `dir`. What would lie outside is left out, and so are
/// devices, owners, and bits of mode beyond `rwx`.
///
/// # Errors
/// When the archive cannot be read, is too large, or `dir` takes no more.
pub fn unpack(archive: impl std::io::Read, dir: &Path) -> std::io::Result<()> {
    let mut archive = tar::Archive::new(archive);
    let mut total = 0;
    for entry in archive.entries()? {
        let mut entry = entry?;
        total += entry.size();
        if total > MAX_UNPACKED {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        entry.set_preserve_permissions(false);
        entry.set_preserve_mtime(false);
        let kind = entry.header().entry_type();
        if kind.is_file() || kind.is_dir() || kind.is_symlink() || kind.is_hard_link() {
            match entry.unpack_in(dir) {
                Ok(_) => {}
                // a link whose target is outside, or is not in the archive
                Err(_) if kind.is_hard_link() || kind.is_symlink() => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

fn fd(file: &File) -> i32 {
    std::os::fd::AsRawFd::as_raw_fd(file)
}
