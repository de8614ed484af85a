//! What an engine and the kernel say of a container, as the facts that are audited. Changes nothing.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use bollard::models::{ContainerInspectResponse, HostConfig, MountPoint, PortBinding};

use super::{ContainerInfo, Docker, EngineError, engine::EngineInfo, inspect};
use crate::{
    kernel::{cgroup::detect, filters, process},
    model::{
        audit::{
            Facts, Filter, Image, Known, Layer, Limits, Mount, Namespaces, Port, Process,
            Reservations, Source, Ulimit, Unknown, User, Variable, behind_volume, health_check,
        },
        recording::SeccompSetting,
        seccomp::SeccompFile,
    },
    target::cgroup,
};

/// What stands behind each volume, by name.
type Volumes = BTreeMap<String, Known<Option<String>>>;

/// Reads a profile; `None` for one that no engine would load.
pub type ParseProfile<'a> = &'a dyn Fn(&str) -> Option<SeccompFile>;

impl Docker {
    /// The facts of the container that [`find`](Self::find) has found; the contents of its image are not read.
    ///
    /// # Errors
    /// When it is gone, or the engine does not answer.
    pub async fn audited(
        &self,
        info: &ContainerInfo,
        parse: ParseProfile<'_>,
    ) -> Result<Facts, EngineError> {
        let answer = self.inspected(&info.id).await?;
        let image = match &answer.image {
            Some(id) => self.image(id).await,
            None => Err(Unknown::because("the engine names no image")),
        };
        let mut volumes = Volumes::new();
        for mount in answer.mounts.iter().flatten().filter(|mount| is_volume(mount)) {
            let name = mount.name.clone().unwrap_or_default();
            let behind = self.behind(&name).await;
            volumes.insert(name, behind);
        }
        Ok(facts(answer, info, self.version(), image, &volumes, parse))
    }

    /// The path of the host that a volume stands for.
    async fn behind(&self, name: &str) -> Known<Option<String>> {
        let connection = self.connection();
        let asked = connection.ask("inspect a volume", self.client.inspect_volume(name));
        let volume = asked.await.map_err(|error| {
            Unknown::because(format!("the engine does not describe a volume: {error}"))
        })?;
        behind_volume(&volume.driver, &volume.options.into_iter().collect())
    }

    async fn image(&self, id: &str) -> Known<Image> {
        let unknown = |error: EngineError| {
            Unknown::because(format!("the engine does not describe the image: {error}"))
        };
        let (connection, id) = (self.connection(), id.to_owned());
        let asked = connection
            .ask("inspect an image", self.client.inspect_image(&id))
            .await
            .map_err(unknown)?;
        let history = connection
            .ask("tell an image's history", self.client.image_history(&id))
            .await
            .map_err(unknown)?;
        let size = |size: i64| u64::try_from(size).unwrap_or(0);
        let layers = history.into_iter().rev().filter(|layer| layer.size > 0);
        Ok(Image {
            id,
            size: size(asked.size.unwrap_or(0)),
            layers: layers
                .map(|it| Layer { created_by: it.created_by, size: size(it.size) })
                .collect(),
            contents: Err(Unknown::because("the image's files were not read")),
        })
    }
}

fn facts(
    answer: ContainerInspectResponse,
    info: &ContainerInfo,
    engine: &EngineInfo,
    image: Known<Image>,
    volumes: &Volumes,
    parse: ParseProfile<'_>,
) -> Facts {
    let host = answer.host_config.clone().unwrap_or_default();
    let config = answer.config.clone().unwrap_or_default();
    let process = info.pid.and_then(|pid| process_of(pid, &info.id));
    let mode = |mode: &Option<String>| shares(mode.as_deref().unwrap_or_default());
    let labels = config.labels.unwrap_or_default();
    let is_default = |mode: &str| matches!(mode, "" | "default" | "bridge" | "podman");
    let health = config.healthcheck.and_then(|check| check.test).unwrap_or_default();
    Facts {
        name: info.name.clone(),
        source: Source::Engine,
        user: Ok(user(&info.facts.user, process.as_ref())),
        privileged: Ok(info.facts.privileged),
        capabilities: Ok(info.facts.capabilities.iter().cloned().collect()),
        seccomp: seccomp(&host, info, engine, parse),
        no_new_privileges: Ok(info.facts.no_new_privileges),
        mac: Ok(mac(&host, answer.app_armor_profile.as_deref())),
        read_only: Ok(host.readonly_rootfs.unwrap_or(false)),
        mounts: mounts(&answer, &host, volumes).into(),
        devices: devices(&host).into(),
        namespaces: Namespaces {
            pid: mode(&host.pid_mode),
            network: mode(&host.network_mode),
            ipc: mode(&host.ipc_mode),
            uts: mode(&host.uts_mode),
            user: match host.userns_mode.as_deref() {
                Some("host") => Ok(true),
                _ => Err(Unknown::because(
                    "whether the engine maps users is seen while the container runs",
                )),
            },
        },
        limits: Limits {
            memory: Ok(positive(host.memory).map(bytes)),
            pids: Ok(positive(host.pids_limit).map(|limit| limit.to_string())),
            cpu: Ok(cpu(&host)),
        },
        reservations: Reservations {
            memory: Ok(positive(host.memory_reservation).map(bytes)),
            cpu: Ok(positive(host.cpu_shares).map(|shares| format!("{shares} shares"))),
        },
        ulimits: ulimits(&host).into(),
        // The image's own is among it already.
        health: if health.is_empty() {
            Ok(None)
        } else {
            health_check(health.iter().map(String::as_str))
        },
        ports: ports(&answer, &host).into(),
        default_network: Some(is_default(host.network_mode.as_deref().unwrap_or_default())),
        environment: environment(&config.env.unwrap_or_default()).into(),
        labels: Ok(labels.into_iter().collect::<BTreeMap<_, _>>()),
        image_reference: Ok(info.facts.image.clone()),
        image,
        process,
    }
}

/// Whether a mode of the engine's is the host's namespace.
fn shares(mode: &str) -> Known<bool> {
    if mode.starts_with("container:") || mode.starts_with("ns:") {
        return Err(Unknown::because(format!("it is in the namespace of another: `{mode}`")));
    }
    Ok(mode == "host")
}

/// What the kernel says of its first process; `None` where the cgroup of that process is not the container's: the engine may be
/// on another machine, or the process gone.
fn process_of(pid: i32, id: &str) -> Option<Process> {
    let setup = detect(Path::new("/")).ok()?;
    let is_its_own = || cgroup::of_container(Path::new("/"), &setup, pid, id).is_ok();
    if !is_its_own() {
        return None;
    }
    let confined = process::confined(Path::new("/proc"), pid)?;
    let process = Process {
        uid: confined.uid,
        is_root: confined.uid == 0 || confined.root_uid == Some(confined.uid),
        bounding: confined.bounding,
        no_new_privileges: confined.no_new_privileges,
        seccomp_mode: confined.seccomp_mode,
        filters: filters::of_thread(pid).map_err(|error| Unknown::because(error.to_string())),
        is_hosts_root: confined.root_uid.map(|uid| uid == 0).ok_or_else(|| {
            Unknown::because("no uid is 0 in its user namespace, or its map cannot be read")
        }),
    };
    is_its_own().then_some(process)
}

/// The process says more than the setting does: the image may give any name uid 0, and what starts as root may become another.
fn user(setting: &str, process: Option<&Process>) -> User {
    let name = setting.split(':').next().unwrap_or_default();
    let is_root = match (process, name, name.parse::<u32>()) {
        (Some(process), ..) => Ok(process.is_root),
        (None, "" | "root", _) => Ok(true),
        (None, _, Ok(uid)) => Ok(uid == 0),
        _ => Err(Unknown::because(format!("the image says which uid `{name}` has"))),
    };
    User { setting: setting.to_owned(), is_root }
}

fn seccomp(
    host: &HostConfig,
    info: &ContainerInfo,
    engine: &EngineInfo,
    parse: ParseProfile<'_>,
) -> Known<Filter> {
    Ok(match info.facts.seccomp {
        SeccompSetting::Unconfined => Filter::Unconfined,
        SeccompSetting::EngineDefault => Filter::EngineDefault,
        SeccompSetting::Custom | SeccompSetting::Permissive => {
            let Some(profile) = inspect::seccomp_option(host) else {
                return Err(Unknown::because(format!(
                    "the default filter of {} is a file of its own",
                    engine.name
                )));
            };
            let text = if profile.trim_start().starts_with('{') {
                Some(profile.to_owned())
            } else {
                super::read_profile(profile)
            };
            let file = text.as_deref().and_then(parse);
            let unread = || Unknown::because("its seccomp profile cannot be read");
            Filter::File(Box::new(file.ok_or_else(unread)?))
        }
    })
}

fn mac(host: &HostConfig, app_armor: Option<&str>) -> Vec<String> {
    let options = host.security_opt.iter().flatten();
    let of_mac =
        options.filter(|option| option.starts_with("apparmor") || option.starts_with("label"));
    let named = app_armor.filter(|name| !name.is_empty()).map(|name| format!("AppArmor: {name}"));
    of_mac.cloned().chain(named).collect()
}

fn is_volume(mount: &MountPoint) -> bool {
    !matches!(mount.typ.as_deref(), Some("bind" | "tmpfs" | "image"))
}

fn mounts(answer: &ContainerInspectResponse, host: &HostConfig, volumes: &Volumes) -> Vec<Mount> {
    let is_shared = |text: &str| matches!(text, "shared" | "rshared");
    let mounted = answer.mounts.iter().flatten().map(|mount| {
        let kind = mount.typ.clone().unwrap_or_else(|| "volume".to_owned());
        let behind = volumes.get(mount.name.as_deref().unwrap_or_default()).cloned();
        let behind = behind.filter(|_| is_volume(mount)).unwrap_or(Ok(None));
        let bound = mount.source.clone().filter(|_| kind == "bind");
        Mount {
            unsure: behind.clone().err(),
            host: bound.or(behind.ok().flatten()),
            target: mount.destination.clone().unwrap_or_default(),
            writable: mount.rw.unwrap_or(true),
            shared: mount.propagation.as_deref().is_some_and(is_shared),
            kind,
        }
    });
    let tmpfs = host.tmpfs.iter().flatten().map(|(target, options)| Mount {
        target: target.clone(),
        writable: !options.split(',').any(|option| option == "ro"),
        kind: "tmpfs".into(),
        ..Mount::default()
    });
    let mut mounts: Vec<Mount> = mounted.chain(tmpfs).collect();
    mounts.sort_by(|a, b| a.target.cmp(&b.target));
    mounts.dedup_by(|a, b| a.target == b.target);
    mounts
}

fn devices(host: &HostConfig) -> Vec<String> {
    let named = host.devices.iter().flatten().filter_map(|device| device.path_on_host.clone());
    let rules = host.device_cgroup_rules.iter().flatten().map(|rule| format!("rule {rule}"));
    let requests = host.device_requests.iter().flatten().map(|request| {
        format!("devices of driver `{}`", request.driver.as_deref().unwrap_or_default())
    });
    let all = host.privileged.unwrap_or(false).then(|| "all of them: it is privileged".to_owned());
    named.chain(rules).chain(requests).chain(all).collect()
}

fn cpu(host: &HostConfig) -> Option<String> {
    let (period, quota) = (positive(host.cpu_period).unwrap_or(100_000), positive(host.cpu_quota));
    let nanos = positive(host.nano_cpus);
    let thousandths = nanos.map(|nanos| nanos / 1_000_000);
    let thousandths =
        thousandths.or_else(|| quota.map(|quota| quota.saturating_mul(1000) / period));
    let told = thousandths.map(|it| format!("{}.{:03} processors", it / 1000, it % 1000));
    let set = host.cpuset_cpus.as_deref().filter(|set| !set.is_empty());
    told.or_else(|| set.map(|set| format!("processors {set}")))
}

fn ulimits(host: &HostConfig) -> Vec<Ulimit> {
    let own = host.ulimits.iter().flatten();
    own.map(|it| Ulimit {
        name: it.name.clone().unwrap_or_default(),
        hard: it.hard.or(it.soft).unwrap_or(0),
    })
    .collect()
}

/// As they are bound where it runs, else as they were asked for.
fn ports(answer: &ContainerInspectResponse, host: &HostConfig) -> Vec<Port> {
    let bound = answer.network_settings.as_ref().and_then(|settings| settings.ports.as_ref());
    let of = |map: Option<&HashMap<String, Option<Vec<PortBinding>>>>| -> Vec<Port> {
        let entries = map.into_iter().flatten();
        let mut ports: Vec<Port> = entries
            .flat_map(|(container, bindings)| {
                bindings.iter().flatten().map(move |it| (container, it))
            })
            .map(|(container, binding)| Port {
                address: binding.host_ip.clone().unwrap_or_default(),
                host: binding
                    .host_port
                    .as_deref()
                    .and_then(|port| port.parse().ok())
                    .filter(|port| *port != 0),
                container: container.clone(),
            })
            .collect();
        ports.sort_by_key(|it| (it.container.clone(), it.address.clone(), it.host));
        ports
    };
    let now = of(bound);
    if now.is_empty() { of(host.port_bindings.as_ref()) } else { now }
}

fn environment(variables: &[String]) -> Vec<Variable> {
    let parted = |text: &String| match text.split_once('=') {
        Some((name, value)) => Variable::new(name, Some(value)),
        None => Variable::new(text, None),
    };
    variables.iter().map(parted).collect()
}

fn positive(number: Option<i64>) -> Option<i64> {
    number.filter(|number| *number > 0)
}

fn bytes(bytes: i64) -> String {
    format!("{bytes} bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_says_who_it_is_before_the_setting_does() {
        let process = |uid, is_root| Process {
            uid,
            is_root,
            bounding: 0,
            no_new_privileges: false,
            seccomp_mode: 2,
            filters: Ok(Vec::new()),
            is_hosts_root: Ok(false),
        };
        for (setting, process, is_root) in [
            ("", None, Some(true)),
            ("1000:0", None, Some(false)),
            ("app", None, None),
            ("app", Some(process(0, true)), Some(true)),
            ("", Some(process(999, false)), Some(false)),
            ("1000", Some(process(100_000, true)), Some(true)),
        ] {
            assert_eq!(user(setting, process.as_ref()).is_root.ok(), is_root, "{setting}");
        }
        assert_eq!((shares("host"), shares("private")), (Ok(true), Ok(false)));
        assert!(shares("container:ab").is_err());
    }

    #[test]
    fn of_a_process_that_is_not_the_containers_nothing_is_told() {
        let own = i32::try_from(std::process::id()).expect("a pid");
        assert_eq!(process_of(own, &"ab".repeat(32)), None);
    }

    #[test]
    fn volumes_are_what_stands_behind_them() {
        let answer = serde_json::json!({"Mounts": [
            {"Type": "volume", "Name": "a", "Destination": "/a"},
            {"Type": "volume", "Name": "b", "Destination": "/b"},
            {"Type": "volume", "Destination": "/c"},
            {"Type": "bind", "Source": "/srv", "Destination": "/d"},
        ]});
        let answer = serde_json::from_value(answer).expect("an answer");
        let unsure = || Err(Unknown::because("not known"));
        let volumes = [("a", Ok(Some("/etc".to_owned()))), ("b", unsure()), ("", unsure())];
        let volumes = volumes.map(|(name, behind)| (name.to_owned(), behind)).into();
        let told = mounts(&answer, &HostConfig::default(), &volumes);
        let told: Vec<_> =
            told.iter().map(|it| (it.host.as_deref(), it.unsure.is_some())).collect();
        assert_eq!(
            told,
            [(Some("/etc"), false), (None, true), (None, true), (Some("/srv"), false)]
        );
    }
}
