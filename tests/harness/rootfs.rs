//! The root file system of the tests' own containers: the fixtures, busybox, and nothing else.

use std::os::unix::fs::symlink;

use anyhow::Result;

use crate::harness::machine::{Machine, Scratch};

const FIXTURES: [&str; 12] = [
    "calls",
    "filtered",
    "flood",
    "namesakes",
    "forker",
    "fallback",
    "binds",
    "caps",
    "namespaces",
    "needs",
    "real32",
    "refused",
];
const APPLETS: [&str; 10] =
    ["sh", "sleep", "ls", "cat", "true", "echo", "unshare", "chown", "touch", "chmod"];

/// Makes it, as a directory.
///
/// # Errors
/// When a fixture does not compile or busybox is not there.
pub fn make(machine: &Machine) -> Result<Scratch> {
    let root = machine.scratch()?;
    for dir in ["bin", "tmp", "etc", "dev", "proc", "sys"] {
        fs_err::create_dir_all(root.join(dir))?;
    }
    for name in FIXTURES {
        fs_err::copy(machine.fixture(name)?, root.join("bin").join(name))?;
    }
    fs_err::copy("/bin/busybox", root.join("bin/busybox"))?;
    fs_err::write(root.join("etc/passwd"), "root:x:0:0::/:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n")?;
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    Ok(root)
}
