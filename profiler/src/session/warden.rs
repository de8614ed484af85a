//! What is left to do when the recorder is killed: a process of its own removes the command's cgroup.
//!
//! It is this program again, as `__warden`, and reads from a pipe that only the recorder holds open: the pipe ends with the
//! recorder, also by SIGKILL. It is told the cgroup before there is one, and does nothing when the recorder has removed
//! it. The command is not its business: what still runs runs on, in the parent's cgroup.

use std::{
    ffi::OsStr,
    io::{self, Read as _, Write as _},
    os::unix::{ffi::OsStrExt as _, process::CommandExt as _},
    path::Path,
    process::{Child, Command, Stdio},
};

use super::error::SessionError;
use crate::target::command::remove_left;

/// Name of the hidden subcommand that [`warden`] serves.
const WARDEN: &str = "__warden";

/// The process that waits. Dropping it ends it, after it has looked.
pub struct Warden(Child);

impl Warden {
    /// Starts it.
    pub fn start() -> Result<Self, SessionError> {
        let started = std::env::current_exe().and_then(|itself| {
            let mut command = Command::new(itself);
            command.arg(WARDEN).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
            // what is sent to the recorder's group, by its terminal for one, is not meant for it
            command.process_group(0).spawn()
        });
        let failed = |source| SessionError::Spawn { program: WARDEN.to_owned(), source };
        started.map(Warden).map_err(failed)
    }

    /// From now on it looks after this cgroup, and after none that it was told before.
    pub fn watch(&mut self, dir: &Path) -> io::Result<()> {
        let Some(pipe) = &mut self.0.stdin else { return Ok(()) };
        pipe.write_all(&[dir.as_os_str().as_bytes(), b"\0"].concat())
    }
}

impl Drop for Warden {
    fn drop(&mut self) {
        let _ = self.0.wait(); // which closes the pipe first; it may have been killed
    }
}

/// Serves the hidden subcommand: waits until the recorder has ended, then removes what that left.
///
/// # Errors
/// When the pipe cannot be read, or the cgroup cannot be removed.
pub fn warden() -> io::Result<()> {
    std::env::set_current_dir("/")?;
    let mut told = Vec::new();
    io::stdin().read_to_end(&mut told)?;
    // a path that was not told to its end is of no cgroup yet
    let mut whole =
        told.split_inclusive(|byte| *byte == 0).filter_map(|path| path.strip_suffix(b"\0"));
    match whole.next_back() {
        Some(dir) => remove_left(Path::new(OsStr::from_bytes(dir))).map_err(io::Error::other),
        None => Ok(()),
    }
}
