//! Reads what says what is allowed: a `profile.json`, or a seccomp file of any kind.

use serde::{Deserialize, de::IgnoredAny};

use crate::{
    ingest::{error::IngestError, profile, seccomp},
    model::{profile::Profile, seccomp::SeccompFile},
};

/// A policy, with or without its reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Policy {
    /// `profile.json`.
    Profile(Box<Profile>),
    /// A filter, of Docker, podman, OCI or the Security Profiles Operator.
    Seccomp(Box<SeccompFile>),
}

/// Reads a profile when the text has a `schema_version`, else a seccomp file.
///
/// # Errors
/// As [`profile::parse`] and [`seccomp::parse`].
pub fn parse(text: &str) -> Result<Policy, IngestError> {
    #[derive(Deserialize)]
    struct Probe {
        #[expect(dead_code, reason = "its being there is all that is asked")]
        schema_version: IgnoredAny,
    }
    if serde_json::from_str::<Probe>(text).is_ok() {
        profile::parse(text).map(|profile| Policy::Profile(Box::new(profile)))
    } else {
        seccomp::parse(text).map(|file| Policy::Seccomp(Box::new(file)))
    }
}
