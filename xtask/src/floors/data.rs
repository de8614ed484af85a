//! The files below `profiles/floors`: reading, writing, comparing.
//!
//! Owns their layout, which `profiles/README.md` describes and `profiler/src/model/floor.rs` embeds.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::ErrorKind,
};

use anyhow::{Context as _, Result};
use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use crate::sh::root;

const DIR: &str = "profiles/floors";
/// The layout that is written.
const FORMAT: u32 = 2;

/// One measured version of one runtime.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    format: u32,
    pub runtime: String,
    pub version: String,
    pub source: String,
    rows: Vec<Row>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    no_new_privileges: bool,
    user: User,
    when: When,
    made: Made,
    syscalls: BTreeSet<String>,
}

/// What a row is about, in the order of the file.
pub type Key = (bool, User, When, Made);
/// All rows of a file.
pub type Rows = BTreeMap<Key, BTreeSet<String>>;

/// Who the process runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum User {
    /// Whoever it is.
    Any,
    /// In addition, when it is not root.
    NonRoot,
}

/// What the runtime does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// It starts the container.
    Start,
    /// It starts another process in it.
    Join,
}

/// How a call is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Made {
    /// Each time.
    Always,
    /// Some times, and then it must pass.
    Sometimes,
    /// Each time; the runtime goes on after ENOSYS, and does not after EPERM.
    Tried,
}

impl File {
    /// From measured rows; the empty ones among `sometimes` and `tried` are left out.
    pub fn new(runtime: &str, version: &str, source: String, rows: Rows) -> Self {
        let rows = rows
            .into_iter()
            .filter(|((.., made), syscalls)| *made == Made::Always || !syscalls.is_empty())
            .map(|((no_new_privileges, user, when, made), syscalls)| Row {
                no_new_privileges,
                user,
                when,
                made,
                syscalls,
            })
            .collect();
        Self { format: FORMAT, runtime: runtime.into(), version: version.into(), source, rows }
    }

    /// Its rows by what they are about.
    pub fn rows(&self) -> Rows {
        let key = |row: &Row| (row.no_new_privileges, row.user, row.when, row.made);
        self.rows.iter().map(|row| (key(row), row.syscalls.clone())).collect()
    }

    fn path(runtime: &str, version: &str) -> Utf8PathBuf {
        root().join(DIR).join(format!("{runtime}-{version}.json"))
    }

    /// The shipped one, if there is one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn shipped(runtime: &str, version: &str) -> Result<Option<Self>> {
        let path = Self::path(runtime, version);
        match fs_err::read_to_string(&path) {
            Ok(text) => {
                let file = serde_json::from_str(&text);
                Ok(Some(file.with_context(|| format!("bad `{path}`"))?))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The calls that any shipped version of `runtime` makes at times: what depends on timing is seen too seldom to be
    /// found anew for each.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn known_sometimes(runtime: &str) -> Result<BTreeSet<String>> {
        let mut names = BTreeSet::new();
        for entry in fs_err::read_dir(root().join(DIR))? {
            let path = entry?.path();
            let file = serde_json::from_str::<Self>(&fs_err::read_to_string(&path)?)
                .with_context(|| format!("bad `{}`", path.display()))?;
            let rows = file.rows.into_iter().filter(|row| row.made == Made::Sometimes);
            names.extend(rows.filter(|_| file.runtime == runtime).flat_map(|row| row.syscalls));
        }
        Ok(names)
    }

    /// Writes it to its place, and says where that is.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self) -> Result<Utf8PathBuf> {
        let path = Self::path(&self.runtime, &self.version);
        fs_err::write(&path, format!("{}\n", serde_json::to_string_pretty(self)?))?;
        Ok(path)
    }
}

/// How measured rows differ from the shipped ones, a line for each call.
///
/// A call that is shipped as made sometimes need not be seen again.
pub fn differences(shipped: &Rows, measured: &Rows) -> Vec<String> {
    let none = BTreeSet::new();
    let keys: BTreeSet<&Key> = shipped.keys().chain(measured.keys()).collect();
    let mut lines = Vec::new();
    for key in keys {
        let (no_new_privileges, user, when, made) = *key;
        let row = format!(
            "{}, {}, {}, {}",
            word(when),
            if no_new_privileges { "no-new-privileges" } else { "new privileges" },
            word(user),
            word(made),
        );
        let (old, new) = (shipped.get(key).unwrap_or(&none), measured.get(key).unwrap_or(&none));
        if made != Made::Sometimes {
            lines.extend(old.difference(new).map(|name| format!("- {name}  ({row}): not needed")));
        }
        lines.extend(new.difference(old).map(|name| format!("+ {name}  ({row}): not shipped")));
    }
    lines
}

/// The word that the file has for it.
fn word(value: impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(of: &[(Made, &[&str])]) -> Rows {
        of.iter()
            .map(|(made, names)| {
                let names = names.iter().map(|&name| name.to_owned()).collect();
                ((false, User::Any, When::Start, *made), names)
            })
            .collect()
    }

    #[test]
    fn a_difference_names_the_call_and_the_row() {
        let shipped = rows(&[(Made::Always, &["close", "read"]), (Made::Sometimes, &["futex"])]);
        let measured = rows(&[(Made::Always, &["close", "write"])]);
        assert_eq!(
            differences(&shipped, &measured),
            [
                "- read  (start, new privileges, any, always): not needed",
                "+ write  (start, new privileges, any, always): not shipped",
            ]
        );
        assert!(differences(&shipped, &shipped).is_empty());
    }

    #[test]
    fn a_file_comes_back_as_it_was_written() {
        let file = File::new("runc", "1", "s".into(), rows(&[(Made::Always, &["close"])]));
        let text = serde_json::to_string(&file).expect("JSON");
        assert_eq!(serde_json::from_str::<File>(&text).expect("its own"), file);
    }
}
