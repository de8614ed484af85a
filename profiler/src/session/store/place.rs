//! A directory for results, opened once; all else happens in what was opened.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::OwnedFd,
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, mkdirat, openat, statat},
    io::Errno,
};

use super::error;
use crate::session::error::SessionError;

/// Permission bits of directories before the umask.
const DIR_MODE: Mode = Mode::from_raw_mode(0o755);

/// A directory for results, which need not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// As the user typed it; empty for the working directory.
    typed: PathBuf,
    /// What was added to it.
    below: PathBuf,
}

impl<T: AsRef<Path> + ?Sized> From<&T> for Place {
    /// What the user typed.
    fn from(typed: &T) -> Self {
        Place { typed: typed.as_ref().to_owned(), below: PathBuf::new() }
    }
}

impl Place {
    /// A directory in it, which must be no symbolic link. Only names count: `..` does not lead out of it.
    #[must_use]
    pub fn below(&self, names: impl AsRef<Path>) -> Self {
        Place { typed: self.typed.clone(), below: self.below.join(names) }
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        // joined with nothing, it would end with a slash
        if self.below.as_os_str().is_empty() {
            self.typed.clone()
        } else {
            self.typed.join(&self.below)
        }
    }

    /// The text of a file in it; `None` when there is no such file. Only a file is read, not a link, a pipe or a device.
    ///
    /// # Errors
    /// When it cannot be read, or is something else.
    pub fn read(&self, name: &str) -> io::Result<Option<String>> {
        let is_absent = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        let dir = match self.opened(|_, _| Ok(())) {
            Err((_, error)) if is_absent(&error) => return Ok(None),
            opened => opened.map_err(|(_, error)| error)?,
        };
        // nobody who writes to a pipe is waited for
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut file = match openat(&dir, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(linked()),
            Err(error) => return Err(error.into()),
        };
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
        }
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        Ok(Some(text))
    }

    /// Opens it, creating what is missing.
    pub(super) fn open(&self) -> Result<OwnedFd, SessionError> {
        if !self.typed.as_os_str().is_empty() {
            std::fs::create_dir_all(&self.typed).map_err(error("create", &self.typed))?;
        }
        let make = |dir: &OwnedFd, name: &Path| match mkdirat(dir, name, DIR_MODE) {
            Err(Errno::EXIST) => Ok(()),
            other => other,
        };
        self.opened(make).map_err(|(path, source)| error("create", &path)(source))
    }

    /// Opens it, after `make` of each directory below the typed one; when that fails, says at which.
    fn opened(
        &self,
        make: impl Fn(&OwnedFd, &Path) -> rustix::io::Result<()>,
    ) -> Result<OwnedFd, (PathBuf, io::Error)> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let here = Path::new(".");
        let typed = if self.typed.as_os_str().is_empty() { here } else { &self.typed };
        let failed = |path: &Path, error: Errno| (path.to_owned(), error.into());
        let mut dir =
            openat(CWD, typed, flags, Mode::empty()).map_err(|error| failed(typed, error))?;
        let mut path = self.typed.clone();
        for component in self.below.components() {
            let Component::Normal(name) = component else { continue };
            path.push(name);
            let name = Path::new(name);
            make(&dir, name).map_err(|error| failed(&path, error))?;
            dir = match openat(&dir, name, flags | OFlags::NOFOLLOW, Mode::empty()) {
                Ok(opened) => opened,
                Err(_) if is_link(&dir, name) => return Err((path, linked())),
                Err(error) => return Err(failed(&path, error)),
            };
        }
        Ok(dir)
    }
}

fn is_link(dir: &OwnedFd, name: &Path) -> bool {
    statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
}

fn linked() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is a symbolic link, which is not followed")
}

#[cfg(test)]
mod tests {
    use fs_err as fs;

    use super::*;
    use crate::session::store::write;

    #[test]
    fn a_place_below_another_is_in_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let place = Place::from(dir.path()).below("../a/b");
        assert_eq!(place.read("x").expect("nothing is there"), None);
        write(place, &[("x", "1".to_owned())]).expect("writes");
        assert!(dir.path().join("a/b/x").exists());
        assert_eq!(Place::from("").below("profiles/x").path(), Path::new("profiles/x"));
        assert_eq!(Place::from("out").path().as_os_str(), "out");
    }

    #[test]
    fn only_files_are_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("makes");
        fs::create_dir(dir.path().join("dir")).expect("creates");
        let place = Place::from(dir.path());
        for name in ["pipe", "dir"] {
            place.read(name).expect_err("it would be waited for");
        }
    }
}
