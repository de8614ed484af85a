//! Podman of Debian: its API as a service, and a script that runs its client on the same storage.
//!
//! Storage, state, locks and configuration are the engine's own. Among the machine's cgroups it runs only where these
//! are not a pure cgroup2: there podman 4.3 moves every process of the machine that is in the root.

use std::os::unix::fs::PermissionsExt as _;

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};
use rustix::process::{Resource, getrlimit};

use super::{
    Engine, cgroups,
    daemon::Daemon,
    env::{self, Environment},
    http,
    place::{self, Place},
    runtimes::{self, Runtime},
};
use crate::{
    apt,
    images::{self, RECIPE, Store},
    mounts,
    sh::{Cmd, cmd, say},
};

const PACKAGES: [&str; 4] = ["podman", "conmon", "busybox-static", "ca-certificates"];
/// The parent of its containers' cgroups.
const PARENT: &str = "libpod_parent";
/// Where conmons are.
const CONMONS: &str = "libpod_parent/conmon";
/// conmon sets no more than this many processes, whatever is asked for.
const MOST_PROCESSES: u64 = 32768;

/// A podman below one directory.
pub struct Podman {
    name: &'static str,
    home: Utf8PathBuf,
    dir: Utf8PathBuf,
    place: Place,
    runtime: &'static str,
}

impl Podman {
    /// The engine `name`, below `home` in a directory of its own, with `runtime` unless another one is asked for.
    pub fn new(name: &'static str, home: &Utf8Path, place: Place, runtime: &'static str) -> Self {
        Self { name, home: home.to_owned(), dir: home.join(name), place, runtime }
    }

    fn socket(&self) -> Utf8PathBuf {
        self.dir.join("podman.sock")
    }

    fn daemon(&self) -> Daemon {
        Daemon::new("podman", &self.dir).within(&self.place)
    }

    /// The script that is its client.
    fn script(&self) -> Utf8PathBuf {
        self.dir.join("podman")
    }

    fn client(&self) -> Cmd {
        cmd(self.script())
    }

    fn cgroups_file(&self) -> Utf8PathBuf {
        self.dir.join("cgroups-before.json")
    }

    fn configure(&self, runtimes: &[Runtime]) -> Result<()> {
        let Self { dir, runtime, .. } = self;
        for part in ["storage", "run", "networks"] {
            fs_err::create_dir_all(dir.join(part))?;
        }
        // Its defaults need CAP_SYS_RESOURCE, and the pids controller.
        let files = getrlimit(Resource::Nofile).maximum.unwrap_or(1 << 20);
        let processes = getrlimit(Resource::Nproc).maximum.unwrap_or(MOST_PROCESSES);
        let processes = processes.min(MOST_PROCESSES);
        let known: String = runtimes
            .iter()
            .map(|runtime| format!("{} = [\"{}\"]\n", runtime.name, runtime.path))
            .collect();
        fs_err::write(
            dir.join("containers.conf"),
            format!(
                "[containers]\n\
                 default_ulimits = [\"nofile={files}:{files}\", \"nproc={processes}:{processes}\"]\n\
                 pids_limit = 0\n\
                 [network]\n\
                 network_config_dir = \"{dir}/networks\"\n\
                 [engine]\n\
                 cgroup_manager = \"cgroupfs\"\n\
                 events_logger = \"file\"\n\
                 lock_type = \"file\"\n\
                 runtime = \"{runtime}\"\n\
                 static_dir = \"{dir}/storage/libpod\"\n\
                 tmp_dir = \"{dir}/run/libpod\"\n\
                 volume_path = \"{dir}/storage/volumes\"\n\
                 [engine.runtimes]\n\
                 {known}"
            ),
        )?;
        fs_err::write(
            dir.join("storage.conf"),
            format!(
                "[storage]\n\
                 driver = \"overlay\"\n\
                 graphroot = \"{dir}/storage\"\n\
                 runroot = \"{dir}/run\"\n"
            ),
        )?;
        let variables: String =
            self.settings().iter().map(|(name, value)| format!(" {name}={value}")).collect();
        let run = match self.place {
            Place::Machine => "exec podman \"$@\"\n".to_owned(),
            // The service keeps the namespaces.
            _ => format!("set -- {} podman \"$@\"{}", self.daemon().pid_file(), place::ENTER),
        };
        // It looks for credentials where Docker's settings are said to be, and fails when there are none.
        let unset = "unset DOCKER_CONFIG";
        fs_err::write(self.script(), format!("#!/bin/sh\n{unset}\nexport{variables}\n{run}"))?;
        Ok(fs_err::set_permissions(self.script(), std::fs::Permissions::from_mode(0o755))?)
    }

    /// What keeps podman away from the machine's settings and storage.
    fn settings(&self) -> [(&'static str, Utf8PathBuf); 2] {
        [
            ("CONTAINERS_CONF", self.dir.join("containers.conf")),
            ("CONTAINERS_STORAGE_CONF", self.dir.join("storage.conf")),
        ]
    }

    fn start(&self) -> Result<()> {
        let socket = self.socket();
        let mut daemon = self.daemon();
        for (name, value) in self.settings() {
            daemon = daemon.env(name, value.as_str());
        }
        let listen = format!("unix://{socket}");
        daemon.start(&["system", "service", "--time", "0", &listen], || http::answers(&socket))
    }

    /// Removes every container.
    fn empty(&self) -> Result<()> {
        self.client().args(["rm", "--all", "--force", "--time", "0"]).run()
    }

    /// The cgroups, below [`PARENT`], of the containers that it keeps state of.
    fn container_cgroups(&self) -> Result<Vec<String>> {
        let dir = self.dir.join("storage/overlay-containers");
        let mut cgroups = Vec::new();
        if dir.exists() {
            for entry in dir.read_dir_utf8()? {
                let entry = entry?;
                cgroups.push(format!("libpod-{}", entry.file_name()));
            }
        }
        Ok(cgroups)
    }
}

impl Engine for Podman {
    fn name(&self) -> &'static str {
        self.name
    }

    fn up(&self) -> Result<Environment> {
        apt::ensure(&PACKAGES)?;
        let runtimes = runtimes::ensure(&self.home)?;
        if !http::answers(&self.socket()) {
            say(format!("engines: starting {}", self.name));
            fs_err::create_dir_all(&self.dir)?;
            if self.place == Place::Machine {
                cgroups::remember(PARENT, &self.cgroups_file())?;
            }
            self.configure(&runtimes)?;
            self.start()?;
            // What a crash or a reboot left of the last time, with names that tests use again.
            self.empty()?;
        }
        let mut environment = vec![
            ("DOCKER_HOST".to_owned(), format!("unix://{}", self.socket())),
            ("PODMAN".to_owned(), self.script().into_string()),
            ("ENGINE_CGROUP".to_owned(), self.place.prefix()),
        ];
        environment.extend(runtimes::environment(&runtimes));
        env::write(&self.dir, &environment)?;
        images::ensure_first(self, &self.home.join("images"))?;
        Ok(environment)
    }

    fn down(&self) -> Result<()> {
        let cgroups = self.container_cgroups()?;
        if self.daemon().pid().is_some() {
            say(format!("engines: stopping {}", self.name));
            self.empty()?;
        }
        self.daemon().stop()?;
        if self.place == Place::Machine {
            cgroups::end_containers(PARENT, &cgroups)?;
            // Every podman's; it stays while there is a conmon in it.
            cgroups::remove(CONMONS, &[])?;
            cgroups::restore(PARENT, &self.cgroups_file())?;
        }
        self.place.clear()?;
        mounts::detach_below(&self.dir)?;
        for file in [env::FILE, "podman.sock"] {
            let file = self.dir.join(file);
            if file.exists() {
                fs_err::remove_file(file)?;
            }
        }
        Ok(())
    }

    fn status(&self) -> Result<String> {
        http::status(&self.socket(), self.daemon().pid())
    }
}

impl Store for Podman {
    fn recipe(&self, image: &str) -> Result<Option<String>> {
        http::image_label(&self.socket(), image, RECIPE)
    }

    fn load(&self, archive: &Utf8Path) -> Result<()> {
        self.client().args(["load", "--quiet", "--input", archive.as_str()]).run()
    }
}
