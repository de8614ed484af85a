//! What was seen, could be done, and is allowed by default, for people.

use std::io::{self, Write};

use crate::{
    model::{
        arch::Abi,
        bound::Maker,
        surface::{Call, Reachable, Surface},
    },
    report::{
        escape,
        style::{FAINT, HEADING, WARNING, paint},
        text,
    },
};

/// Entries of a list that are shown to people; programs get all.
const ENTRIES: usize = 40;
/// The longest path, and the longest name of a function.
const PATH: usize = 80;

/// `seen 61 / reachable 143 / allowed by Docker's default 292`.
#[must_use]
pub fn line(surface: &Surface) -> String {
    let seen = surface.seen.map(|seen| format!("seen {seen} / ")).unwrap_or_default();
    let any = if surface.unbounded.is_empty() { "" } else { ", and any" };
    let errors = match surface.on_error_paths {
        0 => String::new(),
        number => format!(" ({number} of the unseen on error paths only)"),
    };
    format!(
        "{seen}reachable {}{any}{errors} / allowed by Docker's default {}",
        surface.reachable, surface.allowed_by_default
    )
}

/// Writes it for programs, with nothing in it that acts on a terminal.
///
/// # Errors
/// When `out` takes no more.
pub fn json(surface: &Surface, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}", escape::json(&serde_json::to_string_pretty(surface)?))
}

/// Writes all of it for people.
///
/// # Errors
/// When `out` takes no more.
pub fn human(surface: &Surface, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}", paint(HEADING, &line(surface)))?;
    let programs: Vec<String> =
        surface.programs.iter().map(|path| escape::short(path, PATH)).collect();
    let of = format!("{} of {}", text::count(surface.files, "file"), programs.join(", "));
    writeln!(out, "  {}", paint(FAINT, &format!("{of} ({})", surface.chosen.join("; "))))?;
    if !surface.not_in_bound.is_empty() {
        let names: Vec<String> = surface.not_in_bound.iter().map(name).collect();
        let told = format!("seen, but not in the bound: {}", names.join(", "));
        writeln!(out, "\n{}", paint(WARNING, &told))?;
    }
    let seen = if surface.seen.is_some() { "reachable, never seen" } else { "reachable" };
    list(&format!("{seen}, denied by Docker's default"), &surface.unseen_and_denied, out)?;
    list(seen, &surface.unseen, out)?;
    if !surface.unbounded.is_empty() {
        writeln!(out, "\n{}", paint(WARNING, "any call may be made by"))?;
        for by in surface.unbounded.iter().take(ENTRIES) {
            writeln!(out, "  {}", maker(by))?;
        }
        more(surface.unbounded.len(), out)?;
    }
    if !surface.unread.is_empty() {
        writeln!(out, "\n{}", paint(WARNING, "not analysed: their calls are not in the bound"))?;
        for (name, why) in surface.unread.iter().take(ENTRIES) {
            writeln!(out, "  {}: {}", escape::short(name, PATH), escape::short(why, 2 * PATH))?;
        }
        more(surface.unread.len(), out)?;
    }
    let blind = "programs that are executed beside these, code made at run time and libraries of computed names are not in the bound: docs/bound.md";
    writeln!(out, "\n{} {blind}", paint(FAINT, "note:"))
}

fn list(heading: &str, entries: &[Reachable], out: &mut impl Write) -> io::Result<()> {
    if entries.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{}", paint(HEADING, &format!("{heading}: {}", entries.len())))?;
    let shown = &entries[..entries.len().min(ENTRIES)];
    let width = shown.iter().map(|entry| name(&entry.call).chars().count()).max().unwrap_or(0);
    for entry in shown {
        let by = entry.makers.first().map_or_else(|| "the kernel".to_owned(), maker);
        let others = match entry.functions.saturating_sub(1) {
            0 => String::new(),
            1 => " and 1 more".to_owned(),
            number => format!(" and {number} more"),
        };
        let errors = if entry.on_error_paths { ", on error paths only" } else { "" };
        let errors = paint(FAINT, errors);
        writeln!(out, "  {:width$}  {by}{others}{errors}", name(&entry.call))?;
    }
    more(entries.len(), out)
}

fn more(number: usize, out: &mut impl Write) -> io::Result<()> {
    match number.saturating_sub(ENTRIES) {
        0 => Ok(()),
        left => {
            let told = format!("and {left} more: --format json has them all");
            writeln!(out, "  {}", paint(FAINT, &told))
        }
    }
}

fn maker(maker: &Maker) -> String {
    format!("{} {}", escape::short(&maker.file, PATH), escape::short(&maker.function, PATH))
}

fn name(call: &Call) -> String {
    let name = escape::line(&call.name);
    match call.abi {
        abi @ (Abi::Ia32 | Abi::X32) => format!("{name} ({abi})"),
        _ => name.into_owned(),
    }
}
