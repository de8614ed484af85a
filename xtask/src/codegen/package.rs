//! The kernel's headers, out of Debian's packages.
//!
//! Two packages: `linux-libc-dev` has what user space is given, of every architecture, and
//! `linux-headers-*-common` what only the kernel includes. Both are downloaded from the mirror this machine already
//! uses and unpacked under `target/`. Nothing is installed and no apt state of the system is touched.

use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use camino::{Utf8Path, Utf8PathBuf};

/// The package that holds the headers of all architectures since Debian 13.
pub const PACKAGE: &str = "linux-libc-dev";
/// Suites that are asked for it; the newest version wins.
const SUITES: [&str; 2] = ["trixie-backports", "sid"];

/// Headers of one kernel version.
pub struct Headers {
    /// Debian's version of both packages.
    pub version: String,
    /// `usr` of the unpacked [`PACKAGE`].
    pub user: Utf8PathBuf,
    /// `usr/src/linux-headers-*-common` of the other.
    pub kernel: Utf8PathBuf,
}

impl Headers {
    /// The headers of all architectures, by the kernel's name of each: `arm64/asm/unistd_64.h`.
    #[must_use]
    pub fn uapi(&self) -> Utf8PathBuf {
        self.user.join("lib/linux/uapi")
    }

    /// What a program of `triplet` includes.
    #[must_use]
    pub fn includes(&self, triplet: &str) -> [Utf8PathBuf; 2] {
        let include = self.user.join("include");
        [include.join(triplet), include]
    }
}

/// Downloads and unpacks `wanted`, or the newest version when it is `None` or no longer offered.
///
/// # Errors
/// When apt or dpkg fail.
pub fn fetch(work: &Utf8Path, wanted: Option<&str>) -> Result<Headers> {
    let mirror = Mirror::open(work)?;
    let version = mirror.version(wanted)?;
    let upstream = version.split('-').next().unwrap_or(&version);
    // the name holds the kernel's release, `7.3.4+deb13`
    let pattern = format!("^linux-headers-{}[+-].*-common$", upstream.replace('.', "\\."));
    let found = mirror.apt("apt-cache", &["search", "--names-only", &pattern])?;
    let common = found
        .lines()
        .filter_map(|line| line.split(' ').next())
        .find(|name| mirror.versions(name).is_ok_and(|versions| versions.contains(&version)));
    let common = common
        .with_context(|| format!("the mirror offers no `linux-headers-*-common` {version}"))?;
    let user = mirror.unpacked(PACKAGE, &version)?.join("usr");
    let kernel = mirror.unpacked(common, &version)?.join("usr/src").join(common);
    Ok(Headers { version, user, kernel })
}

struct Mirror {
    work: Utf8PathBuf,
}

impl Mirror {
    /// Fetches the lists of [`SUITES`].
    fn open(work: &Utf8Path) -> Result<Mirror> {
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
        let mirror = Mirror { work: work.to_owned() };
        mirror.apt("apt-get", &["-qq", "update"])?;
        Ok(mirror)
    }

    fn apt(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let work = &self.work;
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
    }

    /// The versions of `package` that are offered.
    fn versions(&self, package: &str) -> Result<Vec<String>> {
        // `linux-libc-dev | 7.3.4-1 | URL suite/main amd64 Packages`
        let offered = self.apt("apt-cache", &["madison", package])?;
        let version = |line: &str| Some(line.split('|').nth(1)?.trim().to_owned());
        Ok(offered.lines().filter_map(version).collect())
    }

    /// `wanted`, or the newest of [`PACKAGE`].
    fn version(&self, wanted: Option<&str>) -> Result<String> {
        let mut newest: Option<String> = None;
        for version in self.versions(PACKAGE)? {
            if wanted == Some(version.as_str()) {
                return Ok(version);
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
        newest.with_context(|| format!("the mirror offers no `{PACKAGE}`"))
    }

    /// The directory that holds what `package` has in `version`.
    fn unpacked(&self, package: &str, version: &str) -> Result<Utf8PathBuf> {
        let name = format!("{package}_{}", version.replace('~', "_"));
        let unpacked = self.work.join("unpacked").join(name);
        if unpacked.exists() {
            return Ok(unpacked);
        }
        self.apt("apt-get", &["-qq", "download", &format!("{package}={version}")])?;
        let archive =
            self.work.join("download").read_dir_utf8()?.filter_map(Result::ok).find(|entry| {
                // apt writes a plus as %2b and the epoch's colon as %3a; these versions have no epoch.
                let name = entry.file_name().replace("%2b", "+");
                name.starts_with(&format!("{package}_{version}_"))
            });
        let archive =
            archive.with_context(|| format!("apt did not download `{package}` {version}"))?;
        // Renamed into place when complete: the directory's existence is what the next run trusts.
        let partial = self.work.join("unpacked/partial");
        if partial.exists() {
            fs_err::remove_dir_all(&partial)?;
        }
        fs_err::create_dir_all(&partial)?;
        let mut command = Command::new("dpkg-deb");
        command.arg("-x").arg(archive.path()).arg(&partial);
        output(command)?;
        fs_err::rename(&partial, &unpacked)?;
        fs_err::remove_file(archive.path())?;
        Ok(unpacked)
    }
}

/// The Debian mirror that this machine is configured for, in either syntax of apt's sources.
pub fn mirror() -> Result<String> {
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

pub fn output(mut command: Command) -> Result<String> {
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
