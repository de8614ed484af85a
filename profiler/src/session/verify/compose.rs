//! A service that compose starts under a policy, in a project of its own: nothing that runs is touched, and all of it goes
//! when it is done.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use serde_json::json;
use tokio::process::Command;

use super::{policy::Policy, target::written};
use crate::{
    session::error::SessionError,
    target::{compose, docker::Docker},
};

/// A compose project with one service under a policy.
pub(super) struct Project {
    client: &'static [&'static str],
    host: String,
    name: String,
    service: String,
    /// What the user wrote, the override, and the profile that it names.
    file: PathBuf,
    overrides: tempfile::NamedTempFile,
    _profile: tempfile::NamedTempFile,
}

impl Project {
    /// Writes the override; starts nothing.
    pub async fn new(
        file: &Path,
        service: &str,
        name: &str,
        policy: &Policy,
        docker: &Docker,
    ) -> Result<Project, SessionError> {
        let client = compose::client().await.ok_or(SessionError::NoCompose)?;
        let profile = written(&policy.text)?;
        let mut options = vec![format!("seccomp:{}", profile.path().display())];
        if let Some(set) = policy.no_new_privileges {
            let known = compose::security_options(file, service).await;
            let refused = |error: compose::ComposeError| SessionError::Compose {
                file: file.to_owned(),
                message: error.to_string(),
            };
            // compose 2 refuses an option that is there twice, and what is set in the file stays so
            let is_set = |option: &String| {
                option.starts_with("no-new-privileges") && !option.ends_with("false")
            };
            if !known.map_err(refused)?.iter().any(is_set) {
                options.push(format!("no-new-privileges:{set}"));
            }
        }
        let mut settings = json!({ "security_opt": options });
        if let Some(names) = policy.capability_names() {
            settings["cap_drop"] = json!(["ALL"]);
            settings["cap_add"] = json!(names);
        }
        // JSON is YAML; a dollar sign would begin a variable
        let text = json!({ "services": { service: settings } }).to_string().replace('$', "$$");
        Ok(Project {
            client,
            host: docker.endpoint().address.to_string(),
            name: name.to_owned(),
            service: service.to_owned(),
            file: file.to_owned(),
            overrides: written(&text)?,
            _profile: profile,
        })
    }

    /// Makes the containers and starts none; the service's id.
    pub async fn create(&self) -> Result<String, SessionError> {
        self.run(&["up", "--no-start", &self.service]).await?;
        let ids = self.run(&["ps", "-a", "-q", &self.service]).await?;
        match ids.split_whitespace().collect::<Vec<_>>().as_slice() {
            [id] => Ok((*id).to_owned()),
            ids => Err(self.failed(format!("`{}` has {} containers", self.service, ids.len()))),
        }
    }

    /// Starts the service and what it depends on.
    pub async fn up(&self) -> Result<(), SessionError> {
        self.run(&["up", "-d", &self.service]).await.map(drop)
    }

    /// Stops and removes all of the project.
    pub async fn down(&self) -> Result<(), SessionError> {
        self.run(&["down", "-v", "--rmi", "local", "--remove-orphans"]).await.map(drop)
    }

    async fn run(&self, verb: &[&str]) -> Result<String, SessionError> {
        let mut command = Command::new(self.client[0]);
        command.args(&self.client[1..]).args(["-p", &self.name, "-f"]).arg(&self.file);
        command.arg("-f").arg(self.overrides.path()).args(verb).env("DOCKER_HOST", &self.host);
        // a terminal's Ctrl-C is for the tests
        command.process_group(0).stdin(Stdio::null());
        let output = command.output().await.map_err(|error| self.failed(error.to_string()))?;
        if !output.status.success() {
            return Err(self.failed(compose::last_line(&output.stderr)));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn failed(&self, message: String) -> SessionError {
        SessionError::Compose { file: self.file.clone(), message }
    }
}
