//! Pairs of an OCI runtime and an engine, and containers of theirs: run, joined and removed alike, whichever it is.
//!
//! Each engine is driven through its own client, as its users do. The engines are those of `cargo xtask engines`.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::fs::PermissionsExt as _,
    process::Command,
    sync::{
        LazyLock, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Value, json};

use crate::harness::{
    machine::{Machine, Scratch},
    program::{self, Output, Running},
    rootfs,
};

const LIMIT: Duration = Duration::from_secs(60);

static NEXT: AtomicU32 = AtomicU32::new(0);

/// The image with the fixtures, by engine.
static IMAGES: LazyLock<Mutex<BTreeMap<&str, String>>> = LazyLock::new(Mutex::default);

/// A runtime below an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pair {
    /// `runc`, `crun`, `runc-trixie` or `crun-trixie`.
    pub runtime: &'static str,
    /// The engine's directory below `target/engines`.
    pub engine: &'static str,
}

/// How a container is run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Who its program runs as; root when none.
    pub user: Option<u32>,
    /// `no_new_privs`.
    pub no_new_privileges: bool,
    /// With a terminal.
    pub terminal: bool,
    /// Under which filter.
    pub filter: Filter,
    /// Without a cgroup of its own; podman alone can.
    pub no_cgroup: bool,
    /// Exactly these capabilities, without `CAP_`; the engine's default when none.
    pub capabilities: Option<BTreeSet<String>>,
    /// More words for `docker run` or `podman run`, as they are.
    pub more: Vec<String>,
}

/// A seccomp filter.
#[derive(Debug, Clone, Default)]
pub enum Filter {
    /// The engine's own.
    #[default]
    Default,
    /// None.
    Unconfined,
    /// That in a file.
    File(Utf8PathBuf),
}

/// By which client an engine is driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Client {
    Docker,
    Podman,
    Ctr,
}

impl Pair {
    /// `crun-trixie below docker26` for people.
    pub fn label(&self) -> String {
        format!("{} below {}", self.runtime, self.engine)
    }

    /// `crun_trixie_docker26` for names of tests.
    pub fn word(&self) -> String {
        format!("{}_{}", self.runtime, self.engine).replace('-', "_")
    }

    /// `runc` or `crun`.
    pub fn family(&self) -> &'static str {
        self.runtime.split('-').next().unwrap_or_default()
    }

    /// Why it cannot be used on this machine.
    pub fn lacks(&self, root: &Utf8Path) -> Option<String> {
        let error = self.variables(root).err()?;
        Some(format!("{error:#}, hint: cargo xtask engines up {}", self.engine))
    }

    fn client(&self) -> Client {
        match self.engine.split('-').next() {
            Some("podman") => Client::Podman,
            Some("containerd") => Client::Ctr,
            _ => Client::Docker,
        }
    }

    /// What `cargo xtask engines` says about the engine.
    fn variables(&self, root: &Utf8Path) -> Result<BTreeMap<String, String>> {
        let file = root.join("target/engines").join(self.engine).join("env");
        let text = fs_err::read_to_string(file).with_context(|| format!("no {}", self.engine))?;
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        Ok(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// The program, where the client has to be told.
    fn runtime_path(&self, root: &Utf8Path) -> Result<String> {
        let name = self.runtime.to_uppercase().replace('-', "_");
        self.variables(root)?.remove(&name).with_context(|| format!("no {name}"))
    }

    /// The engine's client with `words`.
    fn command(&self, machine: &Machine, runtime: &str, words: &[&str]) -> Result<Command> {
        let variables = self.variables(&machine.root)?;
        let mut command = match self.client() {
            Client::Docker => program::command("docker", words),
            Client::Ctr => program::command("ctr", words),
            Client::Podman => {
                let mut command = program::command(&variables["PODMAN"], ["--runtime", runtime]);
                command.args(words);
                command
            }
        };
        command.envs(variables);
        Ok(command)
    }

    /// Gives the recorder what it needs to find container `name`, and returns the options that name it.
    ///
    /// # Errors
    /// When the engine was taken down.
    pub fn target(&self, machine: &Machine, name: &str) -> Result<Vec<String>> {
        Ok(match self.client() {
            Client::Docker | Client::Podman => vec!["--container".to_owned(), name.to_owned()],
            Client::Ctr => {
                let prefix = &self.variables(&machine.root)?["ENGINE_CGROUP"];
                vec!["--cgroup".to_owned(), format!("{prefix}/default/{name}")]
            }
        })
    }

    /// Whether one recording can be of several containers: by name, but not by cgroup.
    pub fn records_together(&self) -> bool {
        self.client() != Client::Ctr
    }

    /// The engine's address, as `DOCKER_HOST`; none for containerd.
    ///
    /// # Errors
    /// When the engine was taken down.
    pub fn host(&self, machine: &Machine) -> Result<Option<String>> {
        Ok(self.variables(&machine.root)?.remove("DOCKER_HOST"))
    }

    /// A container that is gone when the test ends.
    pub fn container<'m>(&self, machine: &'m Machine, what: &str) -> Sandbox<'m> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("pt-{}-{number}-{what}", std::process::id());
        Sandbox { machine, pair: *self, name, bundle: None, tracer: None }
    }

    /// An image with the fixtures, made once an engine.
    fn image(&self, machine: &Machine) -> Result<String> {
        let mut images = IMAGES.lock().map_err(|_| anyhow::anyhow!("an earlier try panicked"))?;
        if let Some(image) = images.get(self.engine) {
            return Ok(image.clone());
        }
        let (root, out) = (rootfs::make(machine)?, machine.scratch()?);
        let archive = out.join("image.tar");
        program::shell(&format!("tar -C {} -cf {archive} .", root.path()))?;
        let image = format!("localhost/profiler-pairs:{}", std::process::id());
        let mut import =
            self.command(machine, self.runtime, &["import", archive.as_str(), &image])?;
        program::run(&mut import, LIMIT)?.expect(0)?;
        images.insert(self.engine, image.clone());
        Ok(image)
    }
}

/// Removes the images that containers were made of.
pub fn remove_images(machine: &Machine) {
    let Ok(images) = IMAGES.lock() else { return };
    for (&engine, image) in images.iter() {
        let pair = Pair { runtime: "runc", engine };
        let removed = pair
            .command(machine, pair.runtime, &["image", "rm", "-f", image])
            .and_then(|mut command| program::run(&mut command, LIMIT)?.expect(0));
        if let Err(error) = removed {
            eprintln!("image `{image}` of {engine} stays: {error:#}");
        }
    }
}

/// A container of a pair; removed when dropped, whether it was ever made or not.
pub struct Sandbox<'m> {
    machine: &'m Machine,
    pair: Pair,
    /// Its name.
    pub name: String,
    /// What containerd runs it from.
    bundle: Option<Scratch>,
    /// What podman takes for the runtime, which traces it.
    tracer: Option<Utf8PathBuf>,
}

impl Sandbox<'_> {
    /// Starts `args` in it; the client stays attached.
    ///
    /// # Errors
    /// When the client cannot be started.
    pub fn start(&mut self, options: &Options, args: &[&str]) -> Result<Running> {
        let words = match self.pair.client() {
            Client::Ctr => self.bundle(options, args)?,
            _ => self.flags(options, args)?,
        };
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut command = self.command(&words)?;
        if options.terminal && self.pair.client() == Client::Ctr {
            // Without a terminal of its own ctr gives none.
            command = in_terminal(&command);
        }
        program::start(&mut command, &[])
    }

    /// Has `strace` write what the runtime does into `dir`, a file a thread. Only podman takes a runtime by its path.
    ///
    /// # Errors
    /// When the wrapper cannot be written or the engine is another.
    pub fn trace(&mut self, dir: &Utf8Path) -> Result<()> {
        ensure!(self.pair.client() == Client::Podman, "no tracing {}", self.pair.label());
        let runtime = self.pair.runtime_path(&self.machine.root)?;
        let wrapper = dir.join("traced");
        // The tracer is another's child: the runtime ends for who waits for it, and its container goes on.
        let line = format!("exec strace -D -qq -ff -s 0 -o {dir}/trace {runtime} \"$@\"");
        fs_err::write(&wrapper, format!("#!/bin/sh\n{line}\n"))?;
        fs_err::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755))?;
        self.tracer = Some(wrapper);
        Ok(())
    }

    /// Runs `args` in it, beside what runs already.
    ///
    /// # Errors
    /// When the client does not end.
    pub fn join(&self, args: &[&str]) -> Result<Output> {
        let mut words = match self.pair.client() {
            Client::Ctr => vec!["task", "exec", "--exec-id", "joined"],
            _ => vec!["exec"],
        };
        words.push(&self.name);
        words.extend(args);
        self.client(&words)
    }

    /// Ends its first process.
    ///
    /// # Errors
    /// When the engine refuses.
    pub fn kill(&self) -> Result<()> {
        let words: &[&str] = match self.pair.client() {
            Client::Ctr => &["task", "kill", "--signal", "KILL", &self.name],
            _ => &["kill", &self.name],
        };
        self.client(words)?.expect(0).map(drop)
    }

    /// Forces it away.
    pub fn remove(&self) {
        let all: &[&[&str]] = match self.pair.client() {
            Client::Docker => &[&["rm", "-f", &self.name]],
            Client::Podman => &[&["rm", "-f", "-t", "0", "--ignore", &self.name]],
            Client::Ctr => {
                &[&["task", "delete", "--force", &self.name], &["container", "rm", &self.name]]
            }
        };
        for words in all {
            match self.client(words) {
                Ok(output) if output.status == 0 || gone(&output.stderr) => {}
                Ok(output) => eprintln!("container `{}` stays: {}", self.name, output.stderr),
                Err(error) => eprintln!("container `{}` stays: {error:#}", self.name),
            }
        }
    }

    fn client(&self, words: &[&str]) -> Result<Output> {
        program::run(&mut self.command(words)?, LIMIT)
    }

    fn command(&self, words: &[&str]) -> Result<Command> {
        let runtime = self.tracer.as_ref().map_or(self.pair.runtime, |path| path.as_str());
        self.pair.command(self.machine, runtime, words)
    }

    /// `docker run` or `podman run`.
    fn flags(&self, options: &Options, args: &[&str]) -> Result<Vec<String>> {
        let mut words: Vec<String> =
            ["run", "--name", &self.name, "--network=none"].map(str::to_owned).into();
        let mut add = |option: &str, value: String| words.extend([option.to_owned(), value]);
        if self.pair.client() == Client::Docker {
            add("--runtime", self.pair.runtime.to_owned());
        }
        match &options.filter {
            Filter::Default => {}
            Filter::Unconfined => add("--security-opt", "seccomp=unconfined".to_owned()),
            Filter::File(path) => add("--security-opt", format!("seccomp={path}")),
        }
        if options.no_new_privileges {
            add("--security-opt", "no-new-privileges".to_owned());
        }
        if let Some(user) = options.user {
            add("--user", user.to_string());
        }
        if let Some(capabilities) = &options.capabilities {
            add("--cap-drop", "ALL".to_owned());
            for capability in capabilities {
                add("--cap-add", capability.clone());
            }
        }
        if options.terminal {
            words.push("--tty".to_owned());
        }
        if options.no_cgroup {
            words.push("--cgroups=disabled".to_owned());
        }
        words.extend(options.more.iter().cloned());
        words.push(self.pair.image(self.machine)?);
        words.extend(args.iter().map(|arg| (*arg).to_owned()));
        Ok(words)
    }

    /// `ctr run`. It has no option for a user or a set of capabilities, but takes a whole specification.
    fn bundle(&mut self, options: &Options, args: &[&str]) -> Result<Vec<String>> {
        let root = rootfs::make(self.machine)?;
        let runtime = self.pair.runtime_path(&self.machine.root)?;
        let mut words: Vec<String> = ["run", "--runc-binary", &runtime].map(str::to_owned).into();
        if options.terminal {
            words.push("--tty".to_owned());
        }
        match &options.filter {
            Filter::Default => {
                // Only ctr itself knows it.
                if options.user.is_some() || options.capabilities.is_some() {
                    bail!("ctr takes no user and no capabilities with its default filter");
                }
                words.push("--seccomp".to_owned());
                if !options.no_new_privileges {
                    words.push("--allow-new-privs".to_owned());
                }
                words.extend(["--rootfs".to_owned(), root.path().to_string(), self.name.clone()]);
                words.extend(args.iter().map(|arg| (*arg).to_owned()));
            }
            filter => {
                let spec = self.specification(options, filter, root.path(), args)?;
                let file = root.join("config.json");
                fs_err::write(&file, spec.to_string())?;
                words.extend(["--config".to_owned(), file.into_string(), self.name.clone()]);
            }
        }
        self.bundle = Some(root);
        Ok(words)
    }

    /// ctr's own specification, changed as asked for.
    fn specification(
        &self,
        options: &Options,
        filter: &Filter,
        root: &Utf8Path,
        args: &[&str],
    ) -> Result<Value> {
        let text = self.client(&["oci", "spec"])?.expect(0)?.stdout;
        let mut spec: Value = serde_json::from_str(&text)?;
        let prefix = format!("/default/{}", self.name);
        spec["root"] = json!({ "path": root });
        spec["linux"]["cgroupsPath"] = json!(prefix);
        // Limits need controllers.
        spec["linux"]["resources"] = json!({ "devices": spec["linux"]["resources"]["devices"] });
        if let Filter::File(path) = filter {
            let text = fs_err::read_to_string(path)?;
            spec["linux"]["seccomp"] = serde_json::from_str(&text)?;
        }
        let process = &mut spec["process"];
        process["args"] = json!(args);
        process["terminal"] = json!(options.terminal);
        process["noNewPrivileges"] = json!(options.no_new_privileges);
        let user = options.user.unwrap_or_default();
        process["user"] = json!({ "uid": user, "gid": user });
        if let Some(capabilities) = &options.capabilities {
            let names: Vec<String> =
                capabilities.iter().map(|name| format!("CAP_{name}")).collect();
            process["capabilities"] =
                json!({ "bounding": names, "effective": names, "permitted": names });
        }
        if user != 0 {
            // As docker and podman: another user's process has none in force.
            process["capabilities"]["effective"] = json!([]);
            process["capabilities"]["permitted"] = json!([]);
        }
        Ok(spec)
    }
}

impl Drop for Sandbox<'_> {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Whether a client says that there is nothing to remove.
fn gone(stderr: &str) -> bool {
    ["No such container", "not found", "no such container"].iter().any(|said| stderr.contains(said))
}

/// `command` with a terminal as its standard streams.
fn in_terminal(command: &Command) -> Command {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    let line: Vec<String> =
        words.map(|word| format!("'{}'", word.to_string_lossy().replace('\'', r"'\''"))).collect();
    let mut wrapped = program::command("script", ["-qec", &line.join(" "), "/dev/null"]);
    wrapped.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    wrapped
}
