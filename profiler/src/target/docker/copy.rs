//! A container beside another: the same image and settings, under another filter and with other capabilities.
//!
//! Owns what of an inspection goes into a creation. Not taken over: the name, the host name that the engine made up, the
//! restart policy, compose's labels, `--rm`, `--privileged`, and the contents of anonymous volumes.

use std::collections::HashMap;

use bollard::{
    errors::Error as ClientError,
    models::{
        ContainerCreateBody, ContainerInspectResponse, ContainerSummary, EndpointSettings,
        HostConfig, NetworkConnectRequest, NetworkingConfig, RestartPolicy, RestartPolicyNameEnum,
    },
    query_parameters::{
        CreateContainerOptions, InspectContainerOptions, ListContainersOptions,
        RemoveContainerOptions, StartContainerOptions, StopContainerOptions,
    },
};

use super::{Connection, Docker, EngineError, RESTART_TIMEOUT, labels, wanted_name};
use crate::{
    kernel::identity::Identity,
    model::{
        arguments::constants::{self, Meaning},
        ended,
    },
};

/// The label of copies that belong to a search; its value says to which.
const LABEL: &str = "profiler.minimise";

/// The label of a copy in the place of another container; its value is that one's id, and who made it.
const REPLACES: &str = "profiler.replaces";

/// How a copy is confined.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Confinement {
    /// The value of `seccomp=`: a profile's text for docker, its path for podman.
    pub seccomp: String,
    /// What is added after all were dropped; `None` leaves them as they are.
    pub capabilities: Option<Vec<String>>,
    /// Whether no-new-privileges is set; `None` leaves it as it is.
    pub no_new_privileges: Option<bool>,
}

/// How a container is, as far as it can be judged from outside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerState {
    /// Its first process runs.
    pub running: bool,
    /// The host's number of that process.
    pub pid: Option<i32>,
    /// What its health check says: `starting`, `healthy`, `unhealthy`; `None` without one.
    pub health: Option<String>,
    /// How often the engine started it again.
    pub restarts: i64,
    /// Exit status of its last end; 137 and 159 are SIGKILL and SIGSYS.
    pub exit_code: i64,
    /// It ran out of memory.
    pub out_of_memory: bool,
    /// What the engine or the runtime says went wrong. Hostile text.
    pub error: String,
    /// Its address in the first of its networks; none when it has the host's.
    pub address: Option<String>,
    /// It is removed when it ends.
    pub auto_remove: bool,
    /// The signal that asks it to end; `None` where its name is not known.
    pub stop_signal: Option<u32>,
}

impl ContainerState {
    /// What it is judged by.
    #[must_use]
    pub fn judged_by(&self) -> ended::State<'_> {
        ended::State {
            running: self.running,
            exit_code: self.exit_code,
            restarts: self.restarts,
            out_of_memory: self.out_of_memory,
            unhealthy: self.health.as_deref() == Some("unhealthy"),
            error: &self.error,
        }
    }
}

impl Docker {
    /// Creates a copy of a container, called `name`, and does not start it; the copy's id. With a `label` it is found by
    /// [`copies`](Self::copies), and by [`replacing`](Self::replacing) if it is to take the original's place, of which the maker is told.
    ///
    /// # Errors
    /// When the engine refuses.
    pub async fn create_copy(
        &self,
        of: &str,
        name: &str,
        confinement: &Confinement,
        label: Option<&str>,
        replaces: Option<&Identity>,
    ) -> Result<String, EngineError> {
        let original = self.inspected(of).await?;
        let (mut body, others) = copied(original, confinement);
        if let Some(maker) = replaces {
            let by = format!("{of} {maker}");
            body.labels.get_or_insert_default().insert(REPLACES.to_owned(), by);
        }
        if let Some(label) = label {
            body.labels.get_or_insert_default().insert(LABEL.to_owned(), label.to_owned());
        }
        let options = CreateContainerOptions { name: Some(name.to_owned()), ..Default::default() };
        let request = self.client.create_container(Some(options), body);
        let verb = format!("create a copy of container `{of}`");
        let id = self.patient().ask(&verb, request).await?.id;
        for (network, endpoint) in others {
            let request =
                NetworkConnectRequest { container: id.clone(), endpoint_config: Some(endpoint) };
            let connected = self.client.connect_network(&network, request);
            let verb = format!("connect the copy to network `{network}`");
            if let Err(error) = self.patient().ask(&verb, connected).await {
                let _ = self.remove(&id).await; // the first failure is the one to tell
                return Err(error);
            }
        }
        Ok(id)
    }

    /// What copies of a container cannot have each, in words; they cannot run at the same time then.
    ///
    /// # Errors
    /// When there is no such container, or the engine does not answer.
    pub async fn shared(&self, of: &str) -> Result<Vec<String>, EngineError> {
        Ok(shared(&self.inspected(of).await?))
    }

    /// The ids of the copies with this label, running or not.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn copies(&self, label: &str) -> Result<Vec<String>, EngineError> {
        let listed = self.labelled(format!("{LABEL}={label}")).await?;
        Ok(listed.into_iter().map(|(id, _)| id).collect())
    }

    /// The ids of the copies that were to take the place of this container, and who made them; `None` when the label does not
    /// tell.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn replacing(
        &self,
        id: &str,
    ) -> Result<Vec<(String, Option<Identity>)>, EngineError> {
        let listed = self.labelled(REPLACES.to_owned()).await?;
        let of = |(copy, labels): (String, HashMap<String, String>)| {
            let (original, maker) = labels.get(REPLACES)?.split_once(' ')?;
            (original == id).then(|| (copy, maker.parse().ok()))
        };
        Ok(listed.into_iter().filter_map(of).collect())
    }

    /// The ids of a compose project's containers, those that do not run included.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn of_project(&self, project: &str) -> Result<Vec<String>, EngineError> {
        let listed = self.labelled(format!("{}={project}", labels::PROJECT)).await?;
        Ok(listed.into_iter().map(|(id, _)| id).collect())
    }

    async fn labelled(
        &self,
        label: String,
    ) -> Result<Vec<(String, HashMap<String, String>)>, EngineError> {
        let filters = HashMap::from([("label".to_owned(), vec![label])]);
        let options =
            ListContainersOptions { all: true, filters: Some(filters), ..Default::default() };
        let request = self.client.list_containers(Some(options));
        let listed = self.connection().ask("list containers", request).await?;
        let of = |container: ContainerSummary| {
            Some((container.id?, container.labels.unwrap_or_default()))
        };
        Ok(listed.into_iter().filter_map(of).collect())
    }

    /// Starts a container.
    ///
    /// # Errors
    /// When the engine or its runtime refuses, with their words.
    pub async fn start(&self, id: &str) -> Result<(), EngineError> {
        let wanted = wanted_name(id)?;
        let client = self.client.clone().with_timeout(RESTART_TIMEOUT);
        let request = client.start_container(wanted, None::<StartContainerOptions>);
        self.patient().ask(&format!("start container `{wanted}`"), request).await
    }

    /// Stops a container: asks it by its stop signal, and kills it after so many seconds, or after its own stop timeout.
    ///
    /// # Errors
    /// When the engine refuses.
    pub async fn stop(&self, id: &str, patience_s: Option<i32>) -> Result<(), EngineError> {
        let wanted = wanted_name(id)?;
        let client = self.client.clone().with_timeout(RESTART_TIMEOUT);
        let options = StopContainerOptions { t: patience_s, ..Default::default() };
        let request = client.stop_container(wanted, Some(options));
        self.patient().ask(&format!("stop container `{wanted}`"), request).await
    }

    /// Removes a container and its anonymous volumes, whether it runs or not.
    ///
    /// # Errors
    /// When the engine refuses.
    pub async fn remove(&self, id: &str) -> Result<(), EngineError> {
        let wanted = wanted_name(id)?;
        let options = RemoveContainerOptions { force: true, v: true, ..Default::default() };
        let client = self.client.clone().with_timeout(RESTART_TIMEOUT);
        let request = client.remove_container(wanted, Some(options));
        self.patient().ask(&format!("remove container `{wanted}`"), request).await
    }

    /// How a container is.
    ///
    /// # Errors
    /// When there is none, or the engine does not answer.
    pub async fn state(&self, id: &str) -> Result<ContainerState, EngineError> {
        Ok(state(self.inspected(id).await?))
    }

    /// The same connection details, for a runtime of its own.
    pub(crate) async fn again(&self) -> Result<Docker, EngineError> {
        Docker::connect(&self.endpoint, self.timeout).await
    }

    pub(super) async fn inspected(
        &self,
        id: &str,
    ) -> Result<ContainerInspectResponse, EngineError> {
        let wanted = wanted_name(id)?;
        if self.info.name == "podman" {
            let (verb, path) =
                (format!("inspect container `{wanted}`"), format!("/containers/{wanted}/json"));
            let mut answer: serde_json::Value = self.connection().get(&verb, &path).await?;
            // podman's own word for a container that has ended and was not looked after yet
            if answer["State"]["Status"] == "stopped" {
                answer["State"]["Status"] = "exited".into();
            }
            return serde_json::from_value(answer).map_err(|err| {
                self.connection().failed(&verb, ClientError::JsonSerdeError { err })
            });
        }
        let request = self.client.inspect_container(wanted, None::<InspectContainerOptions>);
        self.connection().ask(&format!("inspect container `{wanted}`"), request).await
    }

    pub(super) fn patient(&self) -> Connection<'_> {
        Connection { endpoint: &self.endpoint, timeout: RESTART_TIMEOUT }
    }
}

fn shared(original: &ContainerInspectResponse) -> Vec<String> {
    let mut shared = Vec::new();
    let host = original.host_config.as_ref();
    let bindings = host.and_then(|host| host.port_bindings.as_ref());
    if bindings.is_some_and(|bindings| !bindings.is_empty()) {
        shared.push("published ports".to_owned());
    }
    let mode = host.and_then(|host| host.network_mode.as_deref()).unwrap_or_default();
    if mode == "host" || mode.starts_with("container:") {
        shared.push(format!("the network of `{mode}`"));
        return shared;
    }
    let networks = original.network_settings.as_ref().and_then(|all| all.networks.as_ref());
    let mut names: Vec<&String> = networks.into_iter().flat_map(HashMap::keys).collect();
    names.retain(|name| !matches!(name.as_str(), "bridge" | "default" | "none" | "podman"));
    names.sort_unstable();
    shared.extend(names.iter().map(|name| format!("its name and address in network `{name}`")));
    shared
}

/// What is to be created, and the networks that it joins after that: older engines take one at creation.
fn copied(
    original: ContainerInspectResponse,
    confinement: &Confinement,
) -> (ContainerCreateBody, Vec<(String, EndpointSettings)>) {
    let id = original.id.unwrap_or_default();
    let short = id.get(..12).unwrap_or_default();
    let name = original.name.unwrap_or_default();
    let config = original.config.unwrap_or_default();
    let host = original.host_config.unwrap_or_default();
    let mode = host.network_mode.clone().unwrap_or_default();
    let networks = original.network_settings.and_then(|settings| settings.networks);
    let mut networks: Vec<(String, EndpointSettings)> = networks
        .unwrap_or_default()
        .into_iter()
        .filter(|_| mode != "host" && mode != "none" && !mode.starts_with("container:"))
        .map(|(network, settings)| {
            let is_own = network != "bridge" && network != "default" && network != "podman";
            let wanted = wanted(settings, is_own, short, name.trim_start_matches('/'));
            (network, wanted)
        })
        .collect();
    // the one that the container was created with comes first
    networks.sort_by_key(|(network, _)| (*network != mode, network.clone()));
    let first: HashMap<_, _> = networks.drain(..networks.len().min(1)).collect();
    let is_own = |text: &String| text != short && !text.is_empty();
    let labels = config.labels.map(|labels| {
        let engines = |label: &str| {
            label.starts_with("com.docker.compose.")
                || label.starts_with("io.podman.compose.")
                || label == LABEL
                || label == REPLACES
        };
        labels.into_iter().filter(|(label, _)| !engines(label)).collect()
    });
    let shares_names = mode == "host" || mode.starts_with("container:");
    let body = ContainerCreateBody {
        hostname: config.hostname.filter(is_own).filter(|_| !shares_names),
        domainname: config.domainname,
        user: config.user,
        attach_stdin: Some(false),
        attach_stdout: Some(false),
        attach_stderr: Some(false),
        exposed_ports: config.exposed_ports.filter(|_| !shares_names),
        tty: config.tty,
        open_stdin: config.open_stdin,
        env: config.env,
        cmd: config.cmd,
        healthcheck: config.healthcheck,
        // what it runs, not what bears its tag by now
        image: original.image.or(config.image),
        volumes: config.volumes,
        working_dir: config.working_dir,
        entrypoint: config.entrypoint,
        labels,
        stop_signal: config.stop_signal,
        stop_timeout: config.stop_timeout,
        shell: config.shell,
        host_config: Some(confined(host, confinement)),
        networking_config: (!first.is_empty())
            .then_some(NetworkingConfig { endpoints_config: Some(first) }),
        ..ContainerCreateBody::default()
    };
    (body, networks)
}

/// What was asked for of a network, without what the engine made of it. Where names are resolved, the copy has the
/// original's, too.
fn wanted(settings: EndpointSettings, named: bool, short: &str, name: &str) -> EndpointSettings {
    let mut aliases = settings.aliases.unwrap_or_default();
    aliases.retain(|alias| alias != short && alias != name);
    if named && !name.is_empty() {
        aliases.push(name.to_owned());
    }
    EndpointSettings {
        ipam_config: settings.ipam_config,
        links: settings.links,
        driver_opts: settings.driver_opts,
        aliases: named.then_some(aliases),
        ..EndpointSettings::default()
    }
}

fn confined(host: HostConfig, confinement: &Confinement) -> HostConfig {
    let is_replaced = |option: &str| {
        option.starts_with("seccomp")
            || option.starts_with("no-new-privileges") && confinement.no_new_privileges.is_some()
    };
    let mut options = host.security_opt.clone().unwrap_or_default();
    options.retain(|option| !is_replaced(option));
    options.push(format!("seccomp={}", confinement.seccomp));
    if confinement.no_new_privileges == Some(true) {
        options.push("no-new-privileges".to_owned());
    }
    let (cap_add, cap_drop) = match &confinement.capabilities {
        Some(names) => (Some(names.clone()), Some(vec!["ALL".to_owned()])),
        None => (host.cap_add.clone(), host.cap_drop.clone()),
    };
    let mut ulimits = host.ulimits.clone();
    for limit in ulimits.iter_mut().flatten() {
        // podman tells them by names that it does not take
        let name = limit.name.as_deref().and_then(|name| name.strip_prefix("RLIMIT_"));
        limit.name = name.map(str::to_lowercase).or(limit.name.take());
    }
    HostConfig {
        ulimits,
        security_opt: Some(options),
        cap_add,
        cap_drop,
        privileged: Some(false),
        auto_remove: Some(false),
        container_id_file: None,
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            ..RestartPolicy::default()
        }),
        ..host
    }
}

fn state(answer: ContainerInspectResponse) -> ContainerState {
    let state = answer.state.unwrap_or_default();
    let host = answer.host_config.unwrap_or_default();
    let networks = answer.network_settings.and_then(|settings| settings.networks);
    let mut addresses: Vec<(String, String)> = networks
        .unwrap_or_default()
        .into_iter()
        .filter_map(|(name, settings)| Some((name, settings.ip_address?)))
        .filter(|(_, address)| !address.is_empty())
        .collect();
    addresses.sort_by_key(|(name, _)| (Some(name) != host.network_mode.as_ref(), name.clone()));
    let running = state.running.unwrap_or(false);
    let health = state.health.and_then(|health| health.status);
    let health = health
        .map(|status| status.to_string())
        .filter(|status| !status.is_empty() && status != "none");
    ContainerState {
        running,
        pid: state.pid.and_then(|pid| i32::try_from(pid).ok()).filter(|pid| running && *pid > 0),
        health,
        restarts: answer.restart_count.unwrap_or(0),
        exit_code: state.exit_code.unwrap_or(0),
        out_of_memory: state.oom_killed.unwrap_or(false),
        error: state.error.unwrap_or_default(),
        address: addresses.into_iter().next().map(|(_, address)| address),
        auto_remove: host.auto_remove.unwrap_or(false),
        stop_signal: stop_signal(answer.config.and_then(|config| config.stop_signal)),
    }
}

/// The number of a signal that engines write as `SIGQUIT`, `QUIT` or `3`; SIGTERM where nothing is said.
fn stop_signal(said: Option<String>) -> Option<u32> {
    let said = said.unwrap_or_default().to_uppercase();
    let name = match said.strip_prefix("SIG").unwrap_or(&said) {
        "" => "SIGTERM".to_owned(),
        number if number.starts_with(|c: char| c.is_ascii_digit()) => number.to_owned(),
        name => format!("SIG{name}"),
    };
    constants::parse(Meaning::Signal, &name).and_then(|number| u32::try_from(number).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "b34304da0dc77125be7190d46974a31d8120ee1a3edebca1afdd4b0c35002d16";

    fn copy(settings: &str, confinement: &Confinement) -> serde_json::Value {
        let answer = serde_json::from_str(settings).expect("an inspection");
        let (body, others) = copied(answer, confinement);
        let mut value = serde_json::to_value(body).expect("JSON");
        value["others"] = serde_json::to_value(others).expect("JSON");
        value
    }

    #[test]
    fn what_two_copies_cannot_both_have_is_told() {
        let shared = |host: &str, networks: &str| {
            let text =
                format!(r#"{{"HostConfig":{host},"NetworkSettings":{{"Networks":{networks}}}}}"#);
            super::shared(&serde_json::from_str(&text).expect("an inspection"))
        };
        let bridge = r#"{"bridge":{}}"#;
        assert!(shared(r#"{"NetworkMode":"default","PortBindings":{}}"#, bridge).is_empty());
        let ports = r#"{"NetworkMode":"default","PortBindings":{"80/tcp":[{"HostPort":"8080"}]}}"#;
        assert_eq!(shared(ports, bridge), ["published ports"]);
        assert_eq!(shared(r#"{"NetworkMode":"host"}"#, "{}"), ["the network of `host`"]);
        assert_eq!(
            shared(r#"{"NetworkMode":"shop"}"#, r#"{"shop":{},"bridge":{}}"#),
            ["its name and address in network `shop`"]
        );
    }

    #[test]
    fn stop_signals_are_read_as_engines_write_them() {
        let number = |config: &str| {
            let text = format!(r#"{{"Config":{config}}}"#);
            state(serde_json::from_str(&text).expect("an inspection")).stop_signal
        };
        for (config, expected) in [
            ("{}", Some(15)),
            (r#"{"StopSignal":""}"#, Some(15)),
            (r#"{"StopSignal":"SIGQUIT"}"#, Some(3)),
            (r#"{"StopSignal":"winch"}"#, Some(28)),
            (r#"{"StopSignal":"37"}"#, Some(37)),
            (r#"{"StopSignal":"SIGRTMIN+3"}"#, None),
        ] {
            assert_eq!(number(config), expected, "{config}");
        }
    }

    #[test]
    fn settings_are_taken_over_and_confinement_is_not() {
        let confinement = Confinement {
            seccomp: "{}".to_owned(),
            capabilities: Some(vec!["CHOWN".to_owned()]),
            no_new_privileges: Some(true),
        };
        let copy = copy(
            &format!(
                r#"{{"Id":"{ID}","Name":"/web","Image":"sha256:1210","Config":{{"Hostname":"b34304da0dc7","User":"33",
                "Env":["A=1"],"Cmd":["serve"],"Entrypoint":["/init"],"Image":"web:1","WorkingDir":"/srv","StopSignal":"SIGQUIT",
                "Healthcheck":{{"Test":["CMD","true"]}},"ExposedPorts":{{"80/tcp":{{}}}},
                "Labels":{{"com.docker.compose.service":"web","own":"1"}}}},
                "HostConfig":{{"Binds":["data:/data"],"NetworkMode":"front","Privileged":true,"AutoRemove":true,
                "PortBindings":{{"80/tcp":[{{"HostIp":"127.0.0.1","HostPort":"8080"}}]}},"ReadonlyRootfs":true,
                "Tmpfs":{{"/tmp":""}},"Memory":1000000,"CapAdd":["SYS_ADMIN"],"RestartPolicy":{{"Name":"always"}},
                "SecurityOpt":["seccomp=unconfined","label=disable","no-new-privileges:false"],
                "Ulimits":[{{"Name":"nofile","Soft":10,"Hard":20}}]}},
                "NetworkSettings":{{"Networks":{{"back":{{"Aliases":["b34304da0dc7","db"],"IPAddress":"10.0.0.2"}},
                "front":{{"Aliases":["web"],"IPAMConfig":{{"IPv4Address":"10.1.0.9"}}}}}}}}}}"#
            ),
            &confinement,
        );
        assert_eq!(copy["Image"], "sha256:1210");
        assert_eq!(copy.get("Hostname"), None, "the engine's own");
        assert_eq!(copy["Labels"].to_string(), r#"{"own":"1"}"#);
        for (key, value) in [
            ("User", r#""33""#),
            ("Env", r#"["A=1"]"#),
            ("Cmd", r#"["serve"]"#),
            ("Entrypoint", r#"["/init"]"#),
            ("WorkingDir", r#""/srv""#),
            ("StopSignal", r#""SIGQUIT""#),
        ] {
            assert_eq!(copy[key].to_string(), value, "{key}");
        }
        assert!(copy["Healthcheck"]["Test"].is_array());
        let host = &copy["HostConfig"];
        assert_eq!(
            host["SecurityOpt"].to_string(),
            r#"["label=disable","seccomp={}","no-new-privileges"]"#
        );
        assert_eq!((&host["CapDrop"][0], &host["CapAdd"][0]), (&"ALL".into(), &"CHOWN".into()));
        assert_eq!((&host["Privileged"], &host["AutoRemove"]), (&false.into(), &false.into()));
        assert_eq!(host["RestartPolicy"]["Name"], "no");
        assert_eq!((&host["ReadonlyRootfs"], &host["Memory"]), (&true.into(), &1_000_000.into()));
        assert_eq!(host["PortBindings"]["80/tcp"][0]["HostPort"], "8080");
        assert_eq!(
            (&host["Binds"][0], &host["Ulimits"][0]["Soft"]),
            (&"data:/data".into(), &10.into())
        );
        let networks = &copy["NetworkingConfig"]["EndpointsConfig"];
        assert_eq!(networks["front"]["IPAMConfig"]["IPv4Address"], "10.1.0.9");
        assert_eq!(networks["front"]["Aliases"].to_string(), r#"["web"]"#);
        assert_eq!(copy["others"][0][0], "back");
        assert_eq!(copy["others"][0][1]["Aliases"].to_string(), r#"["db","web"]"#);
        assert_eq!(copy["others"][0][1].get("IPAddress"), None);
    }

    #[test]
    fn what_is_not_said_stays_as_it_is() {
        let confinement = Confinement { seccomp: "{}".to_owned(), ..Confinement::default() };
        let copy = copy(
            &format!(
                r#"{{"Id":"{ID}","HostConfig":{{"NetworkMode":"host","CapDrop":["KILL"],"SecurityOpt":["no-new-privileges"]}},
                "NetworkSettings":{{"Networks":{{"host":{{}}}}}}}}"#
            ),
            &confinement,
        );
        let host = &copy["HostConfig"];
        assert_eq!(host["SecurityOpt"].to_string(), r#"["no-new-privileges","seccomp={}"]"#);
        assert_eq!(host["CapDrop"].to_string(), r#"["KILL"]"#);
        assert_eq!(copy.get("NetworkingConfig"), None);
    }
}
