//! Whose files are read for the static bound: a directory, an image, a container; and which programs of them.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use profiler::{
    binaries::{
        bound::bound,
        loader::Loader,
        reach::Depth,
        rootfs::{Rootfs, unpack},
    },
    model::{
        arch::Abi,
        baseline,
        bound::Bound,
        policy::native_abi,
        recording::{Phase, Recording},
        seccomp::KernelVersion,
        surface::Surface,
    },
};

use crate::made::{Bounded, Container, Directory, Engine};

/// More is not taken from an engine, in bytes.
const MAX_ARCHIVE: u64 = 32 << 30;

/// Whose files.
#[derive(Debug, Default, Args)]
pub struct FilesArgs {
    /// Hold what was seen against what the files below this directory could do
    #[arg(long, value_name = "DIR", group = "files")]
    pub rootfs: Option<PathBuf>,

    /// The same for the files of an image, by a container of it that is never started
    #[arg(long, value_name = "IMAGE", group = "files")]
    pub image: Option<String>,

    /// The same for the files of a container
    #[arg(long, value_name = "NAME", group = "files")]
    pub container: Option<String>,

    /// The programs whose calls are bounded, instead of those that were recorded or are configured (repeatable)
    #[arg(long, value_name = "PATH", requires = "files")]
    pub program: Vec<String>,

    /// Count every function of every file, reachable or not
    #[arg(long, requires = "files")]
    pub whole_files: bool,

    /// Ask the engine at this address (default: DOCKER_HOST, then the context, then the socket)
    #[arg(long, value_name = "URL", requires = "files")]
    pub docker_host: Option<String>,
}

/// A root, and what is configured to be executed in it.
pub struct Files {
    rootfs: Rootfs,
    configured: Vec<String>,
    _unpacked: Option<Directory>,
}

impl FilesArgs {
    /// Whether any were named.
    pub fn is_given(&self) -> bool {
        self.rootfs.is_some() || self.image.is_some() || self.container.is_some()
    }

    /// Bounds the programs, and compares.
    pub fn surface(&self, recording: Option<&Recording>) -> Result<Surface> {
        let host = rustix::system::uname();
        let native = host.machine().to_str().ok().and_then(native_abi).unwrap_or(Abi::X86_64);
        let (bound, chosen) = self.bound(recording)?;
        let newest = KernelVersion { major: u32::MAX, minor: 0 };
        let allowed = baseline::docker_default(native, newest);
        Ok(Surface::new(bound, chosen, recording, native, &allowed))
    }

    /// Bounds the programs, and says why these.
    pub fn bound(&self, recording: Option<&Recording>) -> Result<(Bound, Vec<String>)> {
        let files = self.open()?;
        let mut chosen = Vec::new();
        let mut programs = self.program.clone();
        if !programs.is_empty() {
            chosen.push("named".to_owned());
        } else {
            let recorded = recording.map(executed).unwrap_or_default();
            if !recorded.is_empty() {
                chosen.push("seen executing in the recording".to_owned());
                programs.extend(find(&files.rootfs, recorded));
            }
            if !files.configured.is_empty() {
                chosen.push("configured: entry point, command, health check".to_owned());
                programs.extend(find(&files.rootfs, files.configured.iter().cloned().collect()));
            }
        }
        if programs.is_empty() {
            bail!(
                "no program is known to run in these files\nhint: profiler coverage --rootfs DIR --program /usr/sbin/nginx"
            );
        }
        let depth = if self.whole_files { Depth::Files } else { Depth::Functions };
        Ok((bound(&files.rootfs, &programs, depth), chosen))
    }

    fn open(&self) -> Result<Files> {
        if let Some(path) = &self.rootfs {
            let rootfs = open(path)?;
            return Ok(Files { rootfs, configured: Vec::new(), _unpacked: None });
        }
        let engine = Engine::connect(self.docker_host.as_deref())?;
        let made = self.image.as_ref().map(|image| Container::of_image(&engine, image));
        let made = made.transpose()?;
        let named = self.container.as_deref().unwrap_or_default();
        let name = made.as_ref().map_or(named, |made| &made.id);
        let found = engine.runtime.block_on(engine.docker.find(name))?;
        let info = found.with_context(|| {
            let endpoint = engine.docker.endpoint();
            format!("no container `{}` at {endpoint}\nhint: docker ps --all", name.escape_debug())
        })?;
        match info.pid.filter(|_| info.running) {
            Some(pid) => {
                let rootfs = open(Path::new(&format!("/proc/{pid}/root")))?;
                let configured = engine.runtime.block_on(engine.docker.programs(&info.id))?;
                Ok(Files { rootfs, configured, _unpacked: None })
            }
            None => exported(&engine, &info.id),
        }
    }
}

fn open(path: &Path) -> Result<Rootfs> {
    Rootfs::open(path).with_context(|| {
        format!(
            "cannot open the directory `{}`\nhint: of a running container only root can read the files",
            path.display()
        )
    })
}

/// The files of a container by the engine's own archive, unpacked for as long as they are looked at.
fn exported(engine: &Engine, id: &str) -> Result<Files> {
    let Engine { runtime, docker } = engine;
    let configured = runtime.block_on(docker.programs(id))?;
    let mut archive = tempfile::tempfile()?;
    runtime.block_on(docker.export(id, &mut Bounded::new(&mut archive, MAX_ARCHIVE)))?;
    std::io::Seek::rewind(&mut archive)?;
    let dir = Directory::new()?;
    unpack(std::io::BufReader::new(archive), dir.path())
        .context("cannot unpack the files\nhint: TMPDIR names where they go")?;
    Ok(Files { rootfs: open(dir.path())?, configured, _unpacked: Some(dir) })
}

/// File names of the executables that the workload's calls were made by.
fn executed(recording: &Recording) -> BTreeSet<String> {
    let workload = recording.syscalls.iter().filter(|fact| fact.phase == Phase::Workload);
    let sightings = workload.flat_map(|fact| fact.seen.values());
    let programs = sightings.flat_map(|sighting| &sighting.programs);
    programs.map(|program| program.exe.clone()).filter(|exe| !exe.is_empty()).collect()
}

/// The paths of these files: where a shell would find them, else wherever they lie. One that is nowhere stays as it is.
fn find(rootfs: &Rootfs, names: BTreeSet<String>) -> Vec<String> {
    let loader = Loader::new(rootfs);
    let (mut paths, mut left) = (Vec::new(), BTreeSet::new());
    for name in names {
        match loader.which(&name) {
            Some(path) => paths.push(path),
            None if name.contains('/') => paths.push(name),
            None => {
                left.insert(name);
            }
        }
    }
    if !left.is_empty() {
        let file_name = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
        let found = rootfs.walk("/", &|path| left.contains(&file_name(path)));
        left.retain(|name| !found.iter().any(|path| file_name(path) == *name));
        let is_program = |path: &String| {
            let head = rootfs.head(path, 4).unwrap_or_default();
            head == b"\x7fELF" || head.starts_with(b"#!")
        };
        paths.extend(found.into_iter().filter(is_program));
        paths.extend(left);
    }
    paths
}
