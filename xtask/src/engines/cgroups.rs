//! The cgroups that engines make for their containers: `docker/ID` and the like in every hierarchy.
//!
//! Other engines of the machine share the parent, so containers are named by their ids, and the
//! parent is removed only when nobody is in it and it was not there before.

use std::{
    fs,
    io::ErrorKind,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use rustix::process::{Pid, Signal, kill_process};

/// The cgroups called `parent` that are there now.
///
/// # Errors
/// When the mounts cannot be read.
pub fn present(parent: &str) -> Result<Vec<Utf8PathBuf>> {
    Ok(parents(parent)?.into_iter().filter(|dir| dir.exists()).collect())
}

/// Writes to `file` which cgroups called `parent` there are, unless that is known.
///
/// # Errors
/// When the mounts cannot be read or the file not be written.
pub fn remember(parent: &str, file: &Utf8Path) -> Result<()> {
    if !file.exists() {
        fs_err::write(file, serde_json::to_string_pretty(&present(parent)?)?)?;
    }
    Ok(())
}

/// Removes the cgroups called `parent` that [`remember`] did not find, and `file`.
///
/// # Errors
/// As [`remove`].
pub fn restore(parent: &str, file: &Utf8Path) -> Result<()> {
    if file.exists() {
        let keep: Vec<Utf8PathBuf> = serde_json::from_str(&fs_err::read_to_string(file)?)?;
        remove(parent, &keep)?;
        fs_err::remove_file(file)?;
    }
    Ok(())
}

/// Ends what still runs in the cgroups `parent/ID` of `containers` and removes these.
///
/// # Errors
/// When a process survives for five seconds.
pub fn end_containers(parent: &str, containers: &[String]) -> Result<()> {
    for parent in parents(parent)? {
        for id in containers {
            end_tree(&parent.join(id))?;
        }
    }
    Ok(())
}

/// Ends what runs in a cgroup and below it, and removes all of it.
///
/// # Errors
/// When a process survives for five seconds.
pub fn end_tree(dir: &Utf8Path) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !remove_tree(dir)? {
        if Instant::now() > deadline {
            bail!("processes in `{dir}` do not end\nhint: cat {dir}/cgroup.procs");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Removes the cgroups called `parent` that are not in `keep`, unless another engine's containers are in them.
///
/// # Errors
/// When the kernel refuses for another reason than that.
pub fn remove(parent: &str, keep: &[Utf8PathBuf]) -> Result<()> {
    for parent in present(parent)?.iter().filter(|parent| !keep.contains(parent)) {
        remove_one(parent)?;
    }
    Ok(())
}

/// Where the machine's cgroup2 hierarchy is mounted.
///
/// # Errors
/// When it is not.
pub fn unified() -> Result<Utf8PathBuf> {
    let mounts = mounts(&fs_err::read_to_string("/proc/self/mountinfo")?);
    mounts
        .into_iter()
        .find_map(|(kind, point)| (kind == "cgroup2").then_some(point))
        .context("no cgroup2 is mounted\nhint: mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified")
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

/// Whether the machine's cgroups are v1's, alone or beside cgroup2.
///
/// # Errors
/// When the mounts cannot be read.
pub fn machine_has_v1() -> Result<bool> {
    let mounts = mounts(&fs_err::read_to_string("/proc/self/mountinfo")?);
    Ok(mounts.iter().any(|(kind, _)| kind == "cgroup"))
}

/// `name` in every hierarchy that is mounted, there or not.
fn parents(name: &str) -> Result<Vec<Utf8PathBuf>> {
    let mounts = mounts(&fs_err::read_to_string("/proc/self/mountinfo")?);
    Ok(mounts.into_iter().map(|(_, point)| point.join(name)).collect())
}

/// Kind and mount point of every hierarchy.
fn mounts(mountinfo: &str) -> Vec<(String, Utf8PathBuf)> {
    let hierarchies = mountinfo.lines().filter_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let kind = right.split(' ').next()?;
        let point = left.split(' ').nth(4)?;
        matches!(kind, "cgroup" | "cgroup2").then(|| (kind.to_owned(), Utf8PathBuf::from(point)))
    });
    hierarchies.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hierarchy_is_found() {
        let mountinfo = "1 0 0:1 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                         2 1 0:2 / /sys/fs/cgroup/pids rw shared:9 - cgroup cgroup rw,pids\n\
                         3 1 0:3 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let expected = [("cgroup", "/sys/fs/cgroup/pids"), ("cgroup2", "/sys/fs/cgroup/unified")];
        let expected = expected.map(|(kind, point)| (kind.to_owned(), Utf8PathBuf::from(point)));
        assert_eq!(mounts(mountinfo), expected);
    }
}
