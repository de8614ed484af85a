//! Packages of this Debian machine: what is missing is installed, what is there is left alone.
//!
//! Owns every call of apt and dpkg. It names no mirror; the machine's own sources say which.

use anyhow::{Context as _, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};

use crate::sh::{Cmd, cmd, root, say};

const POLICY: &str = "/usr/sbin/policy-rc.d";
const SOURCES: &str = "/etc/apt/sources.list";
const SOURCE_PARTS: &str = "/etc/apt/sources.list.d";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Installs those of `packages` that are missing. No service is started by it. Of several at a time in one checkout each waits for the one
/// before it.
///
/// # Errors
/// When the machine is not Debian, the caller is not root, or apt fails.
pub fn ensure(packages: &[&str]) -> Result<()> {
    if missing(packages)?.is_empty() {
        return Ok(());
    }
    fs_err::create_dir_all(root().join("target"))?;
    let turn = fs_err::File::create(root().join("target/apt.lock"))?;
    turn.file().lock()?;
    let missing: Vec<&str> = missing(packages)?;
    if missing.is_empty() {
        return Ok(());
    }
    if !rustix::process::geteuid().is_root() {
        bail!(
            "packages are missing and only root can install them: `{0}`\n\
             hint: sudo apt-get install --no-install-recommends {0}",
            missing.join(" ")
        );
    }
    say(format!("apt: installing {}", missing.join(" ")));
    let _no_services = NoServices::begin()?;
    let install = || get().arg("install").args(&missing).run();
    if !has_lists() {
        get().arg("update").run()?;
        return install();
    }
    // Old lists name versions that the mirror no longer has: only then is an update worth its time.
    if install().is_err() {
        get().arg("update").run()?;
        install()?;
    }
    Ok(())
}

/// Downloads `packages` of another Debian release from this machine's mirror and extracts them below
/// `dir`, without installing them.
///
/// # Errors
/// When no mirror is configured or a package cannot be had.
pub fn extract_from(release: &str, packages: &[&str], dir: &Utf8Path) -> Result<()> {
    let release = Release::open(release, dir)?;
    packages.iter().try_for_each(|package| release.extract(package, dir))
}

/// The packages of another Debian release, as this machine's mirror has them.
pub struct Release {
    apt: Utf8PathBuf,
    options: Vec<String>,
}

impl Release {
    /// Fetches the list of packages, into a directory below `dir` that is gone when this is dropped.
    ///
    /// # Errors
    /// When no mirror is configured or it does not answer.
    pub fn open(release: &str, dir: &Utf8Path) -> Result<Self> {
        let list = format!("deb [signed-by={KEYRING}] {} {release} main\n", mirror()?);
        Self::with(&list, &[], dir)
    }

    /// The same of another of Debian's architectures, with the release's security updates where this machine's sources
    /// name their archive.
    ///
    /// # Errors
    /// As [`Release::open`].
    pub fn open_for(release: &str, arch: &str, dir: &Utf8Path) -> Result<Self> {
        let options = format!("[arch={arch} signed-by={KEYRING}]");
        let mut list = format!("deb {options} {} {release} main\n", mirror()?);
        // backports have no updates of their own
        if !release.contains('-')
            && let Ok(security) = archive("/debian-security")
        {
            list.push_str(&format!("deb {options} {security} {release}-security main\n"));
        }
        let options = [format!("APT::Architecture={arch}"), format!("APT::Architectures::={arch}")];
        Self::with(&list, &options, dir)
    }

    fn with(list: &str, options: &[String], dir: &Utf8Path) -> Result<Self> {
        let apt = dir.join("apt");
        for part in ["lists/partial", "archives/partial"] {
            fs_err::create_dir_all(apt.join(part))?;
        }
        fs_err::write(apt.join("sources.list"), list)?;
        let release = Self { apt, options: options.to_vec() };
        release.with_lists(get()).arg("update").run()?;
        Ok(release)
    }

    /// What `package` names as dependencies, alternatives and all.
    ///
    /// # Errors
    /// When there is no such package.
    pub fn dependencies(&self, package: &str) -> Result<Vec<String>> {
        let text = self.with_lists(cmd("apt-cache")).args(["depends", package]).stdout()?;
        let names = text.lines().filter_map(|line| line.split_once("Depends: "));
        Ok(names.map(|(_, name)| name.trim().to_owned()).collect())
    }

    /// Downloads `package` and extracts it below `dir`.
    ///
    /// # Errors
    /// When it cannot be had.
    pub fn extract(&self, package: &str, dir: &Utf8Path) -> Result<()> {
        self.with_lists(get()).args(["download", package]).dir(&self.apt).run()?;
        for entry in fs_err::read_dir(&self.apt)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "deb") {
                cmd("dpkg-deb").arg("-x").arg(&path).arg(dir.as_str()).run()?;
                fs_err::remove_file(path)?;
            }
        }
        Ok(())
    }

    fn with_lists(&self, command: Cmd) -> Cmd {
        let apt = &self.apt;
        command
            .arg("-o")
            .arg(format!("Dir::Etc::sourcelist={apt}/sources.list"))
            .args(["-o", "Dir::Etc::sourceparts=-", "-o"])
            .arg(format!("Dir::State::lists={apt}/lists"))
            .arg("-o")
            .arg(format!("Dir::Cache::archives={apt}/archives"))
            .args(["-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache="])
            .args(["-o", "APT::Sandbox::User=root", "-o", "Acquire::Languages=none"])
            .args(self.options.iter().flat_map(|option| ["-o", option.as_str()]))
    }
}

impl Drop for Release {
    fn drop(&mut self) {
        if let Err(error) = fs_err::remove_dir_all(&self.apt) {
            say(format!("apt: {error}"));
        }
    }
}

/// The Debian archive that this machine's sources name.
///
/// # Errors
/// When no source names one.
pub fn mirror() -> Result<String> {
    archive("/debian")
}

/// The first archive of this machine's sources whose address ends so.
fn archive(end: &str) -> Result<String> {
    let mut texts = Vec::new();
    if let Ok(entries) = fs_err::read_dir(SOURCE_PARTS) {
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "sources" || e == "list") {
                texts.push(fs_err::read_to_string(path)?);
            }
        }
    }
    texts.extend(fs_err::read_to_string(SOURCES));
    texts.sort();
    texts.iter().find_map(|text| archive_of(text, end)).context(format!(
        "no archive `{end}` in `{SOURCES}` or `{SOURCE_PARTS}`\nhint: apt-cache policy"
    ))
}

/// The first archive of a sources file, in either format, whose address ends so.
fn archive_of(text: &str, end: &str) -> Option<String> {
    let mut uris = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("URIs:") {
            uris.extend(rest.split_whitespace());
        } else if let Some(rest) = line.strip_prefix("deb ") {
            let rest = rest.trim_start();
            let rest =
                rest.strip_prefix('[').map_or(rest, |o| o.split_once(']').map_or("", |p| p.1));
            uris.extend(rest.split_whitespace().next());
        }
    }
    let is_main = |uri: &&str| uri.trim_end_matches('/').ends_with(end);
    uris.into_iter().find(is_main).map(str::to_owned)
}

/// Which of `packages` dpkg does not call installed.
fn missing<'a>(packages: &[&'a str]) -> Result<Vec<&'a str>> {
    if !Utf8Path::new("/etc/debian_version").exists() {
        bail!(
            "this is not Debian, so its packages cannot be installed here\n\
             hint: run it in a Debian 12 machine or virtual machine"
        );
    }
    // dpkg-query fails when one of them is unknown, and still lists the others.
    let output = cmd("dpkg-query")
        .args(["-W", "-f", "${Package} ${db:Status-Status}\n"])
        .args(packages)
        .capture()?;
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    let installed = |name: &str| listed.lines().any(|line| line == format!("{name} installed"));
    Ok(packages.iter().copied().filter(|name| !installed(name)).collect())
}

fn get() -> Cmd {
    cmd("apt-get").env("DEBIAN_FRONTEND", "noninteractive").args([
        "-y",
        "-q",
        "-o",
        "DPkg::Lock::Timeout=600",
        "--no-install-recommends",
    ])
}

/// Whether apt has package lists at all; a slim image has none.
fn has_lists() -> bool {
    fs_err::read_dir("/var/lib/apt/lists").is_ok_and(|mut entries| {
        entries
            .any(|entry| entry.is_ok_and(|e| e.file_name().to_string_lossy().contains("Packages")))
    })
}

/// While it lives, installing a package starts no service: engines run under this project's roof,
/// not as services of the machine. A policy that the machine has already stays in force.
struct NoServices {
    ours: bool,
}

impl NoServices {
    fn begin() -> Result<Self> {
        let ours = !Utf8Path::new(POLICY).exists();
        if ours {
            use std::os::unix::fs::PermissionsExt as _;
            fs_err::write(POLICY, "#!/bin/sh\nexit 101\n")?;
            fs_err::set_permissions(POLICY, std::fs::Permissions::from_mode(0o755))?;
        }
        Ok(Self { ours })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = fs_err::remove_file(POLICY)
        {
            say(format!("apt: {error}\nhint: rm {POLICY}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_is_found_in_either_format() {
        let deb822 = "Types: deb\nURIs: http://m.invalid/debian-security\nSuites: x\n\n\
                      Types: deb\nURIs: http://m.invalid/debian\nSuites: bookworm\n";
        assert_eq!(archive_of(deb822, "/debian").as_deref(), Some("http://m.invalid/debian"));
        let list = "# deb http://old.invalid/debian x main\n\
                    deb [arch=amd64 signed-by=/k] http://m.invalid/debian/ bookworm main\n";
        assert_eq!(archive_of(list, "/debian").as_deref(), Some("http://m.invalid/debian/"));
        assert_eq!(archive_of("deb http://m.invalid/other x main", "/debian"), None);
    }
}
