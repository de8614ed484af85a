//! The Kubernetes patch: a container's securityContext, for anything that has a pod template.
//!
//! Owns the shape of `kubernetes.yaml`. The comment at its head holds no text from the target.

use crate::{
    model::{profile::Profile, recording::Recording},
    render::{compose::service_name, yaml::Yaml},
};

/// How the patch begins.
pub(super) const FIRST_LINE: &str = "# A patch for a Deployment, StatefulSet or DaemonSet; ";

const HEAD: &str = "\
# A patch for a Deployment, StatefulSet or DaemonSet; the container's name must be that of its pod template.
#   kubectl patch deployment NAME --patch-file THIS_FILE
# seccomp.json must be on every node first, as localhostProfile under the kubelet's seccomp directory
# (/var/lib/kubelet/seccomp unless configured otherwise).
";

/// `kubernetes.yaml`.
#[must_use]
pub fn render(recording: &Recording, profile: &Profile) -> String {
    let name = service_name(recording, profile);
    let mut context = Vec::new();
    // It sets no_new_privs, under which the profile was recorded only if this says so.
    if profile.made_for.no_new_privileges() {
        context.push(("allowPrivilegeEscalation", Yaml::Bool(false)));
    }
    // Without evidence nothing may be dropped.
    if profile.capabilities.known {
        let required = &profile.capabilities.required;
        let mut capabilities = vec![("drop", Yaml::texts(["ALL"]))];
        if !required.is_empty() {
            let names = required.iter().map(|rule| rule.name.as_str());
            capabilities.push(("add", Yaml::texts(names)));
        }
        context.push(("capabilities", Yaml::map(capabilities)));
    }
    let path = format!("profiler/{}.json", file_stem(name));
    let seccomp = [("type", Yaml::text("Localhost")), ("localhostProfile", Yaml::text(&path))];
    context.push(("seccompProfile", Yaml::map(seccomp)));

    let container = [("name", Yaml::text(name)), ("securityContext", Yaml::map(context))];
    let pod = Yaml::map([("containers", Yaml::List(vec![Yaml::map(container)]))]);
    let template = Yaml::map([("spec", pod)]);
    let patch = Yaml::map([("spec", Yaml::map([("template", template)]))]);
    format!("{HEAD}{}", patch.document())
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
