//! Numbers and names of the calls of each ABI, from the headers that user space is given.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use anyhow::{Context as _, Result, bail, ensure};
use camino::Utf8Path;

use super::{
    package::Headers,
    run::{self, Generated, head},
};

/// One generated file: its stem, and the headers with the macro prefix and the base of each.
struct Table {
    stem: &'static str,
    abi: &'static str,
    headers: &'static [Header],
}

struct Header {
    path: &'static str,
    prefix: &'static str,
    base: u32,
}

const fn header(path: &'static str) -> Header {
    Header { path, prefix: "__NR_", base: 0 }
}

const TABLES: [Table; 6] = [
    Table { stem: "x86_64", abi: "x86_64", headers: &[header("x86/asm/unistd_64.h")] },
    Table { stem: "ia32", abi: "ia32", headers: &[header("x86/asm/unistd_32.h")] },
    Table { stem: "x32", abi: "x32, without bit 30", headers: &[header("x86/asm/unistd_x32.h")] },
    Table { stem: "aarch64", abi: "aarch64", headers: &[header("arm64/asm/unistd_64.h")] },
    Table {
        stem: "arm",
        abi: "arm (EABI)",
        headers: &[
            header("arm/asm/unistd-eabi.h"),
            // The private calls of ARM: their numbers are offsets from __ARM_NR_BASE.
            Header { path: "arm/asm/unistd.h", prefix: "__ARM_NR_", base: 0x0f_0000 },
        ],
    },
    Table { stem: "riscv64", abi: "riscv64", headers: &[header("riscv/asm/unistd_64.h")] },
];

/// The table of each ABI.
///
/// # Errors
/// When a header is not there or not as expected.
pub fn files(headers: &Headers) -> Result<Vec<Generated>> {
    TABLES
        .iter()
        .map(|table| {
            let rows = read_rows(&headers.uapi(), table)?;
            Ok(Generated {
                path: run::table(table.stem),
                holds: format!("{} calls", rows.len()),
                text: file(table, &rows, &headers.version),
                agrees: |old, new| same_or_other_key(old, new, ','),
            })
        })
        .collect()
}

/// The names of the calls of all ABIs.
///
/// # Errors
/// As [`files`].
pub fn names(headers: &Headers) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for table in &TABLES {
        names.extend(read_rows(&headers.uapi(), table)?.into_values());
    }
    Ok(names)
}

/// Whether two rows are the same or begin differently, up to the first `end`.
pub fn same_or_other_key(old: &str, new: &str, end: char) -> bool {
    let key = |row: &str| row.split(end).next().map(str::to_owned);
    old == new || key(old) != key(new)
}

/// Number and name of every call in the headers of a table.
fn read_rows(headers: &Utf8Path, table: &Table) -> Result<BTreeMap<u32, String>> {
    let mut rows = BTreeMap::new();
    for header in table.headers {
        let path = headers.join(header.path);
        for line in fs_err::read_to_string(&path)?.lines() {
            let Some(rest) = line.strip_prefix("#define ") else { continue };
            let Some(rest) = rest.trim_start().strip_prefix(header.prefix) else { continue };
            let (name, value) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            // Bases and counts are upper case or the base of the private calls; calls never are.
            if name.bytes().any(|byte| byte.is_ascii_uppercase()) || name == "syscalls" {
                continue;
            }
            // `123`, `(__X32_SYSCALL_BIT + 123)`, `(__ARM_NR_BASE+1)`
            let digits = value.trim().trim_end_matches(')');
            let digits = digits.rsplit(['+', ' ', '(']).next().unwrap_or_default();
            let number: u32 =
                digits.parse().with_context(|| format!("`{path}`: no number in `{line}`"))?;
            if let Some(other) = rows.insert(header.base + number, name.to_owned()) {
                bail!("`{path}`: `{name}` and `{other}` share number {number}");
            }
        }
    }
    ensure!(
        rows.len() > 300,
        "only {} calls for `{}`: the headers have moved",
        rows.len(),
        table.stem
    );
    Ok(rows)
}

fn file(table: &Table, rows: &BTreeMap<u32, String>, version: &str) -> String {
    let mut text = head(&format!("The syscalls of {}", table.abi), "", version);
    text.push_str(
        "/// Number and name, by number.\n#[rustfmt::skip]\n\
         pub(in crate::model) static ROWS: &[(u32, &str)] = &[\n",
    );
    for (number, name) in rows {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "    ({number}, \"{name}\"),");
    }
    text.push_str("];\n");
    text
}
