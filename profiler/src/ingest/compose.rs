//! A service of a compose file, as the facts that are audited.
//!
//! Source: <https://github.com/compose-spec/compose-spec/blob/main/05-services.md>. What the file alone does not say is unknown: values with
//! `$` (the environment decides), what comes by `extends` or `env_file`, and what the image says.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::{
    ingest::{error::IngestError, stack::ReadProfile},
    model::{
        audit::{
            Facts, Filter, Known, Limits, List, Mount, Namespaces, Port, Reservations, Source,
            Ulimit, Unknown, User, Variable, behind_volume, docker_bool, health_check, is_limit,
        },
        capability,
    },
};

struct Service<'a> {
    own: &'a Map<String, Value>,
    whole: &'a Value,
    /// Why what is not there may be there all the same.
    extends: Option<Unknown>,
}

/// The facts of a service of `whole`.
///
/// # Errors
/// When it is no service.
pub(super) fn service(
    name: &str,
    service: &Value,
    whole: &Value,
    read: ReadProfile<'_>,
) -> Result<Facts, IngestError> {
    let Some(own) = service.as_object() else {
        return Err(IngestError::Value {
            what: "compose file",
            field: "service",
            value: name.to_owned(),
        });
    };
    let extends = own
        .get("extends")
        .map(|_| Unknown::because("the service extends another, which is not read"));
    let service = Service { own, whole, extends };
    let image = || Unknown::because("the image says, and a file does not have it");
    let host = |key: &str| service.shares(key);
    Ok(Facts {
        name: name.to_owned(),
        source: Source::Compose,
        user: service.user(),
        privileged: service.flag("privileged"),
        capabilities: service.capabilities(),
        seccomp: service.seccomp(read),
        process: None,
        no_new_privileges: service.no_new_privileges(),
        mac: service.mac(),
        read_only: service.flag("read_only"),
        mounts: service.mounts(),
        devices: service.devices(),
        namespaces: Namespaces {
            pid: host("pid"),
            network: service.network(),
            ipc: host("ipc"),
            uts: host("uts"),
            user: match host("userns_mode") {
                Ok(false) => {
                    Err(Unknown::because("whether the engine maps users is not in the file"))
                }
                other => other,
            },
        },
        limits: Limits {
            memory: service.first(&["mem_limit", "deploy.resources.limits.memory"]),
            pids: service.first(&["pids_limit", "deploy.resources.limits.pids"]),
            cpu: service.first(&["cpus", "cpu_quota", "deploy.resources.limits.cpus"]),
        },
        reservations: Reservations {
            memory: service.first(&["mem_reservation", "deploy.resources.reservations.memory"]),
            cpu: service.first(&["cpu_shares", "deploy.resources.reservations.cpus"]),
        },
        ulimits: service.ulimits(),
        health: service.health(),
        ports: service.list("ports", port),
        default_network: Some(
            service.text("network_mode").is_ok_and(|mode| mode.as_deref() == Some("bridge")),
        ),
        environment: service.environment(),
        labels: service.labels(),
        image_reference: match service.text("image") {
            Ok(None) => Err(Unknown::because("the image is built from a directory")),
            other => other.map(Option::unwrap_or_default),
        },
        image: Err(image()),
    })
}

/// Why a text does not say what it will be: `$NAME`, `${NAME}`; `$$` is a dollar.
fn unresolved(text: &str) -> Option<Unknown> {
    let bare = text.replace("$$", "");
    let (_, rest) = bare.split_once('$')?;
    let name: String = rest
        .trim_start_matches('{')
        .chars()
        .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
        .collect();
    Some(Unknown::because(format!("it depends on the variable `{name}`")))
}

/// As compose takes it, in any case; what it refuses is not known.
fn flag(text: &str) -> Known<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "y" | "on" | "1" | "t" => Ok(true),
        "false" | "no" | "n" | "off" | "0" | "f" | "" => Ok(false),
        _ => Err(Unknown::because("its value is no boolean")),
    }
}

/// A scalar as text.
fn scalar(value: &Value) -> Known<String> {
    match value {
        Value::String(text) => unresolved(text).map_or_else(|| Ok(text.clone()), Err),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(flag) => Ok(flag.to_string()),
        _ => Err(Unknown::because("its value is of a kind that is not read")),
    }
}

impl Service<'_> {
    /// By keys, separated by dots.
    fn get(&self, path: &str) -> Known<Option<&Value>> {
        let mut keys = path.split('.');
        let mut at = keys.next().and_then(|key| self.own.get(key));
        for key in keys {
            at = at.and_then(|value| value.get(key));
        }
        match (at.filter(|value| !value.is_null()), &self.extends) {
            (Some(value), _) => Ok(Some(value)),
            (None, Some(why)) => Err(why.clone()),
            (None, None) => Ok(None),
        }
    }

    fn text(&self, path: &str) -> Known<Option<String>> {
        self.get(path)?.map(scalar).transpose()
    }

    fn flag(&self, path: &str) -> Known<bool> {
        self.text(path)?.map_or(Ok(false), |text| flag(&text))
    }

    /// Whether a mode is the host's namespace.
    fn shares(&self, path: &str) -> Known<bool> {
        let mode = self.text(path)?.unwrap_or_default();
        if mode.starts_with("service:") || mode.starts_with("container:") {
            return Err(Unknown::because(format!("it is in the namespace of another: `{mode}`")));
        }
        Ok(mode == "host")
    }

    /// A network can be the host's under another name.
    fn network(&self) -> Known<bool> {
        if self.shares("network_mode")? {
            return Ok(true);
        }
        let names: Vec<String> = match self.get("networks")? {
            Some(Value::Object(map)) => map.keys().cloned().collect(),
            Some(_) => self.texts("networks")?,
            None => Vec::new(),
        };
        for name in &names {
            let declared = self.whole.get("networks").and_then(|all| all.get(name));
            let of = |key: &str| declared.and_then(|it| it.get(key)).filter(|it| !it.is_null());
            let named = of("name").or(of("external").and_then(|it| it.get("name")));
            let external = of("external").map_or(Ok(false), |it| match it {
                Value::Object(_) => Ok(true),
                other => scalar(other).and_then(|text| flag(&text)),
            })?;
            let (named, driver) =
                (named.map(scalar).transpose()?, of("driver").map(scalar).transpose()?);
            let is_host = named.as_deref().unwrap_or(if external { name } else { "" }) == "host";
            if is_host || driver.as_deref() == Some("host") {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The first of these that is set to a limit.
    fn first(&self, paths: &[&str]) -> Known<Option<String>> {
        let mut unknown = None;
        for path in paths {
            match self.text(path) {
                Ok(Some(text)) if is_limit(&text) => {
                    return Ok(Some(text));
                }
                Ok(_) => {}
                Err(why) => unknown = Some(why),
            }
        }
        unknown.map_or(Ok(None), Err)
    }

    /// The elements of a list, or a single value for one.
    fn list<T>(&self, path: &str, read: impl Fn(&Value) -> Known<T>) -> List<T> {
        let mut list = List { known: Vec::new(), rest: self.extends.clone() };
        let values = match self.get(path) {
            Ok(Some(Value::Array(values))) => values.as_slice(),
            Ok(Some(value)) => std::slice::from_ref(value),
            Ok(None) | Err(_) => &[],
        };
        for value in values {
            match read(value) {
                Ok(one) => list.known.push(one),
                Err(why) => list.rest = Some(why),
            }
        }
        list
    }

    /// A list of texts of which all are known.
    fn texts(&self, path: &str) -> Known<Vec<String>> {
        let list = self.list(path, scalar);
        list.rest.map_or(Ok(list.known), Err)
    }

    fn user(&self) -> Known<User> {
        let Some(setting) = self.text("user")? else {
            return Err(Unknown::because("no user is set: the image says who it runs as"));
        };
        let name = setting.split(':').next().unwrap_or_default();
        let is_root = match (name, name.parse::<u32>()) {
            ("root", _) => Ok(true),
            (_, Ok(uid)) => Ok(uid == 0),
            _ => Err(Unknown::because(format!("the image says which uid `{name}` has"))),
        };
        Ok(User { setting, is_root })
    }

    fn capabilities(&self) -> Known<std::collections::BTreeSet<String>> {
        let (add, drop) = (self.texts("cap_add")?, self.texts("cap_drop")?);
        Ok(capability::granted(&capability::DOCKER_DEFAULT, &add, &drop, self.flag("privileged")?))
    }

    /// The value of the last security option of that name.
    fn option(&self, name: &str) -> Known<Option<String>> {
        let value = |option: &String| {
            let rest = option.strip_prefix(name)?;
            if rest.is_empty() {
                Some(String::new())
            } else {
                rest.strip_prefix([':', '=']).map(str::to_owned)
            }
        };
        let list = self.list("security_opt", scalar);
        match (list.known.iter().rev().find_map(value), list.rest) {
            (Some(value), _) => Ok(Some(value)),
            (None, Some(why)) => Err(why),
            (None, None) => Ok(None),
        }
    }

    fn seccomp(&self, read: ReadProfile<'_>) -> Known<Filter> {
        if self.flag("privileged")? {
            return Ok(Filter::Unconfined);
        }
        Ok(match self.option("seccomp")?.as_deref() {
            None | Some("" | "builtin" | "default") => Filter::EngineDefault,
            Some("unconfined") => Filter::Unconfined,
            Some(path) => {
                let unread =
                    || Unknown::because(format!("its seccomp profile `{path}` cannot be read"));
                Filter::File(Box::new(read(path).ok_or_else(unread)?))
            }
        })
    }

    fn no_new_privileges(&self) -> Known<bool> {
        let refused = || Unknown::because("the value of no-new-privileges is no boolean");
        match self.option("no-new-privileges")?.as_deref() {
            None => Ok(false),
            Some("") => Ok(true),
            Some(value) => docker_bool(value).ok_or_else(refused),
        }
    }

    fn mac(&self) -> Known<Vec<String>> {
        let is_of_mac =
            |option: &String| option.starts_with("apparmor") || option.starts_with("label");
        let list = self.list("security_opt", scalar);
        let found: Vec<String> = list.known.into_iter().filter(is_of_mac).collect();
        match list.rest {
            Some(why) if found.is_empty() => Err(why),
            _ => Ok(found),
        }
    }

    fn mounts(&self) -> List<Mount> {
        let mut list = self.list("volumes", |value| self.volume(value));
        let tmpfs = self.list("tmpfs", |value| {
            let text = scalar(value)?;
            let target = text.split(':').next().unwrap_or_default().to_owned();
            Ok(Mount { target, writable: true, kind: "tmpfs".into(), ..Mount::default() })
        });
        list.known.extend(tmpfs.known);
        list.rest = list.rest.or(tmpfs.rest);
        for kind in ["secrets", "configs"] {
            let given = self.list(kind, |value| self.given(kind, value));
            list.known.extend(given.known);
            list.rest = list.rest.or(given.rest);
        }
        match self.flag("use_api_socket") {
            Ok(true) => list.known.push(Mount {
                host: Some("/var/run/docker.sock".into()),
                target: "/var/run/docker.sock".into(),
                writable: true,
                kind: "bind".into(),
                ..Mount::default()
            }),
            Ok(false) => {}
            Err(why) => list.rest = Some(why),
        }
        if self.own.get("volumes_from").is_some_and(|it| !it.is_null()) {
            let why = "volumes_from takes mounts from another container";
            list.rest = Some(Unknown::because(why));
        }
        list
    }

    /// A secret or a config; one that is a file is mounted from the host, read-only.
    fn given(&self, kind: &str, value: &Value) -> Known<Mount> {
        let name = scalar(value.get("source").unwrap_or(value))?;
        let target = value.get("target").map(scalar).transpose()?.unwrap_or_else(|| name.clone());
        let declared = self.whole.get(kind).and_then(|all| all.get(&name));
        let file = declared.and_then(|it| it.get("file")).map(scalar).transpose()?;
        let unsure = match declared {
            Some(Value::Object(_)) => None,
            _ => Some(Unknown::because(format!("`{name}` is not declared in the file"))),
        };
        // A path alone is below the file's directory.
        let is_plain = |path: &String| !path.starts_with(['/', '.', '~']);
        let file = file.map(|path| if is_plain(&path) { format!("./{path}") } else { path });
        Ok(Mount { host: file, unsure, target, kind: kind.into(), ..Mount::default() })
    }

    fn volume(&self, value: &Value) -> Known<Mount> {
        if let Value::Object(long) = value {
            let text =
                |key: &str| long.get(key).map(scalar).transpose().map(Option::unwrap_or_default);
            let nested = long
                .get("bind")
                .and_then(|bind| bind.get("propagation"))
                .map(scalar)
                .transpose()?;
            let (kind, source) = (text("type")?, text("source")?);
            let is_plain = !source.starts_with(['/', '.', '~']);
            let behind = match kind.as_str() {
                "bind" if is_plain => Ok(Some(format!("./{source}"))),
                "bind" => Ok(Some(source)),
                "tmpfs" | "image" => Ok(None),
                _ => self.device_of(&source),
            };
            return Ok(Mount {
                unsure: behind.clone().err(),
                host: behind.ok().flatten(),
                target: text("target")?,
                writable: !flag(&text("read_only")?)?,
                shared: nested.is_some_and(|it| matches!(it.as_str(), "shared" | "rshared")),
                kind: if kind.is_empty() { "volume".into() } else { kind },
            });
        }
        let text = scalar(value)?;
        let parts: Vec<&str> = text.split(':').collect();
        let (source, target, options) = match parts.as_slice() {
            [target] => ("", *target, ""),
            [source, target] => (*source, *target, ""),
            [source, target, options, ..] => (*source, *target, *options),
            [] => ("", "", ""),
        };
        let is_path = source.starts_with(['/', '.', '~']);
        let has = |names: &[&str]| options.split(',').any(|option| names.contains(&option));
        let behind = if is_path { Ok(Some(source.to_owned())) } else { self.device_of(source) };
        Ok(Mount {
            unsure: behind.clone().err(),
            host: behind.ok().flatten(),
            target: target.to_owned(),
            writable: !has(&["ro"]),
            shared: has(&["shared", "rshared"]),
            kind: if is_path { "bind" } else { "volume" }.into(),
        })
    }

    /// The path of the host that a volume with a name stands for.
    fn device_of(&self, volume: &str) -> Known<Option<String>> {
        if volume.is_empty() {
            return Ok(None);
        }
        let declared = self.whole.get("volumes").and_then(|all| all.get(volume));
        let Some(declared) = declared else {
            return Err(Unknown::because(format!("volume `{volume}` is not declared in the file")));
        };
        let of = |key: &str| declared.get(key).filter(|it| !it.is_null());
        let external =
            of("external").is_some_and(|it| scalar(it).and_then(|text| flag(&text)) != Ok(false));
        if external {
            return Err(Unknown::because(format!("volume `{volume}` is made elsewhere")));
        }
        let driver = of("driver").map(scalar).transpose()?.unwrap_or_default();
        let mut options = BTreeMap::new();
        for (name, value) in of("driver_opts").and_then(Value::as_object).into_iter().flatten() {
            options.insert(name.clone(), scalar(value)?);
        }
        behind_volume(&driver, &options)
    }

    fn devices(&self) -> List<String> {
        let mut list = self.list("devices", |value| {
            let text = scalar(value.get("source").unwrap_or(value))?;
            Ok(text.split(':').next().unwrap_or_default().to_owned())
        });
        let rules = self.list("device_cgroup_rules", scalar);
        list.known.extend(rules.known.into_iter().map(|rule| format!("rule {rule}")));
        list.rest = list.rest.or(rules.rest);
        for path in ["gpus", "deploy.resources.reservations.devices"] {
            if matches!(self.get(path), Ok(Some(_))) {
                list.known.push(path.to_owned());
            }
        }
        if self.flag("privileged") == Ok(true) {
            list.known.push("all of them: it is privileged".to_owned());
        }
        list
    }

    fn ulimits(&self) -> List<Ulimit> {
        let mut list = List { known: Vec::new(), rest: self.extends.clone() };
        let Ok(Some(Value::Object(limits))) = self.get("ulimits") else { return list };
        for (name, value) in limits {
            let hard = scalar(value.get("hard").unwrap_or(value));
            match hard.and_then(|text| {
                text.parse().map_err(|_| Unknown::because("a ulimit is no number"))
            }) {
                Ok(hard) => list.known.push(Ulimit { name: name.clone(), hard }),
                Err(why) => list.rest = Some(why),
            }
        }
        list
    }

    fn health(&self) -> Known<Option<String>> {
        if self.flag("healthcheck.disable")? {
            return Ok(None);
        }
        match self.get("healthcheck.test")? {
            // A text alone is for a shell.
            Some(Value::String(text)) if !text.is_empty() => health_check(["CMD-SHELL", text]),
            Some(Value::Array(words)) => health_check(words.iter().filter_map(Value::as_str)),
            _ => Err(Unknown::because("no health check is set: the image may have one")),
        }
    }

    /// A value that the environment gives is a value.
    fn environment(&self) -> List<Variable> {
        let variable = |name: &str, value: Option<&Value>| {
            let literal = value.and_then(|value| scalar(value).ok());
            let from_outside = value.is_none_or(Value::is_null) || literal.is_none();
            let it = Variable::new(name, literal.as_deref());
            Variable { is_set: it.is_set || from_outside, ..it }
        };
        let known = match self.get("environment") {
            Ok(Some(Value::Object(map))) => {
                map.iter().map(|(name, value)| variable(name, Some(value))).collect()
            }
            Ok(Some(Value::Array(list))) => {
                let texts = list.iter().filter_map(Value::as_str);
                let parted = texts.map(|text| match text.split_once('=') {
                    Some((name, value)) => variable(name, Some(&Value::String(value.to_owned()))),
                    None => variable(text, None),
                });
                parted.collect()
            }
            _ => Vec::new(),
        };
        let file = self.own.contains_key("env_file");
        let file = file.then(|| Unknown::because("env_file names variables that are not read"));
        List { known, rest: self.extends.clone().or(file) }
    }

    fn labels(&self) -> Known<BTreeMap<String, String>> {
        let mut labels = BTreeMap::new();
        for path in ["labels", "build.labels"] {
            match self.get(path) {
                Ok(Some(Value::Object(map))) => {
                    labels.extend(
                        map.iter()
                            .filter_map(|(name, value)| Some((name.clone(), scalar(value).ok()?))),
                    );
                }
                Ok(Some(Value::Array(list))) => {
                    let texts = list.iter().filter_map(Value::as_str);
                    labels.extend(
                        texts
                            .filter_map(|text| text.split_once('='))
                            .map(|(name, value)| (name.to_owned(), value.to_owned())),
                    );
                }
                _ => {}
            }
        }
        if labels.keys().any(|name| name.starts_with("org.opencontainers.image.")) {
            return Ok(labels);
        }
        Err(Unknown::because("the image has labels that a file does not show"))
    }
}

/// `[ADDRESS:][HOST:]CONTAINER[/PROTOCOL]`, or the long form. Of a range the first number.
fn port(value: &Value) -> Known<Port> {
    let number = |text: &str| {
        text.split('-').next().and_then(|first| first.parse().ok()).filter(|number| *number != 0)
    };
    if let Value::Object(long) = value {
        let text = |key: &str| long.get(key).map(scalar).transpose();
        let protocol = text("protocol")?.unwrap_or_else(|| "tcp".into());
        return Ok(Port {
            address: text("host_ip")?.unwrap_or_default(),
            host: text("published")?.as_deref().and_then(number),
            container: format!("{}/{protocol}", text("target")?.unwrap_or_default()),
        });
    }
    let text = scalar(value)?;
    let (rest, protocol) = text.split_once('/').unwrap_or((&text, "tcp"));
    let (rest, container) = rest.rsplit_once(':').unwrap_or(("", rest));
    let (address, host) = rest.rsplit_once(':').unwrap_or(("", rest));
    // An address alone, of IPv6 in brackets, has no number behind it.
    let address = address.trim_start_matches('[').trim_end_matches(']');
    Ok(Port {
        address: address.to_owned(),
        host: number(host),
        container: format!("{container}/{protocol}"),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The facts of a service `a` in a file with this beside it.
    fn facts(own: Value, beside: Value) -> Facts {
        let mut whole = beside;
        whole["services"] = json!({"a": own});
        service("a", &whole["services"]["a"], &whole, &|_| None).expect("a service")
    }

    #[test]
    fn volumes_of_every_kind_are_told_or_not_known() {
        let volumes = json!({"volumes": {
            "plain": null,
            "bound": {"driver_opts": {"type": "none", "o": "bind", "device": "/etc"}},
            "open": {"driver_opts": {"type": "none", "o": "bind", "device": "${WHERE}"}},
            "disk": {"driver_opts": {"type": "ext4", "device": "/dev/sda1"}},
            "other": {"external": true},
        }});
        for (volume, host, is_known) in [
            (json!("plain:/x"), None, true),
            (json!("/x"), None, true),
            (json!("bound:/x"), Some("/etc"), true),
            (json!({"type": "volume", "source": "bound", "target": "/x"}), Some("/etc"), true),
            (json!("./a:/x"), Some("./a"), true),
            (json!("open:/x"), None, false),
            (json!("disk:/x"), None, false),
            (json!("other:/x"), None, false),
            (json!("undeclared:/x"), None, false),
        ] {
            let told = facts(json!({"volumes": [volume]}), volumes.clone()).mounts.known.remove(0);
            assert_eq!((told.host.as_deref(), told.unsure.is_none()), (host, is_known), "{volume}");
        }
        let from = facts(json!({"volumes_from": ["b"]}), json!({}));
        assert!(from.mounts.rest.is_some());
        let socket = facts(json!({"use_api_socket": "True"}), json!({}));
        assert_eq!(socket.mounts.known[0].host.as_deref(), Some("/var/run/docker.sock"));
        let secret =
            facts(json!({"secrets": ["s"]}), json!({"secrets": {"s": {"file": "/etc/shadow"}}}));
        assert_eq!(secret.mounts.known[0].host.as_deref(), Some("/etc/shadow"));
    }

    #[test]
    fn values_are_taken_as_compose_takes_them() {
        for (text, expected) in [
            ("TRUE", Ok(true)),
            ("On", Ok(true)),
            ("Y", Ok(true)),
            ("yes", Ok(true)),
            ("No", Ok(false)),
        ] {
            assert_eq!(
                facts(json!({"privileged": text}), json!({})).privileged,
                expected,
                "{text}"
            );
        }
        assert!(facts(json!({"privileged": "maybe"}), json!({})).privileged.is_err());
        for (option, expected) in [
            ("no-new-privileges", true),
            ("no-new-privileges:0", false),
            ("no-new-privileges=False", false),
        ] {
            let told = facts(json!({"security_opt": [option]}), json!({})).no_new_privileges;
            assert_eq!(told, Ok(expected), "{option}");
        }
        for limit in [json!("0m"), json!("0.0"), json!(0), json!(-1)] {
            assert_eq!(
                facts(json!({"mem_limit": limit, "cpus": limit}), json!({})).limits.memory,
                Ok(None),
                "{limit}"
            );
        }
        let of =
            |mode: &str| facts(json!({"pid": mode, "network_mode": mode}), json!({})).namespaces;
        assert!(of("service:b").pid.is_err() && of("container:b").network.is_err());
        assert_eq!((of("host").pid, of("none").network), (Ok(true), Ok(false)));
        let networks = json!({"networks": {"h": {"external": true, "name": "host"}, "n": null}});
        let on =
            |name: &str| facts(json!({"networks": [name]}), networks.clone()).namespaces.network;
        assert_eq!((on("h"), on("n")), (Ok(true), Ok(false)));
        assert!(facts(json!({"healthcheck": {"test": []}}), json!({})).health.is_err());
        assert_eq!(facts(json!({"healthcheck": {"test": ["NONE"]}}), json!({})).health, Ok(None));
        assert_eq!(
            facts(json!({"gpus": "all", "device_cgroup_rules": ["c 1:3 r"]}), json!({}))
                .devices
                .known,
            ["rule c 1:3 r", "gpus"]
        );
    }

    #[test]
    fn ports_are_read_in_every_form() {
        let of = |value: Value| port(&value).map(|it| (it.address, it.host, it.container));
        let expected = |address: &str, host, container: &str| {
            Ok((address.to_owned(), host, container.to_owned()))
        };
        assert_eq!(of(json!("80")), expected("", None, "80/tcp"));
        assert_eq!(of(json!(80)), expected("", None, "80/tcp"));
        assert_eq!(of(json!("8080:80")), expected("", Some(8080), "80/tcp"));
        assert_eq!(of(json!("127.0.0.1:8080:80/udp")), expected("127.0.0.1", Some(8080), "80/udp"));
        assert_eq!(of(json!("127.0.0.1::80")), expected("127.0.0.1", None, "80/tcp"));
        assert_eq!(of(json!("[::1]:8080:80")), expected("::1", Some(8080), "80/tcp"));
        assert_eq!(of(json!("9090-9091:80-81")), expected("", Some(9090), "80-81/tcp"));
        assert_eq!(
            of(json!({"target": 80, "published": "8080", "host_ip": "127.0.0.1"})),
            expected("127.0.0.1", Some(8080), "80/tcp")
        );
        assert!(of(json!("${PORT:-80}:80")).is_err());
        assert!(unresolved("a$$b").is_none());
    }
}
