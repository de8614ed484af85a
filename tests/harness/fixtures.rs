//! Building the C programs of `fixtures/`: static but for one, so that they run in an empty image and make few calls of their own.

use std::{process::Command, sync::Mutex, time::Duration};

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};

use crate::harness::program;

/// One builder at a time: tests share the programs.
static BUILDING: Mutex<()> = Mutex::new(());

const FLAGS: [&str; 4] = ["-O2", "-Wall", "-Wextra", "-Werror"];

/// Flags by which a program differs from the rest.
fn own_flags(name: &str) -> &'static [&'static str] {
    match name {
        // No start-up code, and no call of strlen in place of a loop.
        "calls" => {
            &["-static", "-nostdlib", "-fno-stack-protector", "-fno-tree-loop-distribute-patterns"]
        }
        "real32" => &["-static", "-m32"],
        // Linked to whatever libc it is started with.
        "libc" => &[],
        // Linked to libc, and with frames that can be followed.
        "stack" => &["-fno-omit-frame-pointer", "-fno-optimize-sibling-calls"],
        _ => &["-static"],
    }
}

/// Builds fixture `name` into `target/fixtures` unless source and flags are those of the last build.
///
/// # Errors
/// When the compiler refuses it.
pub fn build(root: &Utf8Path, name: &str) -> Result<Utf8PathBuf> {
    let _one = BUILDING.lock();
    let source = root.join("tests/fixtures").join(format!("{name}.c"));
    let dir = root.join("target/fixtures");
    let (binary, stamp) = (dir.join(name), dir.join(format!("{name}.stamp")));
    let flags = [&FLAGS, own_flags(name)].concat();
    let made_of = format!("{flags:?}\n{}", fs_err::read_to_string(&source)?);
    if binary.exists() && fs_err::read_to_string(&stamp).is_ok_and(|last| last == made_of) {
        return Ok(binary);
    }
    fs_err::create_dir_all(&dir)?;
    compile("gcc", &flags, &source, &binary)?;
    fs_err::write(&stamp, made_of)?;
    Ok(binary)
}

/// Builds fixture `name` by another compiler, as `binary`.
///
/// # Errors
/// When the compiler refuses it.
pub fn build_with(
    compiler: &str,
    flags: &[&str],
    root: &Utf8Path,
    name: &str,
    binary: &Utf8Path,
) -> Result<()> {
    let source = root.join("tests/fixtures").join(format!("{name}.c"));
    compile(compiler, &[&["-O2"], flags].concat(), &source, binary)
}

fn compile(compiler: &str, flags: &[&str], source: &Utf8Path, binary: &Utf8Path) -> Result<()> {
    let mut compiling: Command = program::command(compiler, flags);
    compiling.arg("-o").arg(binary).arg(source);
    program::run(&mut compiling, Duration::from_secs(120))?
        .expect(0)
        .map(drop)
        .with_context(|| format!("{compiler} refuses `{source}`"))
}
