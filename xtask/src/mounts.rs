//! Mounts below a directory of ours: found in mountinfo, detached before anything is deleted.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use anyhow::{Context as _, Result, ensure};
use camino::Utf8Path;
use rustix::mount::{UnmountFlags, unmount};

/// Unmounts everything mounted strictly below `dir`, innermost first, and nothing else.
///
/// # Errors
/// When `dir` is a root or the kernel refuses.
pub fn detach_below(dir: &Utf8Path) -> Result<()> {
    ensure!(dir.components().count() > 2, "refusing to unmount everything below `{dir}`");
    let mountinfo = fs_err::read_to_string("/proc/self/mountinfo")?;
    for point in below(&mountinfo, dir.as_str()) {
        unmount(&point, UnmountFlags::DETACH)
            .with_context(|| format!("cannot unmount `{}`", point.display()))?;
    }
    Ok(())
}

/// Empties and removes `dir`, with what is mounted below it detached first.
///
/// # Errors
/// As [`detach_below`], and when a file cannot be removed.
pub fn remove_tree(dir: &Utf8Path) -> Result<()> {
    detach_below(dir)?;
    if dir.exists() {
        fs_err::remove_dir_all(dir)?;
    }
    Ok(())
}

/// The mount points below `dir`, the latest mount first.
fn below(mountinfo: &str, dir: &str) -> Vec<OsString> {
    let prefix = format!("{}/", dir.trim_end_matches('/'));
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).map(unescaped);
    let mut points: Vec<Vec<u8>> = points.filter(|p| p.starts_with(prefix.as_bytes())).collect();
    points.reverse();
    points.into_iter().map(OsString::from_vec).collect()
}

/// mountinfo writes space, tab, newline and backslash as three octal digits.
fn unescaped(field: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(value) if byte == b'\\' => {
                out.push(value);
                rest = &tail[3..];
            }
            _ => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_strictly_below_are_named_innermost_first() {
        let mountinfo = "1 0 8:1 / / rw - ext4 a rw\n\
                         2 1 8:1 / /w/e rw - ext4 a rw\n\
                         3 2 8:1 / /w/e/a rw - ext4 a rw\n\
                         4 3 8:1 / /w/e/a/b\\040c rw - ext4 a rw\n\
                         5 1 8:1 / /w/e-other/a rw - ext4 a rw\n";
        assert_eq!(below(mountinfo, "/w/e"), ["/w/e/a/b c", "/w/e/a"]);
    }
}
