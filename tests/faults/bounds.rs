//! What docs/limits.md states is so: sizes of programs and tables as they are in the kernel.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};

use super::{
    NEEDS,
    held::{Facts, Kind, held_by, instructions, names},
};
use crate::harness::{
    machine::{Machine, Need},
    record::Record,
    test::Test,
};

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    let strace = [NEEDS.as_slice(), &[Need::Tool("strace", "strace")]].concat();
    vec![
        Test::new("faults::programs_and_tables_are_as_stated", &NEEDS, as_stated),
        Test::new("faults::the_kernels_types_are_read_once", &strace, types_read_once),
    ]
}

/// They take megabytes, and milliseconds before the recorder is armed.
fn types_read_once(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let trace = scratch.join("trace");
    Record::new(machine, scratch.join("out"))
        .workload(["true"])
        .under(["strace", "-f", "-z", "-qq", "-e", "trace=openat", "-o", trace.as_str()])
        .run()?
        .expect(0)?;
    let text = fs_err::read_to_string(&trace)?;
    let opened = text.lines().filter(|line| line.contains("\"/sys/kernel/btf/vmlinux\"")).count();
    ensure!(opened == 1, "the kernel's types were opened {opened} times:\n{text}");
    Ok(())
}

/// Tables that are small unless an option wants them.
const OPTIONAL: [&str; 4] = ["STACKS", "COUNTS", "FILTERS", "CHECKED"];

/// The memory that the page states.
#[derive(Debug)]
pub struct Memory {
    pub resident_mib: u64,
    pub maps_mib: u64,
}

impl Memory {
    /// Reads the page.
    ///
    /// # Errors
    /// When it states none.
    pub fn stated(machine: &Machine) -> Result<Self> {
        let rows = Rows::read(machine)?;
        Ok(Self {
            resident_mib: rows.number("the recorder's resident memory", 0)?,
            maps_mib: rows.number("all tables together", 0)?,
        })
    }
}

/// The rows of the page's tables, by their first cell.
struct Rows(BTreeMap<String, Vec<String>>);

impl Rows {
    fn read(machine: &Machine) -> Result<Self> {
        let text = fs_err::read_to_string(machine.root.join("docs/limits.md"))?;
        let rows = text.lines().filter_map(|line| line.strip_prefix('|')).filter_map(|row| {
            let mut cells = row.split('|').map(|cell| cell.trim().trim_matches('`').to_owned());
            Some((cells.next()?, cells.collect()))
        });
        Ok(Self(rows.collect()))
    }

    /// The number that a cell begins with.
    fn number(&self, name: &str, cell: usize) -> Result<u64> {
        let cells = self.0.get(name).with_context(|| format!("docs/limits.md has no `{name}`"))?;
        let number = cells.get(cell).and_then(|cell| cell.split(' ').next());
        let number = number.and_then(|number| number.replace(',', "").parse().ok());
        number.with_context(|| format!("docs/limits.md has no number for `{name}`: {cells:?}"))
    }
}

fn as_stated(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let rows = Rows::read(machine)?;
    let session = Record::new(machine, scratch.join("out"))
        .args(["--stacks", "--counts", "--attach-twins=both"])
        .workload(["/bin/sleep", "1000"])
        .start()?;
    let pid = session.running.pid();
    let of_kernel = [Kind::Program, Kind::Map].map(names);
    let [programs, maps] = [Kind::Program, Kind::Map].map(|kind| held_by(pid, kind));
    let mut wrong = Vec::new();
    ensure!(programs.len() >= 13 && maps.len() >= 20, "{programs:?} {maps:?}");
    for (id, facts) in &programs {
        let name = of_kernel[0].get(id).context("a program has a name")?;
        let measured = [Some(instructions(*id)?), number(facts, "verified_insns")];
        for (cell, measured) in measured.into_iter().enumerate() {
            let (Some(measured), stated) = (measured, rows.number(name, cell)?) else { continue };
            if measured > stated {
                wrong.push(format!("program `{name}`: {measured}, not at most {stated}"));
            }
        }
    }
    for (id, facts) in &maps {
        let name = of_kernel[1].get(id).context("a map has a name")?;
        if name.contains('.') {
            continue; // the object's constants
        }
        let entries = number(facts, "max_entries").context("entries")?;
        let bytes: u64 =
            ["key_size", "value_size"].iter().filter_map(|key| number(facts, key)).sum();
        let measured = [entries, std::cmp::max(bytes, 1)];
        let stated = [0, 1].map(|cell| rows.number(name, cell));
        let [stated_entries, stated_bytes] = stated;
        let stated = [stated_entries?, stated_bytes?];
        let is_small = OPTIONAL.contains(&name.as_str()) && entries == 1;
        if measured != stated && !(is_small && measured[1] == stated[1]) {
            wrong.push(format!("table `{name}`: {measured:?}, stated {stated:?}"));
        }
    }
    session.interrupt()?;
    ensure!(wrong.is_empty(), "docs/limits.md is wrong:\n{}", wrong.join("\n"));
    Ok(())
}

fn number(facts: &Facts, key: &str) -> Option<u64> {
    facts.get(key)?.parse().ok()
}
