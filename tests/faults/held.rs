//! Which programs and maps of the kernel a process holds, as the kernel tells of its descriptors; and which nobody holds.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use aya::{maps::loaded_maps, programs::loaded_programs};
use camino::{Utf8Path, Utf8PathBuf};

/// What the kernel says of a descriptor, by key.
pub type Facts = BTreeMap<String, String>;

/// A kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Program,
    Map,
}

impl Kind {
    /// The line of `/proc/PID/fdinfo/N` with its id; links have one, too, with the program's.
    const fn key(self) -> &'static str {
        match self {
            Kind::Program => "prog_id",
            Kind::Map => "map_id",
        }
    }
}

/// The objects that a process holds, by id.
pub fn held_by(pid: u32, kind: Kind) -> BTreeMap<u32, Facts> {
    let dir = Utf8PathBuf::from(format!("/proc/{pid}/fdinfo"));
    let mut held: BTreeMap<u32, Facts> = BTreeMap::new();
    // the process, or a descriptor, may be gone by now
    for entry in dir.read_dir_utf8().into_iter().flatten().flatten() {
        let text = fs_err::read_to_string(entry.path()).unwrap_or_default();
        let facts: Facts = text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(key, value)| (key.to_owned(), value.trim().to_owned()))
            .collect();
        if let Some(id) = facts.get(kind.key()).and_then(|id| id.parse().ok()) {
            held.entry(id).or_default().extend(facts);
        }
    }
    held
}

/// The names of all objects in the kernel, by id. The kernel keeps 15 bytes of one.
pub fn names(kind: Kind) -> BTreeMap<u32, String> {
    // one that is gone by now is left out
    match kind {
        Kind::Program => loaded_programs()
            .flatten()
            .map(|program| (program.id(), program.name_as_str().unwrap_or_default().to_owned()))
            .collect(),
        Kind::Map => loaded_maps()
            .flatten()
            .map(|map| (map.id(), map.name_as_str().unwrap_or_default().to_owned()))
            .collect(),
    }
}

/// How many instructions a program has as it runs.
///
/// # Errors
/// When it is not loaded.
pub fn instructions(id: u32) -> Result<u64> {
    let mut programs = loaded_programs().flatten();
    let program = programs.find(|program| program.id() == id).context("the program is loaded")?;
    let bytes = program.size_translated().context("the kernel tells the program's size")?;
    Ok(u64::from(bytes) / 8)
}

/// The objects of these names that no process holds.
///
/// # Errors
/// When processes cannot be listed.
pub fn orphans(kind: Kind, of: &BTreeSet<String>) -> Result<Vec<String>> {
    // first the objects, then who holds them: what is made meanwhile is none, and what ends meanwhile is gone the next time
    let all = names(kind);
    let mut held = BTreeSet::new();
    for entry in Utf8Path::new("/proc").read_dir_utf8()? {
        if let Ok(pid) = entry?.file_name().parse() {
            held.extend(held_by(pid, kind).into_keys());
        }
    }
    let is_orphan = |(id, name): &(u32, String)| of.contains(name) && !held.contains(id);
    Ok(all.into_iter().filter(is_orphan).map(|(id, name)| format!("{id} {name}")).collect())
}

/// The names of what a process holds.
pub fn names_held_by(pid: u32, kind: Kind) -> BTreeSet<String> {
    let names = names(kind);
    held_by(pid, kind).keys().filter_map(|id| names.get(id).cloned()).collect()
}
