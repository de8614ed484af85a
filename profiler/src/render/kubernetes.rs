//! The Kubernetes patch: a container's securityContext, for anything that has a pod template.
//!
//! Owns the shape of `kubernetes.yaml`. The comment at its head holds no text from the target.

use serde::Serialize;

use crate::{
    model::{profile::Profile, recording::Recording},
    render::{compose::service_name, yaml},
};

const HEAD: &str = "\
# A patch for a Deployment, StatefulSet or DaemonSet; the container's name must be that of its pod template.
#   kubectl patch deployment NAME --patch-file THIS_FILE
# seccomp.json must be on every node first, as localhostProfile under the kubelet's seccomp directory
# (/var/lib/kubelet/seccomp unless configured otherwise).
";

#[derive(Serialize)]
struct Patch<'a> {
    spec: Template<'a>,
}

#[derive(Serialize)]
struct Template<'a> {
    template: Pod<'a>,
}

#[derive(Serialize)]
struct Pod<'a> {
    spec: Containers<'a>,
}

#[derive(Serialize)]
struct Containers<'a> {
    containers: Vec<Container<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Container<'a> {
    name: &'a str,
    security_context: SecurityContext<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SecurityContext<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    allow_privilege_escalation: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    capabilities: Option<Capabilities<'a>>,
    seccomp_profile: SeccompProfile,
}

#[derive(Serialize)]
struct Capabilities<'a> {
    drop: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    add: Vec<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SeccompProfile {
    r#type: &'static str,
    localhost_profile: String,
}

/// `kubernetes.yaml`.
#[must_use]
pub fn render(recording: &Recording, profile: &Profile) -> String {
    let name = service_name(recording, profile);
    let required = profile.capabilities.required.iter().map(|rule| rule.name.as_str());
    let capabilities = profile
        .capabilities
        .known
        .then(|| Capabilities { drop: vec!["ALL"], add: required.collect() });
    let context = SecurityContext {
        // It sets no_new_privs, under which the profile was recorded only if this says so.
        allow_privilege_escalation: profile.made_for.no_new_privileges().then_some(false),
        capabilities,
        seccomp_profile: SeccompProfile {
            r#type: "Localhost",
            localhost_profile: format!("profiler/{}.json", file_stem(name)),
        },
    };
    let containers = vec![Container { name, security_context: context }];
    let pod = Pod { spec: Containers { containers } };
    format!("{HEAD}{}", yaml::write(&Patch { spec: Template { template: pod } }))
}

/// `name` as a file name: the kubelet takes a relative path, in which slashes and `..` must not come from a target.
fn file_stem(name: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let stem: String = name.chars().map(safe).collect();
    match stem.strip_prefix('.') {
        Some(rest) => format!("_{rest}"),
        None if stem.is_empty() => "profile".into(),
        None => stem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_stems_stay_in_their_directory() {
        for (name, stem) in [
            ("backend", "backend"),
            ("app.v1-2_x", "app.v1-2_x"),
            ("../../etc/x", "_._.._etc_x"),
            ("..", "_."),
            ("", "profile"),
            ("a\nb: ü", "a_b___"),
        ] {
            assert_eq!(file_stem(name), stem);
        }
    }
}
