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
/// Entries of an archive; more are not unpacked.
const MAX_ENTRIES: usize = 1 << 22;
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
        let real = link
            .strip_prefix(&self.path)
            .map_or(link.clone(), |inside| Path::new("/").join(inside));
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

    /// How large a regular file is, in bytes.
    #[must_use]
    pub fn size(&self, path: &str) -> Option<u64> {
        let (file, _) = self.file(path)?;
        Some(file.metadata().ok()?.len())
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

/// Unpacks what the analysis reads of a tar archive below `dir`: programs, scripts, the linker's cache, directories and
/// links. What would lie outside is left out, and so are devices, owners, and bits of mode beyond `rwx`.
///
/// # Errors
/// When the archive cannot be read, is too large, or `dir` takes no more.
pub fn unpack(archive: impl std::io::Read, dir: &Path) -> std::io::Result<()> {
    unpack_within(archive, dir, MAX_UNPACKED)
}

fn unpack_within(archive: impl std::io::Read, dir: &Path, max: u64) -> std::io::Result<()> {
    let root = File::open(dir)?;
    let mut archive = tar::Archive::new(archive);
    let mut left = max;
    for (number, entry) in archive.entries()?.enumerate() {
        if number == MAX_ENTRIES {
            return Err(too_large(format!("more than {MAX_ENTRIES} files")));
        }
        let mut entry = entry?;
        entry.set_preserve_permissions(false);
        entry.set_preserve_mtime(false);
        let kind = entry.header().entry_type();
        if kind.is_file() {
            let written = unpack_file(&mut entry, &root, left.saturating_add(1))?;
            let Some(rest) = left.checked_sub(written) else {
                return Err(too_large(format!("more than {max} bytes of programs and libraries")));
            };
            left = rest;
        } else if kind.is_dir() {
            entry.unpack_in(dir)?;
        } else if kind.is_symlink() || kind.is_hard_link() {
            // one whose target is outside, or was not unpacked, is left out
            let _ = entry.unpack_in(dir);
        }
    }
    Ok(())
}

fn too_large(what: String) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::FileTooLarge, what)
}

/// Writes a file, if it is one that is read, and of it at most `max` bytes, but four in any case; how many. No link on the way to it is followed.
fn unpack_file(
    entry: &mut tar::Entry<'_, impl std::io::Read>,
    root: &File,
    max: u64,
) -> std::io::Result<u64> {
    let mut head = Vec::new();
    entry.take(4).read_to_end(&mut head)?;
    let path = entry.path()?.into_owned();
    let wanted = head == b"\x7fELF" || head.starts_with(b"#!") || path.ends_with("ld.so.cache");
    if !wanted {
        return Ok(0);
    }
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let Ok(file) = openat2(root.as_fd(), &path, flags, Mode::RUSR | Mode::WUSR, inside) else {
        return Ok(0);
    };
    let mut file = File::from(file);
    std::io::Write::write_all(&mut file, &head)?;
    Ok(head.len() as u64
        + std::io::copy(&mut entry.take(max.saturating_sub(head.len() as u64)), &mut file)?)
}

fn fd(file: &File) -> i32 {
    std::os::fd::AsRawFd::as_raw_fd(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ELF: &[u8] = b"\x7fELF and more";

    fn add(tar: &mut tar::Builder<Vec<u8>>, path: &str, kind: tar::EntryType, link: &str) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o6755);
        let data = if kind.is_file() { ELF } else { &[] };
        header.set_size(data.len() as u64);
        // names that the crate itself would refuse to write
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        tar.append(&header, data).expect("a vector takes everything");
    }

    #[test]
    fn no_more_is_unpacked_than_there_is_room() {
        let mut tar = tar::Builder::new(Vec::new());
        add(&mut tar, "x", tar::EntryType::Regular, "");
        add(&mut tar, "y", tar::EntryType::Regular, "");
        let archive = tar.into_inner().expect("ends");
        let size = ELF.len() as u64;
        let unpacked = |max: u64| {
            let dir = tempfile::tempdir().expect("a directory");
            let error = unpack_within(&*archive, dir.path(), max).err();
            let written = |name| dir.path().join(name).metadata().map_or(0, |file| file.len());
            (error.map(|error| error.kind()), written("x") + written("y"))
        };
        assert_eq!(unpacked(2 * size), (None, 2 * size));
        let (error, written) = unpacked(size + 5);
        assert_eq!(error, Some(std::io::ErrorKind::FileTooLarge));
        assert!(written < 2 * size, "the rest of an entry is not written: {written}");
    }

    #[test]
    fn nothing_is_unpacked_or_read_outside() {
        let outer = tempfile::tempdir().expect("a directory");
        let dir = outer.path().join("root");
        std::fs::create_dir(&dir).expect("creates");
        std::fs::write(outer.path().join("secret"), ELF).expect("writes");
        let mut tar = tar::Builder::new(Vec::new());
        let outside = outer.path().to_str().expect("UTF-8").to_owned();
        add(&mut tar, "bin/", tar::EntryType::Directory, "");
        add(&mut tar, "bin/x", tar::EntryType::Regular, "");
        add(&mut tar, "../up", tar::EntryType::Regular, "");
        add(&mut tar, "out", tar::EntryType::Symlink, &outside);
        add(&mut tar, "out/through", tar::EntryType::Regular, "");
        add(&mut tar, "hard", tar::EntryType::Link, "../secret");
        add(&mut tar, "pipe", tar::EntryType::Fifo, "");
        add(&mut tar, "rel", tar::EntryType::Symlink, "../secret");
        add(&mut tar, "abs", tar::EntryType::Symlink, "/bin/x");
        unpack(&*tar.into_inner().expect("ends"), &dir).expect("unpacks");
        let names = |path: &Path| {
            let names = std::fs::read_dir(path).expect("lists").map(|e| e.expect("an entry"));
            let mut names: Vec<_> =
                names.map(|e| e.file_name().into_string().expect("UTF-8")).collect();
            names.sort();
            names
        };
        assert_eq!(names(outer.path()), ["root", "secret"]);
        assert_eq!(names(&dir), ["abs", "bin", "out", "rel"]);

        let rootfs = Rootfs::open(&dir).expect("opens");
        assert_eq!(rootfs.read("/abs").as_deref(), Some(ELF));
        assert_eq!(rootfs.find("/abs").expect("is there").1, "/bin/x");
        for path in ["/rel", "/out/secret", "/../secret", "/pipe", "/bin", "/none"] {
            assert_eq!(rootfs.read(path), None, "{path}");
        }
        assert_eq!(rootfs.walk("/", &|path| path.ends_with('x')), ["/bin/x"]);
    }
}
