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
        "calls" | "swarm" => {
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
    let made_of = made_of(&flags, &source)?;
    if binary.exists() && fs_err::read_to_string(&stamp).is_ok_and(|last| last == made_of) {
        return Ok(binary);
    }
    fs_err::create_dir_all(&dir)?;
    compile("gcc", &flags, &source, &binary)?;
    fs_err::write(&stamp, made_of)?;
    Ok(binary)
}

/// Builds every fixture.
///
/// # Errors
/// When the compiler refuses one.
pub fn build_all(root: &Utf8Path) -> Result<()> {
    for entry in root.join("tests/fixtures").read_dir_utf8()? {
        if let Some(name) = entry?.file_name().strip_suffix(".c") {
            build(root, name)?;
        }
    }
    Ok(())
}

/// The fixtures that the tests need which also run on aarch64.
const OF_AARCH64: [&str; 5] = ["calls", "caps", "filtered", "forker", "refused"];

/// Programs of 32-bit ARM: name, and the fixture that it is.
const OF_ARM: [(&str, &str); 3] =
    [("calls32", "calls"), ("real32", "real32"), ("refused32", "refused")];

/// Builds the fixtures for aarch64 by cross compilers, into a directory beside the others. There they count as built.
///
/// # Errors
/// When a compiler refuses one.
pub fn build_for_aarch64(root: &Utf8Path) -> Result<()> {
    let dir = root.join("target/fixtures/aarch64");
    fs_err::create_dir_all(&dir)?;
    let of_aarch64 = OF_AARCH64.map(|name| ("aarch64-linux-gnu-gcc", name, name));
    let of_arm = OF_ARM.map(|(binary, name)| ("arm-linux-gnueabihf-gcc", binary, name));
    for (compiler, binary, name) in of_aarch64.into_iter().chain(of_arm) {
        let source = root.join("tests/fixtures").join(format!("{name}.c"));
        let flags = [&FLAGS, own_flags(name)].concat();
        // the compiler says it already
        let cross: Vec<&str> = flags.iter().copied().filter(|flag| *flag != "-m32").collect();
        compile(compiler, &cross, &source, &dir.join(binary))?;
        fs_err::write(dir.join(format!("{binary}.stamp")), made_of(&flags, &source)?)?;
    }
    Ok(())
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

/// What a build was made of.
fn made_of(flags: &[&str], source: &Utf8Path) -> Result<String> {
    Ok(format!("{flags:?}\n{}", fs_err::read_to_string(source)?))
}

fn compile(compiler: &str, flags: &[&str], source: &Utf8Path, binary: &Utf8Path) -> Result<()> {
    let mut compiling: Command = program::command(compiler, flags);
    compiling.arg("-o").arg(binary).arg(source);
    program::run(&mut compiling, Duration::from_secs(120))?
        .expect(0)
        .map(drop)
        .with_context(|| format!("{compiler} refuses `{source}`"))
}
