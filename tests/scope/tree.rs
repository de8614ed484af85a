//! Cgroups of the tests' own in the cgroup2 tree, gone when the test is.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};

use crate::harness::program;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A place for a cgroup. Dropping it removes what is there, in every tree.
pub struct Tree {
    /// Its path within the tree, as in `/proc/PID/cgroup`.
    pub path: String,
    /// Its directory in the cgroup2 tree.
    pub dir: Utf8PathBuf,
    mounts: Vec<Utf8PathBuf>,
}

impl Tree {
    /// A place where nothing is.
    ///
    /// # Errors
    /// When no cgroup2 tree is mounted.
    pub fn absent() -> Result<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = format!("/pt-scope-{}-{number}", std::process::id());
        let dir = root()?.join(&path[1..]);
        Ok(Self { path, dir, mounts: mounts(&["cgroup", "cgroup2"])? })
    }

    /// Makes the cgroup.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(&self) -> Result<()> {
        fs_err::create_dir(&self.dir)?;
        Ok(())
    }

    /// Removes the cgroup, as soon as its last process is gone.
    ///
    /// # Errors
    /// When one stays.
    pub fn remove(&self) -> Result<()> {
        program::until("the cgroup can be removed", Duration::from_secs(20), || {
            fs_err::remove_dir(&self.dir).is_ok()
        })
    }

    /// The file by which a process joins.
    pub fn procs(&self) -> Utf8PathBuf {
        self.dir.join("cgroup.procs")
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        for mount in &self.mounts {
            let dir = mount.join(&self.path[1..]);
            if dir.exists() {
                remove_all(&dir);
            }
        }
    }
}

/// The root of the cgroup2 tree.
///
/// # Errors
/// When none is mounted.
pub fn root() -> Result<Utf8PathBuf> {
    mounts(&["cgroup2"])?.into_iter().next().context("no cgroup2 tree is mounted")
}

/// The roots of version 1 trees.
///
/// # Errors
/// When the mounts cannot be read.
pub fn version_one() -> Result<Vec<Utf8PathBuf>> {
    mounts(&["cgroup"])
}

fn mounts(kinds: &[&str]) -> Result<Vec<Utf8PathBuf>> {
    let table = fs_err::read_to_string("/proc/self/mounts")?;
    let fields = table.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    Ok(fields
        .filter(|fields| fields.get(2).is_some_and(|kind| kinds.contains(kind)))
        .filter_map(|fields| fields.get(1).map(Utf8PathBuf::from))
        .collect())
}

/// Ends what still runs in it, and removes it from the innermost on.
fn remove_all(dir: &Utf8Path) {
    let inner = dir.read_dir_utf8().into_iter().flatten().flatten();
    for entry in inner.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_all(entry.path());
    }
    let gone = program::until("a cgroup can be removed", Duration::from_secs(5), || {
        for pid in fs_err::read_to_string(dir.join("cgroup.procs")).unwrap_or_default().lines() {
            let pid = pid.parse().ok().and_then(rustix::process::Pid::from_raw);
            if let Some(pid) = pid {
                // It may have ended by itself.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        fs_err::remove_dir(dir).is_ok() || !dir.exists()
    });
    if let Err(error) = gone {
        eprintln!("cgroup `{dir}` stays: {error:#}");
    }
}
