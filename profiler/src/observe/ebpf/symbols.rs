//! Names of kernel functions, asked for once: `/proc/kallsyms` is long, and few addresses occur.
//!
//! The kernel shows its addresses to whoever may see them when the file is opened, so it is opened at the start.

use std::{
    collections::{BTreeSet, HashMap},
    io::{BufReader, Seek as _},
};

use fs_err as fs;
use profiler_common::evidence::CheckKey;

use crate::kernel::kallsyms;

/// What was asked for so far.
#[derive(Default)]
pub struct Symbols {
    known: HashMap<u64, String>,
    file: Option<fs::File>,
}

impl Symbols {
    /// Knows nothing yet.
    pub fn open() -> Self {
        Symbols { known: HashMap::new(), file: fs::File::open("/proc/kallsyms").ok() }
    }

    /// Looks up the callers of checks that are not known yet. Without CAP_SYSLOG the kernel hides
    /// its addresses; then nothing has a name, and every check counts as a real one.
    pub fn learn<'a>(&mut self, keys: impl IntoIterator<Item = &'a CheckKey>) {
        let unknown: BTreeSet<u64> = keys
            .into_iter()
            .flat_map(|key| key.callers)
            .filter(|address| *address != 0 && !self.known.contains_key(address))
            .collect();
        if unknown.is_empty() {
            return;
        }
        let from_the_start = self.file.as_mut().and_then(|file| file.rewind().ok().map(|()| file));
        let names = from_the_start
            .map(|file| kallsyms::names(BufReader::new(file), &unknown))
            .unwrap_or_default();
        for address in unknown {
            self.known.insert(address, names.get(&address).cloned().unwrap_or_default());
        }
    }

    /// The callers of a check, innermost first.
    pub fn callers(&self, key: &CheckKey) -> Vec<&str> {
        key.callers
            .iter()
            .take_while(|address| **address != 0)
            .map(|address| self.known.get(address).map_or("", String::as_str))
            .collect()
    }
}
