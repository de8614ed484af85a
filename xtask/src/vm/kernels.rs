//! Which kernels, and how their images are had: packages of Debian, extracted and never installed.

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};

use super::arch::{AARCH64, Arch, X86_64};
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
    /// What it runs on.
    pub arch: &'static Arch,
    /// The ways in which it lets capability checks be seen, of [`WAYS`]; the first is taken.
    pub ways: &'static str,
}

/// The matrix, oldest first.
pub const KERNELS: [Kernel; 6] = [
    Kernel { name: "5.10", release: "bullseye", arch: &X86_64, ways: "fexit" },
    Kernel { name: "6.1", release: "bookworm", arch: &X86_64, ways: "fexit kprobe" },
    Kernel { name: "6.12", release: "trixie", arch: &X86_64, ways: "fexit kprobe" },
    Kernel {
        name: "newest",
        release: "trixie-backports",
        arch: &X86_64,
        ways: "tracepoint fexit kprobe",
    },
    Kernel { name: "aarch64-6.1", release: "bookworm", arch: &AARCH64, ways: "kprobe" },
    Kernel { name: "aarch64-6.12", release: "trixie", arch: &AARCH64, ways: "fexit kprobe" },
];

/// The image of a kernel, downloaded once.
///
/// # Errors
/// When the package cannot be had or holds no image.
pub fn fetch(kernel: &Kernel, home: &Utf8Path) -> Result<Utf8PathBuf> {
    let dir = home.join(match kernel.arch.name {
        "x86_64" => kernel.release.to_owned(),
        other => format!("{other}/{}", kernel.release),
    });
    let image = dir.join("vmlinuz");
    if image.exists() {
        return Ok(image);
    }
    say(format!("vm: fetching the kernel of {} for {}", kernel.release, kernel.arch.name));
    fs_err::create_dir_all(&dir)?;
    let release = Release::open_for(kernel.release, kernel.arch.debian, &dir)?;
    let is_kernel = |name: &String| {
        ["linux-image-", "linux-binary-"].iter().any(|prefix| name.starts_with(prefix))
    };
    let one = |package: &str| -> Result<Option<String>> {
        Ok(release.dependencies(package)?.into_iter().find(is_kernel))
    };
    // the meta package names the release's newest kernel for virtual machines
    let meta = format!("linux-image-cloud-{}", kernel.arch.debian);
    let package = one(&meta)?.with_context(|| format!("`{meta}` names no kernel"))?;
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
