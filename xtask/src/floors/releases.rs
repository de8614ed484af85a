//! The runtimes that are measured: those of Debian releases, with the libraries of their own release, extracted and
//! never installed.
//!
//! Owns which packages make a root in which they run. A runtime starts itself again from /proc/self/exe, so it
//! needs a root of its own and not only a loader.

use std::os::unix::fs::symlink;

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};

use crate::{
    apt,
    sh::{cmd, say},
};

/// The runtimes of each release.
const NAMES: [&str; 2] = ["runc", "crun"];
/// A release that moves: measured only when it is asked for.
const MOVING: &str = "sid";

/// A release, and what its runtimes load.
const RELEASES: [(&str, &[&str]); 3] = [
    (
        "bookworm",
        &[
            "libc6",
            "libcap2",
            "libgcrypt20",
            "libgpg-error0",
            "liblz4-1",
            "liblzma5",
            "libseccomp2",
            "libsystemd0",
            "libyajl2",
            "libzstd1",
        ],
    ),
    ("trixie", &["libc6", "libcap2", "libseccomp2", "libsystemd0", "libyajl2"]),
    (MOVING, &["libblake3-0", "libc6", "libcap2", "libjson-c5", "libseccomp2", "libsystemd0"]),
];

/// A runtime of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Runtime {
    /// `runc` or `crun`.
    pub name: &'static str,
    /// The suite that it comes from.
    pub release: &'static str,
}

impl Runtime {
    /// `runc@trixie`.
    pub fn label(&self) -> String {
        format!("{}@{}", self.name, self.release)
    }

    /// The path of its program, as seen in `root`.
    ///
    /// # Errors
    /// When it is not there.
    pub fn program(&self, root: &Utf8Path) -> Result<Utf8PathBuf> {
        ["usr/sbin", "usr/bin"]
            .into_iter()
            .map(|dir| Utf8Path::new(dir).join(self.name))
            .find(|path| root.join(path).exists())
            .map(|path| Utf8Path::new("/").join(path))
            .with_context(|| {
                format!("no `{}` in `{root}`\nhint: rm -r {root}; cargo xtask floors", self.name)
            })
    }
}

/// Makes sure of a release's root below `home`, which appears when it is complete.
///
/// # Errors
/// When a package cannot be had.
pub fn fetched(release: &str, home: &Utf8Path) -> Result<Utf8PathBuf> {
    let root = home.join(release);
    if root.exists() {
        return Ok(root);
    }
    say(format!("floors: fetching the runtimes of {release}"));
    let libraries = RELEASES.iter().find(|(name, _)| *name == release).map(|(_, them)| *them);
    let packages = [&NAMES, libraries.context("an unknown release")?].concat();
    let part = home.join(format!("{release}.part"));
    if part.exists() {
        fs_err::remove_dir_all(&part)?;
    }
    apt::extract_from(release, &packages, &part)?;
    merge_usr(&part)?;
    fs_err::rename(&part, &root)?;
    Ok(root)
}

/// The links that a Debian root has since directories like /lib moved to /usr; older packages still have files there.
fn merge_usr(root: &Utf8Path) -> Result<()> {
    for name in ["bin", "sbin", "lib", "lib64"] {
        let (old, new) = (root.join(name), root.join("usr").join(name));
        fs_err::create_dir_all(&new)?;
        if old.exists() {
            cmd("cp").arg("-a").arg(format!("{old}/.")).arg(new.as_str()).run()?;
            fs_err::remove_dir_all(&old)?;
        }
        symlink(format!("usr/{name}"), &old).with_context(|| format!("cannot link `{old}`"))?;
    }
    Ok(())
}

/// Those that `names` ask for: `runc`, `crun@trixie`, `sid`; when none is named, those of the releases that stand still.
///
/// # Errors
/// When a name is of none.
pub fn chosen(names: &[String]) -> Result<Vec<Runtime>> {
    let all =
        || RELEASES.iter().flat_map(|&(release, _)| NAMES.map(|name| Runtime { name, release }));
    if names.is_empty() {
        return Ok(all().filter(|runtime| runtime.release != MOVING).collect());
    }
    let is = |runtime: &Runtime, name: &str| {
        [runtime.name, runtime.release, &runtime.label()].contains(&name)
    };
    for name in names {
        let labels: Vec<String> = all().map(|runtime| runtime.label()).collect();
        ensure!(
            all().any(|runtime| is(&runtime, name)),
            "no runtime `{name}` is known\nhint: cargo xtask floors {}",
            labels.join(" ")
        );
    }
    Ok(all().filter(|runtime| names.iter().any(|name| is(runtime, name))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(names: &[&str]) -> Vec<String> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        chosen(&names).expect("known").iter().map(Runtime::label).collect()
    }

    #[test]
    fn runtimes_are_chosen_by_name_release_or_both() {
        assert_eq!(labels(&["crun@trixie"]), ["crun@trixie"]);
        assert_eq!(labels(&["bookworm", "runc"]).len(), 4);
        assert_eq!(labels(&["crun"]), ["crun@bookworm", "crun@trixie", "crun@sid"]);
        assert!(!labels(&[]).iter().any(|label| label.ends_with(MOVING)));
        let error = chosen(&["kata".to_owned()]).expect_err("unknown").to_string();
        assert!(
            error.starts_with("no runtime `kata` is known\nhint: cargo xtask floors runc@"),
            "{error}"
        );
    }
}
