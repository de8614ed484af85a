//! Names of the values that arguments have.
//!
//! A name is in the table when all ABIs with a `long` of 64 bits that define it agree on its value. It is shown for
//! that value unless an ABI knows the value by other names only; then it is only read. So one table serves all ABIs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use anyhow::{Result, ensure};
use camino::Utf8Path;

use super::{
    calls::same_or_other_key,
    package::Headers,
    probe::{self, ABIS, Defined},
    run::{Generated, head, table},
    sets::{SETS, Set, Source},
};

/// What one ABI's headers say.
struct Answers {
    is_wide: bool,
    /// The names of each set, in order.
    order: Vec<Vec<String>>,
    values: BTreeMap<String, u32>,
}

/// The tables of constants.
///
/// # Errors
/// When a header is not there, the compiler fails, or a set is empty.
pub fn file(headers: &Headers, work: &Utf8Path) -> Result<Generated> {
    probe::prepare(headers, work)?;
    let mut answers = Vec::new();
    for abi in &ABIS {
        let defined = probe::defined(headers, work, abi)?;
        let order: Vec<Vec<String>> = SETS.iter().map(|set| members(set, &defined)).collect();
        let wanted: BTreeSet<&str> = order.iter().flatten().map(String::as_str).collect();
        let values = probe::values(headers, work, abi, &wanted)?;
        answers.push(Answers { is_wide: abi.is_wide, order, values });
    }

    let mut text = head(
        "Constants by the kind of argument that they are values of",
        "the headers of linux-libc-dev and linux-headers-common; ",
        &headers.version,
    );
    text.push_str("use crate::model::arguments::constants::Row;\n");
    let mut count = 0;
    for (index, set) in SETS.iter().enumerate() {
        let rows = rows(&answers, index);
        ensure!(!rows.is_empty(), "the headers have no constants for `{}`", set.name);
        count += rows.len();
        let _ = writeln!(
            text,
            "\n#[rustfmt::skip]\npub(in crate::model) static {}: &[Row] = &[",
            set.name
        );
        for (value, name, shown) in rows {
            let _ = writeln!(text, "    ({value:#x}, \"{name}\", {shown}),");
        }
        text.push_str("];\n");
    }
    Ok(Generated {
        path: table("constants"),
        holds: format!("{count} constants in {} sets", SETS.len()),
        text,
        // a name keeps its value
        agrees: |old, new| {
            let turned = |row: &str| {
                let mut parts = row.trim_start_matches('(').split(", ");
                let (value, name) =
                    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
                format!("{name}, {value}")
            };
            same_or_other_key(&turned(old), &turned(new), ',')
        },
    })
}

/// The names of a set that an ABI's headers define, each once.
fn members(set: &Set, defined: &[Defined]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for source in set.sources {
        for one in defined.iter().filter(|one| is_of(source, one)) {
            if !names.contains(&one.name) {
                names.push(one.name.clone());
            }
        }
    }
    names
}

fn is_of(source: &Source, one: &Defined) -> bool {
    let of_header = one.origin.iter().any(|origin| {
        origin == source.header
            || origin.strip_suffix(source.header).is_some_and(|rest| rest.ends_with('/'))
    });
    // BTRFS_IOC_X is _IOR(...), and FUSE_DEV_IOC_X, too; a request that is another's name is none here
    let is_request = || {
        ["_IO(", "_IOR(", "_IOW(", "_IOWR(", "_IOR_BAD(", "_IOW_BAD("]
            .iter()
            .any(|made| one.body.replace(' ', "").contains(made))
    };
    of_header
        && source.prefixes.iter().any(|prefix| one.name.starts_with(prefix))
        && !source.except.iter().any(|prefix| one.name.starts_with(prefix))
        && (!source.requests || is_request())
}

/// Value, name, and whether the name is shown for the value; by value, and in the order of definition.
fn rows(answers: &[Answers], set: usize) -> Vec<(u32, String, bool)> {
    let mut names: Vec<&String> = Vec::new();
    for one in answers {
        for name in one.order[set].iter().filter(|name| one.values.contains_key(*name)) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    let value_of = |name: &str| {
        let among = |wide: bool| -> BTreeSet<u32> {
            answers
                .iter()
                .filter(|one| one.is_wide == wide)
                .filter_map(|one| one.values.get(name).copied())
                .collect()
        };
        let wide = among(true);
        let values = if wide.is_empty() { among(false) } else { wide };
        if values.len() == 1 { values.first().copied() } else { None }
    };
    // what an ABI calls a value
    let called = |one: &Answers, value: u32| -> BTreeSet<String> {
        let names = one.order[set].iter().filter(|name| one.values.get(*name) == Some(&value));
        names.cloned().collect()
    };
    let mut rows: Vec<(u32, String, bool)> = Vec::new();
    for name in names {
        let Some(value) = value_of(name) else { continue };
        let taken = rows.iter().any(|(other, _, shown)| *other == value && *shown);
        let known = answers.iter().all(|one| {
            let called = called(one, value);
            called.is_empty() || called.contains(name)
        });
        rows.push((value, name.clone(), known && !taken));
    }
    rows.sort_by_key(|(value, ..)| *value);
    rows
}
