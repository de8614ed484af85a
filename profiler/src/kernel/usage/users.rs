//! Who processes are: effective ids and groups in the container's user namespace, and their programs.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use procfs::{FromRead as _, process::Stat};

use super::{cut, read, text};
use crate::{
    kernel::cgroup::unescape,
    model::{recording::Program, usage::User},
};

/// How many users are kept.
pub const MAX_USERS: usize = 64;

/// How many programs of each.
pub const MAX_PROGRAMS: usize = 64;

/// How many supplementary groups of a process are read.
const MAX_GROUPS: usize = 64;

/// What the kernel keeps of a program's names, in bytes.
const COMM: usize = 15;
const EXE: usize = 63;

/// What an id is shown as that has none in a user namespace (`kernel.overflowuid`).
const NOBODY: u32 = 65_534;

/// Programs of runtimes, which are in a container's cgroup before its entry point and beside it.
const RUNTIMES: [&str; 5] = ["runc", "crun", "youki", "conmon", "containerd-shim-runc-v2"];

/// Ids of a user namespace, by those of the reader.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ids {
    users: Vec<(u32, u32, u32)>,
    groups: Vec<(u32, u32, u32)>,
}

impl Ids {
    /// Those of the process whose `/proc/PID` this is. What cannot be read is the reader's own.
    #[must_use]
    pub fn of(process: &Path) -> Ids {
        let map = |name: &str| {
            let lines = read(&process.join(name)).unwrap_or_default();
            String::from_utf8_lossy(&lines).lines().filter_map(extent).collect()
        };
        Ids { users: map("uid_map"), groups: map("gid_map") }
    }

    /// The user id there.
    #[must_use]
    pub fn user(&self, id: u32) -> u32 {
        inside(&self.users, id)
    }

    /// The group id there.
    #[must_use]
    pub fn group(&self, id: u32) -> u32 {
        inside(&self.groups, id)
    }
}

/// `INSIDE OUTSIDE COUNT`
fn extent(line: &str) -> Option<(u32, u32, u32)> {
    let mut words = line.split_ascii_whitespace().map(str::parse);
    Some((words.next()?.ok()?, words.next()?.ok()?, words.next()?.ok()?))
}

fn inside(extents: &[(u32, u32, u32)], id: u32) -> u32 {
    if extents.is_empty() {
        return id;
    }
    let of = |&(inside, outside, count): &(u32, u32, u32)| {
        let offset = id.checked_sub(outside).filter(|offset| *offset < count)?;
        inside.checked_add(offset)
    };
    extents.iter().find_map(of).unwrap_or(NOBODY)
}

/// A process at one look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number, as the reader sees it.
    pub pid: u32,
    /// Its program.
    pub program: Program,
    /// Where its executable is, as it sees it.
    pub exe: Option<PathBuf>,
    uid: u32,
    gid: u32,
    groups: BTreeSet<u32>,
}

impl Process {
    /// Reads one below `proc`; `None` when it is gone, is about to be, or belongs to the runtime still.
    #[must_use]
    pub fn read(proc: &Path, pid: u32) -> Option<Process> {
        let dir = proc.join(pid.to_string());
        let exe = std::fs::read_link(dir.join("exe")).ok()?;
        let status = read(&dir.join("status")).ok()?;
        let field = |name: &[u8]| {
            let line = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(name));
            line.map(<[u8]>::trim_ascii)
        };
        // of a name only the first line, which is the kernel's own, with blanks and line ends escaped
        let comm = text(field(b"Name:")?);
        let file = exe.file_name().map_or(b"".as_slice(), |name| name.as_bytes());
        let file = text(file.strip_suffix(b" (deleted)").unwrap_or(file));
        if is_runtimes(&comm, &exe, &file) {
            return None;
        }
        let numbers = |name: &[u8]| -> Option<Vec<u32>> {
            let text = String::from_utf8_lossy(field(name)?).into_owned();
            Some(text.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect())
        };
        Some(Process {
            pid,
            program: Program { comm: cut(&comm, COMM), exe: cut(&file, EXE) },
            exe: super::layer::shown(&exe),
            uid: *numbers(b"Uid:")?.get(1)?,
            gid: *numbers(b"Gid:")?.get(1)?,
            groups: numbers(b"Groups:")?.into_iter().take(MAX_GROUPS).collect(),
        })
    }
}

/// It has not executed what it is there for. One that calls itself so is no loss but its own.
fn is_runtimes(comm: &str, exe: &Path, file: &str) -> bool {
    comm.starts_with("runc:[")
        || RUNTIMES.contains(&file)
        || exe.to_string_lossy().starts_with("/memfd:runc_cloned")
        || exe.to_string_lossy().starts_with("/memfd:libcrun")
}

/// When a process began, in clock ticks since the machine started.
#[must_use]
pub fn started_at(proc: &Path, pid: u32) -> Option<u64> {
    let stat = Stat::from_file(proc.join(pid.to_string()).join("stat")).ok()?;
    Some(stat.starttime)
}

/// Files that the process whose `/proc/PID` this is has mapped to execute.
#[must_use]
pub fn executables(process: &Path) -> BTreeSet<PathBuf> {
    let lines = read(&process.join("maps")).unwrap_or_default();
    // `7f00-7f01 r-xp 00000000 08:01 12 /path`
    let path = |line: &[u8]| {
        let mut words = line.splitn(6, |byte| *byte == b' ');
        let is_executable = words.nth(1)?.get(2) == Some(&b'x');
        let path = words.nth(3)?.trim_ascii_start();
        is_executable.then(|| super::layer::shown(&unescape(path))).flatten()
    };
    lines.split(|byte| *byte == b'\n').filter_map(path).collect()
}

/// Who was seen.
#[derive(Debug, Default)]
pub struct Users(BTreeMap<Who, (bool, BTreeSet<Program>)>);

/// A user, a group, and further groups.
type Who = (u32, u32, BTreeSet<u32>);

impl Users {
    /// Adds a process; `first` if it is the container's first.
    pub fn add(&mut self, process: &Process, first: bool, ids: &Ids) {
        let groups = process.groups.iter().map(|id| ids.group(*id)).collect();
        let key = (ids.user(process.uid), ids.group(process.gid), groups);
        if self.0.len() >= MAX_USERS && !self.0.contains_key(&key) {
            return;
        }
        let (is_first, programs) = self.0.entry(key).or_default();
        *is_first |= first;
        if programs.len() < MAX_PROGRAMS {
            programs.insert(process.program.clone());
        }
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> BTreeSet<User> {
        let users = self.0.iter().map(|((uid, gid, groups), (first, programs))| User {
            uid: *uid,
            gid: *gid,
            groups: groups.clone(),
            first: *first,
            programs: programs.clone(),
        });
        users.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_the_containers() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(Ids::of(dir.path()).user(7), 7);
        std::fs::write(dir.path().join("uid_map"), "  0 100000 1000\n 1000 1000 1\n")
            .expect("writes");
        std::fs::write(dir.path().join("gid_map"), "  0 0 4294967295\n").expect("writes");
        let ids = Ids::of(dir.path());
        for (outside, expected) in [(100_000, 0), (100_999, 999), (1_000, 1_000), (0, NOBODY)] {
            assert_eq!(ids.user(outside), expected);
        }
        assert_eq!(ids.group(5), 5);
    }

    #[test]
    fn a_process_is_read_whatever_it_calls_itself() {
        let dir = tempfile::tempdir().expect("a directory");
        let own = dir.path().join("7");
        std::fs::create_dir(&own).expect("creates");
        let status = "Name:\tUid: 0 0\\n\nUid:\t0\t33\t0\t0\nGid:\t0\t34\t0\t0\nGroups:\t4 24 \n";
        std::fs::write(own.join("status"), status).expect("writes");
        assert_eq!(Process::read(dir.path(), 7), None);
        let exe = format!("/srv/{} (deleted)", "\u{e9}".repeat(40));
        std::os::unix::fs::symlink(exe, own.join("exe")).expect("links");
        let process = Process::read(dir.path(), 7).expect("a process");
        assert_eq!((process.uid, process.gid), (33, 34));
        assert_eq!(process.groups, [4, 24].into());
        assert_eq!(process.program.exe, "\u{e9}".repeat(31));
        let mut users = Users::default();
        users.add(&process, true, &Ids::default());
        users.add(&process, false, &Ids::default());
        let all = users.all();
        assert!(all.len() == 1 && all.iter().all(|user| user.first && user.programs.len() == 1));
    }

    #[test]
    fn what_is_mapped_to_execute() {
        let dir = tempfile::tempdir().expect("a directory");
        let maps = "1-2 r--p 00000000 08:01 12                /lib/data\n\
                    2-3 r-xp 00000000 08:01 12                /lib/a b\\012c (deleted)\n\
                    3-4 r-xp 00000000 00:00 0                 [vdso]\n\
                    4-5 rwxp 00000000 00:00 0 \n";
        std::fs::write(dir.path().join("maps"), maps).expect("writes");
        assert_eq!(executables(dir.path()), [PathBuf::from("/lib/a b\nc")].into());
        let own = executables(Path::new("/proc/self"));
        assert!(own.contains(&std::env::current_exe().expect("a path")), "{own:?}");
        assert!(started_at(Path::new("/proc"), std::process::id()).is_some());
    }

    #[test]
    fn a_runtime_is_no_user() {
        for (comm, exe, expected) in [
            ("runc:[2:INIT]", "/usr/bin/runc", true),
            ("6", "/memfd:runc_cloned:/proc/self/exe (deleted)", true),
            ("crun", "/usr/bin/crun", true),
            ("sh", "/bin/busybox", false),
        ] {
            let file = Path::new(exe).file_name().expect("a name").to_string_lossy().into_owned();
            assert_eq!(is_runtimes(comm, Path::new(exe), &file), expected, "{comm}");
        }
    }
}
