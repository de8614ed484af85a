//! How cgroups are mounted on this host, read from `/proc/self/mountinfo`.
//!
//! Three set-ups exist. *Unified*: one cgroup2 tree and nothing else. *Hybrid*: controllers on version 1
//! trees, with a cgroup2 tree beside them that holds processes and no limits. *Legacy*: version 1 only.
//! `bpf_get_current_cgroup_id` knows the cgroup2 tree, so recording by cgroup works on the first two.

use std::{
    ffi::OsStr,
    fmt, io,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use thiserror::Error;

/// How cgroups are mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CgroupLayout {
    /// cgroup2 only.
    Unified,
    /// Version 1 trees and a cgroup2 tree.
    Hybrid,
    /// Version 1 only.
    Legacy,
}

impl CgroupLayout {
    /// The name used in recordings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            CgroupLayout::Unified => "unified",
            CgroupLayout::Hybrid => "hybrid",
            CgroupLayout::Legacy => "legacy",
        }
    }
}

impl fmt::Display for CgroupLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The layout, and where the cgroup2 tree is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupSetup {
    /// The kind of set-up.
    pub layout: CgroupLayout,
    /// The directory of the cgroup2 root, below the root path that was given; absent on legacy.
    pub v2_mount: Option<PathBuf>,
    /// What of the cgroup2 tree is mounted there: `/` for all of it.
    pub v2_tree: PathBuf,
    /// The directories of version 1 trees, below the root path that was given.
    pub v1_mounts: Vec<PathBuf>,
}

/// Why the set-up could not be told.
#[derive(Debug, Error)]
pub enum CgroupError {
    /// The mount table could not be read.
    #[error("cannot read `{path}`\nhint: profiler doctor")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// No cgroup tree at all.
    #[error("no cgroup file system is mounted\nhint: mount -t cgroup2 none /sys/fs/cgroup")]
    NotMounted,
}

/// One cgroup mount.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    /// The directory within the tree that is mounted; `/` for all of it.
    tree_root: PathBuf,
    mount_point: PathBuf,
    v2: bool,
}

/// Reads the set-up from `ROOT/proc/self/mountinfo`.
pub fn detect(root: &Path) -> Result<CgroupSetup, CgroupError> {
    let path = root.join("proc/self/mountinfo");
    let table = std::fs::read(&path).map_err(|source| CgroupError::Read { path, source })?;
    let mounts: Vec<Mount> =
        table.split(|byte| *byte == b'\n').filter_map(parse_mountinfo_line).collect();
    let v2 = best_v2(&mounts);
    let v1_mounts: Vec<PathBuf> = mounts
        .iter()
        .filter(|mount| !mount.v2)
        .map(|mount| below(root, &mount.mount_point))
        .collect();
    let layout = match (v2.is_some(), !v1_mounts.is_empty()) {
        (true, false) => CgroupLayout::Unified,
        (true, true) => CgroupLayout::Hybrid,
        (false, true) => CgroupLayout::Legacy,
        (false, false) => return Err(CgroupError::NotMounted),
    };
    Ok(CgroupSetup {
        layout,
        v2_mount: v2.map(|mount| below(root, &mount.mount_point)),
        v2_tree: v2.map_or_else(|| PathBuf::from("/"), |mount| mount.tree_root.clone()),
        v1_mounts,
    })
}

/// Whether this process sees the paths of cgroups as the kernel does: it is in the host's cgroup namespace.
#[must_use]
pub fn in_host_namespace(root: &Path) -> bool {
    /// <https://elixir.bootlin.com/linux/v6.12/source/include/linux/proc_ns.h#L46>
    const INITIAL: &str = "cgroup:[4026531835]";
    std::fs::read_link(root.join("proc/self/ns/cgroup"))
        .is_ok_and(|link| link == Path::new(INITIAL))
}

/// The mount that shows the whole tree, else the one that comes last and so covers the others.
fn best_v2(mounts: &[Mount]) -> Option<&Mount> {
    let of_v2 = || mounts.iter().filter(|mount| mount.v2);
    of_v2().rfind(|mount| mount.tree_root == Path::new("/")).or_else(|| of_v2().next_back())
}

/// An absolute path of the host, below the root path of a test.
pub(crate) fn below(root: &Path, absolute: &Path) -> PathBuf {
    root.join(absolute.strip_prefix("/").unwrap_or(absolute))
}

/// `36 35 98:0 /root /mount/point rw,opts shared:1 - type source super,opts`
fn parse_mountinfo_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let tree_root = fields.nth(3)?;
    let mount_point = fields.next()?;
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    let v2 = match kind {
        b"cgroup2" => true,
        b"cgroup" => false,
        _ => return None,
    };
    Some(Mount { tree_root: unescape(tree_root), mount_point: unescape(mount_point), v2 })
}

/// Undoes the kernel's `\040` for blanks and the like.
pub(crate) fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let octal = match after {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] if byte == b'\\' => {
                Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'))
            }
            _ => None,
        };
        bytes.push(octal.unwrap_or(byte));
        rest = if octal.is_some() { &after[3..] } else { after };
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

/// The cgroup2 path of a process, from `ROOT/proc/PID/cgroup`: the line `0::/path`.
///
/// `None` when the process has no such line, which is so on legacy. The path is relative to the cgroup
/// namespace of the reader and begins with `/../` when the process is outside of it.
pub fn v2_path_of(root: &Path, pid: &str) -> Result<Option<PathBuf>, CgroupError> {
    let path = root.join("proc").join(pid).join("cgroup");
    let lines = std::fs::read(&path).map_err(|source| CgroupError::Read { path, source })?;
    Ok(lines
        .split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(b"0::"))
        .map(|found| PathBuf::from(OsStr::from_bytes(found))))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const UNIFIED: &str = "\
25 30 0:23 / /proc rw,nosuid,nodev,noexec,relatime shared:14 - proc proc rw
34 24 0:28 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate
";
    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
    const LEGACY: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:3 master:1 - cgroup cgroup rw,cpu,cpuacct
";

    fn with_mountinfo(table: &str) -> (tempfile::TempDir, Result<CgroupSetup, CgroupError>) {
        let root = tempfile::tempdir().expect("temp dir");
        fs::create_dir_all(root.path().join("proc/self")).expect("proc");
        fs::write(root.path().join("proc/self/mountinfo"), table).expect("mountinfo");
        let setup = detect(root.path());
        (root, setup)
    }

    #[test]
    fn the_three_layouts_are_told_apart() {
        for (table, layout, v2) in [
            (UNIFIED, CgroupLayout::Unified, Some("sys/fs/cgroup")),
            (HYBRID, CgroupLayout::Hybrid, Some("sys/fs/cgroup/unified")),
            (LEGACY, CgroupLayout::Legacy, None),
        ] {
            let (root, setup) = with_mountinfo(table);
            let setup = setup.expect("a cgroup tree is mounted");
            assert_eq!(setup.layout, layout);
            assert_eq!(setup.v2_mount, v2.map(|path| root.path().join(path)), "{layout}");
        }
    }

    #[test]
    fn the_mount_of_the_whole_tree_wins_over_a_part_of_it() {
        let part = "50 1 0:28 /docker/x /mnt/part rw - cgroup2 cgroup2 rw\n";
        let (root, setup) = with_mountinfo(&format!("{UNIFIED}{part}"));
        assert_eq!(setup.expect("setup").v2_mount, Some(root.path().join("sys/fs/cgroup")));
        let (root, setup) = with_mountinfo(part);
        let setup = setup.expect("setup");
        assert_eq!(setup.v2_mount, Some(root.path().join("mnt/part")));
        assert_eq!(setup.v2_tree, Path::new("/docker/x"));
    }

    #[test]
    fn the_hosts_cgroup_namespace_is_known_by_its_number() {
        let root = tempfile::tempdir().expect("temp dir");
        let dir = root.path().join("proc/self/ns");
        fs::create_dir_all(&dir).expect("proc");
        for (link, host) in [("cgroup:[4026531835]", true), ("cgroup:[4026532451]", false)] {
            std::os::unix::fs::symlink(link, dir.join("cgroup")).expect("link");
            assert_eq!(in_host_namespace(root.path()), host, "{link}");
            fs::remove_file(dir.join("cgroup")).expect("unlink");
        }
    }

    #[test]
    fn escaped_blanks_in_mount_points_are_undone() {
        let (root, setup) =
            with_mountinfo("34 24 0:28 / /mnt/a\\040b\\134c rw - cgroup2 cgroup2 rw\n");
        assert_eq!(setup.expect("setup").v2_mount, Some(root.path().join("mnt/a b\\c")));
    }

    #[test]
    fn no_cgroups_and_no_table_are_different_errors() {
        let (_root, setup) = with_mountinfo("25 30 0:23 / /proc rw - proc proc rw\n");
        assert!(matches!(setup, Err(CgroupError::NotMounted)), "{setup:?}");
        let empty = tempfile::tempdir().expect("temp dir");
        assert!(matches!(detect(empty.path()), Err(CgroupError::Read { .. })));
    }

    #[test]
    fn the_v2_line_of_a_process_is_found_among_the_others() {
        let root = tempfile::tempdir().expect("temp dir");
        for (pid, lines) in
            [("7", "4:memory:/m\n1:name=systemd:/\n0::/docker/a b\n"), ("8", "4:memory:/m\n")]
        {
            let dir = root.path().join("proc").join(pid);
            fs::create_dir_all(&dir).expect("proc");
            fs::write(dir.join("cgroup"), lines).expect("cgroup");
        }
        let path_of = |pid| v2_path_of(root.path(), pid).expect("readable");
        assert_eq!(path_of("7"), Some(PathBuf::from("/docker/a b")));
        assert_eq!(path_of("8"), None);
        assert!(v2_path_of(root.path(), "9").is_err());
    }
}
