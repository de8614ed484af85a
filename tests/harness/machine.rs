//! What this machine offers to the tests, probed once. Decides which tests can run and says why others cannot.

use std::{collections::BTreeMap, env, process::Command, sync::OnceLock};

use anyhow::{Context as _, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use tempfile::TempDir;

use crate::harness::{docker::Engine, fixtures, pair::Pair};

/// Something without which a test cannot run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// Root, with the kernel's BTF: the recorder can load its programs.
    Bpf,
    /// A Docker engine that answers.
    Engine,
    /// The engine's compose plugin.
    Compose,
    /// The local images of the five servers.
    Images,
    /// A program in PATH, from the Debian package of the second name.
    Tool(&'static str, &'static str),
    /// A file, and how to have it.
    File(&'static str, &'static str),
    /// libseccomp's bindings for Debian's Python.
    PythonSeccomp,
    /// A runtime and an engine of `cargo xtask engines`.
    Pair(Pair),
}

impl Need {
    /// Debian's Python, which has Debian's modules.
    pub const PYTHON: &str = "/usr/bin/python3";
}

/// The machine under the tests.
pub struct Machine {
    /// The workspace.
    pub root: Utf8PathBuf,
    /// The binary under test.
    pub profiler: Utf8PathBuf,
    engine: OnceLock<Result<Engine, String>>,
    lacks: OnceLock<BTreeMap<Need, String>>,
}

impl Machine {
    /// Finds the workspace and the binary; `PROFILER_BIN` names another one.
    ///
    /// # Errors
    /// When no binary was built.
    pub fn find() -> Result<Self> {
        let root = Self::root()?;
        let profiler = match env::var("PROFILER_BIN") {
            Ok(path) => Utf8PathBuf::from(path),
            Err(_) => newest_build(&root)?,
        };
        if !profiler.is_file() {
            bail!("no binary at `{profiler}`\nhint: cargo build --release -p profiler");
        }
        Ok(Self { root, profiler, engine: OnceLock::new(), lacks: OnceLock::new() })
    }

    /// The workspace.
    ///
    /// # Errors
    /// When the tests do not lie in one.
    pub fn root() -> Result<Utf8PathBuf> {
        let here = Utf8Path::new(env!("CARGO_MANIFEST_DIR"));
        here.parent().context("the tests lie in the workspace").map(Utf8Path::to_owned)
    }

    /// Why `need` is not met, or nothing when it is.
    pub fn lacks(&self, need: Need) -> Option<String> {
        if let Need::Tool(tool, package) = need {
            return (!in_path(tool))
                .then(|| format!("no `{tool}`, hint: apt-get install {package}"));
        }
        if let Need::File(path, hint) = need {
            return (!Utf8Path::new(path).exists()).then(|| format!("no `{path}`, hint: {hint}"));
        }
        if let Need::Pair(pair) = need {
            return pair.lacks(&self.root);
        }
        let lacks = self.lacks.get_or_init(|| self.probe());
        lacks.get(&need).cloned()
    }

    /// The engine.
    ///
    /// # Errors
    /// When there is none; tests that need it are skipped before.
    pub fn engine(&self) -> Result<&Engine> {
        match self.engine.get_or_init(|| Engine::find(&self.root).map_err(|e| format!("{e:#}"))) {
            Ok(engine) => Ok(engine),
            Err(reason) => bail!("{reason}"),
        }
    }

    /// A directory of the test's own; gone when it is dropped.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn scratch(&self) -> Result<Scratch> {
        let dir = tempfile::Builder::new().prefix("profiler-test-").tempdir()?;
        let path = Utf8PathBuf::from_path_buf(dir.path().to_owned())
            .map_err(|path| anyhow::anyhow!("`{}` is not UTF-8", path.display()))?;
        Ok(Scratch { _dir: dir, path })
    }

    /// The path of a fixture program, built when its source is newer than it.
    ///
    /// # Errors
    /// When the compiler refuses it.
    pub fn fixture(&self, name: &str) -> Result<Utf8PathBuf> {
        fixtures::build(&self.root, name)
    }

    /// The recording profile that the project ships.
    pub fn permissive(&self) -> Utf8PathBuf {
        self.root.join("profiles/permissive.json")
    }

    fn probe(&self) -> BTreeMap<Need, String> {
        let mut lacks = BTreeMap::new();
        if !rustix::process::geteuid().is_root() {
            lacks.insert(Need::Bpf, "not root, hint: sudo cargo xtask test".to_owned());
        } else if !Utf8Path::new("/sys/kernel/btf/vmlinux").exists() {
            lacks.insert(Need::Bpf, "the kernel has no BTF (CONFIG_DEBUG_INFO_BTF)".to_owned());
        }
        let python = Command::new(Need::PYTHON).args(["-c", "import seccomp"]).output();
        if !python.is_ok_and(|output| output.status.success()) {
            let reason = "no `seccomp` in Debian's Python, hint: apt-get install python3-seccomp";
            lacks.insert(Need::PythonSeccomp, reason.to_owned());
        }
        match self.engine() {
            Err(reason) => {
                for need in [Need::Engine, Need::Compose, Need::Images] {
                    lacks.insert(need, format!("{reason:#}"));
                }
            }
            Ok(engine) => {
                if let Err(reason) = engine.docker(&["compose", "version"]) {
                    lacks.insert(Need::Compose, format!("no compose plugin: {reason:#}"));
                }
                for image in ["nginx", "redis", "postgres", "flask", "node"] {
                    let image = format!("localhost/{image}:1");
                    if engine.docker(&["image", "inspect", &image]).is_err() {
                        let reason = format!("no image `{image}`, hint: cargo xtask engines up");
                        lacks.insert(Need::Images, reason);
                    }
                }
            }
        }
        lacks
    }
}

/// A test's own directory.
pub struct Scratch {
    _dir: TempDir,
    path: Utf8PathBuf,
}

impl Scratch {
    /// Where it is.
    pub fn path(&self) -> &Utf8Path {
        &self.path
    }

    /// A path in it.
    pub fn join(&self, name: &str) -> Utf8PathBuf {
        self.path.join(name)
    }
}

/// The newer one of the release and the debug binary.
fn newest_build(root: &Utf8Path) -> Result<Utf8PathBuf> {
    let target =
        env::var("CARGO_TARGET_DIR").map_or_else(|_| root.join("target"), |dir| root.join(dir));
    ["release", "debug"]
        .into_iter()
        .map(|profile| target.join(profile).join("profiler"))
        .filter_map(|path| Some((fs_err::metadata(&path).ok()?.modified().ok()?, path)))
        .max()
        .map(|(_, path)| path)
        .context("the profiler is not built\nhint: cargo build --release -p profiler")
}

fn in_path(tool: &str) -> bool {
    Command::new("sh")
        .args(["-c", "command -v \"$1\" >/dev/null", "sh", tool])
        .env("PATH", search_path())
        .status()
        .is_ok_and(|status| status.success())
}

/// PATH with the directories of root's tools, which `su` leaves out.
pub fn search_path() -> String {
    let path = env::var("PATH").unwrap_or_else(|_| "/usr/bin:/bin".to_owned());
    format!("{path}:/usr/local/sbin:/usr/sbin:/sbin")
}
