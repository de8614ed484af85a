//! The checks of `doctor` about engines: which one answers where, and which programs are installed.
//!
//! Works unprivileged: a socket that may not be opened is `unknown`. podman is not run, for as root it may move
//! processes between cgroups before it says anything; its service tells its version.

use std::{ffi::OsString, path::Path, time::Duration};

use crate::{
    model::{
        check::{Check, CheckState},
        recording::SeccompSetting,
    },
    target::{
        docker::{
            Address, Docker, Endpoint, EndpointError, EngineError, Environment, Source,
            usual_sockets,
        },
        runtime::{find_program, version_line},
    },
};

/// How long an engine may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Every check of this module. `flag` is `--docker-host`; `path` is `PATH`.
pub async fn checks(
    flag: Option<&str>,
    environment: &Environment,
    path: Option<OsString>,
) -> Vec<Check> {
    let mut checks = Vec::new();
    let chosen = Endpoint::resolve(flag, environment);
    checks.push(engine_check(&chosen).await);
    // Engines that the settings do not choose are worth a line when they are there.
    for socket in usual_sockets(environment) {
        let address = Address::Unix(socket.clone());
        let is_chosen = chosen.as_ref().is_ok_and(|endpoint| endpoint.address == address);
        if !is_chosen && Path::new(&socket).exists() {
            let other = Endpoint { address, source: Source::Default };
            let mut check = engine_check(&Ok(other)).await;
            check.name = "other engine".to_owned();
            checks.push(check);
        }
    }
    for program in ["docker", "podman", "runc", "crun"] {
        checks.extend(program_check(program, path.as_deref()).await);
    }
    checks
}

/// No engine is a warning: commands can be recorded without one.
async fn engine_check(endpoint: &Result<Endpoint, EndpointError>) -> Check {
    let endpoint = match endpoint {
        Ok(endpoint) => endpoint,
        Err(error) => {
            return from_error(CheckState::Warning, &error.to_string());
        }
    };
    match Docker::connect(endpoint, TIMEOUT).await {
        Ok(docker) => answered(&docker),
        Err(error) => {
            let state = match error {
                EngineError::NoSocket { .. }
                | EngineError::NotListening { .. }
                | EngineError::OtherKernel { .. } => CheckState::Warning,
                _ => CheckState::Unknown,
            };
            from_error(state, &error.to_string())
        }
    }
}

fn answered(docker: &Docker) -> Check {
    let engine = docker.version();
    let runtime = engine.runtime("");
    let filter = match engine.default_seccomp {
        SeccompSetting::EngineDefault => "its default filter",
        SeccompSetting::Unconfined => "no filter",
        SeccompSetting::Custom => "a filter of its own configuration",
        SeccompSetting::Permissive => "a permissive filter",
    };
    let detail = format!(
        "{} {}, {} at {}; containers get {filter}",
        engine.name,
        engine.version,
        format!("{} {}", runtime.program, runtime.version).trim_end(),
        docker.endpoint(),
    );
    if engine.rootless {
        return Check::new("container engine", CheckState::Warning, format!("{detail}; rootless"))
            .hint("containers of a rootless engine may have no cgroup of their own; then recording says so");
    }
    Check::new("container engine", CheckState::Ok, detail)
}

/// Errors of this library carry their hint in their last line.
fn from_error(state: CheckState, error: &str) -> Check {
    let (detail, hint) = match error.split_once("\nhint: ") {
        Some((detail, hint)) => (detail, Some(hint.to_owned())),
        None => (error, None),
    };
    Check { name: "container engine".to_owned(), state, detail: detail.to_owned(), hint }
}

/// No line for what is not installed: an engine that answers needs no program on this PATH.
async fn program_check(name: &str, path: Option<&std::ffi::OsStr>) -> Option<Check> {
    let program = find_program(name, path)?;
    let shown = program.display();
    if name == "podman" {
        return Some(Check::new(name, CheckState::Ok, shown.to_string()));
    }
    Some(match version_line(&program).await {
        Some(line) => Check::new(name, CheckState::Ok, format!("{line}, {shown}")),
        None => Check::new(name, CheckState::Unknown, format!("{shown} does not tell its version")),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("runtime")
            .block_on(future)
    }

    fn check<'a>(checks: &'a [Check], name: &str) -> &'a Check {
        checks.iter().find(|check| check.name == name).expect("the check is there")
    }

    #[test]
    fn programs_are_found_on_the_path_and_asked() {
        let dir = tempfile::tempdir().expect("temp dir");
        for (name, program) in
            [("runc", "/bin/echo"), ("crun", "/bin/false"), ("podman", "/bin/echo")]
        {
            symlink(program, dir.path().join(name)).expect("symlink");
        }
        let checks = block_on(checks(
            Some(&format!("unix://{}/no.sock", dir.path().display())),
            &Environment::default(),
            Some(dir.path().as_os_str().to_owned()),
        ));
        let path = |name: &str| dir.path().join(name).display().to_string();
        let runc = check(&checks, "runc");
        assert_eq!(runc.state, CheckState::Ok);
        assert!(runc.detail.ends_with(&format!(", {}", path("runc"))), "{}", runc.detail);
        assert_eq!(check(&checks, "crun").state, CheckState::Unknown);
        assert!(!checks.iter().any(|check| check.name == "docker"), "it is not installed");
        assert_eq!(check(&checks, "podman").detail, path("podman"), "podman must not be run");
        let engine = check(&checks, "container engine");
        assert_eq!(engine.state, CheckState::Warning);
        assert!(engine.detail.contains("there is no such socket"), "{}", engine.detail);
        assert!(engine.hint.is_some() && !engine.detail.contains("hint:"));
    }

    #[test]
    fn an_unusable_setting_is_a_check_not_a_failure() {
        let checks = block_on(checks(Some("ssh://host"), &Environment::default(), None));
        let engine = check(&checks, "container engine");
        assert_eq!(engine.state, CheckState::Warning);
        assert!(engine.detail.contains("ssh is not supported"), "{}", engine.detail);
    }
}
