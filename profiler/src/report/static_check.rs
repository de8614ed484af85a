//! A compiled filter held against its file, for people and programs.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
};

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    model::{
        arch::Abi,
        arguments::call,
        bpf::CACHE_SINCE,
        static_check::{Cache, Cause, Difference, StaticCheck, Uncached},
    },
    report::{
        escape,
        style::{BAD, FAINT, GOOD, HEADING, paint},
        text,
    },
};

/// Differences that are shown to people; programs get all.
const SHOWN: usize = 20;

/// Names of calls that are shown in a line.
const IN_A_LINE: usize = 8;

/// The JSON form; more fields may come, none goes.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(
    title = "verify --static",
    description = "What `profiler verify --static --format json` prints."
)]
pub struct Document {
    /// The file, as it was named. Hostile text.
    pub file: String,
    /// The version of libseccomp that compiled it.
    pub libseccomp: String,
    /// One for each machine that the file is for.
    pub checks: Vec<Checked>,
}

/// What one machine would load.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Checked {
    /// The machine's own ABI.
    pub machine: Abi,
    /// Whether filter and file agree where it matters.
    pub holds: bool,
    /// What was found.
    #[serde(flatten)]
    pub check: StaticCheck,
}

/// Writes it for programs, with nothing in it that acts on a terminal.
///
/// # Errors
/// When `out` takes no more.
pub fn json(document: &Document, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}", escape::json(&serde_json::to_string_pretty(document)?))
}

/// Writes it for people.
///
/// # Errors
/// When `out` takes no more.
pub fn human(document: &Document, out: &mut impl Write) -> io::Result<()> {
    let file = escape::line(&document.file);
    for checked in &document.checks {
        let Checked { machine, check, .. } = checked;
        let failing = check.differences.iter().filter(|difference| difference.fails).count();
        let result = if checked.holds {
            paint(GOOD, "the filter does what the file says")
        } else {
            paint(BAD, &format!("{} from what the file says", differ(failing)))
        };
        writeln!(out, "{}: {result}", paint(HEADING, &format!("{file} on {machine}")))?;
        for difference in check.differences.iter().filter(|d| d.fails).take(SHOWN) {
            writeln!(out, "  {}", described(difference))?;
        }
        if let Some(more) = failing.checked_sub(SHOWN).filter(|more| *more > 0) {
            writeln!(out, "  and {more} more: --format json has them all")?;
        }
        field(
            out,
            "compared",
            &format!("{}, with and without a name", text::count(check.compared, "call")),
        )?;
        let size = format!(
            "{} by libseccomp {}; the longest path has {}",
            text::count(check.instructions, "instruction"),
            document.libseccomp,
            check.longest_path
        );
        field(out, "filter", &size)?;
        let hot: Vec<String> =
            check.hot.iter().map(|path| format!("{} {}", path.name, path.instructions)).collect();
        if !hot.is_empty() {
            field(out, "path lengths", &hot.join(", "))?;
        }
        for cache in &check.cache {
            let passing = cache.cached.len() + cache.uncached.len();
            if passing == 0 {
                continue;
            }
            let line = format!(
                "{} of {} that pass on {} need no filter since Linux {CACHE_SINCE}",
                cache.cached.len(),
                text::count(passing, "call"),
                cache.abi
            );
            field(out, "cache", &line)?;
            for group in by_reason(cache) {
                field(out, "", &group)?;
            }
        }
        let silent: BTreeSet<&str> = check
            .differences
            .iter()
            .filter(|difference| !difference.fails)
            .map(|difference| difference.name.as_str())
            .collect();
        if !silent.is_empty() {
            let names: Vec<&str> = silent.into_iter().collect();
            let line = format!(
                "denied with the default error, for libseccomp {} does not know them: {}",
                document.libseccomp,
                some_of(&names)
            );
            field(out, "unknown names", &paint(FAINT, &line))?;
        }
    }
    Ok(())
}

/// `clone, clone3: the filter looks at argument 0`.
fn by_reason(cache: &Cache) -> Vec<String> {
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for Uncached { name, because } in &cache.uncached {
        groups.entry(because).or_default().push(name);
    }
    groups.iter().map(|(because, names)| format!("not {}: {because}", some_of(names))).collect()
}

/// The first few, and the number of the others.
fn some_of(names: &[&str]) -> String {
    let left = names.len().saturating_sub(IN_A_LINE);
    let more = if left == 0 { String::new() } else { format!(" and {left} more") };
    let shown: Vec<&str> = names.iter().take(IN_A_LINE).copied().collect();
    format!("{}{more}", shown.join(", "))
}

fn differ(count: usize) -> String {
    if count == 1 { "1 call differs".to_owned() } else { format!("{count} calls differ") }
}

fn described(difference: &Difference) -> String {
    let Difference { abi, name, profile, filter, .. } = difference;
    let called = call::call(*abi, name, &difference.arguments);
    let why = match difference.cause {
        Cause::Compiled => "",
        Cause::UnknownName => "; libseccomp does not know the name",
        Cause::Unnamed => "; a seccomp file cannot name it",
    };
    format!("{called} on {abi}: the file says `{profile}`, the filter `{filter}`{why}")
}

fn field(out: &mut impl Write, name: &str, value: &str) -> io::Result<()> {
    writeln!(out, "  {name:<15} {value}")
}
