//! Writing results: each file whole, the old one or the new one; a symbolic link is replaced, not followed.
//!
//! A file is written before it has a name, so that whoever is killed amid leaves nothing; names come last.

use std::{
    fs::File,
    io::{self, Write as _},
    os::{fd::AsRawFd as _, unix::fs::PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Once, atomic::AtomicBool},
};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use signal_hook::{consts::SIGXFSZ, flag};
use tempfile::{Builder, NamedTempFile, TempPath};

use super::error::SessionError;

/// Permission bits of result files: they are committed, so everyone may read them.
const MODE: u32 = 0o644;

/// Name of the evidence.
const RECORDING: &str = "recording.json";

/// The room, in bytes, without which nothing is begun. Few recordings take more, and a recording that has nowhere to go
/// is noticed when the tests are done.
const ROOM: usize = 1 << 20;

/// Directories that were made for results. Dropping it removes those that stayed empty.
#[derive(Debug, Default)]
pub struct Prepared {
    /// Innermost first.
    made: Vec<PathBuf>,
}

/// Makes sure that files can be created in each of `dirs`, creating them if need be, and that there is room for a recording.
///
/// # Errors
/// When one cannot be created or written to.
pub fn prepare<'a>(dirs: impl IntoIterator<Item = &'a Path>) -> Result<Prepared, SessionError> {
    let mut prepared = Prepared::default();
    for dir in dirs {
        let missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
        let made = dir.ancestors().take_while(missing).map(Path::to_owned);
        prepared.made.splice(..0, made);
        std::fs::create_dir_all(dir).map_err(error("create", dir))?;
        let probe = Unseen::new_in(dir).and_then(|file| file.write(&vec![0; ROOM]));
        probe.map_err(error("write to", dir))?;
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

/// Writes files into `dir`. All are written and synced under other names before the first takes its own: a disk that is
/// full leaves every old file as it was. Each takes its name by itself, so after an error there some may be new.
///
/// # Errors
/// When a file cannot be written.
pub fn write(dir: &Path, files: &[(&str, String)]) -> Result<(), SessionError> {
    std::fs::create_dir_all(dir).map_err(error("create", dir))?;
    let mut written = Vec::with_capacity(files.len());
    for (name, content) in files {
        let path = dir.join(name);
        let file = Unseen::new_in(dir).and_then(|file| {
            file.write(content.as_bytes())?;
            file.file().set_permissions(std::fs::Permissions::from_mode(MODE))?;
            file.file().sync_all()?;
            Ok(file)
        });
        written.push((file.map_err(error("write", &path))?, path));
    }
    // a name takes room, too: all get one before the first replaces another
    let mut named = Vec::with_capacity(files.len());
    for (file, path) in written {
        named.push((file.named_in(dir).map_err(error("write", &path))?, path));
    }
    for (file, path) in named {
        file.persist(&path).map_err(|failed| error("write", &path)(failed.error))?;
    }
    Ok(())
}

/// Writes a recording, whose own directory takes none, into a new one in the first of `places` that does; its path.
///
/// # Errors
/// When none does; why the last does not.
pub fn rescue(places: &[PathBuf], recording: &str) -> Result<PathBuf, SessionError> {
    let mut outcome = Err(error("find", Path::new("."))(io::ErrorKind::NotFound.into()));
    for place in places {
        let made = Builder::new().prefix("profiler-").tempdir_in(place);
        outcome = made.map_err(error("write to", place)).and_then(|dir| {
            write(dir.path(), &[(RECORDING, recording.to_owned())])?;
            Ok(dir.keep().join(RECORDING))
        });
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

/// A file that nobody finds: without a name, where the file system knows such.
enum Unseen {
    Nameless(File),
    Named(NamedTempFile),
}

impl Unseen {
    fn new_in(dir: &Path) -> io::Result<Self> {
        // beyond the limit of a file's size the kernel sends a signal, which would end this process, and not only an error
        static LIMIT: Once = Once::new();
        LIMIT.call_once(|| {
            let _ = flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false))); // then it ends it
        });
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        match rustix::fs::open(dir, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => Ok(Unseen::Nameless(file.into())),
            Err(_) => NamedTempFile::new_in(dir).map(Unseen::Named),
        }
    }

    fn file(&self) -> &File {
        match self {
            Unseen::Nameless(file) => file,
            Unseen::Named(file) => file.as_file(),
        }
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        self.file().write_all(bytes)
    }

    /// Gives it a name for the moment.
    fn named_in(self, dir: &Path) -> io::Result<TempPath> {
        let file = match self {
            Unseen::Nameless(file) => file,
            Unseen::Named(file) => return Ok(file.into_temp_path()),
        };
        let link = format!("/proc/self/fd/{}", file.as_raw_fd());
        let name = |path: &Path| -> io::Result<()> {
            Ok(rustix::fs::linkat(CWD, &link, CWD, path, AtFlags::SYMLINK_FOLLOW)?)
        };
        Ok(Builder::new().prefix(".profiler-").make_in(dir, name)?.into_temp_path())
    }
}

/// Removes those files of `names` from `dir` that are not among `files`: an earlier result had them, and they would
/// pass for the new one's.
///
/// # Errors
/// When one cannot be removed.
pub fn remove_stale(
    dir: &Path,
    files: &[(&str, String)],
    names: &[&str],
) -> Result<(), SessionError> {
    for name in names.iter().filter(|name| files.iter().all(|(written, _)| written != *name)) {
        let path = dir.join(name);
        match std::fs::remove_file(&path) {
            Err(failed) if failed.kind() != std::io::ErrorKind::NotFound => {
                return Err(error("remove", &path)(failed));
            }
            _ => {}
        }
    }
    Ok(())
}

fn error(verb: &'static str, path: &Path) -> impl Fn(io::Error) -> SessionError {
    move |source| SessionError::Output { verb, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
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
            std::os::unix::fs::symlink(&other, result.join(name)).expect("links");
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
        drop(prepare([result.as_path(), &other]).expect("prepares"));
        assert!(!dir.path().join("profiles").exists());
        fs::create_dir(dir.path().join("profiles")).expect("creates");
        fs::write(&other, "in the way").expect("writes");
        prepare([result.as_path(), &other]).expect_err("one of them is a file");
        assert!(!result.exists());
        let prepared = prepare([result.as_path()]).expect("prepares");
        write(&result, &[("a", "1".to_owned())]).expect("writes");
        drop(prepared);
        assert!(result.join("a").exists());
    }

    #[test]
    fn a_recording_goes_to_the_first_place_that_takes_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let place = |name: &str| dir.path().join(name);
        fs::write(place("a"), "in the way").expect("writes");
        fs::create_dir(place("b")).expect("creates");
        let saved = rescue(&[place("a"), place("b"), place("c")], "evidence").expect("saves");
        assert!(saved.starts_with(place("b")), "{}", saved.display());
        assert_eq!(fs::read_to_string(&saved).expect("reads"), "evidence");
        let error = rescue(&[place("a"), place("c")], "evidence").expect_err("nowhere");
        assert!(error.to_string().contains("/c`"), "{error}");
    }

    #[test]
    fn result_files_may_be_read_by_everyone() {
        let dir = tempfile::tempdir().expect("a directory");
        write(&dir.path().join("new"), &[("a", "1".to_owned())]).expect("writes");
        let mode = fs::metadata(dir.path().join("new/a")).expect("exists").permissions().mode();
        assert_eq!(mode & 0o777, MODE);
    }
}
