//! The project under compose: built, started in one of three ways, looked up, removed.
//!
//! Owns its name, its port and its password. What it is compared by is the other files'.

use std::{
    io::Read as _,
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::PermissionsExt as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;

use crate::{
    engines::Lent,
    images,
    sh::{Cmd, root},
};

/// Where the application is, from the workspace's root.
pub const HOME: &str = "examples/taskapp";
/// The services, in the order of the tables.
pub const SERVICES: [&str; 3] = ["db", "backend", "frontend"];
/// Of its own: a project that somebody runs under the file's name is left alone.
const PROJECT: &str = "taskapp-example";

/// How the project is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confined {
    /// As compose does it with the file alone.
    Default,
    /// Under a filter that denies nothing, to be recorded.
    Permissive,
    /// Under what was found but for the filter, which denies nothing, and no-new-privileges, which is no matter of the program's.
    Rehearsed,
    /// Under what was found.
    Hardened,
}

/// The project, which is removed with its data when this is dropped.
pub struct Stack<'e> {
    engine: &'e Lent,
    work: Utf8PathBuf,
    hardened: Vec<String>,
    port: u16,
}

impl<'e> Stack<'e> {
    /// A project that is not started. `work` is for files, `hardened` the files of compose that harden it.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn new(
        engine: &'e Lent,
        work: &Utf8Path,
        hardened: Vec<String>,
        permissive: &str,
    ) -> Result<Self> {
        let secrets = work.join("secrets");
        fs_err::create_dir_all(&secrets)?;
        // The file is mounted as it is, for a user whose number is the image's: closed is the directory.
        fs_err::set_permissions(&secrets, std::fs::Permissions::from_mode(0o700))?;
        let mut random = [0; 16];
        fs_err::File::open("/dev/urandom")?.read_exact(&mut random)?;
        let password: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        fs_err::write(secrets.join("password"), password)?;
        fs_err::set_permissions(secrets.join("password"), std::fs::Permissions::from_mode(0o644))?;

        fs_err::write(work.join("permissive.json"), permissive)?;
        let filter = format!("{{security_opt: [\"seccomp:{work}/permissive.json\"]}}");
        let services = SERVICES.map(|service| format!("  {service}: {filter}\n")).concat();
        fs_err::write(work.join("permissive.yaml"), format!("services:\n{services}"))?;

        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        Ok(Self { engine, work: work.to_owned(), hardened, port })
    }

    /// The front end's port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Builds the images.
    ///
    /// # Errors
    /// When one cannot be built.
    pub fn build(&self) -> Result<()> {
        let arguments = images::build_arguments();
        let arguments = arguments.iter().map(|(name, value)| format!("--build-arg={name}={value}"));
        // The classic builder: buildx would be one more program to fetch.
        self.tell(self.compose(Confined::Default, &["build", "--quiet"]))
            .env("DOCKER_BUILDKIT", "0")
            .args(arguments)
            .run()
    }

    /// Starts it and waits until all services are healthy; how long that took.
    ///
    /// # Errors
    /// When one does not get there.
    pub fn up(&self, confined: Confined) -> Result<Duration> {
        let began = Instant::now();
        let up = self.compose(confined, &["up", "--detach", "--wait", "--quiet-pull"]).run();
        let took = began.elapsed();
        up.with_context(|| format!("the project does not start\n{}", self.logs()))?;
        Ok(took)
    }

    /// Stops and removes its containers.
    ///
    /// # Errors
    /// When compose fails.
    pub fn down(&self, confined: Confined) -> Result<()> {
        self.compose(confined, &["down", "--remove-orphans"]).run()
    }

    /// Removes everything of it, with its data.
    ///
    /// # Errors
    /// When compose fails.
    pub fn remove(&self) -> Result<()> {
        self.compose(Confined::Default, &["down", "--volumes", "--remove-orphans"]).run()?;
        // Those that only the hardening file has.
        let label = format!("label=com.docker.compose.project={PROJECT}");
        let left = self.engine.docker(&["volume", "ls", "--quiet", "--filter", &label]).stdout()?;
        if left.is_empty() {
            return Ok(());
        }
        self.engine.docker(&["volume", "rm"]).args(left.lines()).run()
    }

    /// Makes the files of a rehearsal from those that harden.
    ///
    /// # Errors
    /// When they are not there yet.
    pub fn prepare_rehearsal(&self) -> Result<()> {
        for (file, copy) in self.hardened.iter().zip(self.rehearsal()) {
            let text = fs_err::read_to_string(root().join(file))?;
            let kept = text.lines().filter(|line| !line.contains("no-new-privileges"));
            fs_err::write(copy, kept.collect::<Vec<_>>().join("\n") + "\n")?;
        }
        Ok(())
    }

    /// The integration test with its own start and end, as words of a command.
    pub fn test(&self, confined: Confined) -> Vec<String> {
        let mut words = vec!["sh".to_owned(), format!("{HOME}/integration-test")];
        for file in self.files(confined) {
            words.extend(["-f".to_owned(), root().join(file).into_string()]);
        }
        words
    }

    /// What a command needs to find the engine and the project.
    pub fn tell(&self, command: Cmd) -> Cmd {
        self.engine
            .tell(command)
            .env("COMPOSE_PROJECT_NAME", PROJECT)
            .env("TASKAPP_PORT", self.port.to_string())
            .env("TASKAPP_PASSWORD", self.work.join("secrets/password").as_str())
    }

    /// The one container of a service.
    pub fn container(&self, service: &str) -> String {
        format!("{PROJECT}-{service}-1")
    }

    /// What the engine says of a service's container.
    ///
    /// # Errors
    /// When there is none.
    pub fn inspect(&self, service: &str) -> Result<Value> {
        let text = self.engine.docker(&["inspect", &self.container(service)]).stdout()?;
        let list: Value = serde_json::from_str(&text)?;
        Ok(list[0].clone())
    }

    /// A command in a service's container, as the container's user.
    pub fn exec(&self, service: &str, words: &[&str]) -> Cmd {
        self.engine.docker(&["exec", &self.container(service)]).args(words)
    }

    fn files(&self, confined: Confined) -> Vec<String> {
        let permissive = self.work.join("permissive.yaml").into_string();
        match confined {
            Confined::Default => Vec::new(),
            Confined::Permissive => vec![permissive],
            // of several filters the engine takes the last
            Confined::Rehearsed => self.rehearsal().chain([permissive]).collect(),
            Confined::Hardened => self.hardened.clone(),
        }
    }

    fn rehearsal(&self) -> impl Iterator<Item = String> {
        (0..self.hardened.len()).map(|number| format!("{}/rehearsal-{number}.yaml", self.work))
    }

    fn compose(&self, confined: Confined, words: &[&str]) -> Cmd {
        let mut command = self.tell(self.engine.docker(&["compose", "-f"]));
        command = command.arg(format!("{HOME}/compose.yaml")).dir(root());
        for file in self.files(confined) {
            command = command.arg("-f").arg(file);
        }
        command.args(words)
    }

    /// The last lines of each service, for an error.
    fn logs(&self) -> String {
        self.compose(Confined::Default, &["logs", "--no-color", "--tail", "20"])
            .stdout()
            .unwrap_or_else(|error| format!("{error:#}"))
    }
}

impl Drop for Stack<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            println!("the project `{PROJECT}` stays: {error:#}");
        }
        // The password of a database that is gone.
        if let Err(error) = fs_err::remove_dir_all(self.work.join("secrets")) {
            println!("{error}");
        }
    }
}
