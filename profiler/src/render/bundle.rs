//! All files of a result directory.

use crate::{
    model::{profile::Profile, recording::Recording},
    render::{compose, json, kubernetes, seccomp},
};

/// The name of every file that a result can have.
pub const NAMES: [&str; 6] = [
    "recording.json",
    "profile.json",
    "seccomp.json",
    "compose.yaml",
    "kubernetes.yaml",
    "networkpolicy.yaml",
];

/// Whether a file of this name is a result's, and not somebody else's that happens to be called so: what is YAML begins with profiler's own words.
#[must_use]
pub fn is_own(name: &str, text: &str) -> bool {
    match name {
        "compose.yaml" => text.starts_with(compose::FIRST_LINE),
        "kubernetes.yaml" => text.starts_with(kubernetes::FIRST_LINE),
        "networkpolicy.yaml" => text.starts_with(kubernetes::POLICY_FIRST_LINE),
        _ => true,
    }
}

/// Name and text of each file of `dir`, in a fixed order. `dir` is as the user would type it.
///
/// Compose and Kubernetes describe containers, so a command's or a cgroup's result has neither: it would
/// name a service that does not exist.
#[must_use]
pub fn bundle(recording: &Recording, profile: &Profile, dir: &str) -> Vec<(&'static str, String)> {
    let mut files = vec![
        ("recording.json", json::recording(recording)),
        ("profile.json", json::profile(profile)),
        ("seccomp.json", seccomp::render(profile)),
    ];
    if profile.target.kind.is_container() {
        files.push(("compose.yaml", compose::render(recording, profile, dir)));
        files.push(("kubernetes.yaml", kubernetes::render(recording, profile)));
        let policy = kubernetes::network_policy(recording, profile);
        files.extend(policy.map(|text| ("networkpolicy.yaml", text)));
    }
    files
}
