//! What a recorder must not leave behind: its cgroups, its programs in the kernel, half-written files.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};

use crate::harness::program;

/// What there was when it was looked at.
#[derive(Debug, PartialEq, Eq)]
pub struct Leftovers {
    cgroups: BTreeSet<Utf8PathBuf>,
    programs: BTreeSet<String>,
}

impl Leftovers {
    /// Looks now.
    ///
    /// # Errors
    /// When the machine does not let itself be looked at.
    pub fn now() -> Result<Self> {
        let mut cgroups = BTreeSet::new();
        for mount in cgroup_mounts()? {
            collect(&mount, 3, &mut cgroups);
        }
        Ok(Self { cgroups, programs: programs()? })
    }

    /// Fails when there is more now than there was.
    ///
    /// # Errors
    /// When there is.
    pub fn expect_none(&self) -> Result<()> {
        // Detached programs are freed after a grace period of the kernel's.
        let mut last = Self::now()?;
        for _ in 0..100 {
            if last.cgroups.is_subset(&self.cgroups) && last.programs.is_subset(&self.programs) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
            last = Self::now()?;
        }
        let cgroups: Vec<_> = last.cgroups.difference(&self.cgroups).collect();
        let programs: Vec<_> = last.programs.difference(&self.programs).collect();
        bail!("left behind: cgroups {cgroups:?}, programs {programs:?}");
    }
}

/// Fails when `dir` holds anything but the finished files of a recording.
///
/// # Errors
/// When it does, or when it cannot be read.
pub fn expect_whole_files(dir: &Utf8Path) -> Result<()> {
    const FILES: [&str; 6] = [
        "recording.json",
        "profile.json",
        "seccomp.json",
        "compose.yaml",
        "kubernetes.yaml",
        "networkpolicy.yaml",
    ];
    for entry in dir.read_dir_utf8()? {
        let entry = entry?;
        let name = entry.file_name();
        if !FILES.contains(&name) {
            bail!("`{dir}` holds `{name}`, which is no finished file");
        }
        if name.ends_with(".json") {
            let text = fs_err::read_to_string(entry.path())?;
            serde_json::from_str::<serde_json::Value>(&text)
                .with_context(|| format!("`{}` is not whole", entry.path()))?;
        }
    }
    Ok(())
}

fn cgroup_mounts() -> Result<Vec<Utf8PathBuf>> {
    let mounts = fs_err::read_to_string("/proc/self/mounts")?;
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    Ok(fields
        .filter(|fields| fields.get(2).is_some_and(|kind| kind.starts_with("cgroup")))
        .filter_map(|fields| fields.get(1).map(Utf8PathBuf::from))
        .collect())
}

fn collect(dir: &Utf8Path, depth: usize, found: &mut BTreeSet<Utf8PathBuf>) {
    let Ok(entries) = dir.read_dir_utf8() else { return };
    for entry in entries.flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if entry.file_name().starts_with("profiler") {
            found.insert(entry.path().to_owned());
        }
        if depth > 0 {
            collect(entry.path(), depth - 1, found);
        }
    }
}

/// The tracing programs in the kernel, by id and name.
fn programs() -> Result<BTreeSet<String>> {
    let listed = program::run(
        &mut program::command("bpftool", ["--json", "prog", "show"]),
        Duration::from_secs(20),
    )?
    .expect(0)?;
    let listed: serde_json::Value = serde_json::from_str(&listed.stdout)?;
    let tracing =
        |kind: &str| matches!(kind, "raw_tracepoint" | "tracing" | "tracepoint" | "kprobe" | "lsm");
    Ok(listed
        .as_array()
        .context("bpftool lists programs")?
        .iter()
        .filter(|program| program["type"].as_str().is_some_and(tracing))
        .map(|program| format!("{} {} {}", program["id"], program["type"], program["name"]))
        .collect())
}
