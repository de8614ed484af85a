//! Which names which libseccomp knows: data of `profiles/libseccomp.json`, which `cargo xtask codegen` reads out of the
//! libraries.

use std::{collections::BTreeMap, sync::LazyLock};

use serde::Deserialize;

/// The version that is assumed when nobody says: Debian 12's.
pub const ASSUMED: Version = Version(2, 5, 4);

/// A version of libseccomp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl Version {
    /// Reads `2.5.4`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Version> {
        let mut parts = text.split('.').map(|part| part.parse().ok());
        let version = Version(parts.next()??, parts.next()??, parts.next().unwrap_or(Some(0))?);
        parts.next().is_none().then_some(version)
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// Whether a libseccomp knows a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// From this version on; older ones were not measured before the oldest.
    Since(Version),
    /// No measured version does, but the kernel has the call.
    NotYet,
    /// Only libseccomp does: a call of an architecture without a table here.
    Elsewhere,
    /// Nobody does.
    Nowhere,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Measured {
    #[cfg_attr(not(test), expect(dead_code, reason = "the test of the embedded file reads it"))]
    format: u32,
    #[cfg_attr(not(test), expect(dead_code, reason = "for people"))]
    source: String,
    oldest: String,
    since: Vec<Since>,
    unknown: Vec<String>,
    other: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Since {
    version: String,
    names: Vec<String>,
}

static MEASURED: LazyLock<Measured> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../../../profiles/libseccomp.json"))
        .expect("the embedded measurement parses, a test says so")
});

static KNOWN: LazyLock<BTreeMap<&'static str, Known>> = LazyLock::new(|| {
    let version = |text: &str| Known::Since(Version::parse(text).unwrap_or(ASSUMED));
    let oldest = version(&MEASURED.oldest);
    let mut known: BTreeMap<&'static str, Known> =
        crate::model::facts::syscalls().map(|facts| (facts.name, oldest)).collect();
    for since in &MEASURED.since {
        known.extend(since.names.iter().map(|name| (name.as_str(), version(&since.version))));
    }
    known.extend(MEASURED.unknown.iter().map(|name| (name.as_str(), Known::NotYet)));
    known.extend(MEASURED.other.iter().map(|name| (name.as_str(), Known::Elsewhere)));
    known
});

/// Who knows a name.
#[must_use]
pub fn known(name: &str) -> Known {
    KNOWN.get(name).copied().unwrap_or(Known::Nowhere)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::facts;

    #[test]
    fn the_measurement_is_sound() {
        assert_eq!(MEASURED.format, 1);
        assert!(!MEASURED.source.is_empty());
        let newer: Vec<&str> =
            MEASURED.since.iter().flat_map(|since| &since.names).map(String::as_str).collect();
        for name in newer.iter().copied().chain(MEASURED.unknown.iter().map(String::as_str)) {
            assert!(facts::syscall(name).is_some(), "{name}");
        }
        assert!(MEASURED.other.iter().all(|name| facts::syscall(name).is_none()));
        let versions: Vec<_> =
            MEASURED.since.iter().map(|since| Version::parse(&since.version)).collect();
        assert!(versions.is_sorted() && versions.iter().all(Option::is_some));
    }

    #[test]
    fn answers_are_the_measured_ones() {
        assert_eq!(known("read"), Known::Since(Version(2, 5, 1)));
        assert_eq!(known("futex_waitv"), Known::Since(Version(2, 5, 4)));
        assert_eq!(known("mseal"), Known::Since(Version(2, 6, 0)));
        assert_eq!(known("fchroot"), Known::NotYet);
        assert_eq!(known("spu_run"), Known::Elsewhere);
        assert_eq!(known("raed"), Known::Nowhere);
    }
}
