//! The cgroups that Docker makes for its containers: `docker/ID` in every hierarchy.
//!
//! Other Dockers of the machine share the parent, so containers are named by their ids, and the
//! parent is removed only when nobody is in it.

use std::{
    fs,
    io::ErrorKind,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use rustix::process::{Pid, Signal, kill_process};

/// Docker's parent of all containers' cgroups.
const PARENT: &str = "docker";

/// The parents that are there now.
///
/// # Errors
/// When the mounts cannot be read.
pub fn present() -> Result<Vec<Utf8PathBuf>> {
    Ok(parents()?.into_iter().filter(|dir| dir.exists()).collect())
}

/// Ends what still runs in the cgroups of `containers` and removes these.
///
/// # Errors
/// When a process survives for five seconds.
pub fn end_containers(containers: &[String]) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(5);
    for parent in parents()? {
        for dir in containers.iter().map(|id| parent.join(id)) {
            while !remove_tree(&dir)? {
                if Instant::now() > deadline {
                    bail!("processes in `{dir}` do not end\nhint: cat {dir}/cgroup.procs");
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
    Ok(())
}

/// Removes the parents that are not in `keep`, unless another Docker's containers are in them.
///
/// # Errors
/// When the kernel refuses for another reason than that.
pub fn remove(keep: &[Utf8PathBuf]) -> Result<()> {
    for parent in present()?.iter().filter(|parent| !keep.contains(parent)) {
        remove_one(parent)?;
    }
    Ok(())
}

/// Kills the members of a cgroup and of its descendants and removes those that are empty; whether
/// nothing is left.
fn remove_tree(dir: &Utf8Path) -> Result<bool> {
    if !dir.exists() {
        return Ok(true);
    }
    let mut gone = true;
    for entry in dir.read_dir_utf8()? {
        let path = entry?.into_path();
        if path.is_dir() {
            gone &= remove_tree(&path)?;
        }
    }
    let members = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    for pid in members.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)) {
        // It may have ended by itself; the next round sees.
        let _ = kill_process(pid, Signal::KILL);
    }
    Ok(gone && remove_one(dir)?)
}

/// Removes one cgroup; whether it is gone. One with members or children stays.
fn remove_one(dir: &Utf8Path) -> Result<bool> {
    match fs::remove_dir(dir) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) if error.kind() == ErrorKind::ResourceBusy => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot remove cgroup `{dir}`")),
    }
}

/// The parent in every hierarchy that is mounted, there or not.
fn parents() -> Result<Vec<Utf8PathBuf>> {
    Ok(parents_in(&fs_err::read_to_string("/proc/self/mountinfo")?))
}

fn parents_in(mountinfo: &str) -> Vec<Utf8PathBuf> {
    let hierarchies = mountinfo.lines().filter_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let kind = right.split(' ').next()?;
        let point = left.split(' ').nth(4)?;
        matches!(kind, "cgroup" | "cgroup2").then(|| Utf8Path::new(point).join(PARENT))
    });
    hierarchies.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hierarchy_has_a_parent() {
        let mountinfo = "1 0 0:1 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                         2 1 0:2 / /sys/fs/cgroup/pids rw shared:9 - cgroup cgroup rw,pids\n\
                         3 1 0:3 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let expected = ["/sys/fs/cgroup/pids/docker", "/sys/fs/cgroup/unified/docker"];
        assert_eq!(parents_in(mountinfo), expected);
    }
}
