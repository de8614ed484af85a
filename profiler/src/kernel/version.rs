//! Which kernel runs: its release string taken apart, and the machine's name.
//!
//! A version decides nothing where a probe can answer: distributions port features back.

use std::{fmt, str::FromStr};

use thiserror::Error;

/// The oldest kernel that recording is meant for, and tested on.
pub const OLDEST: KernelVersion = KernelVersion { major: 5, minor: 10, patch: 0 };

/// `major.minor.patch` of a kernel release; what follows is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelVersion {
    /// `6` of `6.1.0-18-amd64`.
    pub major: u32,
    /// `1` of it.
    pub minor: u32,
    /// `0` of it; 0 when the release has no third number.
    pub patch: u32,
}

/// A release string that is none.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("kernel release `{0}` does not begin with two numbers")]
pub struct ReleaseError(String);

impl FromStr for KernelVersion {
    type Err = ReleaseError;

    fn from_str(release: &str) -> Result<Self, Self::Err> {
        let refused = || ReleaseError(release.to_owned());
        let mut parts = release.trim().splitn(3, '.');
        let major = number(parts.next().unwrap_or_default()).ok_or_else(refused)?;
        let minor = number(parts.next().unwrap_or_default()).ok_or_else(refused)?;
        let patch = parts.next().and_then(number).unwrap_or(0);
        Ok(KernelVersion { major, minor, patch })
    }
}

/// The decimal number that `text` begins with.
fn number(text: &str) -> Option<u32> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..digits].parse().ok()
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// The names that the running kernel has for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uname {
    /// `uname -r`.
    pub release: String,
    /// `uname -m`.
    pub machine: String,
}

/// Asks the running kernel by uname(2), which cannot fail.
#[must_use]
pub fn uname() -> Uname {
    let names = rustix::system::uname();
    Uname {
        release: names.release().to_string_lossy().into_owned(),
        machine: names.machine().to_string_lossy().into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_distributions_are_read() {
        for (release, expected) in [
            ("6.18.44-fc-v657", (6, 18, 44)),
            ("6.1.0-18-cloud-amd64\n", (6, 1, 0)),
            ("5.10.0-28-amd64", (5, 10, 0)),
            ("4.18.0-513.5.1.el8_9.x86_64", (4, 18, 0)),
            ("7.0-rc3", (7, 0, 0)),
            ("6.6.87.2-microsoft-standard-WSL2", (6, 6, 87)),
        ] {
            let version: KernelVersion = release.parse().expect(release);
            assert_eq!((version.major, version.minor, version.patch), expected, "{release}");
        }
    }

    #[test]
    fn what_is_no_release_is_refused_with_its_text() {
        for text in ["", "linux", "6", "6.x", "99999999999.1"] {
            let error = text.parse::<KernelVersion>().expect_err(text);
            assert!(error.to_string().contains(&format!("`{text}`")), "{error}");
        }
    }

    #[test]
    fn versions_are_ordered_by_number_not_by_text() {
        let older: KernelVersion = "5.9.1".parse().expect("5.9.1");
        let newer: KernelVersion = "5.10".parse().expect("5.10");
        assert!(older < newer);
        assert!(older < OLDEST && newer >= OLDEST);
    }

    #[test]
    fn this_kernel_has_a_release_that_parses() {
        let names = uname();
        assert!(names.release.parse::<KernelVersion>().is_ok(), "{names:?}");
        assert!(!names.machine.is_empty());
    }
}
