//! What a pod's manifest says of each of its containers.
//!
//! Owns precedence: what a container says comes before what the pod says. The node, the kubelet and admission may add to a manifest; what depends
//! on them is unknown.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    facts::{
        Facts, Filter, Known, Limits, List, Mount, Namespaces, Port, Reservations, Source, Unknown,
        User, Variable, is_limit,
    },
    pod::{Container, Pod, SecurityContext},
};
use crate::model::capability;

/// A container of `pod`, which is called `of`.
#[must_use]
pub fn facts(of: &str, pod: &Pod, container: &Container) -> Facts {
    let none = SecurityContext::default();
    let own = container.security_context.as_ref().unwrap_or(&none);
    let whole = pod.spec.security_context.as_ref().unwrap_or(&none);
    let unsaid = |what: &str| Unknown::because(what);
    let image = unsaid("a manifest names an image and does not have it");
    Facts {
        name: format!("{of} container {}", container.name),
        source: Source::Kubernetes,
        user: user(own, whole),
        privileged: Ok(own.privileged == Some(true)),
        capabilities: Ok(capabilities(own)),
        seccomp: seccomp(own, whole),
        process: None,
        // Kubernetes refuses `false` beside these.
        no_new_privileges: Ok(own.allow_privilege_escalation == Some(false)),
        mac: mac(own, whole),
        read_only: Ok(own.read_only_root_filesystem == Some(true)),
        mounts: mounts(pod, container).into(),
        devices: devices(container),
        namespaces: Namespaces {
            pid: Ok(pod.spec.host_pid == Some(true)),
            network: Ok(pod.spec.host_network == Some(true)),
            ipc: Ok(pod.spec.host_ipc == Some(true)),
            uts: Ok(pod.spec.host_network == Some(true)),
            user: Ok(pod.spec.host_users != Some(false)),
        },
        limits: Limits {
            memory: Ok(resource(container, true, "memory")),
            pids: Err(unsaid(
                "the kubelet limits the processes of a pod (podPidsLimit), a manifest cannot",
            )),
            cpu: Ok(resource(container, true, "cpu")),
        },
        reservations: Reservations {
            memory: Ok(resource(container, false, "memory")),
            cpu: Ok(resource(container, false, "cpu")),
        },
        ulimits: List::unknown(&unsaid("the node's runtime sets ulimits, a manifest cannot")),
        health: Ok(health(container)),
        ports: ports(container, pod.spec.host_network == Some(true)).into(),
        default_network: None,
        environment: environment(container),
        labels: Err(image.clone()),
        image_reference: Ok(container.image.clone().unwrap_or_default()),
        image: Err(image),
    }
}

fn user(own: &SecurityContext, whole: &SecurityContext) -> Known<User> {
    let non_root = own.run_as_non_root.or(whole.run_as_non_root);
    match own.run_as_user.or(whole.run_as_user) {
        Some(uid) => Ok(User { setting: uid.to_string(), is_root: Ok(uid == 0) }),
        None if non_root == Some(true) => {
            Ok(User { setting: "not root (runAsNonRoot)".into(), is_root: Ok(false) })
        }
        None => Err(Unknown::because(
            "neither runAsUser nor runAsNonRoot is set: the image says who it runs as",
        )),
    }
}

/// What containerd and CRI-O grant is Docker's default; the rule is Kubernetes'.
fn capabilities(own: &SecurityContext) -> BTreeSet<String> {
    let lists = own.capabilities.clone().unwrap_or_default();
    let (add, drop) = (lists.add.unwrap_or_default(), lists.drop.unwrap_or_default());
    capability::granted(&capability::DOCKER_DEFAULT, &add, &drop, own.privileged == Some(true))
}

fn seccomp(own: &SecurityContext, whole: &SecurityContext) -> Known<Filter> {
    if own.privileged == Some(true) {
        return Ok(Filter::Unconfined);
    }
    let profile = own.seccomp_profile.as_ref().or(whole.seccomp_profile.as_ref());
    match profile.and_then(|profile| profile.kind.as_deref()) {
        Some("RuntimeDefault") => Ok(Filter::EngineDefault),
        Some("Unconfined") => Ok(Filter::Unconfined),
        Some("Localhost") => {
            Err(Unknown::because("its filter is a file of the node, which is not read"))
        }
        Some(_) => Err(Unknown::because("its seccompProfile is of no type that Kubernetes has")),
        None => Err(Unknown::because(
            "no seccompProfile is set: none is in force, unless the kubelet has seccompDefault",
        )),
    }
}

fn mac(own: &SecurityContext, whole: &SecurityContext) -> Known<Vec<String>> {
    let profile = own.app_armor_profile.as_ref().or(whole.app_armor_profile.as_ref());
    let kind = profile.and_then(|profile| profile.kind.as_deref());
    let label = own.se_linux_options.as_ref().or(whole.se_linux_options.as_ref());
    let domain = label.and_then(|label| label.kind.as_deref()).filter(|kind| !kind.is_empty());
    let app_armor = kind.map(|kind| format!("AppArmor: {}", kind.to_ascii_lowercase()));
    Ok(app_armor.into_iter().chain(domain.map(|kind| format!("SELinux type:{kind}"))).collect())
}

fn devices(container: &Container) -> List<String> {
    let mut devices = container.volume_devices.iter().flatten();
    let one = devices.next().map(|it| {
        Unknown::because(format!("which device is at {} is the cluster's to say", it.device_path))
    });
    List { known: Vec::new(), rest: one }
}

fn mounts(pod: &Pod, container: &Container) -> Vec<Mount> {
    let volumes = || pod.spec.volumes.iter().flatten();
    let mounts = container.volume_mounts.iter().flatten();
    mounts
        .map(|mount| {
            let is_it = |it: &&BTreeMap<String, Value>| {
                it.get("name").and_then(Value::as_str) == Some(mount.name.as_str())
            };
            let volume = volumes().find(is_it);
            let host = volume.and_then(|it| it.get("hostPath")?.get("path")?.as_str());
            let is_kind = |it: &(&String, &Value)| it.0 != "name" && !it.1.is_null();
            let kind = volume.and_then(|it| it.iter().find(is_kind)).map(|(kind, _)| kind);
            let unsure = match kind.map(String::as_str) {
                Some("persistentVolumeClaim" | "csi" | "flexVolume" | "ephemeral") => {
                    Some("the cluster says what stands behind it")
                }
                None => Some("its volume is not in the manifest, or of no kind"),
                Some(_) => None,
            };
            let below = mount.sub_path.as_deref().filter(|path| !path.is_empty());
            Mount {
                unsure: unsure.filter(|_| host.is_none()).map(Unknown::because),
                host: host.map(|host| match below {
                    Some(below) => format!("{host}/{below}"),
                    None => host.to_owned(),
                }),
                target: mount.mount_path.clone(),
                // Kubernetes mounts these read-only whatever is asked for.
                writable: mount.read_only != Some(true)
                    && !matches!(
                        kind.map(String::as_str),
                        Some("configMap" | "secret" | "projected" | "downwardAPI" | "image")
                    ),
                shared: mount.mount_propagation.as_deref() == Some("Bidirectional"),
                kind: kind.cloned().unwrap_or_else(|| "volume".into()),
            }
        })
        .collect()
}

fn resource(container: &Container, of_limits: bool, name: &str) -> Option<String> {
    let resources = container.resources.as_ref()?;
    let own = |list: &Option<BTreeMap<String, Value>>| {
        list.as_ref()?.get(name).map(text).filter(|limit| is_limit(limit))
    };
    let limit = own(&resources.limits);
    // A request that is not there is the limit.
    if of_limits { limit } else { own(&resources.requests).or(limit) }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn health(container: &Container) -> Option<String> {
    let probes = [
        ("livenessProbe", &container.liveness_probe),
        ("readinessProbe", &container.readiness_probe),
        ("startupProbe", &container.startup_probe),
    ];
    let set: Vec<&str> =
        probes.iter().filter(|(_, probe)| probe.is_some()).map(|(name, _)| *name).collect();
    (!set.is_empty()).then(|| set.join(", "))
}

/// In the host's network a port of the container is one of the host.
fn ports(container: &Container, in_hosts: bool) -> Vec<Port> {
    let ports = container.ports.iter().flatten();
    let of_host = ports.filter_map(|port| {
        let number = port.host_port.or(port.container_port.filter(|_| in_hosts));
        Some((port, number.filter(|number| *number != 0)?))
    });
    of_host
        .map(|(port, number)| Port {
            address: port.host_ip.clone().unwrap_or_default(),
            host: Some(number),
            container: format!(
                "{}/{}",
                port.container_port.unwrap_or_default(),
                port.protocol.as_deref().unwrap_or("TCP").to_ascii_lowercase()
            ),
        })
        .collect()
}

fn environment(container: &Container) -> List<Variable> {
    let known = container.env.iter().flatten();
    // A value by reference is none of the manifest's.
    let known: Vec<Variable> =
        known.map(|it| Variable::new(&it.name, it.value.as_deref())).collect();
    let others = container.env_from.as_ref().is_some_and(|list| !list.is_empty());
    List { known, rest: others.then(|| Unknown::because("envFrom takes variables from elsewhere")) }
}
