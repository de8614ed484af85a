//! Which kernels, and how their images are had: packages of Debian, extracted and never installed.

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};

use crate::{
    apt::Release,
    sh::{cmd, say},
};

/// The ways to see capability checks, in the order in which the recorder tries them.
pub const WAYS: [&str; 3] = ["tracepoint", "fexit", "kprobe"];

/// A kernel of the matrix.
pub struct Kernel {
    /// As it is typed.
    pub name: &'static str,
    /// The Debian release that has it.
    pub release: &'static str,
    /// The ways in which it lets capability checks be seen, of [`WAYS`]; the first is taken.
    pub ways: &'static str,
}

/// The matrix, oldest first.
pub const KERNELS: [Kernel; 4] = [
    Kernel { name: "5.10", release: "bullseye", ways: "fexit" },
    Kernel { name: "6.1", release: "bookworm", ways: "fexit kprobe" },
    Kernel { name: "6.12", release: "trixie", ways: "fexit kprobe" },
    Kernel { name: "newest", release: "trixie-backports", ways: "tracepoint fexit kprobe" },
];

/// The meta package that names the release's newest kernel for virtual machines.
const META: &str = "linux-image-cloud-amd64";

/// The image of a kernel, downloaded once.
///
/// # Errors
/// When the package cannot be had or holds no image.
pub fn fetch(kernel: &Kernel, home: &Utf8Path) -> Result<Utf8PathBuf> {
    let dir = home.join(kernel.release);
    let image = dir.join("vmlinuz");
    if image.exists() {
        return Ok(image);
    }
    say(format!("vm: fetching the kernel of {}", kernel.release));
    fs_err::create_dir_all(&dir)?;
    let release = Release::open(kernel.release, &dir)?;
    let is_kernel = |name: &String| {
        ["linux-image-", "linux-binary-"].iter().any(|prefix| name.starts_with(prefix))
    };
    let one = |package: &str| -> Result<Option<String>> {
        Ok(release.dependencies(package)?.into_iter().find(is_kernel))
    };
    let package = one(META)?.with_context(|| format!("`{META}` names no kernel"))?;
    // newer packages keep the image in one of their own
    let package = one(&package)?.unwrap_or(package);
    let unpacked = dir.join("package");
    fs_err::create_dir_all(&unpacked)?;
    release.extract(&package, &unpacked)?;
    let found =
        cmd("find").args([unpacked.as_str(), "-name", "vmlinuz*", "-type", "f"]).stdout()?;
    let found = found.lines().next().with_context(|| format!("no image in `{package}`"))?;
    fs_err::rename(found, &image)?;
    fs_err::remove_dir_all(&unpacked)?;
    Ok(image)
}
