//! What the kernel, and `profiler audit`, say of each service while it runs.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use camino::Utf8PathBuf;
use serde_json::Value;

use super::stack::{SERVICES, Stack};
use crate::sh::{cmd, root};

/// Directories of the kernel's own file systems: what can be written there is not the container's to keep.
const NOT_FILES: [&str; 5] = ["/proc", "/sys", "/dev/pts", "/dev/mqueue", "/dev/fd"];

/// What is so of one service.
#[derive(Debug, Clone)]
pub struct Service {
    /// Who its processes are, by name.
    pub users: BTreeSet<String>,
    /// How many capabilities its processes can have at the most (`CapBnd`).
    pub bounding: u32,
    /// How many a process of it has (`CapEff`).
    pub effective: u32,
    /// Whether a set-user-id file gives nothing (`NoNewPrivs`).
    pub no_new_privileges: bool,
    /// Directories that its first process may write to, without those below them.
    pub writable: Vec<String>,
    /// Limits of memory (bytes), processors (10^-9) and processes; 0 is none.
    pub limits: [i64; 3],
}

/// What is so of all services.
#[derive(Debug, Clone)]
pub struct Facts {
    /// In the order of [`SERVICES`].
    pub services: Vec<Service>,
    /// Findings of `profiler audit`, all services together: errors, warnings, notes.
    pub audit: [usize; 3],
}

impl Facts {
    /// Looks at a project that runs.
    ///
    /// # Errors
    /// When a service does not run or the audit fails.
    pub fn of(stack: &Stack<'_>, profiler: &str) -> Result<Self> {
        let services = SERVICES.map(|service| Service::of(stack, service).context(service));
        let services = services.into_iter().collect::<Result<_>>()?;
        Ok(Self { services, audit: audit(stack, profiler)? })
    }
}

impl Service {
    fn of(stack: &Stack<'_>, service: &str) -> Result<Self> {
        let inspected = stack.inspect(service)?;
        let first = inspected["State"]["Pid"].as_u64().filter(|pid| *pid != 0);
        let first = first.context("it does not run")?;
        let names = names(first)?;
        let mut users = BTreeSet::new();
        let mut effective = 0;
        for pid in beside(first)? {
            let Ok(status) = Status::of(pid) else { continue }; // gone meanwhile
            let uid = status.id("Uid")?;
            users.insert(names.get(&uid).cloned().unwrap_or_else(|| uid.to_string()));
            effective = effective.max(status.set("CapEff")?.count_ones());
        }
        let status = Status::of(first)?;
        let host = &inspected["HostConfig"];
        let limit = |key: &str| host[key].as_i64().unwrap_or(0).max(0);
        Ok(Self {
            users,
            bounding: status.set("CapBnd")?.count_ones(),
            effective,
            no_new_privileges: status.field("NoNewPrivs")? == "1",
            writable: writable(first, &status)?,
            limits: [limit("Memory"), limit("NanoCpus"), limit("PidsLimit")],
        })
    }
}

/// `/proc/PID/status`.
struct Status(String);

impl Status {
    fn of(pid: u64) -> Result<Self> {
        Ok(Self(fs_err::read_to_string(format!("/proc/{pid}/status"))?))
    }

    fn field(&self, name: &str) -> Result<&str> {
        let line = self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        Ok(line.with_context(|| format!("no {name} in status"))?.trim())
    }

    /// The effective id of a line of four.
    fn id(&self, name: &str) -> Result<u32> {
        let id = self.field(name)?.split_ascii_whitespace().nth(1).context("an effective id")?;
        Ok(id.parse()?)
    }

    fn set(&self, name: &str) -> Result<u64> {
        Ok(u64::from_str_radix(self.field(name)?, 16)?)
    }
}

/// The processes that are in the same cgroups as this one.
fn beside(first: u64) -> Result<Vec<u64>> {
    let cgroups = |pid: u64| fs_err::read_to_string(format!("/proc/{pid}/cgroup"));
    let own = cgroups(first)?;
    let mut found = Vec::new();
    for entry in fs_err::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        if cgroups(pid).is_ok_and(|other| other == own) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// Users by their ids, as the container knows them.
fn names(pid: u64) -> Result<BTreeMap<u32, String>> {
    let users = fs_err::read_to_string(format!("/proc/{pid}/root/etc/passwd"))?;
    let user = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        Some((fields.nth(1)?.parse().ok()?, name.to_owned()))
    };
    Ok(users.lines().filter_map(user).collect())
}

/// Where a process with this one's user, groups and capabilities may write. Asked of the kernel from within its mount namespace, but
/// outside its filter, which may refuse what the question takes.
fn writable(pid: u64, status: &Status) -> Result<Vec<String>> {
    let groups = status.field("Groups")?.split_ascii_whitespace().collect::<Vec<_>>().join(",");
    let groups =
        if groups.is_empty() { "--clear-groups".to_owned() } else { format!("--groups={groups}") };
    let capabilities = status.set("CapBnd")?;
    let kept = (0..64).filter(|bit| capabilities >> bit & 1 == 1);
    let bounding = kept.fold("-all".to_owned(), |set, bit| format!("{set},+cap_{bit}"));
    let excluded = NOT_FILES.map(|path| format!("-path {path}")).join(" -o ");
    let find = format!("find / \\( {excluded} \\) -prune -o -type d -writable -print");
    let found = cmd("nsenter")
        .args([format!("--target={pid}"), "--mount".into(), "--root".into(), "--".into()])
        .args(["setpriv".to_owned(), format!("--reuid={}", status.id("Uid")?)])
        .args([format!("--regid={}", status.id("Gid")?), groups])
        .args([format!("--bounding-set={bounding}"), format!("--inh-caps={bounding}")])
        .args(["sh", "-c"])
        // what it may not enter is no error, and what is gone meanwhile neither
        .arg(format!("{find} 2>/dev/null || :"))
        .stdout()?;
    Ok(topmost(found.lines()))
}

/// Those of `paths` that are below none of the others, sorted.
fn topmost<'p>(paths: impl Iterator<Item = &'p str>) -> Vec<String> {
    let all: BTreeSet<Utf8PathBuf> = paths.map(Utf8PathBuf::from).collect();
    let is_top = |path: &&Utf8PathBuf| !path.ancestors().skip(1).any(|above| all.contains(above));
    all.iter().filter(is_top).map(ToString::to_string).collect()
}

/// How many errors, warnings and notes `profiler audit` finds in the containers.
fn audit(stack: &Stack<'_>, profiler: &str) -> Result<[usize; 3]> {
    let containers = SERVICES.map(|service| stack.container(service));
    let output = stack
        .tell(cmd(profiler))
        .args(["audit", "--format", "json", "--fail-on", "error"])
        .args(&containers)
        .dir(root())
        .capture()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(matches!(output.status.code(), Some(0 | 1)), "profiler audit: {said}");
    let document: Value = serde_json::from_slice(&output.stdout).with_context(|| said)?;
    let rows = document["checks"].as_array().context("no checks")?;
    Ok(["error", "warning", "note"].map(|severity| {
        let is = |row: &&Value| row["state"] == "found" && row["severity"] == severity;
        rows.iter().filter(is).count()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_topmost_directories_are_told() {
        let paths = ["/tmp", "/tmp/a", "/tmp2", "/var/lib/x/y", "/var/lib/x/y/z"];
        assert_eq!(topmost(paths.into_iter()), ["/tmp", "/tmp2", "/var/lib/x/y"]);
        assert_eq!(topmost(["/", "/tmp", "/a/b"].into_iter()), ["/"]);
    }

    #[test]
    fn a_status_is_read_by_name() -> Result<()> {
        let status = Status::of(u64::from(std::process::id()))?;
        assert_eq!(status.id("Uid")?, rustix::process::geteuid().as_raw());
        assert!(status.set("CapBnd").is_ok() && status.field("Nothing").is_err());
        Ok(())
    }
}
