//! Which libseccomp knows which call: `profiles/libseccomp.json`, from the libraries themselves.
//!
//! A library holds the names that it resolves as strings, each by itself between two NULs; nothing of it is executed,
//! so it does not matter whether this machine could.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use camino::Utf8Path;

use super::{
    package::{Headers, mirror, output},
    run::Generated,
};

/// Debian's versions of `libseccomp2`, oldest first, and the SHA-256 of the package for amd64: one for each release
/// that a Debian has, and the newest. The names are the same for every architecture.
const PACKAGES: [(&str, &str); 4] = [
    ("2.5.1-1+deb11u1", "2617fc8b99dca0fa8ed466ee0f5fe087aa4e8413b88ca45d717290f4a0551e36"),
    ("2.5.4-1+deb12u1", "108fe67957ca7cf9ba51d801118a1b37d404bea7b6e365025cd00779e9eca38d"),
    ("2.6.0-2", "89d5138e05fb6a86b9afd8b54dc0fb4b14f4c27c05e6c5f767c2132bdf808531"),
    ("2.6.1-1+b2", "2d97c9f6ce55043caff1f6818ff9f85693528604f9d7538bd1ff61a492db8567"),
];
/// Where a mirror has them.
const POOL: &str = "pool/main/libs/libseccomp";
/// What apt itself downloads with; it verifies the sum.
const HELPER: &str = "/usr/lib/apt/apt-helper";
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// The mirror has a package no more.
#[derive(Debug)]
pub struct Gone(String);

impl std::fmt::Display for Gone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "the mirror has no `{}`\nhint: name a newer one in xtask/src/codegen/known.rs",
            self.0
        )
    }
}

impl std::error::Error for Gone {}

/// The file, for the calls of the tables.
///
/// # Errors
/// When a package cannot be had or holds no library.
pub fn file(headers: &Headers, work: &Utf8Path, calls: &BTreeSet<String>) -> Result<Generated> {
    let mut since: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut unknown: BTreeSet<&str> = calls.iter().map(String::as_str).collect();
    let mut newest = BTreeSet::new();
    for (version, sum) in PACKAGES {
        newest = strings(&library(work, version, sum)?);
        let release = version.split('-').next().unwrap_or(version);
        let known: BTreeSet<&str> =
            unknown.iter().copied().filter(|name| newest.contains(*name)).collect();
        unknown.retain(|name| !known.contains(name));
        since.insert(release, known);
    }
    let (oldest, known) = since.pop_first().context("no package")?;
    ensure!(known.len() > 400, "libseccomp {oldest} knows only {} calls", known.len());
    let other = others(headers)?;
    let other = other.iter().map(String::as_str);
    let other: BTreeSet<&str> =
        other.filter(|name| !calls.contains(*name) && newest.contains(*name)).collect();

    let versions = PACKAGES.map(|(version, _)| version).join(", ");
    let source = format!(
        "`cargo xtask codegen`: the names in Debian's libseccomp2 {versions}, of the calls of Linux {}; other: those of \
         architectures without a table",
        headers.version
    );
    let since = since.iter().map(|(version, names)| {
        format!("    {{\"version\": \"{version}\", \"names\": {}}}", list(names))
    });
    let since = since.collect::<Vec<_>>().join(",\n");
    let text = format!(
        "{{\n  \"format\": 1,\n  \"source\": \"{source}\",\n  \"oldest\": \"{oldest}\",\n  \"since\": [\n{since}\n  ],\n  \
         \"unknown\": {},\n  \"other\": {}\n}}\n",
        list(&unknown),
        list(&other)
    );
    let holds = format!("{} versions of libseccomp", PACKAGES.len());
    // what a newer kernel adds is unknown to all that were asked
    Ok(Generated { path: "profiles/libseccomp.json".into(), holds, text, agrees: |_, _| true })
}

fn list(names: &BTreeSet<&str>) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    format!("[{}]", names.join(", "))
}

/// The library of a package.
fn library(work: &Utf8Path, version: &str, sum: &str) -> Result<Vec<u8>> {
    let name = format!("libseccomp2_{version}_amd64");
    let unpacked = work.join("unpacked").join(&name);
    if !unpacked.exists() {
        let archive = work.join("download").join(format!("{name}.deb"));
        let mut command = Command::new(HELPER);
        command
            .args(["-oAPT::Sandbox::User=root", "-oAcquire::Retries=2", "download-file"])
            .arg(format!("{}/{POOL}/{name}.deb", mirror()?.trim_end_matches('/')))
            .arg(&archive)
            .arg(format!("SHA256:{sum}"));
        let answer = command.output().with_context(|| format!("could not run `{HELPER}`"))?;
        let said =
            String::from_utf8_lossy(&answer.stderr) + String::from_utf8_lossy(&answer.stdout);
        if said.contains("404") {
            return Err(Gone(name).into());
        }
        ensure!(answer.status.success(), "cannot download `{name}`: {said}");
        let partial = work.join("unpacked/partial");
        if partial.exists() {
            fs_err::remove_dir_all(&partial)?;
        }
        fs_err::create_dir_all(&partial)?;
        let mut command = Command::new("dpkg-deb");
        command.arg("-x").arg(&archive).arg(&partial);
        output(command)?;
        fs_err::rename(&partial, &unpacked)?;
        fs_err::remove_file(archive)?;
    }
    let directory = unpacked.join(LIBRARIES);
    let is_library =
        |entry: &camino::Utf8DirEntry| entry.file_name().starts_with("libseccomp.so.2.");
    let mut entries = directory.read_dir_utf8()?.filter_map(Result::ok);
    let library =
        entries.find(is_library).with_context(|| format!("`{directory}` has no library"))?;
    Ok(fs_err::read(library.path())?)
}

/// What stands between two NULs and could be a name.
fn strings(library: &[u8]) -> BTreeSet<String> {
    let is_name = |text: &&[u8]| {
        !text.is_empty() && text.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
    };
    let names = library.split(|byte| *byte == 0).filter(is_name);
    names.filter_map(|text| String::from_utf8(text.to_vec()).ok()).collect()
}

/// The names of the calls of every architecture that the headers are for.
fn others(headers: &Headers) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for architecture in headers.uapi().read_dir_utf8()? {
        let directory = architecture?.path().join("asm");
        if !directory.exists() {
            continue;
        }
        for entry in directory.read_dir_utf8()? {
            let entry = entry?;
            if !entry.file_name().starts_with("unistd") {
                continue;
            }
            for line in fs_err::read_to_string(entry.path())?.lines() {
                let Some((_, rest)) = line.split_once("#define __NR_") else { continue };
                names.extend(rest.split_whitespace().next().map(str::to_owned));
            }
        }
    }
    Ok(names)
}
