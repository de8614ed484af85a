//! A pod held against the Pod Security Standards, control by control.
//!
//! Source: <https://kubernetes.io/docs/concepts/security/pod-security-standards/> as of Kubernetes 1.34. A field that is not set is judged as
//! the standard says of undefined ones. Pods of Windows (`os.name`) are excused where the standard excuses them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::{
    facts::Known,
    run::{Answer, Subject},
};

/// A policy of the standards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Policy {
    /// Prevents known ways to more privileges.
    Baseline,
    /// Hardened; all of `baseline`, too.
    Restricted,
}

impl Policy {
    /// As a namespace's label names it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Policy::Baseline => "baseline",
            Policy::Restricted => "restricted",
        }
    }
}

/// A control that a pod breaks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// Of which policy.
    pub policy: Policy,
    /// As the standard calls it.
    pub control: &'static str,
    /// Field and value, in words. Hostile text.
    pub what: String,
}

/// The part of a pod that is looked at.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Pod {
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Its spec.
    pub spec: PodSpec,
}

/// `spec`. Fields as in Kubernetes.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "fields are those of Kubernetes")]
pub struct PodSpec {
    pub host_network: Option<bool>,
    #[serde(rename = "hostPID")]
    pub host_pid: Option<bool>,
    #[serde(rename = "hostIPC")]
    pub host_ipc: Option<bool>,
    pub host_users: Option<bool>,
    pub os: Option<Os>,
    pub security_context: Option<SecurityContext>,
    pub init_containers: Option<Vec<Container>>,
    pub containers: Option<Vec<Container>>,
    pub ephemeral_containers: Option<Vec<Container>>,
    pub volumes: Option<Vec<BTreeMap<String, Value>>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "fields are those of Kubernetes")]
pub struct Os {
    pub name: Option<String>,
}

/// That of a pod and that of a container in one: each has fields that the other has not.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "fields are those of Kubernetes")]
pub struct SecurityContext {
    pub privileged: Option<bool>,
    pub allow_privilege_escalation: Option<bool>,
    pub read_only_root_filesystem: Option<bool>,
    pub run_as_non_root: Option<bool>,
    pub run_as_user: Option<i64>,
    pub proc_mount: Option<String>,
    pub capabilities: Option<Capabilities>,
    pub seccomp_profile: Option<ProfileOf>,
    pub app_armor_profile: Option<ProfileOf>,
    pub se_linux_options: Option<SeLinux>,
    pub windows_options: Option<Windows>,
    pub sysctls: Option<Vec<Sysctl>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "fields are those of Kubernetes")]
pub struct Capabilities {
    pub add: Option<Vec<String>>,
    pub drop: Option<Vec<String>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "fields are those of Kubernetes")]
pub struct ProfileOf {
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub localhost_profile: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "fields are those of Kubernetes")]
pub struct SeLinux {
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub user: Option<String>,
    pub role: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "fields are those of Kubernetes")]
pub struct Windows {
    pub host_process: Option<bool>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "fields are those of Kubernetes")]
pub struct Sysctl {
    pub name: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "fields are those of Kubernetes")]
pub struct Container {
    pub name: String,
    pub image: Option<String>,
    pub security_context: Option<SecurityContext>,
    pub ports: Option<Vec<ContainerPort>>,
    pub env: Option<Vec<EnvVar>>,
    pub env_from: Option<Vec<Value>>,
    pub volume_mounts: Option<Vec<VolumeMount>>,
    pub volume_devices: Option<Vec<VolumeDevice>>,
    pub resources: Option<Resources>,
    pub liveness_probe: Option<Probe>,
    pub readiness_probe: Option<Probe>,
    pub startup_probe: Option<Probe>,
    pub lifecycle: Option<Lifecycle>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "fields are those of Kubernetes")]
pub struct ContainerPort {
    pub container_port: Option<u16>,
    pub host_port: Option<u16>,
    #[serde(rename = "hostIP")]
    pub host_ip: Option<String>,
    pub protocol: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "fields are those of Kubernetes")]
pub struct EnvVar {
    pub name: String,
    pub value: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "fields are those of Kubernetes")]
pub struct VolumeMount {
    pub name: String,
    pub mount_path: String,
    pub read_only: Option<bool>,
    pub mount_propagation: Option<String>,
    pub sub_path: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "fields are those of Kubernetes")]
pub struct VolumeDevice {
    pub device_path: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "fields are those of Kubernetes")]
pub struct Resources {
    pub limits: Option<BTreeMap<String, Value>>,
    pub requests: Option<BTreeMap<String, Value>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "fields are those of Kubernetes")]
pub struct Probe {
    pub http_get: Option<Host>,
    pub tcp_socket: Option<Host>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "fields are those of Kubernetes")]
pub struct Lifecycle {
    pub post_start: Option<Probe>,
    pub pre_stop: Option<Probe>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "fields are those of Kubernetes")]
pub struct Host {
    pub host: Option<String>,
}

/// Whose adding `baseline` lets be.
const ADDED: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
const SELINUX_TYPES: [&str; 5] =
    ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];
const SYSCTLS: [&str; 10] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
];
const VOLUMES: [&str; 8] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
];
const APPARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

impl Pod {
    /// Every container, of whichever kind.
    pub fn containers(&self) -> impl Iterator<Item = &Container> {
        let spec = &self.spec;
        [&spec.init_containers, &spec.containers, &spec.ephemeral_containers]
            .into_iter()
            .flatten()
            .flatten()
    }

    fn is_windows(&self) -> bool {
        self.spec.os.as_ref().and_then(|os| os.name.as_deref()) == Some("windows")
    }

    /// What of the standards it breaks: `baseline` first, by control.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        let mut broken = Broken { policy: Policy::Baseline, control: "", all: Vec::new() };
        self.baseline(&mut broken);
        broken.policy = Policy::Restricted;
        self.restricted(&mut broken);
        broken.all
    }

    /// The security contexts, with where they stand: the pod's own first.
    fn contexts(&self) -> impl Iterator<Item = (String, &SecurityContext)> {
        let own = self.spec.security_context.iter().map(|context| ("spec".to_owned(), context));
        own.chain(self.own_contexts())
    }

    fn own_contexts(&self) -> impl Iterator<Item = (String, &SecurityContext)> {
        self.containers().filter_map(|one| Some((place(one), one.security_context.as_ref()?)))
    }

    fn baseline(&self, broken: &mut Broken) {
        let spec = &self.spec;
        broken.control = "HostProcess";
        for (at, context) in self.contexts() {
            let windows = context.windows_options.as_ref().and_then(|options| options.host_process);
            broken.when(windows == Some(true), || format!("{at}: hostProcess is true"));
        }
        broken.control = "Host Namespaces";
        for (name, set) in [
            ("hostNetwork", spec.host_network),
            ("hostPID", spec.host_pid),
            ("hostIPC", spec.host_ipc),
        ] {
            broken.when(set == Some(true), || format!("{name} is true"));
        }
        broken.control = "Privileged Containers";
        for (at, context) in self.own_contexts() {
            broken.when(context.privileged == Some(true), || format!("{at}: privileged is true"));
        }
        broken.control = "Capabilities";
        for (at, name) in self.added() {
            broken.when(!ADDED.contains(&name), || format!("{at}: adds `{name}`"));
        }
        broken.control = "HostPath Volumes";
        for volume in spec.volumes.iter().flatten() {
            broken.when(is_set(volume, "hostPath"), || {
                format!("volume {}: hostPath", volume_name(volume))
            });
        }
        broken.control = "Host Ports";
        for one in self.containers() {
            for port in one.ports.iter().flatten().filter_map(|port| port.host_port) {
                broken.when(port != 0, || format!("{}: hostPort {port}", place(one)));
            }
        }
        broken.control = "Host Probes / Lifecycle Hooks";
        for one in self.containers() {
            for host in one.asked_hosts() {
                broken.when(!host.is_empty(), || format!("{}: asks host `{host}`", place(one)));
            }
        }
        broken.control = "AppArmor";
        for (at, context) in self.contexts() {
            let kind =
                context.app_armor_profile.as_ref().and_then(|profile| profile.kind.as_deref());
            let is_good = matches!(kind, None | Some("RuntimeDefault" | "Localhost"));
            broken.when(!is_good, || {
                format!("{at}: AppArmor profile `{}`", kind.unwrap_or_default())
            });
        }
        for (name, value) in self.annotations.iter().filter(|(name, _)| name.starts_with(APPARMOR))
        {
            let is_good =
                value.is_empty() || value == "runtime/default" || value.starts_with("localhost/");
            broken.when(!is_good, || format!("annotation {name}: `{value}`"));
        }
        broken.control = "SELinux";
        for (at, options) in
            self.contexts().filter_map(|(at, it)| Some((at, it.se_linux_options.as_ref()?)))
        {
            let kind = options.kind.as_deref().unwrap_or_default();
            broken.when(!SELINUX_TYPES.contains(&kind), || format!("{at}: type `{kind}`"));
            for (name, value) in [("user", &options.user), ("role", &options.role)] {
                let value = value.as_deref().unwrap_or_default();
                broken.when(!value.is_empty(), || format!("{at}: {name} `{value}`"));
            }
        }
        broken.control = "/proc Mount Type";
        for (at, context) in self.own_contexts() {
            let kind = context.proc_mount.as_deref();
            broken.when(!matches!(kind, None | Some("Default")), || {
                format!("{at}: procMount `{}`", kind.unwrap_or_default())
            });
        }
        broken.control = "Seccomp";
        for (at, context) in self.contexts() {
            let kind = context.seccomp();
            let is_good = matches!(kind, None | Some("RuntimeDefault" | "Localhost"));
            broken
                .when(!is_good, || format!("{at}: seccomp profile `{}`", kind.unwrap_or_default()));
        }
        broken.control = "Sysctls";
        let sysctls = spec.security_context.iter().filter_map(|context| context.sysctls.as_ref());
        for Sysctl { name } in sysctls.flatten() {
            broken.when(!SYSCTLS.contains(&name.as_str()), || format!("sysctl `{name}`"));
        }
    }

    fn restricted(&self, broken: &mut Broken) {
        broken.control = "Volume Types";
        for volume in self.spec.volumes.iter().flatten() {
            let is_good = VOLUMES.iter().any(|kind| is_set(volume, kind));
            broken.when(!is_good, || {
                format!("volume {}: {}", volume_name(volume), volume_kind(volume))
            });
        }
        let pods = self.spec.security_context.as_ref();
        if !self.is_windows() {
            broken.control = "Privilege Escalation";
            for one in self.containers() {
                let set =
                    one.security_context.as_ref().and_then(|it| it.allow_privilege_escalation);
                broken.when(set != Some(false), || {
                    format!("{}: allowPrivilegeEscalation is not false", place(one))
                });
            }
        }
        broken.control = "Running as Non-root";
        let whole = pods.and_then(|it| it.run_as_non_root);
        broken.when(whole == Some(false), || "spec: runAsNonRoot is false".to_owned());
        for one in self.containers() {
            let own = one.security_context.as_ref().and_then(|it| it.run_as_non_root);
            broken.when(own.or(whole) != Some(true), || {
                format!("{}: runAsNonRoot is not true", place(one))
            });
        }
        broken.control = "Running as Non-root user";
        for (at, context) in self.contexts() {
            broken.when(context.run_as_user == Some(0), || format!("{at}: runAsUser is 0"));
        }
        if self.is_windows() {
            return;
        }
        broken.control = "Seccomp";
        let is_good = |kind: Option<&str>| matches!(kind, Some("RuntimeDefault" | "Localhost"));
        let whole = pods.and_then(SecurityContext::seccomp);
        for one in self.containers() {
            let own = one.security_context.as_ref().and_then(SecurityContext::seccomp);
            broken.when(!is_good(own.or(whole)), || {
                format!("{}: no seccomp profile is set", place(one))
            });
        }
        broken.when(whole.is_some() && !is_good(whole), || {
            format!("spec: seccomp profile `{}`", whole.unwrap_or_default())
        });
        broken.control = "Capabilities";
        for one in self.containers() {
            let drops = one
                .security_context
                .as_ref()
                .and_then(|it| it.capabilities.as_ref()?.drop.as_ref());
            let all = drops.is_some_and(|drops| drops.iter().any(|name| name == "ALL"));
            broken.when(!all, || format!("{}: does not drop ALL", place(one)));
        }
        for (at, name) in self.added() {
            broken.when(name != "NET_BIND_SERVICE", || format!("{at}: adds `{name}`"));
        }
    }

    fn added(&self) -> impl Iterator<Item = (String, &str)> {
        self.own_contexts().flat_map(|(at, context)| {
            let added = context.capabilities.as_ref().and_then(|it| it.add.as_ref());
            added.into_iter().flatten().map(move |name| (at.clone(), name.as_str()))
        })
    }
}

impl SecurityContext {
    /// The type of its seccomp profile.
    #[must_use]
    pub fn seccomp(&self) -> Option<&str> {
        self.seccomp_profile.as_ref()?.kind.as_deref()
    }
}

impl Container {
    fn asked_hosts(&self) -> impl Iterator<Item = &str> {
        let probes = [&self.liveness_probe, &self.readiness_probe, &self.startup_probe]
            .into_iter()
            .flatten();
        let hooks = self.lifecycle.iter().flat_map(|it| [&it.post_start, &it.pre_stop]).flatten();
        let hosts = probes.chain(hooks).flat_map(|probe| [&probe.http_get, &probe.tcp_socket]);
        hosts.flatten().filter_map(|asked| asked.host.as_deref())
    }
}

struct Broken {
    policy: Policy,
    control: &'static str,
    all: Vec<Violation>,
}

impl Broken {
    fn when(&mut self, is_broken: bool, what: impl FnOnce() -> String) {
        if is_broken {
            self.all.push(Violation { policy: self.policy, control: self.control, what: what() });
        }
    }
}

fn place(container: &Container) -> String {
    format!("container {}", container.name)
}

fn is_set(volume: &BTreeMap<String, Value>, kind: &str) -> bool {
    volume.get(kind).is_some_and(|value| !value.is_null())
}

fn volume_name(volume: &BTreeMap<String, Value>) -> &str {
    volume.get("name").and_then(Value::as_str).unwrap_or_default()
}

fn volume_kind(volume: &BTreeMap<String, Value>) -> &str {
    volume.keys().map(String::as_str).find(|key| *key != "name").unwrap_or("no type")
}

/// Pods are judged by themselves, not with each container.
pub(super) fn moot(_: &Subject<'_>) -> Known<Answer> {
    Ok(Answer::Moot)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Follows both policies.
    fn hardened() -> Value {
        json!({"spec": {
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "a", "securityContext": {
                "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}],
            "volumes": [{"name": "v", "emptyDir": {}}],
        }})
    }

    /// With `value` at this pointer, whose parents are made.
    fn with(pointer: &str, value: Value) -> Value {
        let mut pod = hardened();
        let mut at = &mut pod;
        for part in pointer.split('/').skip(1) {
            if let Ok(index) = part.parse::<usize>() {
                if !at.is_array() {
                    *at = json!([]);
                }
                let list = at.as_array_mut().expect("a list");
                while list.len() <= index {
                    list.push(json!({}));
                }
                at = &mut list[index];
            } else {
                if !at.is_object() {
                    *at = json!({});
                }
                at = at
                    .as_object_mut()
                    .expect("an object")
                    .entry(part.replace("~1", "/"))
                    .or_insert(json!(null));
            }
        }
        *at = value;
        pod
    }

    fn broken(pod: Value) -> Vec<(Policy, &'static str)> {
        let pod: Pod = serde_json::from_value(pod).expect("a pod");
        let mut all: Vec<_> =
            pod.violations().into_iter().map(|it| (it.policy, it.control)).collect();
        all.dedup();
        all
    }

    const OWN: &str = "/spec/containers/0/securityContext";

    #[test]
    fn every_control_of_baseline_has_two_sides() {
        // pointer, a value that breaks it, one that does not
        let cases = [
            (
                "HostProcess",
                "/spec/securityContext/windowsOptions/hostProcess".to_owned(),
                json!(true),
                json!(false),
            ),
            ("HostProcess", format!("{OWN}/windowsOptions/hostProcess"), json!(true), json!(false)),
            ("Host Namespaces", "/spec/hostNetwork".into(), json!(true), json!(false)),
            ("Host Namespaces", "/spec/hostPID".into(), json!(true), json!(false)),
            ("Host Namespaces", "/spec/hostIPC".into(), json!(true), json!(null)),
            ("Privileged Containers", format!("{OWN}/privileged"), json!(true), json!(false)),
            (
                "Host Ports",
                "/spec/containers/0/ports".into(),
                json!([{"containerPort": 80, "hostPort": 80}]),
                json!([{"containerPort": 80, "hostPort": 0}]),
            ),
            (
                "Host Probes / Lifecycle Hooks",
                "/spec/containers/0/livenessProbe/httpGet/host".into(),
                json!("10.0.0.1"),
                json!(""),
            ),
            (
                "Host Probes / Lifecycle Hooks",
                "/spec/containers/0/lifecycle/preStop/tcpSocket/host".into(),
                json!("x"),
                json!(null),
            ),
            (
                "AppArmor",
                "/spec/securityContext/appArmorProfile/type".into(),
                json!("Unconfined"),
                json!("RuntimeDefault"),
            ),
            (
                "AppArmor",
                format!("{OWN}/appArmorProfile/type"),
                json!("Unconfined"),
                json!("Localhost"),
            ),
            (
                "AppArmor",
                "/annotations/container.apparmor.security.beta.kubernetes.io~1a".into(),
                json!("unconfined"),
                json!("localhost/x"),
            ),
            (
                "SELinux",
                "/spec/securityContext/seLinuxOptions/type".into(),
                json!("spc_t"),
                json!("container_engine_t"),
            ),
            ("SELinux", format!("{OWN}/seLinuxOptions/user"), json!("root"), json!("")),
            ("SELinux", format!("{OWN}/seLinuxOptions/role"), json!("sysadm_r"), json!(null)),
            ("/proc Mount Type", format!("{OWN}/procMount"), json!("Unmasked"), json!("Default")),
            (
                "Sysctls",
                "/spec/securityContext/sysctls".into(),
                json!([{"name": "kernel.msgmax", "value": "1"}]),
                json!([{"name": "net.ipv4.tcp_fin_timeout", "value": "1"}]),
            ),
        ];
        for (control, pointer, bad, good) in cases {
            assert_eq!(broken(with(&pointer, bad)), [(Policy::Baseline, control)], "{pointer}");
            assert_eq!(broken(with(&pointer, good)), [], "{pointer}");
        }
    }

    #[test]
    fn what_both_policies_ask_for_is_broken_twice() {
        let both = |control| vec![(Policy::Baseline, control), (Policy::Restricted, control)];
        let add = format!("{OWN}/capabilities/add");
        assert_eq!(broken(with(&add, json!(["NET_RAW"]))), both("Capabilities"));
        assert_eq!(broken(with(&add, json!(["CHOWN"]))), [(Policy::Restricted, "Capabilities")]);
        assert_eq!(broken(with(&add, json!(["NET_BIND_SERVICE"]))), []);
        let seccomp = format!("{OWN}/seccompProfile/type");
        assert_eq!(broken(with(&seccomp, json!("Unconfined"))), both("Seccomp"));
        assert_eq!(broken(with(&seccomp, json!("Localhost"))), []);
        let volumes = json!([{"name": "h", "hostPath": {"path": "/"}}]);
        assert_eq!(
            broken(with("/spec/volumes", volumes)),
            [(Policy::Baseline, "HostPath Volumes"), (Policy::Restricted, "Volume Types")]
        );
    }

    #[test]
    fn every_control_of_restricted_has_two_sides() {
        let cases = [
            (
                "Volume Types",
                "/spec/volumes".to_owned(),
                json!([{"name": "n", "nfs": {"server": "x"}}]),
                json!([{"name": "n", "secret": {}}]),
            ),
            (
                "Privilege Escalation",
                format!("{OWN}/allowPrivilegeEscalation"),
                json!(null),
                json!(false),
            ),
            (
                "Running as Non-root",
                "/spec/securityContext/runAsNonRoot".into(),
                json!(null),
                json!(true),
            ),
            ("Running as Non-root", format!("{OWN}/runAsNonRoot"), json!(false), json!(true)),
            (
                "Running as Non-root user",
                "/spec/securityContext/runAsUser".into(),
                json!(0),
                json!(1000),
            ),
            ("Running as Non-root user", format!("{OWN}/runAsUser"), json!(0), json!(null)),
            (
                "Seccomp",
                "/spec/securityContext/seccompProfile".into(),
                json!(null),
                json!({"type": "Localhost", "localhostProfile": "x"}),
            ),
            (
                "Capabilities",
                format!("{OWN}/capabilities/drop"),
                json!(["NET_RAW"]),
                json!(["ALL"]),
            ),
        ];
        for (control, pointer, bad, good) in cases {
            assert_eq!(broken(with(&pointer, bad)), [(Policy::Restricted, control)], "{pointer}");
            assert_eq!(broken(with(&pointer, good)), [], "{pointer}");
        }
    }

    #[test]
    fn a_pod_must_not_say_that_root_is_right_whatever_its_containers_say() {
        let mut pod = with("/spec/securityContext/runAsNonRoot", json!(false));
        pod["spec"]["containers"][0]["securityContext"]["runAsNonRoot"] = json!(true);
        assert_eq!(broken(pod), [(Policy::Restricted, "Running as Non-root")]);
    }

    #[test]
    fn containers_of_every_kind_count_and_windows_is_excused() {
        for kind in ["initContainers", "ephemeralContainers"] {
            let found = broken(with(&format!("/spec/{kind}"), json!([{"name": "b"}])));
            let restricted = |control| (Policy::Restricted, control);
            assert_eq!(
                found,
                [restricted("Privilege Escalation"), restricted("Capabilities")],
                "{kind}"
            );
        }
        let mut pod = with("/spec/os/name", json!("windows"));
        pod["spec"]["containers"] = json!([{"name": "w"}]);
        assert_eq!(broken(pod), []);
    }
}
