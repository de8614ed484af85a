//! Names of the arguments of each call, from the prototypes that the kernel declares.
//!
//! Owns the reading of `SYSCALL`'s prototypes. Where a prototype gives types and no names, or is not in the headers,
//! [`supplement`](super::supplement) has the names; a call that neither knows is absent from the table.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use anyhow::{Result, bail, ensure};

use super::{
    package::Headers,
    run::{Generated, head, table},
    supplement::{ALIASES, DEFINED},
};

/// Where prototypes are, in the order in which they count.
const FILES: [&str; 5] = [
    "include/linux/syscalls.h",
    "include/asm-generic/syscalls.h",
    "arch/x86/include/asm/syscalls.h",
    "arch/riscv/include/asm/syscall.h",
    "arch/arm64/include/asm/syscall.h",
];

/// What a word of a parameter is, if not its name.
const TYPES: [&str; 14] = [
    "const", "struct", "enum", "union", "unsigned", "signed", "int", "long", "short", "char",
    "__user", "size_t", "u32", "loff_t",
];

/// Names of types that are addresses.
const POINTERS: [&str; 3] = ["__sighandler_t", "cap_user_header_t", "cap_user_data_t"];
/// What has 64 bits everywhere.
const DOUBLE: [&str; 3] = ["loff_t", "u64", "__u64"];
/// What has the size of a `long`.
const WIDE: [&str; 6] = ["long", "size_t", "off_t", "aio_context_t", "uintptr_t", "old_sigset_t"];
/// What has a sign; of the other types an `int` is signed unless `unsigned` stands before it.
const SIGNED: [&str; 13] = [
    "int",
    "long",
    "short",
    "pid_t",
    "key_t",
    "key_serial_t",
    "mqd_t",
    "timer_t",
    "clockid_t",
    "off_t",
    "loff_t",
    "__s32",
    "rwf_t",
];

/// One parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Parameter {
    name: Option<String>,
    kind: char,
}

/// The table of argument names.
///
/// # Errors
/// When a header is not there, or the supplement contradicts a prototype.
pub fn file(headers: &Headers, calls: &BTreeSet<String>) -> Result<Generated> {
    // all of a call: the order of clone's arguments depends on the kernel's configuration
    let mut declared: BTreeMap<String, Vec<Vec<Parameter>>> = BTreeMap::new();
    for path in FILES {
        let path = headers.kernel.join(path);
        if !path.exists() {
            continue;
        }
        for (name, parameters) in prototypes(&fs_err::read_to_string(&path)?) {
            declared.entry(name).or_default().push(parameters);
        }
    }
    ensure!(declared.len() > 300, "only {} prototypes: the headers have moved", declared.len());

    let mut text = head(
        "Arguments of the syscalls",
        "include/linux/syscalls.h and its like of linux-headers-common, the names of SYSCALL_DEFINE where those have none; ",
        &headers.version,
    );
    text.push_str(
        "/// Name of the call, names of its arguments, and what each is, see `names::Kind`. By name.\n\
         #[rustfmt::skip]\n\
         pub(in crate::model) static ROWS: &[(&str, &[&str], &str)] = &[\n",
    );
    let mut rows = 0;
    for call in calls {
        let entry = ALIASES
            .iter()
            .find(|(alias, _)| alias == call)
            .map_or(call.as_str(), |(_, entry)| entry);
        let all = declared.get(entry).map_or(&[][..], Vec::as_slice);
        // of several the last: those before are for other machines
        let named = all.iter().rfind(|list| list.iter().all(|one| one.name.is_some()));
        let supplied = DEFINED.iter().find(|(name, ..)| *name == entry);
        let kinds = |list: &[Parameter]| list.iter().map(|one| one.kind).collect::<String>();
        let (names, kinds): (Vec<&str>, String) = match (named, supplied) {
            (Some(list), None) => {
                (list.iter().filter_map(|one| one.name.as_deref()).collect(), kinds(list))
            }
            (Some(_), Some(_)) => {
                bail!("the headers name the arguments of `{entry}`: it needs no supplement")
            }
            (None, Some((_, names, supplied))) => {
                ensure!(
                    names.len() == supplied.len()
                        && (all.is_empty() || all.iter().any(|list| kinds(list) == *supplied)),
                    "the supplement says `{supplied}` of `{entry}`, and the headers {all:?}"
                );
                (names.to_vec(), (*supplied).to_owned())
            }
            (None, None) if all.is_empty() => continue,
            (None, None) => bail!(
                "the headers name no arguments of `{entry}`\nhint: add it to xtask/src/codegen/supplement.rs"
            ),
        };
        rows += 1;
        let _ = writeln!(text, "    (\"{call}\", &{names:?}, \"{kinds}\"),");
    }
    text.push_str("];\n");
    Ok(Generated {
        path: table("prototypes"),
        holds: format!("arguments of {rows} calls"),
        text,
        // parameters are renamed now and then; their number and nature stay
        agrees: |old, new| {
            let call = |row: &str| row.split(',').next().map(str::to_owned);
            let kinds = |row: &str| row.rsplit('"').nth(1).map(str::to_owned);
            call(old) != call(new) || kinds(old) == kinds(new)
        },
    })
}

/// Name without `sys_` and parameters of each `asmlinkage long sys_*(...)`.
fn prototypes(text: &str) -> Vec<(String, Vec<Parameter>)> {
    let text = without_comments(text);
    let mut found = Vec::new();
    for statement in text.split(';') {
        let Some((_, declaration)) = statement.rsplit_once("asmlinkage") else { continue };
        let Some((before, parameters)) = declaration.split_once('(') else { continue };
        let Some(name) =
            before.split_whitespace().last().and_then(|word| word.strip_prefix("sys_"))
        else {
            continue;
        };
        let Some(parameters) = parameters.trim_end().strip_suffix(')') else { continue };
        let parameters = match parameters.trim() {
            "void" | "" => Vec::new(),
            list => list.split(',').map(parameter).collect(),
        };
        // what takes the saved registers takes no arguments
        let registers = |one: &Parameter| one.name.as_deref() == Some("regs");
        let parameters = if parameters.iter().any(registers) { Vec::new() } else { parameters };
        found.push((name.to_owned(), parameters));
    }
    found
}

fn parameter(text: &str) -> Parameter {
    let spaced = text.replace('*', " * ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let is_pointer = words.contains(&"*");
    let names: Vec<&&str> =
        words.iter().filter(|word| **word != "*" && !TYPES.contains(*word)).collect();
    // `struct pollfd *`: the one word that is left names the type; `aio_context_t`, too
    let tagged = words.iter().any(|word| ["struct", "enum", "union"].contains(word));
    let plain = words.iter().any(|word| TYPES[4..].contains(word) && *word != "__user");
    let types = usize::from(tagged || !plain);
    let name =
        if names.len() > types { names.last().map(|name| (**name).to_owned()) } else { None };
    let has = |known: &[&str]| words.iter().any(|word| known.contains(word));
    let kind = if is_pointer || has(&POINTERS) {
        'p'
    } else {
        let is_signed = has(&SIGNED) && !has(&["unsigned"]);
        match (has(&DOUBLE), has(&WIDE), is_signed) {
            (true, _, true) => 'o',
            (true, _, false) => 'q',
            (_, true, true) => 'l',
            (_, true, false) => 'w',
            (_, false, true) => 'i',
            (_, false, false) => 'u',
        }
    };
    Parameter { name, kind }
}

fn without_comments(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("/*") {
        out.push_str(before);
        rest = after.split_once("*/").map_or("", |(_, rest)| rest);
    }
    out.push_str(rest);
    let lines = out.lines().filter(|line| !line.trim_start().starts_with('#'));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_kinds_are_read() {
        let text = "/* a; b */\n#if X\nasmlinkage long sys_a(unsigned int fd, const char __user *path,\n\tlong n);\n#endif\n\
                    asmlinkage long sys_b(int, struct sockaddr __user *, size_t);\nasmlinkage long sys_c(void);\n\
                    asmlinkage long sys_d(aio_context_t, unsigned dev, loff_t at);";
        let found: Vec<String> = prototypes(text)
            .iter()
            .map(|(name, list)| {
                let list: Vec<String> = list
                    .iter()
                    .map(|one| format!("{}:{}", one.name.as_deref().unwrap_or("-"), one.kind))
                    .collect();
                format!("{name} {}", list.join(" "))
            })
            .collect();
        assert_eq!(found, ["a fd:u path:p n:l", "b -:i -:p -:w", "c ", "d -:w dev:u at:o"]);
    }
}
