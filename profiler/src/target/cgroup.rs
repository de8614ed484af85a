//! Where a running target lives in the cgroup2 tree, and the ids under which the kernel knows it.
//!
//! Reads only. The inode of a cgroup's directory is what `bpf_get_current_cgroup_id` returns there. A target
//! that has no cgroup of its own is refused with the reason: recording another's would record its neighbours.

use std::{
    collections::HashSet,
    io,
    os::unix::fs::MetadataExt,
    path::{Component, Path, PathBuf},
};

use thiserror::Error;

use crate::kernel::cgroup::{CgroupError, CgroupSetup, v2_path_of};

/// The length of a container's id.
const ID_LENGTH: usize = 64;

/// A directory of the cgroup2 tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    /// The path within the tree, `/docker/4f1d...`.
    pub path: PathBuf,
    /// The directory.
    pub dir: PathBuf,
    /// The kernel's id of it.
    pub id: u64,
}

/// Why a target has no scope that can be observed.
#[derive(Debug, Error)]
pub enum ScopeError {
    /// No cgroup2 tree is mounted.
    #[error(
        "no cgroup2 tree is mounted, so containers cannot be told apart: version 1 trees are not followed\nhint: mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified, then restart the engine"
    )]
    NoV2,
    /// The process is in the root of the tree, with every other process that has no cgroup of its own.
    #[error(
        "process {pid} shares the root cgroup with the rest of the system, so it cannot be told from it\nhint: run the engine with a cgroup2 tree mounted (`profiler doctor` shows it), and rootless engines with `--cgroup-manager=systemd`"
    )]
    Root {
        /// The process.
        pid: i32,
    },
    /// The process is in a cgroup that is not the container's.
    #[error(
        "container `{id}` has no cgroup of its own: its process {pid} is in `{}`, with others\nhint: check the engine's cgroup set-up with `profiler doctor`", path.display()
    )]
    NotItsOwn {
        /// The container.
        id: String,
        /// Its first process.
        pid: i32,
        /// Where that is.
        path: PathBuf,
    },
    /// The process is outside of the cgroup namespace that profiler runs in.
    #[error(
        "process {pid} is outside of this cgroup namespace\nhint: run profiler on the host, or in a container with `--cgroupns=host`"
    )]
    OutsideNamespace {
        /// The process.
        pid: i32,
    },
    /// Only a part of the tree is mounted, and the cgroup is not in it.
    #[error(
        "cgroup `{}` is outside of what is mounted here, `{}`\nhint: mount -t cgroup2 none /sys/fs/cgroup/unified", path.display(), tree.display()
    )]
    NotMounted {
        /// The cgroup.
        path: PathBuf,
        /// What is mounted of the tree.
        tree: PathBuf,
    },
    /// The process ended meanwhile.
    #[error(
        "process {pid} ended\nhint: start it while profiler waits: profiler record --container NAME, or --cgroup PATH"
    )]
    Ended {
        /// The process.
        pid: i32,
    },
    /// A file could not be read.
    #[error("cannot read `{}`\nhint: profiler doctor", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The process's cgroup could not be read.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
}

/// The directory of the cgroup2 tree's root.
pub fn v2_root(setup: &CgroupSetup) -> Result<&Path, ScopeError> {
    setup.v2_mount.as_deref().ok_or(ScopeError::NoV2)
}

/// The cgroup that a process is in, be it the root.
pub fn of_process(root: &Path, setup: &CgroupSetup, pid: i32) -> Result<Cgroup, ScopeError> {
    v2_root(setup)?;
    let path = match v2_path_of(root, &pid.to_string()) {
        Ok(path) => path.ok_or(ScopeError::NoV2)?,
        Err(CgroupError::Read { source, .. })
            if source.kind() == io::ErrorKind::NotFound
                || source.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) =>
        {
            return Err(ScopeError::Ended { pid });
        }
        Err(error) => return Err(error.into()),
    };
    if path.components().any(|component| component == Component::ParentDir) {
        return Err(ScopeError::OutsideNamespace { pid });
    }
    at(setup, path)
}

/// The cgroup of a container, by its first process.
///
/// The process may be in a cgroup below the container's (an init system in it, crun's `container`), so the
/// outermost directory that carries the container's id is the one.
pub fn of_container(
    root: &Path,
    setup: &CgroupSetup,
    pid: i32,
    id: &str,
) -> Result<Cgroup, ScopeError> {
    let own = of_process(root, setup, pid)?;
    if own.path == Path::new("/") {
        return Err(ScopeError::Root { pid });
    }
    let carries_id = |path: &&Path| {
        path.file_name().and_then(|name| name.to_str()).and_then(container_id_in) == Some(id)
    };
    match own.path.ancestors().filter(carries_id).last() {
        Some(path) => at(setup, path.to_owned()),
        None => Err(ScopeError::NotItsOwn { id: id.to_owned(), pid, path: own.path }),
    }
}

/// A cgroup and all below it, itself first. Those that vanish meanwhile are left out.
pub fn with_descendants(cgroup: &Cgroup) -> Result<Vec<Cgroup>, ScopeError> {
    let mut found = vec![cgroup.clone()];
    let mut next = 0;
    while let Some(current) = found.get(next).cloned() {
        next += 1;
        let entries = match std::fs::read_dir(&current.dir) {
            Ok(entries) => entries,
            Err(error) if next > 1 && error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(ScopeError::Read { path: current.dir, source }),
        };
        for entry in entries.flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                found.push(Cgroup {
                    path: current.path.join(entry.file_name()),
                    dir: entry.path(),
                    id: metadata.ino(),
                });
            }
        }
    }
    Ok(found)
}

/// Ids of every cgroup in which, or below which, a process lives.
pub fn populated(setup: &CgroupSetup) -> Result<HashSet<u64>, ScopeError> {
    let all = with_descendants(&at(setup, setup.v2_tree.clone())?)?;
    Ok(all.into_iter().filter(is_populated).map(|cgroup| cgroup.id).collect())
}

/// Whether a process lives in a cgroup or below it.
#[must_use]
pub fn is_populated(cgroup: &Cgroup) -> bool {
    std::fs::read_to_string(cgroup.dir.join("cgroup.events"))
        .is_ok_and(|events| events.lines().any(|line| line == "populated 1"))
}

/// The processes in a cgroup and below it. Those that it cannot tell are left out.
#[must_use]
pub fn processes(cgroup: &Cgroup) -> Vec<u32> {
    let all = with_descendants(cgroup).unwrap_or_default();
    let listed = all.iter().map(|one| one.dir.join("cgroup.procs"));
    let listed = listed.filter_map(|file| std::fs::read_to_string(file).ok());
    listed
        .flat_map(|pids| pids.lines().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// The directory of a cgroup, by its path within the tree; it need not exist.
pub fn dir_of(setup: &CgroupSetup, path: &Path) -> Result<PathBuf, ScopeError> {
    let mount = v2_root(setup)?;
    let below = path.strip_prefix(&setup.v2_tree).map_err(|_| ScopeError::NotMounted {
        path: path.to_owned(),
        tree: setup.v2_tree.clone(),
    })?;
    Ok(mount.join(below))
}

/// The cgroup with this path within the tree.
pub fn at(setup: &CgroupSetup, path: PathBuf) -> Result<Cgroup, ScopeError> {
    let dir = dir_of(setup, &path)?;
    match std::fs::metadata(&dir) {
        Ok(metadata) => Ok(Cgroup { path, dir, id: metadata.ino() }),
        Err(source) => Err(ScopeError::Read { path: dir, source }),
    }
}

/// The container's id in the name of a cgroup: `<id>`, `docker-<id>.scope`, `libpod-<id>.scope`,
/// `cri-containerd-<id>.scope`.
///
/// An id is a run of exactly 64 lower-case hexadecimal digits. The cgroup of podman's and CRI-O's monitor carries
/// the container's id too and is none of the container's.
#[must_use]
pub fn container_id_in(name: &str) -> Option<&str> {
    if name.contains("conmon") {
        return None;
    }
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let bytes = name.as_bytes();
    let mut start = 0;
    while start < bytes.len() {
        let length = bytes[start..].iter().take_while(|byte| is_digit(**byte)).count();
        // `cafe<id>` is no id; a word before it has a separator after it.
        let separated = start == 0 || !bytes[start - 1].is_ascii_alphanumeric();
        let ended = bytes.get(start + length).is_none_or(|byte| !byte.is_ascii_alphanumeric());
        if length == ID_LENGTH && separated && ended {
            return name.get(start..start + length);
        }
        start += length.max(1);
    }
    None
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::kernel::cgroup::CgroupLayout;

    const ID: &str = "b34304da0dc77125be7190d46974a31d8120ee1a3edebca1afdd4b0c35002d16";

    struct Host {
        root: tempfile::TempDir,
        setup: CgroupSetup,
    }

    /// A host with these cgroups, and process 7 in the first.
    fn host(cgroups: &[&str]) -> Host {
        let root = tempfile::tempdir().expect("temp dir");
        let mount = root.path().join("sys/fs/cgroup/unified");
        fs::create_dir_all(&mount).expect("mount");
        for cgroup in cgroups {
            fs::create_dir_all(mount.join(&cgroup[1..])).expect("cgroup");
        }
        let host = Host {
            setup: CgroupSetup {
                layout: CgroupLayout::Hybrid,
                v2_mount: Some(mount),
                v2_tree: PathBuf::from("/"),
                v1_mounts: Vec::new(),
            },
            root,
        };
        host.put_process(cgroups.first().copied().unwrap_or("/"));
        host
    }

    impl Host {
        fn put_process(&self, path: &str) {
            let dir = self.root.path().join("proc/7");
            fs::create_dir_all(&dir).expect("proc");
            fs::write(dir.join("cgroup"), format!("3:cpu:/x\n0::{path}\n")).expect("cgroup");
        }

        fn container(&self) -> Result<Cgroup, ScopeError> {
            of_container(self.root.path(), &self.setup, 7, ID)
        }
    }

    #[test]
    fn a_containers_cgroup_has_the_inode_of_its_directory() {
        let host = host(&[&format!("/docker/{ID}")]);
        let cgroup = host.container().expect("a cgroup");
        assert_eq!(cgroup.path, PathBuf::from(format!("/docker/{ID}")));
        assert_eq!(cgroup.id, fs::metadata(&cgroup.dir).expect("directory").ino());
    }

    #[test]
    fn the_outermost_directory_with_the_id_is_the_containers() {
        for (inner, expected) in [
            (
                format!("/machine.slice/libpod-{ID}.scope/container"),
                format!("/machine.slice/libpod-{ID}.scope"),
            ),
            (format!("/docker/{ID}/init.scope"), format!("/docker/{ID}")),
            (format!("/docker/{ID}/docker/{ID}"), format!("/docker/{ID}")),
        ] {
            let host = host(&[&inner]);
            assert_eq!(host.container().expect("a cgroup").path, PathBuf::from(expected));
        }
    }

    #[test]
    fn the_root_and_other_peoples_cgroups_are_refused_with_the_reason() {
        let host = host(&["/"]);
        let error = host.container().expect_err("the root");
        assert!(error.to_string().contains("shares the root cgroup"), "{error}");
        fs::create_dir_all(host.root.path().join("sys/fs/cgroup/unified/user.slice")).expect("dir");
        host.put_process("/user.slice");
        let error = host.container().expect_err("a session's cgroup");
        assert!(matches!(error, ScopeError::NotItsOwn { .. }), "{error}");
        host.put_process("/../other");
        let error = host.container().expect_err("outside");
        assert!(matches!(error, ScopeError::OutsideNamespace { .. }), "{error}");
    }

    #[test]
    fn no_process_and_no_tree_are_different_errors() {
        let host = host(&["/x"]);
        let error = of_process(host.root.path(), &host.setup, 8).expect_err("no such process");
        assert!(matches!(error, ScopeError::Ended { pid: 8 }), "{error}");
        let legacy =
            CgroupSetup { layout: CgroupLayout::Legacy, v2_mount: None, ..host.setup.clone() };
        let error = of_process(host.root.path(), &legacy, 7).expect_err("no tree");
        assert!(matches!(error, ScopeError::NoV2), "{error}");
    }

    #[test]
    fn a_part_of_the_tree_is_not_taken_for_all_of_it() {
        let mut host = host(&["/web"]);
        host.setup.v2_tree = PathBuf::from("/docker/x");
        host.put_process("/docker/x/web");
        let inside = of_process(host.root.path(), &host.setup, 7).expect("inside");
        assert!(inside.dir.ends_with("unified/web"), "{}", inside.dir.display());
        host.put_process("/web");
        let error = of_process(host.root.path(), &host.setup, 7).expect_err("outside");
        assert!(matches!(error, ScopeError::NotMounted { .. }), "{error}");
    }

    #[test]
    fn descendants_are_found_at_every_depth() {
        let host = host(&["/a", "/a/b", "/a/b/c", "/a/d", "/e"]);
        let cgroup = of_process(host.root.path(), &host.setup, 7).expect("a cgroup");
        let mut paths: Vec<_> = with_descendants(&cgroup)
            .expect("readable")
            .into_iter()
            .map(|cgroup| cgroup.path)
            .collect();
        assert_eq!(paths.first(), Some(&PathBuf::from("/a")));
        paths.sort();
        assert_eq!(paths, ["/a", "/a/b", "/a/b/c", "/a/d"].map(PathBuf::from));
    }

    #[test]
    fn ids_are_found_in_every_form_of_name() {
        for name in [
            ID.to_owned(),
            format!("docker-{ID}.scope"),
            format!("libpod-{ID}"),
            format!("libpod-{ID}.scope"),
            format!("cri-containerd-{ID}.scope"),
            format!("crio-{ID}.scope"),
        ] {
            assert_eq!(container_id_in(&name), Some(ID), "{name}");
        }
    }

    #[test]
    fn what_only_resembles_an_id_is_none() {
        for name in [
            String::new(),
            ID[1..].to_owned(),
            format!("{ID}0"),
            format!("a{ID}"),
            format!("x{ID}"),
            ID.to_uppercase(),
            format!("libpod-conmon-{ID}.scope"),
            format!("crio-conmon-{ID}.scope"),
            "pod4f1d2c3b-0000-0000-0000-000000000000".to_owned(),
        ] {
            assert_eq!(container_id_in(&name), None, "{name}");
        }
    }
}
