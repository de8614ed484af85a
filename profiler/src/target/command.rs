//! A cgroup of its own for a command, made before the command starts and removed when it is done.
//!
//! It is made below the recorder's own cgroup, so limits that hold for the recorder hold for the command. The
//! process is put into it by whoever starts it. Moves processes only on removal, and only those it finds inside.

use std::{
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, SystemTime},
};

use thiserror::Error;

use crate::{
    kernel::cgroup::CgroupSetup,
    target::cgroup::{self, Cgroup, ScopeError},
};

/// The begin of the directory's name; the recorder's pid and a number follow.
const PREFIX: &str = "profiler-";

/// How often, and with which pause, a removal is tried: a cgroup stays busy for a moment after its last
/// process has ended.
const ATTEMPTS: u32 = 50;
const PAUSE: Duration = Duration::from_millis(20);

/// Directories younger than this are not swept: their recorder may be in another pid namespace.
const SWEEP_AGE: Duration = Duration::from_secs(60);

/// Why a cgroup could not be made or removed.
#[derive(Debug, Error)]
pub enum CommandCgroupError {
    /// The recorder's own cgroup could not be told.
    #[error("cannot tell which cgroup profiler runs in")]
    Own(#[source] ScopeError),
    /// The directory could not be made.
    #[error("cannot create cgroup `{}`\nhint: run profiler with sudo, or let its user write to `{}` and to the cgroup.procs in it; in a container, give it a writable cgroup tree", dir.display(), dir.parent().unwrap_or(dir).display())]
    Create {
        /// The directory.
        dir: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// It could not be emptied or removed.
    #[error("cannot remove cgroup `{}`\nhint: rmdir {}", dir.display(), dir.display())]
    Remove {
        /// The directory.
        dir: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// What was found when a cgroup was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removal {
    /// Processes that still ran in it and run on in the parent's cgroup now.
    pub moved: usize,
}

/// A cgroup for one command. Dropping it removes it as well as it can.
#[derive(Debug)]
pub struct CommandCgroup {
    cgroup: Cgroup,
    parent: PathBuf,
    removed: bool,
}

impl CommandCgroup {
    /// Makes an empty cgroup below the one that this process is in.
    pub fn create(root: &Path, setup: &CgroupSetup) -> Result<Self, CommandCgroupError> {
        Self::announced(root, setup, |_| Ok(()))
    }

    /// As [`CommandCgroup::create`]; `announce` is told the directory before it is made.
    pub fn announced(
        root: &Path,
        setup: &CgroupSetup,
        mut announce: impl FnMut(&Path) -> io::Result<()>,
    ) -> Result<Self, CommandCgroupError> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let pid = std::process::id();
        let own = own_cgroup(root, setup)?;
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let name = format!("{PREFIX}{pid}-{number}");
            let dir = own.dir.join(&name);
            match announce(&dir).and_then(|()| std::fs::create_dir(&dir)) {
                Ok(()) => {}
                // Left over from an earlier process with this pid.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(source) => return Err(CommandCgroupError::Create { dir, source }),
            }
            // From here on a failure must not leave the directory behind.
            let mut made = CommandCgroup {
                cgroup: Cgroup { path: own.path.join(name), dir: dir.clone(), id: 0 },
                parent: own.dir,
                removed: false,
            };
            made.cgroup.id = std::fs::metadata(&dir)
                .map_err(|source| CommandCgroupError::Create { dir, source })?
                .ino();
            return Ok(made);
        }
    }

    /// Where it is, and the kernel's id of it.
    #[must_use]
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// The file that a process joins by writing its pid, or `0` for itself.
    #[must_use]
    pub fn procs_file(&self) -> PathBuf {
        self.cgroup.dir.join("cgroup.procs")
    }

    /// Removes it, and the cgroups that the command made in it. What still runs inside runs on in the parent.
    pub fn remove(mut self) -> Result<Removal, CommandCgroupError> {
        self.removed = true;
        remove_tree(&self.cgroup.dir, &self.parent)
    }
}

impl Drop for CommandCgroup {
    fn drop(&mut self) {
        if !self.removed
            && let Err(error) = remove_tree(&self.cgroup.dir, &self.parent)
        {
            tracing::warn!("{error}");
        }
    }
}

/// Removes the cgroup of a recorder that is gone, if there is one. What still runs inside runs on in the parent.
pub fn remove_left(dir: &Path) -> Result<(), CommandCgroupError> {
    let parent = dir.parent().unwrap_or(dir);
    remove_tree(dir, parent).map(drop)
}

/// Removes the empty cgroups that recorders left behind which were killed; gives their number.
pub fn sweep(root: &Path, setup: &CgroupSetup) -> Result<usize, CommandCgroupError> {
    let own = own_cgroup(root, setup)?;
    let entries = std::fs::read_dir(&own.dir)
        .map_err(|source| CommandCgroupError::Remove { dir: own.dir.clone(), source })?;
    let mut swept = 0;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(owner) else { continue };
        let old = entry
            .metadata()
            .and_then(|metadata| metadata.modified())
            .is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age > SWEEP_AGE));
        let gone = !root.join("proc").join(pid.to_string()).exists();
        // rmdir refuses a cgroup in which something runs or that has cgroups of its own.
        if old && gone && std::fs::remove_dir(entry.path()).is_ok() {
            swept += 1;
        }
    }
    Ok(swept)
}

/// The pid in `profiler-<pid>-<n>`.
fn owner(name: &str) -> Option<u32> {
    let (pid, number) = name.strip_prefix(PREFIX)?.split_once('-')?;
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (plain(pid) && plain(number)).then(|| pid.parse().ok())?
}

fn own_cgroup(root: &Path, setup: &CgroupSetup) -> Result<Cgroup, CommandCgroupError> {
    let pid = i32::try_from(std::process::id()).unwrap_or(i32::MAX);
    cgroup::of_process(root, setup, pid).map_err(CommandCgroupError::Own)
}

fn remove_tree(dir: &Path, parent: &Path) -> Result<Removal, CommandCgroupError> {
    let failed = |source| CommandCgroupError::Remove { dir: dir.to_owned(), source };
    let mut moved = 0;
    let mut last = io::Error::from(io::ErrorKind::ResourceBusy);
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            thread::sleep(PAUSE);
        }
        match try_remove(dir, parent, &mut moved) {
            Ok(()) => return Ok(Removal { moved }),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ResourceBusy | io::ErrorKind::DirectoryNotEmpty
                ) =>
            {
                last = error;
            }
            Err(error) => return Err(failed(error)),
        }
    }
    Err(failed(last))
}

/// Innermost first: the kernel removes no cgroup that has others in it.
fn try_remove(dir: &Path, parent: &Path, moved: &mut usize) -> io::Result<()> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    // a threaded cgroup's processes are listed, and moved, where its threaded tree begins
    move_processes(dir, parent, moved)?;
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            try_remove(&entry.path(), parent, moved)?;
        }
    }
    move_processes(dir, parent, moved)?;
    match std::fs::remove_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn move_processes(dir: &Path, parent: &Path, moved: &mut usize) -> io::Result<()> {
    let inside = match std::fs::read_to_string(dir.join("cgroup.procs")) {
        Ok(inside) => inside,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::OPNOTSUPP.raw_os_error()) => {
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    for pid in inside.lines() {
        match std::fs::write(parent.join("cgroup.procs"), pid) {
            Ok(()) => *moved += 1,
            // It ended meanwhile.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;
    use crate::kernel::cgroup::CgroupLayout;

    /// A host on which this process is in `/own`.
    fn host() -> (tempfile::TempDir, CgroupSetup, PathBuf) {
        let root = tempfile::tempdir().expect("temp dir");
        let mount = root.path().join("sys/fs/cgroup");
        let own = mount.join("own");
        fs::create_dir_all(&own).expect("cgroup");
        let proc = root.path().join("proc").join(std::process::id().to_string());
        fs::create_dir_all(&proc).expect("proc");
        fs::write(proc.join("cgroup"), "0::/own\n").expect("cgroup");
        let setup = CgroupSetup {
            layout: CgroupLayout::Unified,
            v2_mount: Some(mount),
            v2_tree: PathBuf::from("/"),
            v1_mounts: Vec::new(),
        };
        (root, setup, own)
    }

    fn entries(dir: &Path) -> Vec<String> {
        let name = |entry: io::Result<fs::DirEntry>| {
            entry.expect("entry").file_name().to_string_lossy().into_owned()
        };
        let mut names: Vec<String> = fs::read_dir(dir).expect("directory").map(name).collect();
        names.sort();
        names
    }

    #[test]
    fn a_commands_cgroup_is_made_below_the_recorders_and_removed() {
        let (root, setup, own) = host();
        let made = CommandCgroup::create(root.path(), &setup).expect("created");
        let dir = made.cgroup().dir.clone();
        assert_eq!(dir.parent(), Some(own.as_path()));
        assert_eq!(made.cgroup().id, fs::metadata(&dir).expect("directory").ino());
        assert!(made.cgroup().path.starts_with("/own"));
        assert_eq!(made.procs_file(), dir.join("cgroup.procs"));
        assert_eq!(made.remove().expect("removed"), Removal { moved: 0 });
        assert_eq!(entries(&own), Vec::<String>::new());
    }

    #[test]
    fn two_commands_of_one_process_get_two_cgroups() {
        let (root, setup, own) = host();
        let first = CommandCgroup::create(root.path(), &setup).expect("created");
        let second = CommandCgroup::create(root.path(), &setup).expect("created");
        assert_ne!(first.cgroup(), second.cgroup());
        drop((first, second));
        assert_eq!(entries(&own), Vec::<String>::new(), "dropping removes");
    }

    #[test]
    fn cgroups_that_the_command_made_go_too() {
        let (root, setup, own) = host();
        let made = CommandCgroup::create(root.path(), &setup).expect("created");
        fs::create_dir_all(made.cgroup().dir.join("a/b")).expect("inner");
        made.remove().expect("removed");
        assert_eq!(entries(&own), Vec::<String>::new());
    }

    #[test]
    fn a_cgroup_that_is_gone_already_is_no_error() {
        let (root, setup, own) = host();
        remove_left(&own.join("profiler-1-0")).expect("nothing to remove");
        let made = CommandCgroup::create(root.path(), &setup).expect("created");
        fs::remove_dir(&made.cgroup().dir).expect("rmdir");
        assert_eq!(made.remove().expect("removed"), Removal::default());
    }

    #[test]
    fn processes_inside_are_moved_to_the_parent_and_counted() {
        let (root, setup, own) = host();
        let made = CommandCgroup::create(root.path(), &setup).expect("created");
        fs::write(made.procs_file(), "41\n42\n").expect("cgroup.procs");
        let mut moved = 0;
        move_processes(&made.cgroup().dir, &own, &mut moved).expect("moved");
        assert_eq!(moved, 2);
        assert_eq!(fs::read_to_string(own.join("cgroup.procs")).expect("parent"), "42");
        fs::remove_file(made.procs_file()).expect("unlink");
    }

    #[test]
    fn an_unwritable_place_is_an_error_that_names_it() {
        let (root, setup, own) = host();
        // A file in the directory's place refuses root as well.
        fs::remove_dir(&own).expect("rmdir");
        File::create(&own).expect("file");
        let error = CommandCgroup::create(root.path(), &setup).expect_err("not a directory");
        assert!(matches!(error, CommandCgroupError::Create { .. }), "{error}");
        assert!(error.to_string().contains("own/profiler-"), "{error}");
    }

    #[test]
    fn only_old_empty_cgroups_of_dead_recorders_are_swept() {
        let (root, setup, own) = host();
        let alive = std::process::id();
        let long_ago = SystemTime::now() - 10 * SWEEP_AGE;
        let names = [
            "profiler-4000001-0".to_owned(),
            "profiler-4000002-3".to_owned(),
            format!("profiler-{alive}-900"),
            "profiler-x-0".to_owned(),
            "other".to_owned(),
            "profiler-4000003-0".to_owned(),
        ];
        for name in &names {
            fs::create_dir(own.join(name)).expect("cgroup");
        }
        fs::create_dir(own.join("profiler-4000002-3/busy")).expect("inner");
        for name in &names[..5] {
            let dir = File::open(own.join(name)).expect("directory");
            dir.set_modified(long_ago).expect("set the time");
        }
        assert_eq!(sweep(root.path(), &setup).expect("swept"), 1);
        let left = entries(&own);
        assert_eq!(left.len(), 5);
        assert!(!left.contains(&"profiler-4000001-0".to_owned()), "{left:?}");
    }
}
