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
    /// The runtime of containers that name none, resolved to `runc` or `crun` where the engine says how.
    pub default_runtime: String,
    /// Versions of runtimes, `1.1.5`, by name; the engine knows those that it was built for.
    pub runtime_versions: BTreeMap<String, String>,
    /// Runtimes by the engine's names for them, to the name of the program behind.
    pub runtime_programs: BTreeMap<String, String>,
    /// Runtimes by the engine's names for them, to where it finds them.
    pub runtime_paths: BTreeMap<String, String>,
    /// It runs in a user namespace: its containers may have no cgroup of their own.
    pub rootless: bool,
    /// The filter of containers that ask for none.
    pub default_seccomp: SeccompSetting,
    /// `no-new-privileges` is set for containers that do not say otherwise.
    pub default_no_new_privileges: bool,
}

impl EngineInfo {
    /// Reads the answers to `/version` and `/info`.
    pub(super) fn new(version: &SystemVersion, info: &SystemInfo, read: ReadProfile<'_>) -> Self {
        let components = version.components.as_deref().unwrap_or_default();
        let podman = components.iter().any(|component| component.name == "Podman Engine");
        let runtime_paths: BTreeMap<String, String> = info
            .runtimes
            .iter()
            .flatten()
            .filter_map(|(name, runtime)| {
                let path = runtime.path.as_deref().filter(|path| !path.is_empty())?;
                Some((name.clone(), path.to_owned()))
            })
            .collect();
        let mut runtime_programs: BTreeMap<String, String> = runtime_paths
            .iter()
            .map(|(name, path)| (name.clone(), file_name(path).to_owned()))
            .collect();
        let mut runtime_versions = BTreeMap::new();
        for component in components {
            let podmans = component.name.strip_prefix("OCI Runtime (");
            if let Some(name) = podmans.and_then(|rest| rest.strip_suffix(')')) {
                // podman calls it as it is configured, by a name or a path
                let told = runtime::parse(&component.version);
                let program = told.map_or_else(|| file_name(name).to_owned(), |told| told.program);
                runtime_versions.insert(program.clone(), plain_version(&component.version));
                for (other, path) in &runtime_paths {
                    if path == name {
                        runtime_programs.insert(other.clone(), program.clone());
                    }
                }
                runtime_programs.insert(name.to_owned(), program);
            } else if component.name == "runc" || component.name == "crun" {
                runtime_versions.insert(component.name.clone(), plain_version(&component.version));
            }
        }
        let default_runtime = info.default_runtime.clone().unwrap_or_default();
        let options = info.security_options.as_deref().unwrap_or_default();
        EngineInfo {
            name: if podman { "podman" } else { "docker" }.to_owned(),
            version: version.version.clone().unwrap_or_default(),
            kernel: version.kernel_version.clone().unwrap_or_default(),
            default_runtime: resolve(&runtime_programs, &default_runtime),
            runtime_versions,
            runtime_programs,
            runtime_paths,
            rootless: has_option(options, "rootless"),
            default_seccomp: default_seccomp(options, read),
            default_no_new_privileges: has_option(options, "no-new-privileges"),
        }
    }

    /// The program behind a container's runtime, by the engine's name for it.
    #[must_use]
    pub fn runtime_program(&self, name: &str) -> String {
        // podman's compatible API calls every runtime `oci`.
        if name.is_empty() || name == "oci" {
            return self.default_runtime.clone();
        }
        resolve(&self.runtime_programs, name)
    }

    /// Where the program behind a container's runtime is, or its name.
    #[must_use]
    pub fn runtime_path<'a>(&'a self, name: &'a str) -> &'a str {
        self.runtime_paths.get(name).map_or(name, String::as_str)
    }

    /// The number before the first dot of the version; 0 when there is none.
    #[must_use]
    pub fn major(&self) -> u32 {
        self.version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0)
    }
}

fn resolve(programs: &BTreeMap<String, String>, name: &str) -> String {
    programs.get(name).cloned().unwrap_or_else(|| file_name(name).to_owned())
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
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
                "Runtimes":{"io.containerd.runc.v2":{"path":"runc"},"runc":{"path":"runc"},"fast":{"path":"/opt/crun"}},
                "SecurityOptions":["name=apparmor","name=seccomp,profile=default"],"Warnings":null}"#,
        );
        assert_eq!((engine.name.as_str(), engine.major()), ("docker", 20));
        assert_eq!(engine.runtime_program("io.containerd.runc.v2"), "runc");
        assert_eq!(engine.runtime_program("fast"), "crun");
        assert_eq!(engine.runtime_program(""), "runc");
        assert_eq!(engine.runtime_program("unheard-of"), "unheard-of");
        assert_eq!(engine.runtime_versions["runc"], "1.1.5");
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
        assert_eq!(engine.runtime_program("oci"), "crun");
        assert_eq!(engine.runtime_versions["crun"], "1.8.1");
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
            assert_eq!(engine.runtime_program(name), "crun", "{name}");
        }
        assert_eq!(engine.runtime_versions["crun"], "1.8.1");
        assert_eq!(engine.runtime_path("runc"), "/usr/bin/runc");
        assert_eq!(engine.runtime_path("/opt/other"), "/opt/other");
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
