//! Docker of Debian: a private dockerd on a private containerd.
//!
//! Data, state, socket, configuration and bridge are this checkout's own; `/var/lib/docker`,
//! `/etc/docker` and the machine's socket are not touched. A containerd of its own is needed because
//! dockerd otherwise joins the machine's, where it would meet another Docker's containers.

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Value, json};

use super::{
    Engine, cgroups, compose,
    daemon::{self, Daemon},
    http,
    machine::Machine,
};
use crate::{
    apt,
    images::{self, RECIPE, Store},
    mounts,
    sh::{Cmd, cmd, say},
};

/// What the engine, the images and the tests that use them need of Debian 12.
const PACKAGES: [&str; 11] = [
    "docker.io",
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

/// A Unix socket's path has 108 bytes; containerd appends `.ttrpc`.
const LONGEST_SOCKET: usize = 100;

/// The engine below one directory.
pub struct Docker {
    home: Utf8PathBuf,
    dir: Utf8PathBuf,
}

impl Docker {
    /// Docker below `home`, in a directory of its own.
    pub fn new(home: &Utf8Path) -> Self {
        Self { home: home.to_owned(), dir: home.join("docker") }
    }

    fn socket(&self) -> Utf8PathBuf {
        self.dir.join("docker.sock")
    }

    fn containerd_socket(&self) -> Utf8PathBuf {
        self.dir.join("containerd.sock")
    }

    fn machine_file(&self) -> Utf8PathBuf {
        self.dir.join("machine-before.json")
    }

    /// What a shell or a test needs to use this engine: also written to `env`, a line each.
    fn environment(&self, plugin: &Utf8Path) -> Vec<(String, String)> {
        vec![
            ("DOCKER_HOST".to_owned(), format!("unix://{}", self.socket())),
            ("DOCKER_CONFIG".to_owned(), self.dir.join("config").into_string()),
            ("COMPOSE".to_owned(), plugin.to_string()),
        ]
    }

    /// The client, of whatever version, pointed at this engine and away from the user's settings.
    fn client(&self) -> Cmd {
        cmd("docker")
            .env("DOCKER_HOST", format!("unix://{}", self.socket()))
            .env("DOCKER_CONFIG", self.dir.join("config").as_str())
    }

    fn start_containerd(&self) -> Result<()> {
        let Self { dir, .. } = self;
        let socket = self.containerd_socket();
        let config = dir.join("containerd.toml");
        // CRI is a Kubernetes node's business and would claim a network of its own.
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
        let ready = || cmd("ctr").args(["--address", socket.as_str(), "version"]).succeeds();
        Daemon::new("containerd", dir).start(&["--config", config.as_str()], ready)
    }

    fn start_dockerd(&self, machine: &Machine) -> Result<()> {
        let Self { dir, .. } = self;
        let config = dir.join("daemon.json");
        let settings = json!({
            "hosts": [format!("unix://{}", self.socket())],
            "containerd": self.containerd_socket(),
            "data-root": dir.join("data"),
            "exec-root": dir.join("exec"),
            "pidfile": dir.join("dockerd-own.pid"),
            "deprecated-key-path": dir.join("key.json"),
            "storage-driver": "overlay2",
            "bridge": machine.bridge,
            "default-address-pools": [
                { "base": format!("{}128.0/17", machine.network), "size": 24 }
            ],
        });
        fs_err::write(&config, serde_json::to_string_pretty(&settings)?)?;
        let socket = self.socket();
        Daemon::new("dockerd", dir)
            .start(&["--config-file", config.as_str()], || http::answers(&socket))
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
            self.client().args(["rm", "--force", "--volumes"]).args(&containers).run()?;
        }
        let mut networks = list("/networks")?;
        networks.retain(|network| {
            !matches!(network["Name"].as_str(), Some("bridge" | "host" | "none"))
        });
        let networks = ids(&networks);
        if !networks.is_empty() {
            self.client().args(["network", "rm"]).args(&networks).run()?;
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

impl Engine for Docker {
    fn name(&self) -> &'static str {
        "docker"
    }

    fn up(&self) -> Result<Vec<(String, String)>> {
        let socket = self.containerd_socket();
        ensure!(
            socket.as_str().len() <= LONGEST_SOCKET,
            "`{socket}` is too long for a Unix socket\nhint: move the checkout to a shorter path"
        );
        apt::ensure(&PACKAGES)?;
        for part in ["config/cli-plugins", "data", "exec"] {
            fs_err::create_dir_all(self.dir.join(part))?;
        }
        if Daemon::new("dockerd", &self.dir).pid().is_none() || !http::answers(&self.socket()) {
            ensure!(
                rustix::process::geteuid().is_root(),
                "only root can start dockerd\nhint: sudo -E cargo xtask engines up docker"
            );
            say("engines: starting docker");
            let machine = Machine::remembered(&self.machine_file())?;
            machine.bridge_up()?;
            self.start_containerd()?;
            self.start_dockerd(&machine)?;
            // What a crash or a reboot left of the last time, with names that tests use again.
            self.empty()?;
        }
        let work = self.home.join("images");
        images::ensure_first(self, &work)?;
        let plugin = compose::ensure_plugin(&self.home)?;
        let link = self.dir.join("config/cli-plugins/docker-compose");
        if !link.exists() {
            fs_err::os::unix::fs::symlink(&plugin, &link)?;
        }
        let environment = self.environment(&plugin);
        let lines = environment.iter().map(|(name, value)| format!("{name}={value}\n"));
        fs_err::write(self.dir.join("env"), lines.collect::<String>())?;
        images::ensure(self, &work)?;
        Ok(environment)
    }

    fn down(&self) -> Result<()> {
        let dockerd = Daemon::new("dockerd", &self.dir);
        let containers = self.container_ids()?;
        if dockerd.pid().is_some() {
            say("engines: stopping docker");
            self.empty()?;
        }
        dockerd.stop()?;
        Daemon::new("containerd", &self.dir).stop()?;
        // After a crash of the daemons shims and containers are still there.
        daemon::end_orphans("containerd-shim-runc-v2", &self.containerd_socket())?;
        cgroups::end_containers(&containers)?;
        mounts::detach_below(&self.dir)?;
        if let Some(machine) = Machine::saved(&self.machine_file())? {
            machine.restore()?;
            fs_err::remove_file(self.machine_file())?;
        }
        for file in
            ["env", "docker.sock", "dockerd-own.pid", "containerd.sock", "containerd.sock.ttrpc"]
        {
            let file = self.dir.join(file);
            if file.exists() {
                fs_err::remove_file(file)?;
            }
        }
        Ok(())
    }

    fn status(&self) -> Result<String> {
        let socket = self.socket();
        if !http::answers(&socket) {
            return Ok("down".to_owned());
        }
        let version = http::get(&socket, "/version")?.context("no version")?;
        let info = http::get(&socket, "/info")?.context("no info")?;
        Ok(format!(
            "up, {}, {} images, {} containers, cgroup v{}, unix://{socket}",
            version["Version"].as_str().unwrap_or("unknown version"),
            info["Images"],
            info["Containers"],
            info["CgroupVersion"].as_str().unwrap_or("unknown"),
        ))
    }
}

impl Store for Docker {
    fn recipe(&self, image: &str) -> Result<Option<String>> {
        let image = http::get(&self.socket(), &format!("/images/{image}/json"))?;
        let recipe =
            image.map(|image| image["Config"]["Labels"][RECIPE].as_str().map(str::to_owned));
        Ok(recipe.flatten())
    }

    fn load(&self, archive: &Utf8Path) -> Result<()> {
        self.client().args(["load", "--quiet", "--input", archive.as_str()]).run()
    }

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
