//! An engine for as long as a verb needs one: the caller's, or this checkout's own, which is stopped again if it was not up before.

use std::process::Stdio;

use anyhow::{Result, ensure};

use crate::sh::{Cmd, cmd};

/// An engine that is up while this lives.
pub struct Lent {
    environment: Vec<(String, String)>,
    /// Ours to stop at the end.
    started: bool,
}

impl Lent {
    /// The one that `DOCKER_HOST` names, if it has these images.
    pub fn named(images: &[&str]) -> Option<Self> {
        let named = Lent { environment: Vec::new(), started: false };
        let is_there = std::env::var_os("DOCKER_HOST").is_some()
            && named.docker(&["image", "inspect"]).args(images).succeeds();
        is_there.then_some(named)
    }

    /// This checkout's Docker, with compose and all images; started if need be, which takes minutes the first time.
    ///
    /// # Errors
    /// When it cannot be had.
    pub fn own() -> Result<Self> {
        let was_up = xtask().args(["status", "docker"]).stdout()?.starts_with("docker: up");
        let mut engine = Lent { environment: Vec::new(), started: !was_up };
        // It tells what it does on stderr, for minutes.
        let up = xtask().args(["up", "docker"]).into_command().stderr(Stdio::inherit()).output()?;
        ensure!(up.status.success(), "no engine could be started");
        let exports = String::from_utf8_lossy(&up.stdout);
        let pairs =
            exports.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
        engine.environment.extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
        Ok(engine)
    }

    /// One line about this checkout's Docker.
    ///
    /// # Errors
    /// When nobody can say.
    pub fn status(&self) -> Result<String> {
        xtask().args(["status", "docker"]).stdout()
    }

    /// Gives a command what the client needs in the environment.
    pub fn tell(&self, command: Cmd) -> Cmd {
        self.environment.iter().fold(command, |command, (name, value)| command.env(name, value))
    }

    /// The client, with these first arguments.
    pub fn docker(&self, args: &[&str]) -> Cmd {
        self.tell(cmd("docker")).args(args)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if self.started
            && let Err(error) = xtask().args(["down", "docker"]).run()
        {
            println!("the engine could not be stopped: {error:#}\nhint: cargo xtask engines down");
        }
    }
}

/// `cargo xtask engines`, by this very binary, even if another one was built in its place meanwhile.
fn xtask() -> Cmd {
    cmd("/proc/self/exe").arg("engines")
}
