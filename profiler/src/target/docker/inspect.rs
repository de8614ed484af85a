//! A container's settings as the kernel will enforce them, from the engine's `inspect`. Pure.
//!
//! What the engine leaves out is filled in with the engine's defaults, which are not the same for docker and
//! podman.

use std::collections::BTreeSet;

use bollard::models::{ContainerInspectResponse, HostConfig, RestartPolicyNameEnum};
use serde::Deserialize;

use crate::{
    model::{
        audit::docker_bool,
        capability,
        recording::{Container, SeccompSetting},
    },
    target::docker::{
        engine::EngineInfo,
        events::bare_name,
        labels::{self, Membership},
        libpod::Inspected,
    },
};

/// Gives the text of a profile that the engine knows by its path; `None` when it cannot be read.
pub(super) type ReadProfile<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A container, as the engine describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerInfo {
    /// Its full id.
    pub id: String,
    /// Its name, without a slash.
    pub name: String,
    /// Its first process runs.
    pub running: bool,
    /// The host's number of that process, when it runs.
    pub pid: Option<i32>,
    /// The engine starts it again by itself.
    pub restart_policy: bool,
    /// Which project and service of compose it is of.
    pub membership: Option<Membership>,
    /// Where its runtime is, or the runtime's name.
    pub runtime_path: String,
    /// What goes into a recording.
    pub facts: Container,
}

/// `None` when the answer names no container.
pub(super) fn container_info(
    answer: ContainerInspectResponse,
    engine: &EngineInfo,
    read: ReadProfile<'_>,
) -> Option<ContainerInfo> {
    let id = answer.id.filter(|id| !id.is_empty())?;
    let state = answer.state.unwrap_or_default();
    let host = answer.host_config.unwrap_or_default();
    let config = answer.config.unwrap_or_default();
    let running = state.running.unwrap_or(false);
    let runtime = engine.runtime(host.runtime.as_deref().unwrap_or_default());
    let labels = config.labels.unwrap_or_default();
    let facts = Container {
        engine: engine.name.clone(),
        engine_version: engine.version.clone(),
        runtime_version: runtime.version,
        runtime: runtime.program,
        image: config.image.unwrap_or_default(),
        image_id: answer.image.unwrap_or_default(),
        ids: vec![id.clone()],
        no_new_privileges: no_new_privileges(security_options(&host), engine),
        privileged: host.privileged.unwrap_or(false),
        user: config.user.unwrap_or_default(),
        seccomp: seccomp(&host, engine, read),
        capabilities: capabilities(&host, engine),
        compose_service: labels::service(&labels).cloned(),
        compose_1: labels::is_of_compose_1(&labels),
    };
    Some(ContainerInfo {
        id,
        name: bare_name(answer.name.as_deref().unwrap_or_default()),
        running,
        pid: state.pid.and_then(|pid| i32::try_from(pid).ok()).filter(|pid| running && *pid > 0),
        restart_policy: host.restart_policy.and_then(|policy| policy.name).is_some_and(|name| {
            !matches!(name, RestartPolicyNameEnum::NO | RestartPolicyNameEnum::EMPTY)
        }),
        membership: Membership::of(&labels),
        runtime_path: runtime.path,
        facts,
    })
}

/// A container, as podman itself describes it.
pub(super) fn podman_container_info(
    answer: Inspected,
    engine: &EngineInfo,
    read: ReadProfile<'_>,
) -> Option<ContainerInfo> {
    let (answer, bounding_set) = answer.into_docker();
    let mut info = container_info(answer, engine, read)?;
    if let Some(bounding_set) = bounding_set {
        info.facts.capabilities = normalised(Some(&bounding_set)).into_iter().collect();
    }
    Some(info)
}

fn security_options(host: &HostConfig) -> &[String] {
    host.security_opt.as_deref().unwrap_or_default()
}

/// The value of the last option of that name; both `=` and the older `:` part the two.
fn option_value<'a>(options: &'a [String], name: &str) -> Option<&'a str> {
    options.iter().rev().find_map(|option| {
        let rest = option.strip_prefix(name)?;
        if rest.is_empty() { Some("") } else { rest.strip_prefix(['=', ':']) }
    })
}

/// What was asked for as its filter; the last one counts.
pub(super) fn seccomp_option(host: &HostConfig) -> Option<&str> {
    option_value(security_options(host), "seccomp").filter(|value| !value.is_empty())
}

fn no_new_privileges(options: &[String], engine: &EngineInfo) -> bool {
    match option_value(options, "no-new-privileges") {
        // Alone it is on; what Docker cannot read it refuses.
        Some("") => true,
        Some(value) => docker_bool(value).unwrap_or(false),
        None => engine.default_no_new_privileges,
    }
}

fn seccomp(host: &HostConfig, engine: &EngineInfo, read: ReadProfile<'_>) -> SeccompSetting {
    let value = seccomp_option(host);
    if host.privileged.unwrap_or(false) {
        // Before version 27, docker gave privileged containers no filter even when they asked for one
        // (moby pull request 47500); podman does as it is told.
        let honoured = engine.name != "docker" || engine.major() >= 27;
        if !honoured || value.is_none() {
            return SeccompSetting::Unconfined;
        }
    }
    match value {
        None => engine.default_seccomp,
        Some("builtin" | "default") => SeccompSetting::EngineDefault,
        Some("unconfined") => SeccompSetting::Unconfined,
        Some(profile) => profile_setting(profile, read),
    }
}

/// A profile given as its text, as docker's client sends it, or as a path.
pub(super) fn profile_setting(profile: &str, read: ReadProfile<'_>) -> SeccompSetting {
    let permissive = if profile.trim_start().starts_with('{') {
        is_permissive(profile)
    } else {
        read(profile).is_some_and(|text| is_permissive(&text))
    };
    if permissive { SeccompSetting::Permissive } else { SeccompSetting::Custom }
}

/// Every action lets the call pass. What is not understood is taken to deny.
fn is_permissive(profile: &str) -> bool {
    #[derive(Deserialize)]
    struct Profile {
        #[serde(rename = "defaultAction")]
        default_action: String,
        #[serde(default)]
        syscalls: Option<Vec<Rule>>,
    }
    #[derive(Deserialize)]
    struct Rule {
        action: String,
    }
    let passes = |action: &str| matches!(action, "SCMP_ACT_ALLOW" | "SCMP_ACT_LOG");
    serde_json::from_str::<Profile>(profile).is_ok_and(|profile| {
        passes(&profile.default_action)
            && profile.syscalls.iter().flatten().all(|rule| passes(&rule.action))
    })
}

/// What could be granted at all, by the engine's own rule ([`capability::granted`]).
///
/// Docker 20.10 of Debian knows neither PERFMON, BPF nor CHECKPOINT_RESTORE, and grants none of them by `ALL`.
fn capabilities(host: &HostConfig, engine: &EngineInfo) -> Vec<String> {
    let default: &[&str] = if engine.name == "podman" {
        &capability::PODMAN_DEFAULT
    } else {
        &capability::DOCKER_DEFAULT
    };
    let list = |names: &Option<Vec<String>>| names.clone().unwrap_or_default();
    let privileged = host.privileged.unwrap_or(false);
    let set = capability::granted(default, &list(&host.cap_add), &list(&host.cap_drop), privileged);
    set.into_iter().collect()
}

fn normalised(names: Option<&[String]>) -> BTreeSet<String> {
    names
        .unwrap_or_default()
        .iter()
        .map(|name| {
            let name = name.trim().to_ascii_uppercase();
            name.strip_prefix("CAP_").map(str::to_owned).unwrap_or(name)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::target::docker::engine::Runtime;

    const ID: &str = "b34304da0dc77125be7190d46974a31d8120ee1a3edebca1afdd4b0c35002d16";

    fn engine(name: &str, version: &str) -> EngineInfo {
        let runc = Runtime {
            program: "runc".to_owned(),
            version: "1.1.5".to_owned(),
            path: "/usr/sbin/runc".to_owned(),
        };
        EngineInfo {
            name: name.to_owned(),
            version: version.to_owned(),
            kernel: "6.1.0".to_owned(),
            default_runtime: "runc".to_owned(),
            runtimes: BTreeMap::from([("runc".to_owned(), runc)]),
            rootless: false,
            default_seccomp: SeccompSetting::EngineDefault,
            default_no_new_privileges: false,
        }
    }

    fn docker() -> EngineInfo {
        engine("docker", "20.10.24+dfsg1")
    }

    /// A container with this `HostConfig`.
    fn with_host(host: &str, engine: &EngineInfo) -> Container {
        let answer = format!(r#"{{"Id":"{ID}","HostConfig":{host}}}"#);
        let answer = serde_json::from_str(&answer).expect("an answer");
        container_info(answer, engine, &|_| None).expect("a container").facts
    }

    fn seccomp_of(host: &str, engine: &EngineInfo) -> SeccompSetting {
        with_host(host, engine).seccomp
    }

    #[test]
    fn a_running_container_of_docker_20_10_is_read() {
        let answer = format!(
            r#"{{"Id":"{ID}","Created":"2026-11-22T04:30:34.460831893Z","Path":"sleep","Args":["600"],
            "State":{{"Status":"running","Running":true,"Paused":false,"Restarting":false,"OOMKilled":false,
            "Dead":false,"Pid":29378,"ExitCode":0,"Error":"","StartedAt":"2026-11-22T04:30:34.849692715Z",
            "FinishedAt":"0001-01-01T00:00:00Z"}},"Image":"sha256:121023c5273e","Name":"/backend","ExecIDs":null,
            "HostConfig":{{"RestartPolicy":{{"Name":"unless-stopped","MaximumRetryCount":0}},"CapAdd":null,
            "CapDrop":null,"Privileged":false,"SecurityOpt":null,"Runtime":"runc"}},
            "Config":{{"User":"www-data","Image":"localhost/busybox:1","Labels":{{"com.docker.compose.service":"web"}}}}}}"#
        );
        let answer = serde_json::from_str(&answer).expect("an answer");
        let info = container_info(answer, &docker(), &|_| None).expect("a container");
        assert_eq!((info.id.as_str(), info.name.as_str()), (ID, "backend"));
        assert_eq!((info.running, info.pid), (true, Some(29378)));
        assert!(info.restart_policy);
        let facts = info.facts;
        assert_eq!((facts.runtime.as_str(), facts.runtime_version.as_str()), ("runc", "1.1.5"));
        assert_eq!(facts.image, "localhost/busybox:1");
        assert_eq!(facts.user, "www-data");
        assert_eq!(facts.capabilities, capability::DOCKER_DEFAULT);
        assert_eq!(facts.seccomp, SeccompSetting::EngineDefault);
        assert_eq!(facts.compose_service.as_deref(), Some("web"));
        assert!(!facts.privileged && !facts.no_new_privileges);
    }

    #[test]
    fn a_running_container_of_podman_4_3_is_read() {
        let answer = format!(
            r#"{{"Id":"{ID}","Name":"web","Image":"121023c5273e","ImageName":"localhost/busybox:1",
            "OCIRuntime":"runc","EffectiveCaps":null,"BoundingCaps":["CAP_CHOWN","CAP_NET_RAW"],
            "State":{{"Status":"running","Running":true,"Pid":27435,"Health":{{"Status":"","Log":null}},
            "CgroupPath":"/libpod_parent/libpod-{ID}"}},
            "HostConfig":{{"Runtime":"oci","Privileged":false,"CapAdd":[],"CapDrop":["CAP_KILL"],
            "RestartPolicy":{{"Name":"on-failure","MaximumRetryCount":0}},
            "SecurityOpt":["no-new-privileges","seccomp=unconfined"]}},
            "Config":{{"User":"1000","Labels":{{"com.docker.compose.service":"web"}}}}}}"#
        );
        let podman = EngineInfo { default_runtime: "crun".to_owned(), ..engine("podman", "4.3.1") };
        let read = |text: &str| {
            let answer = serde_json::from_str(text).expect("an answer");
            podman_container_info(answer, &podman, &|_| None)
        };
        let info = read(&answer).expect("a container");
        assert_eq!((info.running, info.pid, info.restart_policy), (true, Some(27435), true));
        assert_eq!(info.runtime_path, "/usr/sbin/runc");
        let facts = info.facts;
        assert_eq!((facts.runtime.as_str(), facts.runtime_version.as_str()), ("runc", "1.1.5"));
        assert_eq!(facts.image_id, "sha256:121023c5273e");
        assert_eq!((facts.image.as_str(), facts.user.as_str()), ("localhost/busybox:1", "1000"));
        assert_eq!(facts.capabilities, ["CHOWN", "NET_RAW"], "what podman says, not the default");
        assert_eq!(facts.seccomp, SeccompSetting::Unconfined);
        assert!(facts.no_new_privileges && !facts.privileged);
        assert_eq!(facts.compose_service.as_deref(), Some("web"));
        let created = format!(r#"{{"Id":"{ID}","BoundingCaps":null,"HostConfig":{{}}}}"#);
        let facts = read(&created).expect("a container").facts;
        assert_eq!((facts.runtime.as_str(), facts.capabilities.len()), ("crun", 11));
        assert_eq!(read("{}"), None);
    }

    #[test]
    fn nulls_and_absent_fields_are_the_defaults() {
        let answer = format!(
            r#"{{"Id":"{ID}","Name":null,"State":{{"Running":false,"Pid":0,"StartedAt":"0001-01-01T00:00:00Z"}},
               "HostConfig":null,"Config":null}}"#
        );
        let answer = serde_json::from_str(&answer).expect("an answer");
        let info = container_info(answer, &docker(), &|_| None).expect("a container");
        assert_eq!((info.pid, info.restart_policy), (None, false));
        assert_eq!(info.facts.runtime, "runc");
        let empty = serde_json::from_str("{}").expect("an answer");
        assert_eq!(container_info(empty, &docker(), &|_| None), None);
    }

    #[test]
    fn the_pid_of_a_stopped_container_is_not_believed() {
        let answer = format!(r#"{{"Id":"{ID}","State":{{"Running":false,"Pid":12}}}}"#);
        let answer = serde_json::from_str(&answer).expect("an answer");
        assert_eq!(container_info(answer, &docker(), &|_| None).expect("a container").pid, None);
    }

    #[test]
    fn unconfined_is_said_in_two_spellings() {
        for option in ["seccomp=unconfined", "seccomp:unconfined"] {
            let host = format!(r#"{{"SecurityOpt":["label=disable","{option}"]}}"#);
            assert_eq!(seccomp_of(&host, &docker()), SeccompSetting::Unconfined, "{option}");
        }
        assert_eq!(
            seccomp_of(r#"{"SecurityOpt":["seccomp=builtin"]}"#, &docker()),
            SeccompSetting::EngineDefault
        );
    }

    #[test]
    fn the_engines_default_is_taken_when_nothing_is_asked_for() {
        let unconfined = EngineInfo { default_seccomp: SeccompSetting::Unconfined, ..docker() };
        assert_eq!(seccomp_of("{}", &unconfined), SeccompSetting::Unconfined);
    }

    #[test]
    fn an_inline_profile_is_permissive_only_if_all_of_it_is() {
        let setting = |profile: &str| {
            let option = serde_json::to_string(&format!("seccomp={profile}")).expect("a string");
            seccomp_of(&format!(r#"{{"SecurityOpt":[{option}]}}"#), &docker())
        };
        for permissive in [
            r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#,
            r#"{"defaultAction":"SCMP_ACT_LOG","syscalls":null}"#,
            r#"{"defaultAction":"SCMP_ACT_LOG","architectures":["SCMP_ARCH_X86_64"],
                "syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"}]}"#,
        ] {
            assert_eq!(setting(permissive), SeccompSetting::Permissive, "{permissive}");
        }
        for denying in [
            r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[]}"#,
            r#"{"defaultAction":"SCMP_ACT_TRACE"}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["ptrace"],"action":"SCMP_ACT_KILL"}]}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["ptrace"]}]}"#,
            r#"{"syscalls":[]}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW""#,
        ] {
            assert_eq!(setting(denying), SeccompSetting::Custom, "{denying}");
        }
    }

    #[test]
    fn a_profile_given_by_path_is_read_where_it_can_be() {
        let read = |path: &str| {
            (path == "/p.json").then(|| r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#.to_owned())
        };
        assert_eq!(profile_setting("/p.json", &read), SeccompSetting::Permissive);
        assert_eq!(profile_setting("/other.json", &read), SeccompSetting::Custom);
    }

    #[test]
    fn privileged_means_unconfined_unless_the_engine_honours_a_profile() {
        let plain = r#"{"Privileged":true}"#;
        let asked = r#"{"Privileged":true,"SecurityOpt":["seccomp={\"defaultAction\":\"SCMP_ACT_ERRNO\"}"]}"#;
        for (engine, of_asked) in [
            (docker(), SeccompSetting::Unconfined),
            (engine("docker", "26.1.5"), SeccompSetting::Unconfined),
            (engine("docker", "27.0.1"), SeccompSetting::Custom),
            (engine("podman", "4.3.1"), SeccompSetting::Custom),
        ] {
            assert_eq!(seccomp_of(plain, &engine), SeccompSetting::Unconfined);
            assert_eq!(seccomp_of(asked, &engine), of_asked, "{} {}", engine.name, engine.version);
        }
    }

    #[test]
    fn no_new_privileges_is_said_in_several_ways() {
        for (option, expected) in [
            ("no-new-privileges", true),
            ("no-new-privileges:true", true),
            ("no-new-privileges=true", true),
            ("no-new-privileges:false", false),
            ("no-new-privileges=false", false),
            ("no-new-privileges:0", false),
            ("no-new-privileges=False", false),
            ("no-new-privileges=1", true),
            ("no-new-privilegesx", false),
        ] {
            let host = format!(r#"{{"SecurityOpt":["{option}"]}}"#);
            assert_eq!(with_host(&host, &docker()).no_new_privileges, expected, "{option}");
        }
        let strict = EngineInfo { default_no_new_privileges: true, ..docker() };
        assert!(with_host("{}", &strict).no_new_privileges);
        let host = r#"{"SecurityOpt":["no-new-privileges=false"]}"#;
        assert!(!with_host(host, &strict).no_new_privileges);
    }

    #[test]
    fn capabilities_follow_the_engines_rule() {
        let of = |host: &str| with_host(host, &docker()).capabilities;
        assert_eq!(
            of(r#"{"CapDrop":["ALL"],"CapAdd":["cap_net_raw","CHOWN"]}"#),
            ["CHOWN", "NET_RAW"]
        );
        assert_eq!(of(r#"{"CapDrop":["all"]}"#), Vec::<String>::new());
        let less = of(r#"{"CapDrop":["CAP_MKNOD"],"CapAdd":["SYS_NICE"]}"#);
        assert_eq!(less.len(), 14);
        assert!(less.contains(&"SYS_NICE".to_owned()) && !less.contains(&"MKNOD".to_owned()));
        let more = of(r#"{"CapAdd":["ALL"],"CapDrop":["SYS_ADMIN"]}"#);
        assert_eq!(more.len(), 40);
        assert!(!more.contains(&"SYS_ADMIN".to_owned()));
        let everything = of(r#"{"Privileged":true,"CapDrop":["ALL"]}"#);
        assert_eq!(everything.len(), 41);
        assert!(everything.is_sorted());
        assert_eq!(
            with_host("{}", &engine("podman", "4.3.1")).capabilities,
            capability::PODMAN_DEFAULT
        );
    }
}
