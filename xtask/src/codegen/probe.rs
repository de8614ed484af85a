//! What the C compiler makes of the headers: the names that they define, and the values of those.
//!
//! Nothing is linked or run. Values are operands of the assembly that gcc writes, so the compiler of this machine
//! answers for each ABI: with that ABI's headers, and a data model in which its types have the same sizes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};

use super::{
    package::{Headers, output},
    sets::{INCLUDES, KERNEL_HEADER, KERNEL_ONLY},
};
use crate::apt;

/// Marks an operand in the assembly.
const MARK: &str = "->";

/// The header that includes all others.
const ALL_HEADER: &str = "all.h";
/// The line of a source on which what is asked begins.
const BODY: usize = 4;

/// An ABI, and how an x86 compiler stands in for its own.
pub struct Abi {
    /// Its name.
    pub name: &'static str,
    triplet: &'static str,
    model: &'static [&'static str],
    /// `long` has 64 bits.
    pub is_wide: bool,
}

/// The ABIs of the model; x86_64 comes first: where there is a choice, its names count.
pub const ABIS: [Abi; 6] = [
    Abi { name: "x86_64", triplet: "x86_64-linux-gnu", model: &["-m64"], is_wide: true },
    Abi { name: "ia32", triplet: "i386-linux-gnu", model: &["-m32"], is_wide: false },
    Abi { name: "x32", triplet: "x86_64-linux-gnux32", model: &["-mx32"], is_wide: false },
    Abi { name: "aarch64", triplet: "aarch64-linux-gnu", model: &["-m64"], is_wide: true },
    // 64-bit members are aligned to 8 bytes, as on ARM
    Abi {
        name: "arm",
        triplet: "arm-linux-gnueabihf",
        model: &["-m32", "-malign-double"],
        is_wide: false,
    },
    Abi { name: "riscv64", triplet: "riscv64-linux-gnu", model: &["-m64"], is_wide: true },
];

/// A name that a header defines.
pub struct Defined {
    /// The name.
    pub name: String,
    /// The header's path, or `enum TAG` for a member of one.
    pub origin: Vec<String>,
    /// What it stands for; empty for an enum's member.
    pub body: String,
}

/// Writes what is included on behalf of all ABIs.
///
/// # Errors
/// When a header of the kernel is not there, or there is no compiler and none can be installed.
pub fn prepare(headers: &Headers, work: &Utf8Path) -> Result<()> {
    if Command::new("gcc").arg("--version").output().is_err() {
        apt::ensure(&["gcc"])?;
    }
    let mut text = String::new();
    let mut members = String::new();
    for (path, starts) in KERNEL_ONLY {
        let mut found = 0;
        for line in fs_err::read_to_string(headers.kernel.join(path))?.lines() {
            let Some(start) = starts.iter().find(|start| line.starts_with(**start)) else {
                continue;
            };
            found += 1;
            // comments may go on for lines
            let line = line.split("/*").next().unwrap_or(line);
            let into = if start.starts_with('#') { &mut text } else { &mut members };
            let _ = writeln!(into, "{line}");
        }
        ensure!(found >= starts.len(), "`{path}` has not what it had");
    }
    let _ = writeln!(text, "enum {{\n{members}}};\n#include <asm/fcntl.h>");
    text.push_str("enum { SOCK_CLOEXEC = O_CLOEXEC, SOCK_NONBLOCK = O_NONBLOCK };\n");
    fs_err::write(work.join(KERNEL_HEADER), text)?;
    let mut all = format!("#include \"{KERNEL_HEADER}\"\n");
    for include in INCLUDES {
        // not every architecture has virtual machines, and then the header is not for it
        let asm = include.replace("linux/", "asm/");
        let needs = if *include == "linux/kvm.h" { &asm } else { *include };
        let _ = writeln!(all, "#if __has_include(<{needs}>)\n#include <{include}>\n#endif");
    }
    fs_err::write(work.join(ALL_HEADER), all)?;
    Ok(())
}

/// What the headers define for an ABI, in order.
///
/// # Errors
/// When the preprocessor fails.
pub fn defined(headers: &Headers, work: &Utf8Path, abi: &Abi) -> Result<Vec<Defined>> {
    let source = write_source(work, abi, "")?;
    let text = output(compiler(headers, abi, &["-E", "-dD"], &source)?)?;
    let mut found: Vec<Defined> = Vec::new();
    let mut origin = String::new();
    let mut code = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# ") {
            if let Some(path) = rest.split('"').nth(1) {
                origin = path.to_owned();
            }
        } else if let Some(rest) = line.strip_prefix("#define ") {
            let (name, body) = rest.split_once(' ').unwrap_or((rest, ""));
            if !name.contains('(') {
                let body = body.to_owned();
                found.push(Defined { name: name.to_owned(), origin: vec![origin.clone()], body });
            }
        } else if let Some(name) = line.strip_prefix("#undef ") {
            found.retain(|one| one.name != name);
        } else {
            code.push_str(line);
            code.push('\n');
            if code.contains('}') {
                members(&code, &origin, &mut found);
                code.clear();
            } else if !code.contains("enum") {
                code.clear();
            }
        }
    }
    Ok(found)
}

/// The members of the enums in `code`.
fn members(code: &str, origin: &str, found: &mut Vec<Defined>) {
    for part in code.split("enum").skip(1) {
        let Some((tag, rest)) = part.split_once('{') else { continue };
        let Some((body, _)) = rest.split_once('}') else { continue };
        for member in body.split(',') {
            let name = member.split('=').next().unwrap_or_default().trim();
            if !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            {
                let origin = vec![origin.to_owned(), format!("enum {}", tag.trim())];
                found.push(Defined { name: name.to_owned(), origin, body: String::new() });
            }
        }
    }
}

/// The low 32 bits of the value of each name that is a constant.
///
/// # Errors
/// When the compiler fails for another reason than a name.
pub fn values(
    headers: &Headers,
    work: &Utf8Path,
    abi: &Abi,
    names: &BTreeSet<&str>,
) -> Result<BTreeMap<String, u32>> {
    let mut names: Vec<&str> = names.iter().copied().collect();
    loop {
        let mut body = String::new();
        for name in &names {
            let _ = writeln!(body, "asm volatile(\"{MARK}{name} %c0\" :: \"i\"((int)({name})));");
        }
        let source = write_source(work, abi, &body)?;
        let mut command =
            compiler(headers, abi, &["-S", "-O1", "-w", "-fmax-errors=0", "-o", "-"], &source)?;
        let answer = command.output().context("could not run `gcc`")?;
        if answer.status.success() {
            let text = String::from_utf8_lossy(&answer.stdout).into_owned();
            let operand = |line: &str| {
                let (name, value) = line.split_once(MARK)?.1.split_once(' ')?;
                let value: i64 = value.trim().parse().ok()?;
                // the low bits: a set sign is a set bit 31
                Some((name.to_owned(), value as u32))
            };
            return Ok(text.lines().filter_map(operand).collect());
        }
        // a macro that names a type of another header, or that is no number
        let errors = String::from_utf8_lossy(&answer.stderr).into_owned();
        let line = |text: &str| {
            let (at, _) =
                text.strip_prefix(source.as_str())?.strip_prefix(':')?.split_once(": error")?;
            at.split(':').next()?.parse::<usize>().ok()?.checked_sub(BODY)
        };
        let bad: BTreeSet<usize> = errors.lines().filter_map(line).collect();
        ensure!(!bad.is_empty(), "gcc failed for {}: {errors}", abi.name);
        names = names
            .iter()
            .enumerate()
            .filter(|(index, _)| !bad.contains(index))
            .map(|(_, name)| *name)
            .collect();
    }
}

/// A file that includes everything, with `body` in a function. The body begins on line [`BODY`].
fn write_source(work: &Utf8Path, abi: &Abi, body: &str) -> Result<Utf8PathBuf> {
    let text = format!("#include \"{ALL_HEADER}\"\nvoid probe(void)\n{{\n{body}}}\n");
    let path = work.join(format!("probe-{}.c", abi.name));
    fs_err::write(&path, text)?;
    Ok(path)
}

fn compiler(headers: &Headers, abi: &Abi, what: &[&str], source: &Utf8Path) -> Result<Command> {
    let mut command = Command::new("gcc");
    command.arg("-print-file-name=include");
    let own = output(command)?;
    let mut command = Command::new("gcc");
    // the compiler's own stdint.h and stddef.h stay; libc's headers do not
    command.args(abi.model).args(["-nostdinc", "-ffreestanding", "-std=gnu11"]).args(what);
    command.arg("-isystem").arg(own.trim());
    for include in headers.includes(abi.triplet) {
        command.arg("-isystem").arg(include);
    }
    command.arg(source);
    Ok(command)
}
