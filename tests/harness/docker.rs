//! A Docker engine through its own client, and containers that are gone when the test is.

use std::{
    collections::BTreeSet,
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use camino::Utf8Path;
use serde_json::Value;

use crate::harness::{
    machine::Machine,
    program::{self, Output},
    rootfs,
};

const LIMIT: Duration = Duration::from_secs(120);

static NEXT: AtomicU32 = AtomicU32::new(0);

/// An engine that answers.
pub struct Engine {
    host: String,
    /// What its client needs in the environment.
    env: Vec<(String, String)>,
    image: Mutex<Option<String>>,
}

impl Engine {
    /// The engine of `cargo xtask engines`, or the one that `DOCKER_HOST` names.
    ///
    /// # Errors
    /// When there is none or it does not answer.
    pub fn find(root: &Utf8Path) -> Result<Self> {
        let mut env: Vec<(String, String)> = Vec::new();
        if let Ok(ours) = fs_err::read_to_string(root.join("target/engines/docker/env")) {
            let pairs = ours.lines().filter_map(|line| line.split_once('='));
            env.extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
        }
        let named =
            env.iter().find(|(name, _)| name == "DOCKER_HOST").map(|(_, host)| host.clone());
        let host = named
            .or_else(|| std::env::var("DOCKER_HOST").ok())
            .context("no engine, hint: cargo xtask engines up")?;
        let engine = Self { host, env, image: Mutex::new(None) };
        engine.docker(&["version", "--format", "{{.Server.Version}}"]).with_context(|| {
            format!("no engine answers at `{}`, hint: cargo xtask engines up", engine.host)
        })?;
        Ok(engine)
    }

    /// Its address, as `DOCKER_HOST`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Runs the client; its trimmed standard output.
    ///
    /// # Errors
    /// When it fails.
    pub fn docker(&self, args: &[&str]) -> Result<String> {
        let output = self.try_docker(args)?;
        let output = output.expect(0).with_context(|| format!("docker {}", args.join(" ")))?;
        Ok(output.stdout.trim().to_owned())
    }

    /// Runs the client, whatever its status.
    ///
    /// # Errors
    /// When it cannot run or does not end.
    pub fn try_docker(&self, args: &[&str]) -> Result<Output> {
        program::run(self.environment(&mut program::command("docker", args)), LIMIT)
    }

    /// Gives a command what the client needs in the environment.
    pub fn environment<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command.env("DOCKER_HOST", &self.host).envs(self.env.iter().cloned())
    }

    /// The ids of all containers.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub fn containers(&self) -> Result<BTreeSet<String>> {
        Ok(self.docker(&["ps", "-aq"])?.lines().map(str::to_owned).collect())
    }

    /// A name that no other container has, and that is free again when the test ends.
    pub fn name(&self, what: &str) -> Container<'_> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Container { engine: self, name: format!("pt-{}-{number}-{what}", std::process::id()) }
    }

    /// An image with the fixtures and busybox in /bin, and nothing else.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn fixture_image(&self, machine: &Machine) -> Result<String> {
        let mut made = self.image.lock().map_err(|_| anyhow::anyhow!("an earlier try panicked"))?;
        if let Some(image) = &*made {
            return Ok(image.clone());
        }
        let root = rootfs::make(machine)?;
        let image = format!("localhost/profiler-fixtures:{}", std::process::id());
        let tar = machine.scratch()?;
        let archive = tar.join("image.tar");
        program::shell(&format!("tar -C {} -cf {archive} .", root.path()))?;
        self.docker(&["import", archive.as_str(), &image])?;
        *made = Some(image.clone());
        Ok(image)
    }

    /// Removes the image that [`Engine::fixture_image`] made.
    pub fn remove_image(&self) {
        if let Ok(made) = self.image.lock()
            && let Some(image) = &*made
            && let Err(error) = self.docker(&["image", "rm", "-f", image])
        {
            eprintln!("image `{image}` stays: {error:#}");
        }
    }
}

/// A container of the test's own; removed when dropped, whether it was ever made or not.
pub struct Container<'a> {
    engine: &'a Engine,
    /// Its name.
    pub name: String,
}

impl Container<'_> {
    /// `docker run` with this name; the client's output.
    ///
    /// # Errors
    /// When the client does not end.
    pub fn run(&self, args: &[&str]) -> Result<Output> {
        let mut words = vec!["run", "--name", &self.name];
        words.extend(args);
        self.engine.try_docker(&words)
    }

    /// `docker run -d` with this name.
    ///
    /// # Errors
    /// When the container does not start.
    pub fn start(&self, args: &[&str]) -> Result<()> {
        let mut words = vec!["-d"];
        words.extend(args);
        self.run(&words)?.expect(0)?;
        Ok(())
    }

    /// `docker exec`.
    ///
    /// # Errors
    /// When the client does not end.
    pub fn exec(&self, args: &[&str]) -> Result<Output> {
        let mut words = vec!["exec", &self.name];
        words.extend(args);
        self.engine.try_docker(&words)
    }

    /// Runs a client's verb on it.
    ///
    /// # Errors
    /// When the engine refuses.
    pub fn verb(&self, args: &[&str]) -> Result<String> {
        let mut words = args.to_vec();
        words.push(&self.name);
        self.engine.docker(&words)
    }

    /// `docker top`, with ps options.
    ///
    /// # Errors
    /// When it does not run.
    pub fn top(&self, options: &str) -> Result<String> {
        let mut words = vec!["top", &self.name];
        words.extend(options.split(' '));
        self.engine.docker(&words)
    }

    /// What the engine says about it.
    ///
    /// # Errors
    /// When it does not exist.
    pub fn inspect(&self) -> Result<Value> {
        let text = self.verb(&["inspect"])?;
        let list: Value = serde_json::from_str(&text)?;
        Ok(list[0].clone())
    }

    /// Both streams of its log.
    ///
    /// # Errors
    /// When it does not exist.
    pub fn log(&self) -> Result<String> {
        let output = self.engine.try_docker(&["logs", &self.name])?.expect(0)?;
        Ok(output.stdout + &output.stderr)
    }

    /// Its address on the engine's bridge.
    ///
    /// # Errors
    /// When it has none.
    pub fn address(&self) -> Result<String> {
        let address = self.verb(&[
            "inspect",
            "--format",
            "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}",
        ])?;
        if address.is_empty() {
            bail!("container `{}` has no address\n{}", self.name, self.log()?);
        }
        Ok(address)
    }

    /// Fails unless it runs.
    ///
    /// # Errors
    /// When it does not, with its log.
    pub fn expect_running(&self) -> Result<()> {
        let state = &self.inspect()?["State"];
        if state["Running"] != true || state["Restarting"] == true {
            bail!("container `{}` does not run: {state}\n{}", self.name, self.log()?);
        }
        Ok(())
    }

    /// Forces it away.
    pub fn remove(&self) {
        if let Ok(output) = self.engine.try_docker(&["rm", "-f", "-v", &self.name])
            && output.status != 0
            && !output.stderr.contains("No such container")
        {
            eprintln!("container `{}` stays: {}", self.name, output.stderr);
        }
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        self.remove();
    }
}
