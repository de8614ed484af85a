//! Where a cgroup is that the user names: by its path, or by a process in it. It need not exist yet.
//!
//! Reads only. What cannot be told from its neighbours is refused with the reason: the root, a version 1 tree, a
//! cgroup in which the recorder itself runs.

use std::path::{Component, Path, PathBuf};

use thiserror::Error;

use crate::{
    kernel::cgroup::{CgroupSetup, in_host_namespace},
    target::cgroup::{self, Cgroup, ScopeError},
};

/// Where cgroup trees are mounted on usual machines.
const MOUNTS: &str = "/sys/fs/cgroup";

/// The longest name of a cgroup.
const NAME_BYTES: usize = 255;

/// A place in the cgroup2 tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The path within the tree, as `/proc/PID/cgroup` has it; never the root's.
    pub path: PathBuf,
    /// The kernel knows the cgroup by the same path, so its creation can be waited for.
    pub awaitable: bool,
    dir: PathBuf,
}

/// Why a cgroup cannot be recorded.
#[derive(Debug, Error)]
pub enum PlaceError {
    /// It could not be one's path.
    #[error(
        "`{}` is no path of a cgroup: {reason}\nhint: take the line `0::` of /proc/PID/cgroup: profiler record --cgroup /docker/ID", given.display()
    )]
    NoPath {
        /// As the user wrote it.
        given: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The root of the tree.
    #[error(
        "the root cgroup cannot be recorded: all processes without a cgroup of their own share it\nhint: profiler record -- COMMAND gives the command a cgroup of its own"
    )]
    Root,
    /// A directory of another kind of tree.
    #[error(
        "`{}` is in a version 1 tree, and those are not followed\nhint: take the line `0::` of /proc/PID/cgroup: profiler record --cgroup /docker/ID", given.display()
    )]
    VersionOne {
        /// As the user wrote it.
        given: PathBuf,
    },
    /// A directory beside the tree.
    #[error(
        "`{}` is not in the cgroup2 tree, which is mounted at `{}`\nhint: take the line `0::` of /proc/PID/cgroup: profiler record --cgroup /docker/ID", given.display(), mount.display()
    )]
    BesideTree {
        /// As the user wrote it.
        given: PathBuf,
        /// Where the tree is.
        mount: PathBuf,
    },
    /// The recorder is inside.
    #[error(
        "profiler itself runs in cgroup `{}`, so its own calls would be recorded\nhint: start profiler from another cgroup, or name one further in", path.display()
    )]
    HoldsRecorder {
        /// The cgroup.
        path: PathBuf,
    },
    /// A process has its cgroup not for itself.
    #[error(
        "process {pid} shares cgroup `{}` with process {other}, which it did not start\nhint: to record both: profiler record --cgroup {}", path.display(), path.display()
    )]
    Shared {
        /// The process that was named.
        pid: i32,
        /// One of the others.
        other: u32,
        /// Where they are.
        path: PathBuf,
    },
    /// It would have to be waited for, by a path that the kernel does not know.
    #[error(
        "cgroup `{}` does not exist, and profiler runs in a cgroup namespace in which it cannot be waited for\nhint: run profiler on the host, or in a container with `--cgroupns=host`", path.display()
    )]
    NotAwaitable {
        /// The cgroup.
        path: PathBuf,
    },
    /// It does not exist, and waiting was not wanted.
    #[error(
        "there is no cgroup `{}`\nhint: leave out --no-wait to wait for it", path.display()
    )]
    NotThere {
        /// The cgroup.
        path: PathBuf,
    },
    /// The tree could not be read.
    #[error(transparent)]
    Scope(#[from] ScopeError),
}

impl Place {
    /// The place that is named by `given`: a path as in `/proc/PID/cgroup`, or a directory below the tree's mount.
    pub fn by_path(root: &Path, setup: &CgroupSetup, given: &Path) -> Result<Self, PlaceError> {
        let no_path = |reason| PlaceError::NoPath { given: given.to_owned(), reason };
        if !given.is_absolute() {
            return Err(no_path("it does not begin with `/`"));
        }
        let mut path = PathBuf::from("/");
        for component in given.components() {
            match component {
                Component::Normal(name) if name.len() > NAME_BYTES => {
                    return Err(no_path("a name in it is too long"));
                }
                Component::Normal(name) if name.as_encoded_bytes().contains(&b'\n') => {
                    return Err(no_path("no name of a cgroup has a line feed"));
                }
                Component::Normal(name) => path.push(name),
                Component::ParentDir => return Err(no_path("`..` leads out of it")),
                _ => {}
            }
        }
        let mount = cgroup::v2_root(setup)?;
        if let Ok(below) = path.strip_prefix(mount) {
            path = setup.v2_tree.join(below);
        } else if setup.v1_mounts.iter().any(|tree| path.starts_with(tree)) {
            return Err(PlaceError::VersionOne { given: given.to_owned() });
        } else if path.starts_with(MOUNTS) {
            return Err(PlaceError::BesideTree {
                given: given.to_owned(),
                mount: mount.to_owned(),
            });
        }
        Self::new(root, setup, path)
    }

    /// The place of the cgroup in which this process is, with none but those that it started.
    pub fn by_pid(root: &Path, setup: &CgroupSetup, pid: i32) -> Result<Self, PlaceError> {
        let cgroup = cgroup::of_process(root, setup, pid)?;
        let place = Self::new(root, setup, cgroup.path.clone())?;
        let stranger = |other: &u32| !descends(root, *other, pid.unsigned_abs());
        match cgroup::processes(&cgroup).into_iter().find(stranger) {
            Some(other) => Err(PlaceError::Shared { pid, other, path: cgroup.path }),
            None => Ok(place),
        }
    }

    fn new(root: &Path, setup: &CgroupSetup, path: PathBuf) -> Result<Self, PlaceError> {
        if path == Path::new("/") {
            return Err(PlaceError::Root);
        }
        let recorder = i32::try_from(std::process::id()).unwrap_or(i32::MAX);
        // where the recorder is may be outside of what it sees; then it is not in there
        let holds = |own: Cgroup| own.path.starts_with(&path);
        if cgroup::of_process(root, setup, recorder).is_ok_and(holds) {
            return Err(PlaceError::HoldsRecorder { path });
        }
        let dir = cgroup::dir_of(setup, &path)?;
        if dir.exists() && !dir.is_dir() {
            return Err(PlaceError::NoPath { given: dir, reason: "it is a file" });
        }
        Ok(Place { awaitable: in_host_namespace(root), path, dir })
    }

    /// The cgroup that is there now.
    pub fn cgroup(&self, setup: &CgroupSetup) -> Result<Option<Cgroup>, PlaceError> {
        match cgroup::at(setup, self.path.clone()) {
            Ok(cgroup) => Ok(Some(cgroup)),
            Err(ScopeError::Read { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Its directory, whether it exists or not.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

/// Whether a process is another one, or was started by it or by one that it started. One that has ended is not in
/// anyone's way.
fn descends(root: &Path, pid: u32, from: u32) -> bool {
    let mut current = pid;
    while current != from {
        let stat = root.join("proc").join(current.to_string()).join("stat");
        let Ok(stat) = std::fs::read_to_string(stat) else { return current == pid };
        // the name before it may hold blanks and parentheses
        let parent =
            stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
        match parent {
            Some(parent @ 1..) if parent != current => current = parent,
            _ => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::kernel::cgroup::CgroupLayout;

    /// A hybrid host on which this process is in `own`.
    fn host(own: &str) -> (tempfile::TempDir, CgroupSetup) {
        let root = tempfile::tempdir().expect("temp dir");
        let trees = root.path().join("sys/fs/cgroup");
        fs::create_dir_all(trees.join("unified").join(&own[1..])).expect("cgroup");
        let setup = CgroupSetup {
            layout: CgroupLayout::Hybrid,
            v2_mount: Some(trees.join("unified")),
            v2_tree: PathBuf::from("/"),
            v1_mounts: vec![trees.join("memory")],
        };
        put_process(&root, std::process::id(), 1, own);
        (root, setup)
    }

    fn put_process(root: &tempfile::TempDir, pid: u32, parent: u32, cgroup: &str) {
        let dir = root.path().join("proc").join(pid.to_string());
        fs::create_dir_all(&dir).expect("proc");
        fs::write(dir.join("cgroup"), format!("0::{cgroup}\n")).expect("cgroup");
        fs::write(dir.join("stat"), format!("{pid} (a) b) S {parent} 1 1 0")).expect("stat");
        let procs =
            root.path().join("sys/fs/cgroup/unified").join(&cgroup[1..]).join("cgroup.procs");
        let listed = fs::read_to_string(&procs).unwrap_or_default();
        fs::write(&procs, format!("{listed}{pid}\n")).expect("cgroup.procs");
    }

    #[test]
    fn a_path_of_the_tree_and_its_directory_mean_the_same() {
        let (root, setup) = host("/own");
        let dir = root.path().join("sys/fs/cgroup/unified/k8s.io/web");
        for given in [Path::new("/k8s.io/web"), Path::new("/k8s.io//web/."), &dir] {
            let place = Place::by_path(root.path(), &setup, given).expect("a place");
            assert_eq!(place.path, Path::new("/k8s.io/web"));
            assert_eq!(place.dir(), dir);
            assert_eq!(place.cgroup(&setup).expect("readable"), None, "it need not exist");
        }
        fs::create_dir_all(&dir).expect("cgroup");
        let place = Place::by_path(root.path(), &setup, &dir).expect("a place");
        assert_eq!(place.cgroup(&setup).expect("readable").expect("exists").dir, dir);
    }

    #[test]
    fn what_is_no_cgroup_of_its_own_is_refused_with_the_reason() {
        let (root, setup) = host("/own/inner");
        let trees = root.path().join("sys/fs/cgroup");
        fs::write(trees.join("unified/file"), "").expect("file");
        let text = |path: &str| path.to_owned();
        for (given, reason) in [
            (text("web"), "does not begin with `/`"),
            (text(""), "does not begin with `/`"),
            (text("/a/../../etc"), "leads out"),
            (text("/a\nb"), "line feed"),
            (format!("/{}", "x".repeat(256)), "too long"),
            (text("/"), "root cgroup"),
            (text("//."), "root cgroup"),
            (trees.join("unified").display().to_string(), "root cgroup"),
            (trees.join("memory/docker/x").display().to_string(), "version 1 tree"),
            (text("/sys/fs/cgroup/elsewhere"), "not in the cgroup2 tree"),
            (text("/file"), "is a file"),
            (text("/own"), "profiler itself"),
            (text("/own/inner"), "profiler itself"),
        ] {
            let error = Place::by_path(root.path(), &setup, Path::new(&given)).expect_err(&given);
            let error = error.to_string();
            assert!(error.contains(reason) && error.contains("\nhint: "), "{given}: {error}");
        }
        assert!(Place::by_path(root.path(), &setup, Path::new("/own/inner/other")).is_ok());
    }

    #[test]
    fn a_process_stands_for_its_cgroup_only_with_its_own_children() {
        let (root, setup) = host("/own");
        fs::create_dir_all(root.path().join("sys/fs/cgroup/unified/web/inner")).expect("cgroup");
        put_process(&root, 4_000_007, 1, "/web");
        put_process(&root, 4_000_008, 4_000_007, "/web/inner");
        let by_pid = |pid| Place::by_pid(root.path(), &setup, pid);
        assert_eq!(by_pid(4_000_007).expect("a place").path, Path::new("/web"));
        put_process(&root, 4_000_009, 1, "/web/inner");
        let error = by_pid(4_000_007).expect_err("a stranger");
        assert!(matches!(error, PlaceError::Shared { other: 4_000_009, .. }), "{error}");
        put_process(&root, 4_000_010, 1, "/");
        assert!(matches!(by_pid(4_000_010), Err(PlaceError::Root)));
        assert!(matches!(by_pid(4_000_011), Err(PlaceError::Scope(ScopeError::Ended { .. }))));
    }
}
