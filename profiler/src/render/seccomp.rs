//! The seccomp file: pure OCI, as Docker, podman, containerd and CRI-O load it unedited.
//!
//! Owns its shape. There are no Docker-only keys (`archMap`, `includes`, ...): containerd and CRI-O
//! drop them silently. No name has two actions, and a number that no table names is left out; the profile's notes
//! say so. A rule holds for every listed architecture: the format has no rules for one.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::{
    model::{arch::Abi, errno, profile::Profile, syscall},
    render::json::{self, Lines},
};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct File<'a> {
    default_action: &'static str,
    default_errno_ret: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    architectures: Vec<&'static str>,
    syscalls: Vec<Rule<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rule<'a> {
    names: BTreeSet<&'a str>,
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    errno_ret: Option<u32>,
}

/// `seccomp.json`.
#[must_use]
pub fn render(profile: &Profile) -> String {
    let rules = profile.syscalls.iter().map(|rule| rule.name.as_str());
    let allowed = rules.filter(|name| !syscall::is_unnamed(name)).collect();
    of_names(&profile.architectures, allowed)
}

/// The file that allows these calls, by name, on these ABIs.
#[must_use]
pub fn of_names(architectures: &[Abi], allowed: BTreeSet<&str>) -> String {
    let fallback = errno::fallback_names(architectures, &allowed);
    let rules = [
        Rule { names: allowed, action: "SCMP_ACT_ALLOW", errno_ret: None },
        Rule { names: fallback, action: "SCMP_ACT_ERRNO", errno_ret: Some(errno::FALLBACK) },
    ];
    let file = File {
        default_action: "SCMP_ACT_ERRNO",
        default_errno_ret: errno::DEFAULT,
        architectures: architectures.iter().map(|abi| abi.scmp_arch()).collect(),
        syscalls: rules.into_iter().filter(|rule| !rule.names.is_empty()).collect(),
    };
    json::layout(&file, Lines::All)
}
