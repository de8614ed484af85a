//! Docker of Debian: a private dockerd on a private containerd, in three editions.
//!
//! `docker` is whole: a network, compose, every image. The others are for what only a version, a runtime or cgroup2
//! shows, and have neither network nor built images, so that there is nothing to restore but their cgroup.
//!
//! Data, state, socket, configuration and bridge are this checkout's own; `/var/lib/docker`,
//! `/etc/docker` and the machine's socket are not touched. A containerd of its own is needed because
//! dockerd otherwise joins the machine's, where it would meet another Docker's containers.

use anyhow::{Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Value, json};

use super::{
    Engine, cgroups, compose,
    containerd::Containerd,
    daemon::Daemon,
    env::{self, Environment},
    http,
    machine::{self, Machine},
    place::Place,
    runtimes,
    trixie::Trixie,
};
use crate::{
    apt,
    images::{self, Builder, RECIPE, Store},
    mounts,
    sh::{Cmd, cmd, say},
};

/// What the engine, the images and the tests that use them need of Debian 12.
const PACKAGES: [&str; 12] = [
    "docker.io",
    // compose 1.29, beside the plugin
    "docker-compose",
    "containerd",
    "runc",
    "iptables",
    "iproute2",
    "busybox-static",
    "debootstrap",
    "ca-certificates",
    "strace",
    "gcc",
    "libc6-dev",
];

/// Where a Docker comes from and what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edition {
    /// 20.10 among the machine's cgroups, with all that it takes to run servers.
    Whole,
    /// 20.10 on a pure cgroup2, with every runtime.
    Cgroup2,
    /// 26 on a pure cgroup2, with every runtime.
    Trixie,
}

/// The engine below one directory.
pub struct Docker {
    home: Utf8PathBuf,
    dir: Utf8PathBuf,
    edition: Edition,
    place: Place,
}

impl Docker {
    /// Docker below `home`, in a directory of its own.
    ///
    /// # Errors
    /// When an edition on cgroup2 is asked for and there is none.
    pub fn new(home: &Utf8Path, edition: Edition) -> Result<Self> {
        let dir = home.join(edition.name());
        let place = if edition == Edition::Whole { Place::Machine } else { Place::own(&dir)? };
        Ok(Self { home: home.to_owned(), dir, edition, place })
    }

    fn socket(&self) -> Utf8PathBuf {
        self.dir.join("docker.sock")
    }

    fn machine_file(&self) -> Utf8PathBuf {
        self.dir.join("machine-before.json")
    }

    /// Where its programs are looked for first.
    fn programs(&self) -> Result<Vec<Utf8PathBuf>> {
        Ok(match self.edition {
            Edition::Whole | Edition::Cgroup2 => Vec::new(),
            Edition::Trixie => Trixie::ensure(&self.home)?.programs(),
        })
    }

    fn containerd(&self, programs: &[Utf8PathBuf]) -> Containerd {
        Containerd::new(&self.dir, &self.place, programs)
    }

    /// What a shell or a test needs to use this engine: DOCKER_HOST, DOCKER_CONFIG (in which `docker compose` is found,
    /// if this edition has it) and ENGINE_CGROUP, what the machine's cgroup2 has before the engine's paths; and COMPOSE,
    /// the path of the plugin, which runs by itself too.
    fn environment(&self, plugin: Option<&Utf8Path>) -> Environment {
        let mut environment = vec![
            ("DOCKER_HOST".to_owned(), format!("unix://{}", self.socket())),
            ("DOCKER_CONFIG".to_owned(), self.dir.join("config").into_string()),
            ("ENGINE_CGROUP".to_owned(), self.place.prefix()),
        ];
        environment.extend(plugin.map(|plugin| ("COMPOSE".to_owned(), plugin.to_string())));
        environment
    }

    /// The client, of whatever version, pointed at this engine and away from the user's settings.
    fn client(&self) -> Cmd {
        self.environed(cmd("docker"))
    }

    /// The same for so long at the most: dockerd waits for a runtime that waits for a process that has died.
    fn client_for(&self, seconds: usize) -> Cmd {
        self.environed(cmd("timeout").args(["--kill-after=5", &seconds.to_string(), "docker"]))
    }

    fn environed(&self, command: Cmd) -> Cmd {
        command
            .env("DOCKER_HOST", format!("unix://{}", self.socket()))
            .env("DOCKER_CONFIG", self.dir.join("config").as_str())
    }

    fn start(&self) -> Result<()> {
        let programs = self.programs()?;
        let containerd = self.containerd(&programs);
        containerd.start()?;
        let settings = self.settings(&containerd.socket())?;
        let config = self.dir.join("daemon.json");
        fs_err::write(&config, serde_json::to_string_pretty(&settings)?)?;
        let socket = self.socket();
        Daemon::new("dockerd", &self.dir)
            .within(&containerd.beside())
            .programs(&programs)
            .start(&["--config-file", config.as_str()], || http::answers(&socket))
    }

    /// The contents of `daemon.json`.
    fn settings(&self, containerd: &Utf8Path) -> Result<Value> {
        let Self { dir, .. } = self;
        let mut settings = json!({
            "hosts": [format!("unix://{}", self.socket())],
            "containerd": containerd,
            "data-root": dir.join("data"),
            "exec-root": dir.join("exec"),
            "pidfile": dir.join("dockerd-own.pid"),
            "deprecated-key-path": dir.join("key.json"),
            "storage-driver": "overlay2",
            "iptables": false,
        });
        if self.edition == Edition::Whole {
            let machine = Machine::remembered(&self.machine_file())?;
            machine.connect()?;
            settings["bridge"] = json!(machine.bridge);
            settings["default-address-pools"] =
                json!([{ "base": format!("{}128.0/17", machine.network), "size": 24 }]);
        } else {
            settings["bridge"] = json!("none");
            settings["ip-forward"] = json!(false);
            settings["exec-opts"] = json!(["native.cgroupdriver=cgroupfs"]);
            settings["runtimes"] = runtimes::for_docker(&runtimes::ensure(&self.home)?);
        }
        Ok(settings)
    }

    /// Removes the containers and the networks that were made in this engine.
    fn empty(&self) -> Result<()> {
        let list = |path: &str| -> Result<Vec<Value>> {
            let list = http::get(&self.socket(), path)?.unwrap_or_default();
            Ok(list.as_array().cloned().unwrap_or_default())
        };
        let ids = |list: &[Value]| -> Vec<String> {
            list.iter().filter_map(|item| item["Id"].as_str()).map(str::to_owned).collect()
        };
        let containers = ids(&list("/containers/json?all=1")?);
        if !containers.is_empty() {
            let rm = ["rm", "--force", "--volumes"];
            let seconds = 60 + 2 * containers.len();
            self.client_for(seconds).args(rm).args(&containers).run()?;
        }
        let mut networks = list("/networks")?;
        networks.retain(|network| {
            !matches!(network["Name"].as_str(), Some("bridge" | "host" | "none"))
        });
        let networks = ids(&networks);
        if !networks.is_empty() {
            self.client_for(60).args(["network", "rm"]).args(&networks).run()?;
        }
        Ok(())
    }

    /// The ids of the containers that dockerd keeps state of, dead daemon or not.
    fn container_ids(&self) -> Result<Vec<String>> {
        let dir = self.dir.join("data/containers");
        if !dir.exists() {
            return Ok(Vec::new());
        }
        dir.read_dir_utf8()?.map(|entry| Ok(entry?.file_name().to_owned())).collect()
    }
}

impl Edition {
    fn name(self) -> &'static str {
        match self {
            Self::Whole => "docker",
            Self::Cgroup2 => "docker-cgroup2",
            Self::Trixie => "docker26",
        }
    }
}

impl Engine for Docker {
    fn name(&self) -> &'static str {
        self.edition.name()
    }

    fn up(&self) -> Result<Environment> {
        apt::ensure(&PACKAGES)?;
        for part in ["config/cli-plugins", "data", "exec"] {
            fs_err::create_dir_all(self.dir.join(part))?;
        }
        if Daemon::new("dockerd", &self.dir).pid().is_none() || !http::answers(&self.socket()) {
            ensure!(
                rustix::process::geteuid().is_root(),
                "only root can start dockerd\nhint: sudo -E cargo xtask engines up {}",
                self.name()
            );
            say(format!("engines: starting {}", self.name()));
            self.start()?;
            // What a crash or a reboot left of the last time, with names that tests use again.
            self.empty()?;
        }
        let work = self.home.join("images");
        images::ensure_first(self, &work)?;
        if self.edition != Edition::Whole {
            let environment = self.environment(None);
            env::write(&self.dir, &environment)?;
            return Ok(environment);
        }
        let plugin = compose::ensure_plugin(&self.home)?;
        let link = self.dir.join("config/cli-plugins/docker-compose");
        if !link.exists() {
            fs_err::os::unix::fs::symlink(&plugin, &link)?;
        }
        let environment = self.environment(Some(&plugin));
        env::write(&self.dir, &environment)?;
        images::ensure(self, &work)?;
        Ok(environment)
    }

    fn down(&self) -> Result<()> {
        let dockerd = Daemon::new("dockerd", &self.dir);
        let containers = self.container_ids()?;
        if dockerd.pid().is_some() {
            say(format!("engines: stopping {}", self.name()));
            // what is left ends with its cgroup, and is removed when the engine is started again
            if let Err(error) = self.empty() {
                say(format!("engines: {error:#}"));
            }
        }
        dockerd.stop()?;
        // After a crash of the daemons shims and containers are still there.
        self.containerd(&[]).stop()?;
        if self.place == Place::Machine {
            cgroups::end_containers(machine::CGROUPS, &containers)?;
        }
        self.place.clear()?;
        mounts::detach_below(&self.dir)?;
        if let Some(machine) = Machine::saved(&self.machine_file())? {
            machine.restore()?;
            fs_err::remove_file(self.machine_file())?;
        }
        for file in [env::FILE, "docker.sock", "dockerd-own.pid"] {
            let file = self.dir.join(file);
            if file.exists() {
                fs_err::remove_file(file)?;
            }
        }
        Ok(())
    }

    fn status(&self) -> Result<String> {
        http::status(&self.socket(), Daemon::new("dockerd", &self.dir).pid())
    }
}

impl Store for Docker {
    fn recipe(&self, image: &str) -> Result<Option<String>> {
        http::image_label(&self.socket(), image, RECIPE)
    }

    fn load(&self, archive: &Utf8Path) -> Result<()> {
        self.client().args(["load", "--quiet", "--input", archive.as_str()]).run()
    }
}

impl Builder for Docker {
    fn build(
        &self,
        image: &str,
        context: &Utf8Path,
        arguments: &[(String, String)],
        recipe: &str,
    ) -> Result<()> {
        // The classic builder: buildx would be one more program to fetch.
        let arguments = arguments.iter().map(|(name, value)| format!("--build-arg={name}={value}"));
        self.client()
            .env("DOCKER_BUILDKIT", "0")
            .args(["build", "--quiet", "--force-rm", "--tag", image])
            .arg(format!("--label={RECIPE}={recipe}"))
            .args(arguments)
            .arg(context)
            .run()
    }
}
