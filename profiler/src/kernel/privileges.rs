//! What this process may do: effective capabilities from `/proc/self/status`, and whether they count on the host.
//!
//! Asks only; gains and drops nothing.

use std::{
    io,
    path::{Path, PathBuf},
};

use thiserror::Error;

/// Without it there is nothing to record or to put in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Privilege {
    /// Maps and programs: CAP_BPF, or CAP_SYS_ADMIN.
    Bpf,
    /// Tracing programs: CAP_PERFMON, or CAP_SYS_ADMIN.
    Perfmon,
    /// Capabilities of the initial user namespace: bpf(2) takes no others.
    InitialUserNamespace,
    /// Filters of threads, to read them and to load one without no-new-privileges.
    SysAdmin,
    /// Stopping threads of other users.
    SysPtrace,
    /// Cutting the bounding set of a command.
    SetPcap,
}

impl Privilege {
    /// Its name for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Privilege::Bpf => "CAP_BPF",
            Privilege::Perfmon => "CAP_PERFMON",
            Privilege::InitialUserNamespace => "the initial user namespace",
            Privilege::SysAdmin => "CAP_SYS_ADMIN",
            Privilege::SysPtrace => "CAP_SYS_PTRACE",
            Privilege::SetPcap => "CAP_SETPCAP",
        }
    }
}

/// Their names, as a list.
#[must_use]
pub fn names(privileges: &[Privilege]) -> String {
    privileges.iter().map(|one| one.name()).collect::<Vec<_>>().join(", ")
}

const CAP_DAC_OVERRIDE: u32 = 1;
const CAP_DAC_READ_SEARCH: u32 = 2;
const CAP_SETPCAP: u32 = 8;
const CAP_SYS_PTRACE: u32 = 19;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_SYS_NICE: u32 = 23;
const CAP_SYSLOG: u32 = 34;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// A capability with which a recording is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// One of them is enough.
    any_of: &'static [u32],
    /// `CAP_SYSLOG`.
    pub name: &'static str,
    /// What happens without it.
    pub without: &'static str,
    /// The result is another one without it, not only a later one.
    pub changes_results: bool,
}

/// Capabilities with which recordings are better, and why.
pub const WANTED: [Wanted; 4] = [
    Wanted {
        any_of: &[CAP_SYSLOG],
        name: "CAP_SYSLOG",
        without: "every capability check counts as a real one",
        changes_results: true,
    },
    Wanted {
        any_of: &[CAP_SYS_PTRACE],
        name: "CAP_SYS_PTRACE",
        without: "capabilities of files that other users' processes execute cannot be read",
        changes_results: true,
    },
    Wanted {
        any_of: &[CAP_DAC_READ_SEARCH, CAP_DAC_OVERRIDE],
        name: "CAP_DAC_READ_SEARCH",
        without: "capabilities of files in other users' directories cannot be read",
        changes_results: true,
    },
    Wanted {
        any_of: &[CAP_SYS_NICE],
        name: "CAP_SYS_NICE",
        without: "files that are executed on a busy machine may be looked at too late",
        changes_results: false,
    },
];

/// The privileges of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Privileges {
    /// Effective user id.
    pub euid: u32,
    /// Effective capabilities, a bit for each number.
    pub effective: u64,
    /// Its user namespace maps every id to itself: it is the initial one.
    pub initial_user_namespace: bool,
}

/// Why the privileges could not be told.
#[derive(Debug, Error)]
pub enum PrivilegesError {
    /// A file of /proc could not be read.
    #[error("cannot read `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A line is not there or not of the form that the kernel writes.
    #[error("`{path}` has no readable `{field}` line")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line's name.
        field: &'static str,
    },
}

impl Privileges {
    /// Reads `ROOT/proc/self/status` and `ROOT/proc/self/uid_map`.
    pub fn read(root: &Path) -> Result<Self, PrivilegesError> {
        let path = root.join("proc/self/status");
        let status = read(&path)?;
        let field = |name: &'static str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .ok_or_else(|| PrivilegesError::Malformed { path: path.clone(), field: name })
        };
        let malformed = |name| PrivilegesError::Malformed { path: path.clone(), field: name };
        let euid = field("Uid")?
            .split_whitespace()
            .nth(1)
            .and_then(|id| id.parse().ok())
            .ok_or_else(|| malformed("Uid"))?;
        let effective =
            u64::from_str_radix(field("CapEff")?.trim(), 16).map_err(|_| malformed("CapEff"))?;
        let uid_map = read(&root.join("proc/self/uid_map"))?;
        let initial_user_namespace = uid_map.split_whitespace().eq(["0", "0", "4294967295"]);
        Ok(Privileges { euid, effective, initial_user_namespace })
    }

    /// Whether the capability with this number is effective.
    #[must_use]
    pub const fn has(&self, capability: u32) -> bool {
        capability < 64 && self.effective >> capability & 1 == 1
    }

    /// Runs as root, whatever capabilities root has here.
    #[must_use]
    pub const fn is_root(&self) -> bool {
        self.euid == 0
    }

    /// CAP_SYS_ADMIN is effective.
    #[must_use]
    pub const fn has_sys_admin(&self) -> bool {
        self.has(CAP_SYS_ADMIN)
    }

    /// What recording needs and this process lacks; empty when it may record.
    #[must_use]
    pub fn lacking(&self) -> Vec<Privilege> {
        let mut lacking = Vec::new();
        if !self.has(CAP_BPF) && !self.has_sys_admin() {
            lacking.push(Privilege::Bpf);
        }
        if !self.has(CAP_PERFMON) && !self.has_sys_admin() {
            lacking.push(Privilege::Perfmon);
        }
        if !self.initial_user_namespace {
            lacking.push(Privilege::InitialUserNamespace);
        }
        lacking
    }

    /// What putting a profile in force needs, recording it included, and this process lacks.
    #[must_use]
    pub fn lacking_to_enforce(&self) -> Vec<Privilege> {
        let more = [
            (CAP_SYS_ADMIN, Privilege::SysAdmin),
            (CAP_SYS_PTRACE, Privilege::SysPtrace),
            (CAP_SETPCAP, Privilege::SetPcap),
        ];
        let more = more.into_iter().filter(|(number, _)| !self.has(*number));
        self.lacking().into_iter().chain(more.map(|(_, privilege)| privilege)).collect()
    }

    /// What recordings would be better with, and this process lacks.
    pub fn wanting(&self) -> impl Iterator<Item = &'static Wanted> {
        let has_any = |wanted: &&Wanted| wanted.any_of.iter().any(|number| self.has(*number));
        WANTED.iter().filter(move |wanted| !has_any(wanted))
    }
}

fn read(path: &Path) -> Result<String, PrivilegesError> {
    std::fs::read_to_string(path)
        .map_err(|source| PrivilegesError::Read { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const INITIAL: &str = "         0          0 4294967295\n";

    fn privileges(
        uid: &str,
        effective: &str,
        uid_map: &str,
    ) -> Result<Privileges, PrivilegesError> {
        let root = tempfile::tempdir().expect("temp dir");
        let dir = root.path().join("proc/self");
        fs::create_dir_all(&dir).expect("proc");
        let status = format!("Name:\tx\nUid:\t{uid}\nGid:\t0\nCapPrm:\t0\nCapEff:\t{effective}\n");
        fs::write(dir.join("status"), status).expect("status");
        fs::write(dir.join("uid_map"), uid_map).expect("uid_map");
        Privileges::read(root.path())
    }

    #[test]
    fn root_with_everything_lacks_nothing() {
        let root = privileges("0\t0\t0\t0", "000001ffffffffff", INITIAL).expect("read");
        assert!(root.is_root() && root.has_sys_admin());
        assert_eq!(root.lacking(), []);
    }

    #[test]
    fn bpf_and_perfmon_are_enough_without_root() {
        let user = privileges("1000\t1000\t1000\t1000", "000000c000000000", INITIAL).expect("read");
        assert!(!user.is_root() && !user.has_sys_admin());
        assert_eq!(user.lacking(), []);
    }

    #[test]
    fn an_ordinary_user_lacks_both() {
        let user = privileges("1000\t1000\t1000\t1000", "0000000000000000", INITIAL).expect("read");
        assert_eq!(user.lacking(), [Privilege::Bpf, Privilege::Perfmon]);
    }

    #[test]
    fn putting_in_force_takes_more_than_recording() {
        let user = privileges("1000\t1000\t1000\t1000", "000000c000000000", INITIAL).expect("read");
        assert_eq!(names(&user.lacking_to_enforce()), "CAP_SYS_ADMIN, CAP_SYS_PTRACE, CAP_SETPCAP");
        let wanting: Vec<&str> = user.wanting().map(|wanted| wanted.name).collect();
        assert_eq!(wanting, WANTED.map(|wanted| wanted.name));
        let root = privileges("0\t0\t0\t0", "000001ffffffffff", INITIAL).expect("read");
        assert_eq!(root.lacking_to_enforce(), []);
        assert_eq!(root.wanting().count(), 0);
        // Docker's default capabilities: CAP_DAC_OVERRIDE does for CAP_DAC_READ_SEARCH
        let docker = privileges("0\t0\t0\t0", "00000000a80425fb", INITIAL).expect("read");
        assert!(docker.wanting().all(|wanted| wanted.name != "CAP_DAC_READ_SEARCH"));
    }

    #[test]
    fn the_documentation_has_every_capability() {
        let docs = include_str!("../../../docs/security.md");
        let needed = [
            Privilege::Bpf,
            Privilege::Perfmon,
            Privilege::SysAdmin,
            Privilege::SysPtrace,
            Privilege::SetPcap,
        ];
        let wanted = WANTED.map(|wanted| wanted.name);
        for name in needed.map(Privilege::name).into_iter().chain(wanted) {
            assert!(docs.contains(&format!("| `{name}` |")), "docs/security.md lacks {name}");
        }
    }

    #[test]
    fn root_of_a_user_namespace_is_not_enough() {
        let root = privileges("0\t0\t0\t0", "000001ffffffffff", "0 1000 1\n").expect("read");
        assert_eq!(root.lacking(), [Privilege::InitialUserNamespace]);
    }

    #[test]
    fn the_effective_id_counts_not_the_real_one() {
        assert!(privileges("1000\t0\t0\t0", "0", INITIAL).expect("read").is_root());
    }

    #[test]
    fn malformed_files_are_errors_that_name_the_line() {
        let error = privileges("0\t0\t0\t0", "xyz", INITIAL).expect_err("CapEff is no number");
        assert!(error.to_string().contains("`CapEff`"), "{error}");
        let error = privileges("0", "0", INITIAL).expect_err("Uid has one number");
        assert!(error.to_string().contains("`Uid`"), "{error}");
        let empty = tempfile::tempdir().expect("temp dir");
        assert!(matches!(Privileges::read(empty.path()), Err(PrivilegesError::Read { .. })));
    }
}
