//! The mounts that a process sees, from its `mountinfo`, and those among them that an engine made for the container.

use std::{
    collections::BTreeSet,
    io,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::FileType;

use super::{read, text, users::Ids};
use crate::{
    kernel::cgroup::unescape,
    model::usage::{Mount, Owned},
};

/// How many mounts of a container are kept.
pub const MAX_MOUNTS: usize = 256;

/// What every container has: the kernel's own file systems, and files that the engine writes.
const OF_RUNTIME: [&str; 3] = ["/dev", "/proc", "/sys"];
const OF_ENGINE: [&str; 4] =
    ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/run/.containerenv"];
const OF_KERNEL: [&str; 11] = [
    "proc",
    "sysfs",
    "cgroup",
    "cgroup2",
    "mqueue",
    "devpts",
    "devtmpfs",
    "debugfs",
    "tracefs",
    "securityfs",
    "bpf",
];

/// File systems of which a server or a process is asked, which may never answer; by how their types begin.
const REMOTE: [&str; 8] = ["9p", "afs", "ceph", "cifs", "fuse", "nfs", "smb", "virtiofs"];

/// A line of `mountinfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// The number of the file system, major and minor.
    pub device: (u32, u32),
    /// What of the file system is mounted.
    pub root: PathBuf,
    /// Where.
    pub point: PathBuf,
    /// It can be written to, as mount and as file system.
    pub writable: bool,
    /// The file system's type.
    pub filesystem: String,
    /// The file system's options, escaped as the kernel escapes them.
    pub options: Vec<u8>,
}

/// What the process whose `/proc/PID` this is sees mounted, in the order in which it was.
///
/// # Errors
/// When it cannot be read.
pub fn table(process: &Path) -> io::Result<Vec<Mounted>> {
    let lines = read(&process.join("mountinfo"))?;
    Ok(lines.split(|byte| *byte == b'\n').filter_map(line).collect())
}

/// `36 35 98:0 /root /mount/point rw,opts shared:1 - type source super,opts`
fn line(line: &[u8]) -> Option<Mounted> {
    let mut fields = line.split(|byte| *byte == b' ');
    let device = std::str::from_utf8(fields.nth(2)?).ok()?.split_once(':')?;
    let device = (device.0.parse().ok()?, device.1.parse().ok()?);
    let (root, point, options) = (fields.next()?, fields.next()?, fields.next()?);
    let mut fields = fields.skip_while(|field| *field != b"-");
    let (filesystem, of_filesystem) = (fields.nth(1)?, fields.nth(1)?);
    let is_rw = |options: &[u8]| options.split(|byte| *byte == b',').any(|word| word == b"rw");
    Some(Mounted {
        device,
        root: unescape(root),
        point: unescape(point),
        writable: is_rw(options) && is_rw(of_filesystem),
        filesystem: text(filesystem),
        options: of_filesystem.to_vec(),
    })
}

/// Those that an engine made for the container. Whose one is, and how full a tmpfs is, is asked below `root`, `/proc/PID/root`.
#[must_use]
pub fn of_engine(table: &[Mounted], root: &Path, ids: &Ids) -> BTreeSet<Mount> {
    let made = table.iter().filter(|mounted| is_of_engine(mounted)).take(MAX_MOUNTS);
    made.map(|mounted| {
        let there = there(root, mounted);
        let owner = match mounted.filesystem.as_str() {
            // it is made anew at each start
            "tmpfs" => Some(made_so(mounted)),
            _ => there.as_ref().map(|there| there.owner),
        };
        let path = text(mounted.point.as_os_str().as_bytes());
        let owned = owner.map(|(uid, gid, mode)| Owned {
            path: path.clone(),
            uid: ids.user(uid),
            gid: ids.group(gid),
            mode: mode & 0o7777,
            directory: FileType::from_raw_mode(mode) == FileType::Directory,
        });
        Mount {
            filesystem: mounted.filesystem.clone(),
            read_only: !mounted.writable,
            volume: is_volume(&mounted.root),
            owners: owned.into_iter().collect(),
            bytes: there.and_then(|there| there.used),
            path,
        }
    })
    .collect()
}

/// User, group and mode of a tmpfs when it was mounted; what is not among its options is the kernel's default.
fn made_so(mounted: &Mounted) -> (u32, u32, u32) {
    let number = |name: &str, radix| {
        let value = option(&mounted.options, name.as_bytes()).next()?;
        u32::from_str_radix(std::str::from_utf8(&value).ok()?, radix).ok()
    };
    let mode = number("mode", 8).unwrap_or(0o1777) | FileType::Directory.as_raw_mode();
    (number("uid", 10).unwrap_or(0), number("gid", 10).unwrap_or(0), mode)
}

/// `.../volumes/NAME/_data`, as Docker and podman lay them out.
fn is_volume(root: &Path) -> bool {
    let mut parts = root.components().rev().map(|part| part.as_os_str());
    parts.next().is_some_and(|last| last == "_data")
        && parts.nth(1).is_some_and(|dir| dir == "volumes")
}

fn is_of_engine(mounted: &Mounted) -> bool {
    let point = &mounted.point;
    point != Path::new("/")
        && !OF_RUNTIME.iter().any(|path| point.starts_with(path))
        && !OF_ENGINE.iter().any(|path| point == Path::new(path))
        && !OF_KERNEL.contains(&mounted.filesystem.as_str())
}

/// The root of a mount.
struct There {
    /// User, group and mode, with the kind of file, as the reader sees them.
    owner: (u32, u32, u32),
    /// What is used of a tmpfs, in bytes.
    used: Option<u64>,
}

/// Looks at the root of a mount. `None` when somebody else may have to answer for it, or it is hidden by something else, which may be a hostile
/// one: that is asked nothing.
fn there(root: &Path, mounted: &Mounted) -> Option<There> {
    use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, StatxFlags, open, openat2, statx};
    if REMOTE.iter().any(|remote| mounted.filesystem.starts_with(remote)) {
        return None;
    }
    let root = open(root, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let relative = mounted.point.strip_prefix("/").ok()?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let there = openat2(&root, relative, flags, Mode::empty(), resolve).ok()?;
    let cached = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let wanted = StatxFlags::TYPE | StatxFlags::MODE | StatxFlags::UID | StatxFlags::GID;
    let status = statx(&there, "", cached, wanted).ok()?;
    if (status.stx_dev_major, status.stx_dev_minor) != mounted.device {
        return None;
    }
    let used = || {
        let status = rustix::fs::fstatvfs(&there).ok()?;
        Some(status.f_blocks.saturating_sub(status.f_bfree).saturating_mul(status.f_frsize))
    };
    Some(There {
        owner: (status.stx_uid, status.stx_gid, u32::from(status.stx_mode)),
        used: (mounted.filesystem == "tmpfs").then(used).flatten(),
    })
}

/// The values of one option, `lowerdir=` for one, unescaped as the kernel escapes them.
pub(super) fn option<'a>(options: &'a [u8], name: &'a [u8]) -> impl Iterator<Item = Vec<u8>> + 'a {
    let words = options.split(|byte| *byte == b',');
    words
        .filter_map(move |word| word.strip_prefix(name)?.strip_prefix(b"="))
        .map(|value| unescape(value).into_os_string().into_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
1 0 0:50 / / rw,relatime master:1 - overlay overlay rw,lowerdir=/a:/b,upperdir=/c,workdir=/d
2 1 0:51 / /proc rw,nosuid - proc proc rw
3 1 0:52 / /dev rw,nosuid - tmpfs tmpfs rw,size=65536k
4 3 0:53 / /dev/shm rw - tmpfs shm rw
5 1 0:54 / /sys/fs/cgroup ro - cgroup2 cgroup rw
6 1 8:1 /lib/volumes/v/_data /da\\040ta rw,relatime - ext4 /dev/vda rw
7 1 8:1 /lib/volumes/w/_data /read ro,relatime - ext4 /dev/vda rw
8 1 8:1 /hosts /etc/hosts rw - ext4 /dev/vda rw
9 1 0:60 / /scratch rw - tmpfs tmpfs rw,size=64k,mode=750,gid=7
10 2 0:61 / /proc/acpi ro - tmpfs tmpfs rw
11 1 8:1 /v/\\134x /b\\012\\134 rw - ext4 /dev/vda rw
";

    #[test]
    fn what_the_engine_made() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("mountinfo"), TABLE).expect("writes");
        let table = table(dir.path()).expect("reads");
        assert_eq!(table.len(), 11);
        let mounts = of_engine(&table, Path::new("/nowhere"), &Ids::default());
        let told: Vec<_> = mounts
            .iter()
            .map(|m| (m.path.as_str(), m.filesystem.as_str(), m.read_only, m.volume))
            .collect();
        let expected = [
            ("/b\n\\", "ext4", false, false),
            ("/da ta", "ext4", false, true),
            ("/read", "ext4", true, true),
            ("/scratch", "tmpfs", false, false),
        ];
        assert_eq!(told, expected);
        let scratch = mounts.iter().find(|mount| mount.path == "/scratch").expect("there");
        let owner = scratch.owners.first().expect("of a tmpfs its options tell");
        assert_eq!((owner.uid, owner.gid, owner.mode), (0, 7, 0o750));
        assert_eq!(option(&table[0].options, b"upperdir").next(), Some(b"/c".to_vec()));
        assert_eq!(option(b"rw,x=a\\054b", b"x").next(), Some(b"a,b".to_vec()));
    }

    #[test]
    fn a_directory_that_is_not_that_file_system_is_not_measured() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(dir.path().join("x")).expect("creates");
        std::os::unix::fs::symlink("/dev/shm", dir.path().join("link")).expect("links");
        let own = table(Path::new("/proc/self")).expect("reads");
        let Some(shm) = own.iter().rfind(|one| one.point == Path::new("/dev/shm")) else { return };
        assert!(there(Path::new("/"), shm).is_some_and(|there| there.used.is_some()));
        for point in ["/x", "/link", "/nothing"] {
            let elsewhere = Mounted { point: point.into(), ..shm.clone() };
            assert!(there(dir.path(), &elsewhere).is_none(), "{point}");
        }
    }
}
