//! What the engine says about itself: its name, its runtimes, its defaults. Pure: reads answers, asks nothing.

use std::collections::BTreeMap;

use bollard::models::{SystemInfo, SystemVersion};

use crate::{
    model::recording::SeccompSetting,
    target::{
        docker::inspect::{ReadProfile, profile_setting},
        runtime::{self, plain_version},
    },
};

/// An engine, as it answered when it was connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineInfo {
    /// `docker` or `podman`.
    pub name: String,
    /// Its version, as it writes it: `20.10.24+dfsg1`.
    pub version: String,
    /// `uname -r` of the kernel that its containers run on; empty when it does not say.
    pub kernel: String,
    /// The engine's name for the runtime of containers that name none.
    pub default_runtime: String,
    /// Runtimes, by the engine's names for them.
    pub runtimes: BTreeMap<String, Runtime>,
    /// It runs in a user namespace: its containers may have no cgroup of their own.
    pub rootless: bool,
    /// The filter of containers that ask for none.
    pub default_seccomp: SeccompSetting,
    /// `no-new-privileges` is set for containers that do not say otherwise.
    pub default_no_new_privileges: bool,
}

/// An OCI runtime, as far as the engine knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Runtime {
    /// `runc`, `crun`.
    pub program: String,
    /// `1.1.5`; empty when the engine does not say: it knows one version, that of its default.
    pub version: String,
    /// Where the engine finds it, or its name.
    pub path: String,
}

impl Runtime {
    fn at(path: &str) -> Self {
        let program = path.rsplit('/').next().unwrap_or(path).to_owned();
        Runtime { program, version: String::new(), path: path.to_owned() }
    }
}

impl EngineInfo {
    /// Reads the answers to `/version` and `/info`.
    pub(super) fn new(version: &SystemVersion, info: &SystemInfo, read: ReadProfile<'_>) -> Self {
        let components = version.components.as_deref().unwrap_or_default();
        let podman = components.iter().any(|component| component.name == "Podman Engine");
        let mut runtimes: BTreeMap<String, Runtime> = info
            .runtimes
            .iter()
            .flatten()
            .filter_map(|(name, runtime)| {
                let path = runtime.path.as_deref().filter(|path| !path.is_empty())?;
                Some((name.clone(), Runtime::at(path)))
            })
            .collect();
        for component in components {
            let podmans = component.name.strip_prefix("OCI Runtime (");
            let name = match podmans.and_then(|rest| rest.strip_suffix(')')) {
                // as it is configured, by a name or a path
                Some(name) => name,
                None if component.name == "runc" || component.name == "crun" => &component.name,
                None => continue,
            };
            let mut known = runtimes.get(name).cloned().unwrap_or_else(|| Runtime::at(name));
            if let Some(told) = runtime::parse(&component.version) {
                known.program = told.program;
            }
            known.version = plain_version(&component.version);
            for other in runtimes.values_mut().filter(|other| other.path == known.path) {
                *other = known.clone();
            }
            runtimes.insert(name.to_owned(), known);
        }
        let options = info.security_options.as_deref().unwrap_or_default();
        EngineInfo {
            name: if podman { "podman" } else { "docker" }.to_owned(),
            version: version.version.clone().unwrap_or_default(),
            kernel: version.kernel_version.clone().unwrap_or_default(),
            default_runtime: info.default_runtime.clone().unwrap_or_default(),
            runtimes,
            rootless: has_option(options, "rootless"),
            default_seccomp: default_seccomp(options, read),
            default_no_new_privileges: has_option(options, "no-new-privileges"),
        }
    }

    /// A container's runtime, by the engine's name for it.
    #[must_use]
    pub fn runtime(&self, name: &str) -> Runtime {
        // podman's compatible API calls every runtime `oci`.
        let name = if name.is_empty() || name == "oci" { &self.default_runtime } else { name };
        self.runtimes.get(name).cloned().unwrap_or_else(|| Runtime::at(name))
    }

    /// The number before the first dot of the version; 0 when there is none.
    #[must_use]
    pub fn major(&self) -> u32 {
        self.version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0)
    }
}

/// The options are of the form `name=seccomp,profile=default`.
fn option_named<'a>(options: &'a [String], name: &str) -> Option<&'a str> {
    options.iter().find_map(|option| {
        let (key, rest) = option.split_once(',').unwrap_or((option, ""));
        (key.strip_prefix("name=") == Some(name)).then_some(rest)
    })
}

fn has_option(options: &[String], name: &str) -> bool {
    option_named(options, name).is_some()
}

fn default_seccomp(options: &[String], read: ReadProfile<'_>) -> SeccompSetting {
    // Without the option, kernel or engine have no seccomp.
    let Some(rest) = option_named(options, "seccomp") else { return SeccompSetting::Unconfined };
    match rest.strip_prefix("profile=").unwrap_or_default() {
        "" | "default" | "builtin" => SeccompSetting::EngineDefault,
        "unconfined" => SeccompSetting::Unconfined,
        path => profile_setting(path, read),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine(version: &str, info: &str) -> EngineInfo {
        EngineInfo::new(
            &serde_json::from_str(version).expect("version"),
            &serde_json::from_str(info).expect("info"),
            &|_| None,
        )
    }

    const DOCKER: &str = r#"{"Platform":{"Name":""},"Components":[
        {"Name":"Engine","Version":"20.10.24+dfsg1","Details":{"ApiVersion":"1.41"}},
        {"Name":"containerd","Version":"1.6.20~ds1","Details":{}},
        {"Name":"runc","Version":"1.1.5+ds1","Details":{"GitCommit":"1.1.5+ds1-1+deb12u1"}}],
        "Version":"20.10.24+dfsg1","ApiVersion":"1.41","KernelVersion":"6.1.0-18-amd64"}"#;

    #[test]
    fn docker_names_its_runtime_and_version() {
        let engine = engine(
            DOCKER,
            r#"{"CgroupDriver":"cgroupfs","CgroupVersion":"1","DefaultRuntime":"runc",
                "Runtimes":{"io.containerd.runc.v2":{"path":"runc"},"runc":{"path":"runc"},"fast":{"path":"/opt/crun"},
                "newer":{"path":"/opt/1.3/runc"}},
                "SecurityOptions":["name=apparmor","name=seccomp,profile=default"],"Warnings":null}"#,
        );
        assert_eq!((engine.name.as_str(), engine.major()), ("docker", 20));
        let told = |name: &str| {
            let Runtime { program, version, path } = engine.runtime(name);
            format!("{program} {version} {path}")
        };
        for builtin in ["", "runc", "io.containerd.runc.v2"] {
            assert_eq!(told(builtin), "runc 1.1.5 runc", "{builtin}");
        }
        assert_eq!(told("fast"), "crun  /opt/crun");
        assert_eq!(told("newer"), "runc  /opt/1.3/runc", "the version is the built-in one's");
        assert_eq!(told("unheard-of"), "unheard-of  unheard-of");
        assert_eq!(engine.default_seccomp, SeccompSetting::EngineDefault);
        assert!(!engine.default_no_new_privileges && !engine.rootless);
    }

    #[test]
    fn podman_names_its_runtime_in_parentheses() {
        let engine = engine(
            r#"{"Components":[{"Name":"Podman Engine","Version":"4.3.1"},
                {"Name":"Conmon","Version":"conmon version 2.1.6, commit: unknown"},
                {"Name":"OCI Runtime (crun)","Version":"crun version 1.8.1\ncommit: f8a0\nspec: 1.0.0"}],
                "Version":"4.3.1","ApiVersion":"1.41"}"#,
            r#"{"DefaultRuntime":"crun","SecurityOptions":["name=seccomp,profile=default","name=rootless"]}"#,
        );
        assert_eq!(engine.name, "podman");
        let crun = engine.runtime("oci");
        assert_eq!((crun.program.as_str(), crun.version.as_str()), ("crun", "1.8.1"));
        assert!(engine.rootless);
    }

    #[test]
    fn podmans_runtime_is_what_it_says_not_what_its_file_is_called() {
        let engine = engine(
            r#"{"Components":[{"Name":"Podman Engine","Version":"4.3.1"},
                {"Name":"OCI Runtime (/opt/bin/crun-wrapped)","Version":"crun version 1.8.1\ncommit: f8a0"}],
                "Version":"4.3.1"}"#,
            r#"{"DefaultRuntime":"/opt/bin/crun-wrapped",
                "Runtimes":{"crun":{"path":"/opt/bin/crun-wrapped"},"runc":{"path":"/usr/bin/runc"}}}"#,
        );
        for name in ["oci", "/opt/bin/crun-wrapped", "crun"] {
            let runtime = engine.runtime(name);
            assert_eq!((runtime.program.as_str(), runtime.version.as_str()), ("crun", "1.8.1"));
            assert_eq!(runtime.path, "/opt/bin/crun-wrapped", "{name}");
        }
        assert_eq!(engine.runtime("runc"), Runtime::at("/usr/bin/runc"));
    }

    #[test]
    fn the_engine_says_what_its_default_filter_is() {
        for (options, expected) in [
            (r#"["name=seccomp,profile=builtin"]"#, SeccompSetting::EngineDefault),
            (r#"["name=seccomp,profile=unconfined"]"#, SeccompSetting::Unconfined),
            (r#"["name=seccomp,profile=/etc/docker/x.json"]"#, SeccompSetting::Custom),
            (r#"["name=apparmor"]"#, SeccompSetting::Unconfined),
            ("null", SeccompSetting::Unconfined),
        ] {
            let info = format!(r#"{{"SecurityOptions":{options}}}"#);
            assert_eq!(engine(DOCKER, &info).default_seccomp, expected, "{options}");
        }
        let info =
            r#"{"SecurityOptions":["name=no-new-privileges","name=seccomp,profile=default"]}"#;
        assert!(engine(DOCKER, info).default_no_new_privileges);
    }

    #[test]
    fn an_engine_that_says_nothing_is_still_an_engine() {
        let engine = engine("{}", "{}");
        assert_eq!((engine.name.as_str(), engine.major()), ("docker", 0));
    }
}
