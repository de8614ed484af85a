//! Generates the syscall tables of `profiler/src/model/tables` from the kernel's own headers.
//!
//! Owns those files and nothing else. The headers come out of Debian's `linux-libc-dev`, which
//! carries every architecture; the package is downloaded from the mirror this machine already uses
//! and unpacked under `target/`. Nothing is installed and no apt state of the system is touched.

use std::{collections::BTreeMap, fmt::Write as _, process::Command};

use anyhow::{Context as _, Result, bail, ensure};
use camino::{Utf8Path, Utf8PathBuf};

/// The package that holds the headers of all architectures since Debian 13.
const PACKAGE: &str = "linux-libc-dev";
/// Suites that are asked for it; the newest version wins.
const SUITES: [&str; 2] = ["trixie-backports", "sid"];
/// What separates the version from the rest of a table's first line.
const VERSION_MARK: &str = "Debian linux-libc-dev ";

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

/// Writes the tables, or with `check` compares them with what the headers say.
///
/// The check uses the package version that the committed tables name. When the mirror has dropped it,
/// the newest is used, and every committed row must still be in it: the kernel never renumbers a call.
///
/// # Errors
/// When apt, dpkg or the headers fail, or when a committed table is not what they yield.
pub fn run(check: bool) -> Result<()> {
    let root = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no workspace root")?;
    let directory = root.join("profiler/src/model/tables");
    let pinned = if check { Some(pinned_version(&directory)?) } else { None };
    let package = fetch(&root.join("target/codegen"), pinned.as_deref())?;
    let exact = pinned.as_deref().is_none_or(|version| version == package.version);

    let mut differences = Vec::new();
    for table in &TABLES {
        let path = directory.join(format!("{}.rs", table.stem));
        let rows = read_rows(&package.headers, table)?;
        let text = file(table, &rows, &package.version);
        if !check {
            fs_err::write(&path, text)?;
            println!("wrote {path}: {} calls", rows.len());
            continue;
        }
        let committed = fs_err::read_to_string(&path)?;
        let same = if exact { committed == text } else { is_subset(&committed, &rows) };
        if !same {
            differences.push(path);
        }
    }
    if !differences.is_empty() {
        let list =
            differences.iter().map(|path| format!("`{path}`")).collect::<Vec<_>>().join(", ");
        bail!("{list} differ from the headers of {}\nhint: cargo xtask codegen", package.version);
    }
    if check {
        println!("tables agree with {PACKAGE} {}", package.version);
    }
    Ok(())
}

/// The package version named by the committed x86_64 table.
fn pinned_version(directory: &Utf8Path) -> Result<String> {
    let path = directory.join("x86_64.rs");
    let text = fs_err::read_to_string(&path)?;
    let version = text
        .lines()
        .find_map(|line| line.split_once(VERSION_MARK))
        .map(|(_, rest)| rest.trim_end_matches(['.', ')']).to_owned());
    version.with_context(|| format!("`{path}` names no package version\nhint: cargo xtask codegen"))
}

struct Package {
    version: String,
    /// `usr/lib/linux/uapi` of the unpacked package.
    headers: Utf8PathBuf,
}

/// Downloads and unpacks `wanted`, or the newest version when it is `None` or no longer offered.
fn fetch(work: &Utf8Path, wanted: Option<&str>) -> Result<Package> {
    for directory in ["lists/partial", "archives/partial", "download"] {
        fs_err::create_dir_all(work.join(directory))?;
    }
    let mirror = mirror()?;
    let sources = SUITES.map(|suite| {
        format!(
            "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {mirror} {suite} main\n"
        )
    });
    fs_err::write(work.join("sources.list"), sources.concat())?;

    let apt = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command
            .current_dir(work.join("download"))
            .arg(format!("-oDir::Etc::sourcelist={work}/sources.list"))
            .args(["-oDir::Etc::sourceparts=-", "-oAPT::Sandbox::User=root"])
            .arg(format!("-oDir::State::lists={work}/lists"))
            .arg(format!("-oDir::Cache::archives={work}/archives"))
            .args([
                "-oDir::Cache::pkgcache=",
                "-oDir::Cache::srcpkgcache=",
                "-oAcquire::Languages=none",
            ])
            .args(arguments);
        output(command)
    };
    apt("apt-get", &["-qq", "update"])?;
    // `linux-libc-dev | 7.3.4-1 | URL suite/main amd64 Packages`
    let offered = apt("apt-cache", &["madison", PACKAGE])?;
    let versions =
        offered.lines().filter_map(|line| Some(line.split('|').nth(1)?.trim().to_owned()));
    let mut newest: Option<String> = None;
    let mut found = None;
    for version in versions {
        if wanted == Some(version.as_str()) {
            found = Some(version.clone());
        }
        let newer = match &newest {
            None => true,
            Some(best) => Command::new("dpkg")
                .args(["--compare-versions", &version, "gt", best])
                .status()
                .context("could not run `dpkg`")?
                .success(),
        };
        if newer {
            newest = Some(version);
        }
    }
    let version = found.or(newest).with_context(|| format!("the mirror offers no `{PACKAGE}`"))?;

    let unpacked = work.join("unpacked").join(version.replace('~', "_"));
    let headers = unpacked.join("usr/lib/linux/uapi");
    if !headers.exists() {
        apt("apt-get", &["-qq", "download", &format!("{PACKAGE}={version}")])?;
        let archive = work.join("download").read_dir_utf8()?.filter_map(Result::ok).find(|entry| {
            // apt writes the epoch's colon as %3a; these versions have none.
            entry.file_name().starts_with(&format!("{PACKAGE}_{version}_"))
        });
        let archive =
            archive.with_context(|| format!("apt did not download `{PACKAGE}` {version}"))?;
        // Renamed into place when complete: the directory's existence is what the next run trusts.
        let partial = work.join("unpacked/partial");
        if partial.exists() {
            fs_err::remove_dir_all(&partial)?;
        }
        fs_err::create_dir_all(&partial)?;
        let mut command = Command::new("dpkg-deb");
        command.arg("-x").arg(archive.path()).arg(&partial);
        output(command)?;
        fs_err::rename(&partial, &unpacked)?;
    }
    Ok(Package { version, headers })
}

/// The Debian mirror that this machine is configured for, in either syntax of apt's sources.
fn mirror() -> Result<String> {
    for path in ["/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"] {
        let Ok(text) = fs_err::read_to_string(path) else { continue };
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let uri = match words.next() {
                Some("URIs:") => words.next(),
                Some("deb") => words.find(|word| word.contains("://")),
                _ => None,
            };
            if let Some(uri) = uri {
                return Ok(uri.to_owned());
            }
        }
    }
    bail!("no Debian mirror in /etc/apt\nhint: run this on Debian 12 or later")
}

fn output(mut command: Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("could not run `{program}`"))?;
    ensure!(
        output.status.success(),
        "`{program}` failed with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
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
    let kernel = version.split('-').next().unwrap_or(version);
    let mut text = format!(
        "//! The syscalls of {}, as of Linux {kernel}.\n//!\n\
         //! Generated by `cargo xtask codegen` from {VERSION_MARK}{version}.\n\n\
         /// Number and name, by number.\n#[rustfmt::skip]\n\
         pub(in crate::model) static ROWS: &[(u32, &str)] = &[\n",
        table.abi
    );
    for (number, name) in rows {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "    ({number}, \"{name}\"),");
    }
    text.push_str("];\n");
    text
}

/// Whether each committed row is among the rows of a newer kernel.
fn is_subset(committed: &str, rows: &BTreeMap<u32, String>) -> bool {
    let mut lines = committed.lines().filter_map(|line| {
        let (number, name) =
            line.trim().strip_prefix('(')?.strip_suffix("\"),")?.split_once(", \"")?;
        Some((number.parse::<u32>().ok()?, name))
    });
    lines.all(|(number, name)| rows.get(&number).is_some_and(|known| known == name))
}
