//! Writing results: each file whole, the old one or the new one.
//!
//! A directory may be somebody else's, and results may be root's. So it is opened once, and all else happens in what was
//! opened. The path that the user typed is followed, as in a shell; of what is below it no symbolic link is, be it a directory, a
//! file to read or one to write: that one is replaced. Files are made with `O_EXCL`, with what the umask leaves of 0644.

use std::{
    fs::File,
    hash::{BuildHasher as _, RandomState},
    io::{self, Read as _, Write as _},
    os::fd::OwnedFd,
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, mkdirat, openat, renameat, statat, unlinkat},
    io::Errno,
};

use super::error::SessionError;

/// Permission bits of result files before the umask: they are committed, so everyone may read them.
const MODE: Mode = Mode::from_raw_mode(0o644);

/// The same of directories.
const DIR_MODE: Mode = Mode::from_raw_mode(0o755);

/// How many names a temporary file may find taken.
const TRIES: usize = 64;

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
        self.typed.join(&self.below)
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
    fn open(&self) -> Result<OwnedFd, SessionError> {
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

/// Directories that were made for results. Dropping it removes those that stayed empty.
#[derive(Debug, Default)]
pub struct Prepared {
    /// Innermost first.
    made: Vec<PathBuf>,
}

/// Makes sure that files can be created in each of `places`, creating them if need be.
///
/// # Errors
/// When one cannot be created or written to.
pub fn prepare(
    places: impl IntoIterator<Item = impl Into<Place>>,
) -> Result<Prepared, SessionError> {
    let mut prepared = Prepared::default();
    for place in places {
        let place = place.into();
        let path = place.path();
        let missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
        let made = path.ancestors().take_while(missing).map(Path::to_owned);
        prepared.made.splice(..0, made);
        Temporary::new(&place.open()?).map_err(error("write to", &path))?;
    }
    Ok(prepared)
}

impl Drop for Prepared {
    fn drop(&mut self) {
        for dir in &self.made {
            drop(std::fs::remove_dir(dir)); // fails when it is in use
        }
    }
}

/// Writes files into `place`. All are written and synced under other names before the first takes its own: a disk that is
/// full leaves every old file as it was. Each takes its name by itself, so after an error there some may be new.
///
/// # Errors
/// When a file cannot be written.
pub fn write(place: impl Into<Place>, files: &[(&str, String)]) -> Result<(), SessionError> {
    let place = place.into();
    let dir = place.open()?;
    let mut written = Vec::with_capacity(files.len());
    for (name, content) in files {
        let path = place.path().join(name);
        let mut temporary = Temporary::new(&dir).map_err(error("write", &path))?;
        temporary
            .file
            .write_all(content.as_bytes())
            .and_then(|()| temporary.file.sync_all())
            .map_err(error("write", &path))?;
        written.push((temporary, *name, path));
    }
    for (temporary, name, path) in written {
        temporary.take(name).map_err(error("write", &path))?;
    }
    Ok(())
}

/// Removes those files of `names` from `place` that are not among `files`: an earlier result had them, and they would
/// pass for the new one's.
///
/// # Errors
/// When one cannot be removed.
pub fn remove_stale(
    place: impl Into<Place>,
    files: &[(&str, String)],
    names: &[&str],
) -> Result<(), SessionError> {
    let place = place.into();
    let dir = place.open()?;
    for name in names.iter().filter(|name| files.iter().all(|(written, _)| written != *name)) {
        match unlinkat(&dir, *name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(failed) => return Err(error("remove", &place.path().join(name))(failed.into())),
        }
    }
    Ok(())
}

/// A file that has no name of its own yet. Dropping it removes it.
struct Temporary<'a> {
    dir: &'a OwnedFd,
    /// Its name meanwhile; none when it was given its own.
    name: Option<String>,
    file: File,
}

impl<'a> Temporary<'a> {
    fn new(dir: &'a OwnedFd) -> io::Result<Self> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        for _ in 0..TRIES {
            // each state of the hasher has keys of its own; who guesses a name gains nothing but another try
            let name = format!(".tmp{:016x}", RandomState::new().hash_one(std::process::id()));
            match openat(dir, &name, flags, MODE) {
                Ok(file) => return Ok(Temporary { dir, name: Some(name), file: file.into() }),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Gives it its name; what had that is gone.
    fn take(mut self, name: &str) -> io::Result<()> {
        if let Some(own) = &self.name {
            renameat(self.dir, own, self.dir, name)?;
        }
        self.name = None;
        Ok(())
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            let _ = unlinkat(self.dir, name, AtFlags::empty()); // nobody is left to tell
        }
    }
}

fn error(verb: &'static str, path: &Path) -> impl Fn(io::Error) -> SessionError {
    move |source| SessionError::Output { verb, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use fs_err as fs;

    use super::*;

    #[test]
    fn a_file_that_cannot_be_replaced_leaves_whole_files_and_no_temporary_ones() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("b")).expect("a directory in the way");
        let files = [("a", "1".to_owned()), ("b", "2".to_owned()), ("c", "3".to_owned())];
        let error = write(dir.path(), &files).expect_err("a directory cannot be replaced");
        assert_eq!(
            error.to_string(),
            format!(
                "cannot write `{}`\nhint: choose another directory with `-o DIR`",
                dir.path().join("b").display()
            )
        );
        let mut names: Vec<_> = fs::read_dir(dir.path())
            .expect("lists")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn a_link_is_replaced_and_what_it_points_to_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        let (result, other) = (dir.path().join("out"), dir.path().join("other"));
        fs::create_dir(&result).expect("creates");
        fs::write(&other, "precious").expect("writes");
        for name in ["a", "stale"] {
            symlink(&other, result.join(name)).expect("links");
        }
        let files = [("a", "1".to_owned())];
        write(&result, &files).expect("writes");
        remove_stale(&result, &files, &["a", "stale"]).expect("removes");
        assert_eq!(fs::read_to_string(&other).expect("reads"), "precious");
        assert!(result.join("a").symlink_metadata().expect("exists").is_file());
        assert!(result.join("stale").symlink_metadata().is_err());
    }

    #[test]
    fn only_known_files_that_are_not_written_are_stale() {
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["a", "stale", "notes"] {
            fs::write(dir.path().join(name), "old").expect("writes");
        }
        let files = [("a", "1".to_owned())];
        remove_stale(dir.path(), &files, &["a", "stale", "absent"]).expect("removes");
        let left = ["a", "stale", "notes"].map(|name| dir.path().join(name).exists());
        assert_eq!(left, [true, false, true]);
    }

    #[test]
    fn directories_that_stay_empty_are_removed() {
        let dir = tempfile::tempdir().expect("a directory");
        let result = dir.path().join("profiles/backend");
        let other = dir.path().join("profiles/other");
        drop(prepare([&result, &other]).expect("prepares"));
        assert!(!dir.path().join("profiles").exists());
        fs::create_dir(dir.path().join("profiles")).expect("creates");
        fs::write(&other, "in the way").expect("writes");
        prepare([&result, &other]).expect_err("one of them is a file");
        assert!(!result.exists());
        let prepared = prepare([&result]).expect("prepares");
        write(&result, &[("a", "1".to_owned())]).expect("writes");
        drop(prepared);
        assert!(result.join("a").exists());
    }

    /// A process has one umask, so another one tells.
    #[test]
    fn files_are_for_all_to_read_unless_the_umask_says_otherwise() {
        const TEST: &str = "files_are_for_all_to_read_unless_the_umask_says_otherwise";
        if let Some(dir) = std::env::var_os("PROFILER_TEST_STORE") {
            return write(&dir, &[("a", "1".to_owned())]).expect("writes");
        }
        let itself = std::env::current_exe().expect("a path");
        for (umask, expected) in [("000", 0o644), ("022", 0o644), ("077", 0o600)] {
            let dir = tempfile::tempdir().expect("a directory");
            let done = std::process::Command::new("sh")
                .args(["-c", "umask $0; exec \"$@\"", umask])
                .arg(&itself)
                .args(["--exact", &format!("session::store::tests::{TEST}")])
                .env("PROFILER_TEST_STORE", dir.path())
                .output()
                .expect("runs");
            assert!(done.status.success());
            let mode = fs::metadata(dir.path().join("a")).expect("exists").permissions().mode();
            assert_eq!(mode & 0o7777, expected, "umask {umask}");
        }
    }

    /// Who owns the directory puts links in the way of everything that is written or read.
    #[test]
    fn no_link_below_what_was_typed_is_followed() {
        let dir = tempfile::tempdir().expect("a directory");
        let (hostile, victim) = (dir.path().join("hostile"), dir.path().join("victim"));
        fs::create_dir(&hostile).expect("creates");
        fs::create_dir(&victim).expect("creates");
        fs::write(victim.join("secret"), "secret").expect("writes");
        symlink(&victim, hostile.join("backend")).expect("links");
        symlink(victim.join("secret"), hostile.join("profile.json")).expect("links");
        symlink(victim.join("made"), hostile.join("seccomp.json")).expect("links");

        let files = [("profile.json", "1".to_owned()), ("seccomp.json", "2".to_owned())];
        let backend = Place::from(&hostile).below("backend");
        for error in [
            prepare([backend.clone()]).map(drop).expect_err("a link"),
            write(backend.clone(), &files).expect_err("a link"),
            write(backend.below("inner"), &files).expect_err("a link"),
            remove_stale(backend.clone(), &[], &["secret"]).expect_err("a link"),
        ] {
            let text = format!("{error}: {}", std::error::Error::source(&error).expect("a cause"));
            assert!(text.contains("/hostile/backend`") && text.contains("symbolic link"), "{text}");
        }
        assert!(backend.read("secret").is_err());
        assert!(Place::from(&hostile).read("profile.json").is_err());

        write(&hostile, &files).expect("what is in the way is replaced");
        assert_eq!(
            Place::from(&hostile).read("profile.json").expect("reads").as_deref(),
            Some("1")
        );
        let names: Vec<_> = fs::read_dir(&victim)
            .expect("lists")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        assert_eq!(names, ["secret"], "nothing was made there");
        assert_eq!(fs::read_to_string(victim.join("secret")).expect("reads"), "secret");

        write(&hostile.join("backend"), &files).expect("a link that was typed is followed");
        assert!(victim.join("profile.json").exists());
    }

    #[test]
    fn a_place_below_another_is_in_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let place = Place::from(dir.path()).below("../a/b");
        assert_eq!(place.read("x").expect("nothing is there"), None);
        write(place, &[("x", "1".to_owned())]).expect("writes");
        assert!(dir.path().join("a/b/x").exists());
        assert_eq!(Place::from("").below("profiles/x").path(), Path::new("profiles/x"));
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
