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
            Ulimit, Unknown, User, Variable,
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
    let host = |key: &str| service.text(key).map(|mode| mode.as_deref() == Some("host"));
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
            network: host("network_mode"),
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
        Ok(matches!(self.text(path)?.as_deref(), Some("true" | "yes" | "on")))
    }

    /// The first of these that is set to something; 0 and -1 are no limit.
    fn first(&self, paths: &[&str]) -> Known<Option<String>> {
        let mut unknown = None;
        for path in paths {
            match self.text(path) {
                Ok(Some(text)) if !matches!(text.as_str(), "0" | "-1" | "") => {
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
        Ok(self.option("no-new-privileges")?.is_some_and(|value| value != "false"))
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
        list
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
            let host = if kind == "bind" { Some(source) } else { self.device_of(&source) };
            return Ok(Mount {
                host,
                target: text("target")?,
                writable: text("read_only")? != "true",
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
        Ok(Mount {
            host: if is_path { Some(source.to_owned()) } else { self.device_of(source) },
            target: target.to_owned(),
            writable: !has(&["ro"]),
            shared: has(&["shared", "rshared"]),
            kind: if is_path { "bind" } else { "volume" }.into(),
        })
    }

    /// The path of the host that a volume with a name stands for, when its driver is told to bind one.
    fn device_of(&self, volume: &str) -> Option<String> {
        let options = self.whole.get("volumes")?.get(volume)?.get("driver_opts")?;
        let is_bind =
            options.get("o")?.as_str()?.split(',').any(|option| matches!(option, "bind" | "rbind"));
        options.get("device")?.as_str().filter(|_| is_bind).map(str::to_owned)
    }

    fn devices(&self) -> List<String> {
        let mut list = self.list("devices", |value| {
            let text = scalar(value.get("source").unwrap_or(value))?;
            Ok(text.split(':').next().unwrap_or_default().to_owned())
        });
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
        let words = |value: &Value| match value {
            Value::Array(words) => {
                words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
            }
            Value::String(text) => text.clone(),
            _ => String::new(),
        };
        match self.get("healthcheck.test")?.map(words) {
            Some(test) if test == "NONE" => Ok(None),
            Some(test) => Ok(Some(test)),
            None => Err(Unknown::because("no health check is set: the image may have one")),
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
