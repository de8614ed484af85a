//! Writing results: every file whole, or none touched.

use std::{
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use fs_err as fs;
use tempfile::NamedTempFile;

use super::error::SessionError;

/// Permission bits of result files: they are committed, so everyone may read them.
const MODE: u32 = 0o644;

/// Directories that were made for a result. Dropping it removes those that stayed empty.
#[derive(Debug)]
pub struct Prepared {
    /// Innermost first.
    made: Vec<PathBuf>,
}

/// Makes sure that files can be created in `dir`, creating it if need be.
///
/// # Errors
/// When it cannot be created or written to.
pub fn prepare(dir: &Path) -> Result<Prepared, SessionError> {
    let missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
    let made = dir.ancestors().take_while(missing).map(Path::to_owned).collect();
    let prepared = Prepared { made };
    std::fs::create_dir_all(dir).map_err(error("create", dir))?;
    NamedTempFile::new_in(dir).map_err(error("write to", dir))?;
    Ok(prepared)
}

impl Drop for Prepared {
    fn drop(&mut self) {
        for dir in &self.made {
            if fs::remove_dir(dir).is_err() {
                break; // it is in use
            }
        }
    }
}

/// Writes files into `dir`. All are written and synced under other names before the first takes its
/// own, so that an error leaves every old file as it was.
///
/// # Errors
/// When a file cannot be written.
pub fn write(dir: &Path, files: &[(&str, String)]) -> Result<(), SessionError> {
    std::fs::create_dir_all(dir).map_err(error("create", dir))?;
    let mut written = Vec::with_capacity(files.len());
    for (name, content) in files {
        let path = dir.join(name);
        let mut file = NamedTempFile::new_in(dir).map_err(error("write", &path))?;
        file.write_all(content.as_bytes())
            .and_then(|()| file.as_file().set_permissions(std::fs::Permissions::from_mode(MODE)))
            .and_then(|()| file.as_file().sync_all())
            .map_err(error("write", &path))?;
        written.push((file, path));
    }
    for (file, path) in written {
        file.persist(&path).map_err(|failed| error("write", &path)(failed.error))?;
    }
    Ok(())
}

fn error(verb: &'static str, path: &Path) -> impl Fn(std::io::Error) -> SessionError {
    move |source| SessionError::Output { verb, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
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
    fn directories_that_stay_empty_are_removed() {
        let dir = tempfile::tempdir().expect("a directory");
        let result = dir.path().join("profiles/backend");
        drop(prepare(&result).expect("prepares"));
        assert!(!dir.path().join("profiles").exists());
        let prepared = prepare(&result).expect("prepares");
        write(&result, &[("a", "1".to_owned())]).expect("writes");
        drop(prepared);
        assert!(result.join("a").exists());
    }

    #[test]
    fn result_files_may_be_read_by_everyone() {
        let dir = tempfile::tempdir().expect("a directory");
        write(&dir.path().join("new"), &[("a", "1".to_owned())]).expect("writes");
        let mode = fs::metadata(dir.path().join("new/a")).expect("exists").permissions().mode();
        assert_eq!(mode & 0o777, MODE);
    }
}
