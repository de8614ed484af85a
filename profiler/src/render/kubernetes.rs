//! The Kubernetes patch: a container's securityContext, for anything that has a pod template.
//!
//! Owns the shape of `kubernetes.yaml`, and of `networkpolicy.yaml`. The comments at their heads hold no text from the target but paths of mounts, which are
//! letters and digits.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    model::{
        harden::{
            Harden, Limits, UserAdvice,
            network::Port,
            read_only::{Tmpfs, volume_name},
            user::{FIRST_FREE_PORT, Ids},
        },
        profile::Profile,
        recording::Recording,
        usage::Protocol,
    },
    render::{compose::service_name, harden, yaml::Yaml},
};

/// How the patch begins.
pub(super) const FIRST_LINE: &str = "# A patch for a Deployment, StatefulSet or DaemonSet; ";

/// How the network policy begins.
pub(super) const POLICY_FIRST_LINE: &str = "# A skeleton: review it. ";

const HEAD: &str = "\
# A patch for a Deployment, StatefulSet or DaemonSet; the container's name must be that of its pod template.
#   kubectl patch deployment NAME --patch-file THIS_FILE
# seccomp.json must be on every node first, as localhostProfile under the kubelet's seccomp directory
# (/var/lib/kubelet/seccomp unless configured otherwise).
";

const WRITABLE: &str = "\
# The root file system stays writable here: an emptyDir would hide what the image has in these directories. Fill
# one from the image by an init container for each, then set readOnlyRootFilesystem.
";

const POLICY_HEAD: &str = "\
# A skeleton: review it. Ports are those that were seen while recording; who is at the other end is left open,
# and so are names (port 53). The label must be one of the pod template.
";

/// `kubernetes.yaml`.
#[must_use]
pub fn render(recording: &Recording, profile: &Profile) -> String {
    let mut head = HEAD.to_owned();
    if let Some(ids) = advised_user(profile).filter(|_| user(profile).is_none()) {
        head.push_str(&format!(
            "# User {ids} is not set: set it (runAsUser, runAsGroup) where ports below {FIRST_FREE_PORT} need no capability and its volumes are its own.\n"
        ));
    }
    let volumes = profile.harden.as_ref().map(harden::places).unwrap_or_default().1;
    if !volumes.is_empty() {
        head.push_str(WRITABLE);
        volumes.iter().for_each(|path| head.push_str(&format!("#   {path}\n")));
    }
    let name = service_name(recording, profile);
    let path = format!("profiler/{}.json", file_stem(name));
    format!("{head}{}", patch(profile, name, &path).document())
}

/// What the patch says, if `file` is right about what the container is called and where seccomp.json is. It may have what the head asks for.
pub(super) fn like(profile: &Profile, file: &Value) -> Value {
    let container = &file["spec"]["template"]["spec"]["containers"][0];
    let context = &container["securityContext"];
    let name = container["name"].as_str().unwrap_or(&profile.target.name);
    let path = context["seccompProfile"]["localhostProfile"].as_str().unwrap_or_default();
    let mut given = patch(profile, name, path).value();
    let mut asked_for = Vec::new();
    if profile.harden.as_ref().is_some_and(harden::is_read_only) {
        asked_for.push(("readOnlyRootFilesystem", Value::Bool(true)));
    }
    if let Some(ids) = advised_user(profile) {
        asked_for.push(("runAsUser", ids.uid.into()));
        asked_for.push(("runAsGroup", ids.gid.into()));
        asked_for.push(("runAsNonRoot", Value::Bool(ids.uid != 0)));
    }
    let ours = given.pointer_mut("/spec/template/spec/containers/0/securityContext");
    if let Some(ours) = ours.and_then(Value::as_object_mut) {
        let is_set = |(key, value): &(&str, Value)| context.get(key) == Some(value);
        let is_set = asked_for.into_iter().filter(is_set);
        ours.extend(is_set.map(|(key, value)| (key.to_owned(), value)));
    }
    given
}

/// The patch for the container of this name, whose filter is at `path` below the kubelet's directory.
fn patch(profile: &Profile, name: &str, path: &str) -> Yaml {
    let mut context = Vec::new();
    // It sets no_new_privs, under which the profile was recorded only if this says so.
    if profile.made_for.no_new_privileges() {
        context.push(("allowPrivilegeEscalation", Yaml::Bool(false)));
    }
    // Without evidence nothing may be dropped.
    if profile.capabilities.known {
        let names = added_capabilities(profile);
        let mut capabilities = vec![("drop", Yaml::texts(["ALL"]))];
        if !names.is_empty() {
            capabilities.push(("add", Yaml::texts(names)));
        }
        context.push(("capabilities", Yaml::map(capabilities)));
    }
    let harden = profile.harden.as_ref();
    let mut groups = BTreeSet::new();
    if let Some((ids, user)) = user(profile) {
        groups.extend(&user.groups);
        if ids.uid != 0 {
            context.push(("runAsNonRoot", Yaml::Bool(true)));
        }
        context.push(("runAsUser", Yaml::Number(ids.uid.into())));
        context.push(("runAsGroup", Yaml::Number(ids.gid.into())));
    }
    let (in_memory, volumes) = harden.map(harden::places).unwrap_or_default();
    // an emptyDir hides what the image has at its place
    let is_read_only = harden.is_some_and(harden::is_read_only);
    let mounts = if is_read_only && volumes.is_empty() { in_memory } else { vec![] };
    if is_read_only && volumes.is_empty() {
        context.push(("readOnlyRootFilesystem", Yaml::Bool(true)));
    }
    let seccomp = [("type", Yaml::text("Localhost")), ("localhostProfile", Yaml::text(path))];
    context.push(("seccompProfile", Yaml::map(seccomp)));

    let mut container = vec![("name", Yaml::text(name)), ("securityContext", Yaml::map(context))];
    let resources = harden.and_then(|harden| resources(harden.resources.as_ref()?));
    container.extend(resources.map(|resources| ("resources", resources)));
    let network = harden.and_then(|harden| harden.network.as_ref());
    let ports = network.filter(|advice| advice.is_advised()).map(|advice| &advice.listens);
    if let Some(ports) = ports.filter(|ports| !ports.is_empty()) {
        container.push(("ports", Yaml::List(ports.iter().map(container_port).collect())));
    }
    let mut pod_volumes = Vec::new();
    if !mounts.is_empty() {
        let mount = |(path, _): &(&str, Tmpfs)| {
            let volume = volume_name("", path);
            Yaml::map([("name", Yaml::text(&volume)), ("mountPath", Yaml::text(path))])
        };
        container.push(("volumeMounts", Yaml::List(mounts.iter().map(mount).collect())));
        let volume = |(path, tmpfs): &(&str, Tmpfs)| {
            let size = Yaml::Text(format!("{}Mi", tmpfs.size_mib));
            let in_memory = [("medium", Yaml::text("Memory")), ("sizeLimit", size)];
            let volume = volume_name("", path);
            Yaml::map([("name", Yaml::text(&volume)), ("emptyDir", Yaml::map(in_memory))])
        };
        pod_volumes = mounts.iter().map(volume).collect();
    }
    let mut pod = vec![("containers", Yaml::List(vec![Yaml::map(container)]))];
    if !groups.is_empty() {
        let groups = groups.into_iter().map(|group: &u32| Yaml::Number(u64::from(*group)));
        let context = Yaml::map([("supplementalGroups", Yaml::List(groups.collect()))]);
        pod.push(("securityContext", context));
    }
    if !pod_volumes.is_empty() {
        pod.push(("volumes", Yaml::List(pod_volumes)));
    }
    let template = Yaml::map([("spec", Yaml::map(pod))]);
    Yaml::map([("spec", Yaml::map([("template", template)]))])
}

/// The capabilities that the patch adds, by name. Docker lets anybody bind the lowest ports, Kubernetes does not.
fn added_capabilities(profile: &Profile) -> BTreeSet<&str> {
    let mut names = match user(profile) {
        Some(_) => profile.added_capabilities(),
        None => profile.required_capabilities(),
    };
    names.extend(binds_low(profile).then_some("NET_BIND_SERVICE"));
    names
}

/// Who the container is to be started as.
fn advised_user(profile: &Profile) -> Option<Ids> {
    profile.harden.as_ref()?.user.as_ref()?.applied()
}

/// Who the container is started as.
fn user(profile: &Profile) -> Option<(Ids, &UserAdvice)> {
    let user = profile.harden.as_ref()?.user_in_kubernetes()?;
    Some((user.applied()?, user))
}

/// Whether a port is listened on that takes a capability.
fn binds_low(profile: &Profile) -> bool {
    profile.harden.as_ref().is_some_and(Harden::binds_low)
}

fn resources(limits: &Limits) -> Option<Yaml> {
    let (mut most, mut least) = (Vec::new(), Vec::new());
    if let Some(millis) = limits.reserved_cpu_millis {
        least.push(("cpu", Yaml::Text(format!("{millis}m"))));
    }
    if let Some(mib) = limits.reserved_mib {
        least.push(("memory", Yaml::Text(format!("{mib}Mi"))));
    }
    if let Some(millis) = limits.cpu_millis {
        most.push(("cpu", Yaml::Text(format!("{millis}m"))));
    }
    if let Some(mib) = limits.memory_mib {
        most.push(("memory", Yaml::Text(format!("{mib}Mi"))));
    }
    let mut resources = Vec::new();
    if !least.is_empty() {
        resources.push(("requests", Yaml::map(least)));
    }
    if !most.is_empty() {
        resources.push(("limits", Yaml::map(most)));
    }
    (!resources.is_empty()).then(|| Yaml::map(resources))
}

fn container_port(port: &Port) -> Yaml {
    Yaml::map([
        ("containerPort", Yaml::Number(port.port.into())),
        ("protocol", Yaml::text(protocol(port))),
    ])
}

fn protocol(port: &Port) -> &'static str {
    match port.protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
    }
}

/// `networkpolicy.yaml`, where there is advice on the network.
#[must_use]
pub fn network_policy(recording: &Recording, profile: &Profile) -> Option<String> {
    let advice = profile.harden.as_ref()?.network.as_ref()?;
    if !advice.is_advised() {
        return None;
    }
    let name = label(service_name(recording, profile));
    let rule = |ports: &mut dyn Iterator<Item = Port>| {
        let port = |port: Port| {
            Yaml::map([
                ("protocol", Yaml::text(protocol(&port))),
                ("port", Yaml::Number(port.port.into())),
            ])
        };
        let ports: Vec<Yaml> = ports.map(port).collect();
        // no rule lets nothing through; a rule without ports, everything
        if ports.is_empty() { vec![] } else { vec![Yaml::map([("ports", Yaml::List(ports))])] }
    };
    let names = [Protocol::Tcp, Protocol::Udp].map(|protocol| Port { port: 53, protocol });
    let egress: BTreeSet<Port> = advice.connects.iter().copied().chain(names).collect();
    let labels = Yaml::map([("app.kubernetes.io/name", Yaml::text(&name))]);
    let spec = Yaml::map([
        ("podSelector", Yaml::map([("matchLabels", labels)])),
        ("policyTypes", Yaml::texts(["Ingress", "Egress"])),
        ("ingress", Yaml::List(rule(&mut advice.listens.iter().copied()))),
        ("egress", Yaml::List(rule(&mut egress.into_iter()))),
    ]);
    let policy = Yaml::map([
        ("apiVersion", Yaml::text("networking.k8s.io/v1")),
        ("kind", Yaml::text("NetworkPolicy")),
        ("metadata", Yaml::map([("name", Yaml::text(&name))])),
        ("spec", spec),
    ]);
    Some(format!("{POLICY_HEAD}{}", policy.document()))
}

/// `name` as a value of a label and a name of an object: letters, digits and `-`, at most 63.
fn label(name: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let label: String = name.chars().map(safe).take(63).collect();
    match label.trim_matches('-') {
        "" => "profile".to_owned(),
        label => label.to_owned(),
    }
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
