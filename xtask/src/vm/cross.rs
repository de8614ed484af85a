//! Building for aarch64 on this machine: Debian's rustc with the standard library of its arm64 package, which is unpacked and
//! not installed, and Debian's cross compilers.

use std::collections::BTreeMap;

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};

use super::arch::AARCH64;
use crate::{
    apt::Release,
    sh::{Cmd, cmd, root, say},
};

/// What is installed here for it.
pub const PACKAGES: [&str; 6] = [
    "gcc-aarch64-linux-gnu",
    "gcc-arm-linux-gnueabihf",
    "libc6-dev-arm64-cross",
    "libc6-dev-armhf-cross",
    "libstd-rust-web-dev",
    "rustc-web",
];

/// What the machine's programs load, and its tools: packages of arm64.
const SYSTEM: [&str; 9] = [
    "busybox-static",
    "libc6",
    "libcap-ng0",
    "libgcc-s1",
    "libpcre2-8-0",
    "libseccomp2",
    "libselinux1",
    "strace",
    "util-linux",
];

/// The release of this machine's compilers.
const RELEASE: &str = "bookworm";
const RUSTC: &str = "/usr/bin/rustc";
const LIBRARY: &str = "libstd-rust-web-dev";
const TARGET: &str = "aarch64-unknown-linux-gnu";
const COMPILER: &str = "aarch64-linux-gnu-gcc";

/// What was fetched for aarch64.
pub struct Cross {
    /// Rust's standard library.
    library: Utf8PathBuf,
    /// The machine's programs and libraries, as Debian packages have them.
    pub system: Utf8PathBuf,
}

impl Cross {
    /// Fetches what is not there yet, to below `home`.
    ///
    /// # Errors
    /// When a package cannot be had.
    pub fn fetch(home: &Utf8Path) -> Result<Self> {
        // another version's library would be refused
        let version = cmd("dpkg-query").args(["-W", "-f", "${Version}", LIBRARY]).stdout()?;
        let library = home.join(format!("rust-{version}"));
        unpack(&library, &[&format!("{LIBRARY}={version}")])?;
        let system = home.join("system");
        unpack(&system, &SYSTEM)?;
        Ok(Self { library, system })
    }

    /// Cargo, told to build with `args`, to [`built`].
    pub fn cargo(&self, args: &[&str]) -> Cmd {
        let variable =
            |name: &str| format!("CARGO_TARGET_{}_{name}", TARGET.to_uppercase().replace('-', "_"));
        cmd("cargo")
            .args(args)
            .args(["--target", TARGET, "--target-dir", built().as_str()])
            .dir(root())
            .env("RUSTC", RUSTC)
            .env(&variable("LINKER"), COMPILER)
            .env(&variable("RUSTFLAGS"), format!("--sysroot={}/usr", self.library))
    }
}

/// Where cargo's output is.
fn built() -> Utf8PathBuf {
    root().join("target/aarch64")
}

/// The recorder.
pub fn profiler() -> Utf8PathBuf {
    built().join(TARGET).join("release/profiler")
}

/// The numbers of calls as the compiler's headers have them, in the form of x86_64's `asm/unistd_64.h`.
///
/// # Errors
/// When the compiler fails.
pub fn header() -> Result<String> {
    let script = format!("echo '#include <asm/unistd.h>' | {COMPILER} -E -dM -");
    Ok(resolved(&cmd("sh").args(["-c", &script]).stdout()?))
}

/// The definitions of numbers, each with a number: some are another one's.
fn resolved(defines: &str) -> String {
    let defines: BTreeMap<&str, &str> = defines
        .lines()
        .filter_map(|line| line.strip_prefix("#define __NR")?.split_once(' '))
        .collect();
    let number = |value: &str| {
        let value = value.trim();
        let value = value.strip_prefix("__NR").and_then(|name| defines.get(name)).unwrap_or(&value);
        value.parse::<u32>().ok()
    };
    let calls = defines.iter().filter_map(|(name, value)| {
        Some(format!("#define __NR_{} {}\n", name.strip_prefix('_')?, number(value)?))
    });
    calls.collect()
}

/// Unpacks packages of arm64 to `dir`, once and whole.
fn unpack(dir: &Utf8Path, packages: &[&str]) -> Result<()> {
    if dir.exists() {
        return Ok(());
    }
    say(format!("vm: fetching {} of {}", packages.join(" "), AARCH64.debian));
    let partial = dir.with_extension("partial");
    if partial.exists() {
        fs_err::remove_dir_all(&partial)?;
    }
    fs_err::create_dir_all(&partial)?;
    let release = Release::open_for(RELEASE, AARCH64.debian, &partial)?;
    for package in packages {
        release.extract(package, &partial)?;
    }
    drop(release);
    fs_err::rename(partial, dir)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_another_ones_is_found() {
        let defines = "#define __NR_io_setup 0\n#define __NR3264_fstat 80\n\
            #define __NR_fstat __NR3264_fstat\n#define __BITS_PER_LONG 64\n\
            #define __NR_odd (1 + 2)\n";
        assert_eq!(resolved(defines), "#define __NR_fstat 80\n#define __NR_io_setup 0\n");
    }
}
