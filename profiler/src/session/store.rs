//! Writing results: each file whole, the old one or the new one.
//!
//! A directory may be somebody else's, and results may be root's. So it is opened once, and all else happens in what was
//! opened. The path that the user typed is followed, as in a shell; of what is below it no symbolic link is, be it a directory, a
//! file to read or one to write: that one is replaced. A file is written before it has a name, and names come last.

mod place;
mod unseen;

use std::{
    io,
    path::{Path, PathBuf},
};

pub use place::Place;
use rustix::{
    fs::{AtFlags, unlinkat},
    io::Errno,
};
use tempfile::Builder;
use unseen::Unseen;

use super::error::SessionError;

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

/// Makes sure that files can be created in each of `places`, creating them if need be, and that there is room for a recording.
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
        Unseen::with(&place.open()?, &vec![0; ROOM]).map_err(error("write to", &path))?;
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
        let unseen = Unseen::with(&dir, content.as_bytes()).map_err(error("write", &path))?;
        written.push((unseen, *name, path));
    }
    // a name takes room, too: all get one before the first replaces another
    let mut named = Vec::with_capacity(files.len());
    for (unseen, name, path) in written {
        named.push((unseen.named().map_err(error("write", &path))?, name, path));
    }
    for (unseen, name, path) in named {
        unseen.take(name).map_err(error("write", &path))?;
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
}
