//! containerd of Debian: the daemon below every Docker of ours, and an engine by itself, used through `ctr`.
//!
//! Root, state and socket are the engine's own. CRI is switched off: it is a Kubernetes node's business and would claim a
//! network.

use anyhow::{Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};

use super::{
    Engine, cgroups,
    daemon::{self, Daemon},
    env::{self, Environment},
    place::Place,
    runtimes,
};
use crate::{
    apt, mounts,
    sh::{Cmd, cmd, say},
};

const PACKAGES: [&str; 2] = ["containerd", "runc"];

/// A Unix socket's path has 108 bytes; containerd appends `.ttrpc`.
const LONGEST_SOCKET: usize = 100;

/// The namespace that `ctr` uses by default; containers are in the cgroups `default/ID`.
const NAMESPACE: &str = "default";

/// A containerd below one directory.
pub struct Containerd {
    name: &'static str,
    home: Utf8PathBuf,
    dir: Utf8PathBuf,
    place: Place,
    programs: Vec<Utf8PathBuf>,
}

impl Containerd {
    /// The daemon in `dir`, with programs from `programs` first.
    pub fn new(dir: &Utf8Path, place: &Place, programs: &[Utf8PathBuf]) -> Self {
        let home = dir.parent().unwrap_or(dir).to_owned();
        Self {
            name: "containerd",
            home,
            dir: dir.to_owned(),
            place: place.clone(),
            programs: programs.to_vec(),
        }
    }

    /// The engine `name`, below `home` in a directory of its own.
    pub fn engine(name: &'static str, home: &Utf8Path, place: Place) -> Self {
        Self { name, ..Self::new(&home.join(name), &place, &[]) }
    }

    /// Its socket.
    pub fn socket(&self) -> Utf8PathBuf {
        self.dir.join("containerd.sock")
    }

    /// Where a daemon that mounts what containers of this one use must be.
    pub fn beside(&self) -> Place {
        match self.place {
            Place::Machine => Place::Machine,
            _ => Place::Beside(self.daemon().pid_file()),
        }
    }

    fn daemon(&self) -> Daemon {
        Daemon::new("containerd", &self.dir).within(&self.place).programs(&self.programs)
    }

    fn ctr(&self) -> Cmd {
        cmd("ctr").args(["--address", self.socket().as_str()])
    }

    fn answers(&self) -> bool {
        // Without a socket ctr waits for ten seconds.
        self.socket().exists() && self.ctr().arg("version").succeeds()
    }

    /// Starts it unless it runs.
    ///
    /// # Errors
    /// When it does not start, or its directory's path is too long for a socket.
    pub fn start(&self) -> Result<()> {
        let (dir, socket) = (&self.dir, self.socket());
        ensure!(
            socket.as_str().len() <= LONGEST_SOCKET,
            "`{socket}` is too long for a Unix socket\nhint: move the checkout to a shorter path"
        );
        fs_err::create_dir_all(dir)?;
        let config = dir.join("containerd.toml");
        fs_err::write(
            &config,
            format!(
                "version = 2\n\
                 root = \"{dir}/containerd\"\n\
                 state = \"{dir}/containerd-state\"\n\
                 disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
                 [grpc]\n\
                 address = \"{socket}\"\n"
            ),
        )?;
        self.daemon().start(&["--config", config.as_str()], || self.answers())
    }

    /// Stops it and ends the shims that it leaves.
    ///
    /// # Errors
    /// When one does not end.
    pub fn stop(&self) -> Result<()> {
        self.daemon().stop()?;
        daemon::end_orphans("containerd-shim-runc-v2", &self.socket())?;
        for file in ["containerd.sock", "containerd.sock.ttrpc"] {
            let file = self.dir.join(file);
            if file.exists() {
                fs_err::remove_file(file)?;
            }
        }
        Ok(())
    }

    /// The ids of the containers that run or ran when it stopped.
    fn tasks(&self) -> Result<Vec<String>> {
        let dir = self.dir.join("containerd-state/io.containerd.runtime.v2.task").join(NAMESPACE);
        if !dir.exists() {
            return Ok(Vec::new());
        }
        dir.read_dir_utf8()?.map(|entry| Ok(entry?.file_name().to_owned())).collect()
    }

    fn cgroups_file(&self) -> Utf8PathBuf {
        self.dir.join("cgroups-before.json")
    }
}

impl Engine for Containerd {
    fn name(&self) -> &'static str {
        self.name
    }

    fn up(&self) -> Result<Environment> {
        apt::ensure(&PACKAGES)?;
        let runtimes = runtimes::ensure(&self.home)?;
        if !self.answers() {
            say(format!("engines: starting {}", self.name));
            fs_err::create_dir_all(&self.dir)?;
            if self.place == Place::Machine {
                cgroups::remember(NAMESPACE, &self.cgroups_file())?;
            }
            self.start()?;
        }
        let mut environment = vec![
            ("CONTAINERD_ADDRESS".to_owned(), self.socket().into_string()),
            ("ENGINE_CGROUP".to_owned(), self.place.prefix()),
        ];
        environment.extend(runtimes::environment(&runtimes));
        env::write(&self.dir, &environment)?;
        Ok(environment)
    }

    fn down(&self) -> Result<()> {
        let tasks = self.tasks()?;
        self.stop()?;
        if self.place == Place::Machine {
            cgroups::end_containers(NAMESPACE, &tasks)?;
            cgroups::restore(NAMESPACE, &self.cgroups_file())?;
        }
        self.place.clear()?;
        // With the containers gone, what it knows of them is wrong; there are no images to keep.
        mounts::remove_tree(&self.dir)
    }

    fn status(&self) -> Result<String> {
        if !self.answers() {
            return Ok("down".to_owned());
        }
        let containers = self.ctr().args(["containers", "ls", "-q"]).stdout()?;
        let version = cmd("containerd").arg("--version").programs(&self.programs).stdout()?;
        Ok(format!(
            "up, {}, {} containers, unix://{}",
            version.split(' ').nth(2).unwrap_or("unknown version"),
            containers.lines().count(),
            self.socket(),
        ))
    }
}
