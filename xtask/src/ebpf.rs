//! The kernel side: building it from source, and checking that the committed object is the sources'.
//!
//! Stock Rust has no `core` for BPF, so the build uses Debian 12's rustc and its library sources,
//! and a bpf-linker built against Debian's LLVM. The object is committed, so nobody needs this who
//! does not change the kernel side.

use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use sha2::{Digest as _, Sha256};

use crate::{
    apt,
    sh::{cmd, root, say},
};

const PACKAGES: &[&str] =
    &["rustc-web", "rust-web-src", "llvm-22-dev", "libzstd-dev", "zlib1g-dev", "libpolly-22-dev"];
const LINKER_VERSION: &str = "0.13.0";
const RUSTC: &str = "/usr/bin/rustc";
const LLVM: &str = "/usr/lib/llvm-22";
const TARGET: &str = "bpfel-unknown-none";
/// The recorder's programs, and the empty ones that `cargo xtask bench` compares them with.
const OBJECTS: [&str; 2] = ["profiler", "floor"];

/// Arguments of `cargo xtask ebpf`.
#[derive(clap::Args)]
pub struct Args {
    /// Build nothing: fail when the committed object was not made from these sources.
    #[arg(long)]
    check: bool,
    /// With --check: build from source too, and fail when the bytes differ.
    #[arg(long, requires = "check")]
    rebuild: bool,
}

/// Builds the object, or checks it.
///
/// # Errors
/// When the toolchain cannot be had, the build fails, or a check finds a difference.
pub fn run(args: &Args) -> Result<()> {
    if !args.check {
        let built = build()?;
        for name in OBJECTS {
            fs::copy(built.join(name), object(name))?;
            say(format!("built {}", object(name)));
        }
        fs::write(sums(), current_sums()?)?;
        return Ok(());
    }
    let recorded = fs::read_to_string(sums())?;
    if recorded != current_sums()? {
        bail!(
            "the committed eBPF object was not made from these sources\n\
             hint: cargo xtask ebpf, then commit what it wrote to profiler-ebpf"
        );
    }
    if args.rebuild {
        let built = build()?;
        for name in OBJECTS {
            let (new, old) = (built.join(name), object(name));
            if fs::read(&new)? != fs::read(&old)? {
                bail!(
                    "a rebuild of the same sources gave another object: compare {new} with {old}"
                );
            }
        }
        say("ebpf: a rebuild gives the same bytes");
    }
    say("ebpf: the object is the sources'");
    Ok(())
}

/// Builds the objects, installing what that needs, and returns the directory they are in.
fn build() -> Result<Utf8PathBuf> {
    apt::ensure(PACKAGES)?;
    let linker = linker()?;
    let dir = root().join("profiler-ebpf");
    cmd("cargo").args(["fetch", "--locked"]).dir(&dir).run()?;
    let path = std::env::var("PATH").unwrap_or_default();
    let mut flags = vec![
        r#"--cfg=bpf_target_arch="x86_64""#.to_owned(),
        // by its types the verifier knows global functions, which it follows once
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
    ];
    // paths of this machine must not get into the object; the last that fits counts
    for (path, name) in sources()? {
        flags.push(format!("--remap-path-prefix={path}={name}"));
    }
    cmd("cargo")
        .args(["build", "--release", "--locked", "--target", TARGET, "-Z", "build-std=core"])
        .dir(&dir)
        .env("RUSTC", RUSTC)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTC_WRAPPER", wrapper()?)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env("CARGO_TARGET_DIR", root().join("target/ebpf"))
        .env("PATH", format!("{}:{path}", linker.parent().unwrap_or(&linker)))
        .run()?;
    let built = root().join("target/ebpf").join(TARGET).join("release");
    for name in OBJECTS {
        // what debuggers read, of which BTF was made
        cmd(format!("{LLVM}/bin/llvm-strip")).arg("--strip-debug").arg(built.join(name)).run()?;
    }
    Ok(built)
}

/// Where sources are, from the outermost on, and what the object calls it.
fn sources() -> Result<Vec<(Utf8PathBuf, &'static str)>> {
    let cargo = Utf8PathBuf::from(cargo_home()?);
    let mut sources = vec![(root().to_owned(), "."), (cargo.clone(), "cargo")];
    let registries = cargo.join("registry/src");
    if registries.exists() {
        for entry in registries.read_dir_utf8()? {
            sources.push((entry?.into_path(), "crates"));
        }
    }
    Ok(sources)
}

/// A compiler wrapper, because cargo's `-C metadata` is made from the checkout's path and gets into
/// symbol names: each crate's own name instead gives the same object everywhere.
fn wrapper() -> Result<Utf8PathBuf> {
    const SCRIPT: &str = r#"#!/bin/bash
rustc=$1
shift
name=
args=()
for arg; do
    [ "$last" = --crate-name ] && name=$arg
    [[ $arg == metadata=* ]] && arg=metadata=$name
    args+=("$arg")
    last=$arg
done
exec "$rustc" "${args[@]}"
"#;
    let path = root().join("target/ebpf/rustc-wrapper");
    fs::create_dir_all(path.parent().unwrap_or(&path))?;
    fs::write(&path, SCRIPT)?;
    fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

/// bpf-linker, built once into the target folder.
fn linker() -> Result<Utf8PathBuf> {
    let tools = root().join("target/tools");
    let linker = tools.join("bin/bpf-linker");
    if !linker.exists() {
        say(format!("ebpf: building bpf-linker {LINKER_VERSION} (two minutes)"));
        cmd("cargo")
            .args(["install", "bpf-linker", "--locked", "--version", LINKER_VERSION])
            .args(["--no-default-features", "--features", "llvm-22", "--root"])
            .arg(&tools)
            .env("LLVM_PREFIX", LLVM)
            .env("CARGO_TARGET_DIR", root().join("target/tools/build"))
            .run()?;
    }
    Ok(linker)
}

fn cargo_home() -> Result<String> {
    match std::env::var("CARGO_HOME") {
        Ok(home) => Ok(home),
        Err(_) => Ok(format!("{}/.cargo", std::env::var("HOME").context("HOME is not set")?)),
    }
}

fn object(name: &str) -> Utf8PathBuf {
    root().join("profiler-ebpf").join(format!("{name}.bpf.o"))
}

fn sums() -> Utf8PathBuf {
    root().join("profiler-ebpf/profiler.bpf.sha256")
}

/// `sha256sum` lines of every input and of the object, sorted by path.
fn current_sums() -> Result<String> {
    let mut files = vec![
        "profiler-common/Cargo.toml".into(),
        "profiler-ebpf/Cargo.lock".into(),
        "profiler-ebpf/Cargo.toml".into(),
        "profiler-ebpf/floor.bpf.o".into(),
        "profiler-ebpf/profiler.bpf.o".into(),
    ];
    for dir in ["profiler-common/src", "profiler-ebpf/src"] {
        for entry in root().join(dir).read_dir_utf8()? {
            files.push(Utf8Path::new(dir).join(entry?.file_name()));
        }
    }
    files.sort();
    let mut sums = String::new();
    for file in files {
        let digest = Sha256::digest(fs::read(root().join(&file))?);
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        sums.push_str(&format!("{hex}  {file}\n"));
    }
    Ok(sums)
}
