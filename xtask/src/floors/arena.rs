//! A place to run one release's runtimes: mount and cgroup namespaces of its own, with the release's files as root and a
//! pure cgroup2 tree, and bundles whose program makes one call.
//!
//! Owns every mount that a measurement makes; they end with the process that holds the namespaces. It knows no
//! runtime's calls: what a filter says is the caller's.

use std::{
    io::Read,
    os::unix::fs::PermissionsExt as _,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::OFlags;
use serde_json::{Value, json};

use super::{data::When, measure::Case};
use crate::sh::cmd;

/// The longest that a start may take. One takes about 60 ms.
const PATIENCE: Duration = Duration::from_secs(20);

/// What our cgroup is called, before a process id.
const CGROUP: &str = "profiler-floors-";

/// Makes the namespaces' inside; its argument is the root. Busybox runs it to its end, as the root has no shell.
const SET_UP: &str = r#"
mount --bind "$1" "$1"
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
mount -t tmpfs tmpfs "$1/sys"
mkdir -p "$1/sys/fs/cgroup"
mount -t cgroup2 cgroup2 "$1/sys/fs/cgroup"
mount -t tmpfs tmpfs "$1/tmp"
mount -t tmpfs tmpfs "$1/run"
cp "$(command -v busybox)" "$1/tmp/busybox"
cd "$1"
pivot_root . old
/tmp/busybox umount -l /old
/tmp/busybox touch /tmp/ready
exec /tmp/busybox sleep 86400
"#;

/// What an engine gives a container by default.
const CAPABILITIES: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// `exit(0)`, for x86_64.
const EXIT: [u8; 9] = [0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05];
/// `for (;;) pause()`, for x86_64.
const PAUSE: [u8; 9] = [0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7];

/// The namespaces, while it lives.
pub struct Arena {
    holder: Child,
    cgroup: Utf8PathBuf,
    /// Its root, as seen from outside.
    root: Utf8PathBuf,
    /// What strace writes.
    traces: Utf8PathBuf,
    runs: AtomicU32,
}

impl Arena {
    /// Opens one over `root`, a release's files.
    ///
    /// # Errors
    /// When the kernel refuses a mount, or there is no cgroup2 tree.
    pub fn open(root: &Utf8Path) -> Result<Self> {
        for dir in ["proc", "sys", "dev", "tmp", "run", "old"] {
            fs_err::create_dir_all(root.join(dir))?;
        }
        let tree = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
            .map(Utf8Path::new)
            .into_iter()
            .find(|tree| {
                tree.join("cgroup.procs").exists() && tree.join("cgroup.controllers").exists()
            })
            .context("no cgroup2 tree is mounted\nhint: mount | grep cgroup2")?;
        let cgroup = tree.join(format!("{CGROUP}{}", std::process::id()));
        remove_stale(tree)?;
        fs_err::create_dir_all(&cgroup)?;
        // It does not outlive this process.
        let holder = cmd("setpriv")
            .args(["--pdeathsig", "KILL", "sh"])
            .args(["-ec", "echo $$ > \"$1/cgroup.procs\"; exec unshare --mount --cgroup --propagation private sh -ec \"$3\" floors \"$2\"", "floors"])
            .args([cgroup.as_str(), root.as_str(), SET_UP])
            .into_command()
            .stdin(Stdio::null())
            .spawn()
            .context("cannot start `sh`")?;
        let inside = Utf8PathBuf::from(format!("/proc/{}/root", holder.id()));
        let traces = root.with_extension("traces");
        fs_err::create_dir_all(&traces)?;
        let mut arena = Self { holder, cgroup, root: inside, traces, runs: AtomicU32::new(0) };
        let deadline = Instant::now() + PATIENCE;
        while !arena.root.join("tmp/ready").exists() {
            let ended = arena.holder.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                bail!(
                    "cannot make namespaces for `{root}`\nhint: run it as root, with CAP_SYS_ADMIN"
                );
            }
            sleep(Duration::from_millis(5));
        }
        Ok(arena)
    }

    /// What `PROGRAM --version` says, after the word `version`: `1.1.5+ds1`.
    ///
    /// # Errors
    /// When it says something else.
    pub fn version(&self, program: &Utf8Path) -> Result<String> {
        let output = self.enter(Utf8Path::new("tmp"), program).arg("--version").output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = text.lines().next().and_then(|line| line.split_once(" version "));
        let (_, version) =
            version.with_context(|| format!("`{program} --version` says `{text}`"))?;
        Ok(version.trim().to_owned())
    }

    /// Runs `case` under `seccomp`, a filter of the runtime specification. The inner error is what the runtime said
    /// when the process did not run.
    ///
    /// # Errors
    /// When the measurement itself fails: a bundle cannot be written, a container cannot be removed.
    pub fn run(&self, case: &Case<'_>, seccomp: &Value) -> Result<Result<(), String>> {
        self.bundle(case, seccomp)?.attempt(None)
    }

    /// As [`Arena::run`] under strace: what each thread called, a line each, in a text for each thread.
    ///
    /// # Errors
    /// As [`Arena::run`], and when the process did not run.
    pub fn trace(&self, case: &Case<'_>, seccomp: &Value) -> Result<Vec<String>> {
        let bundle = self.bundle(case, seccomp)?;
        let dir = self.traces.join(&bundle.id);
        fs_err::create_dir_all(&dir)?;
        let outcome = bundle.attempt(Some(&dir.join("thread")))?;
        let mut texts = Vec::new();
        for entry in fs_err::read_dir(&dir)? {
            texts.push(String::from_utf8_lossy(&fs_err::read(entry?.path())?).into_owned());
        }
        fs_err::remove_dir_all(&dir)?;
        match outcome {
            Ok(()) => Ok(texts),
            Err(said) => bail!("`{}` does not start under strace: {said}", case.program),
        }
    }

    fn bundle<'a>(&'a self, case: &'a Case<'_>, seccomp: &Value) -> Result<Bundle<'a>> {
        let id = format!("f{}", self.runs.fetch_add(1, Ordering::Relaxed));
        let inside = Utf8Path::new("tmp").join(&id);
        let dir = self.root.join(&inside);
        for part in ["rootfs/proc", "rootfs/dev"] {
            fs_err::create_dir_all(dir.join(part))?;
        }
        for (name, code) in [("exit", EXIT), ("pause", PAUSE)] {
            let path = dir.join("rootfs").join(name);
            fs_err::write(&path, elf(&code))?;
            fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        }
        let config = config(&id, case, seccomp);
        fs_err::write(dir.join("config.json"), config.to_string())?;
        Ok(Bundle { arena: self, case, id, inside })
    }

    /// A command inside, in the directory `inside` of its root.
    fn enter(&self, inside: &Utf8Path, program: &Utf8Path) -> Command {
        cmd("nsenter")
            .arg(format!("--target={}", self.holder.id()))
            .args(["--root", "--mount", "--cgroup"])
            .arg(format!("--wd={}", self.root.join(inside)))
            .arg(program.as_str())
            .into_command()
    }
}

/// Ends what measurements left that were interrupted, by the cgroups that are named after them.
fn remove_stale(tree: &Utf8Path) -> Result<()> {
    for entry in tree.read_dir_utf8()? {
        let path = entry?.into_path();
        let owner = path.file_name().and_then(|name| name.strip_prefix(CGROUP)).map(str::to_owned);
        if owner.is_some_and(|pid| !Utf8Path::new("/proc").join(pid).exists()) {
            let _ = std::fs::write(path.join("cgroup.kill"), "1");
            remove_cgroup(&path);
        }
    }
    Ok(())
}

/// Removes a cgroup and those in it, as soon as their processes are gone; they are, or are about to be.
fn remove_cgroup(dir: &Utf8Path) {
    for _ in 0..100 {
        for child in dir.read_dir_utf8().into_iter().flatten().flatten() {
            let _ = std::fs::remove_dir(child.path()); // most are files
        }
        if std::fs::remove_dir(dir).is_ok() {
            return;
        }
        sleep(Duration::from_millis(10));
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
        let _ = std::fs::remove_dir_all(&self.traces);
        remove_cgroup(&self.cgroup);
    }
}

/// A container that is about to be tried.
struct Bundle<'a> {
    arena: &'a Arena,
    case: &'a Case<'a>,
    id: String,
    inside: Utf8PathBuf,
}

impl Bundle<'_> {
    fn attempt(&self, trace: Option<&Utf8Path>) -> Result<Result<(), String>> {
        let outcome = match self.case.when {
            When::Start => self.runtime(&["run", &self.id], trace),
            When::Join => {
                self.runtime(&["run", "--detach", &self.id], None).and_then(|started| match started
                {
                    Ok(()) => self.runtime(&["exec", &self.id, "/exit"], trace),
                    Err(said) => Ok(Err(format!("the container does not start: {said}"))),
                })
            }
        };
        if self.case.when == When::Join || !matches!(outcome, Ok(Ok(()))) {
            self.runtime(&["delete", "--force", &self.id], None)?.ok();
        }
        fs_err::remove_dir_all(self.arena.root.join(&self.inside))?;
        outcome
    }

    /// Runs the runtime with `args`. Its output is a pipe, as an engine's is: crun gives such a one to the process's user.
    /// What it starts may keep the pipe open, so what is in there when it ended is all that is read.
    fn runtime(&self, args: &[&str], trace: Option<&Utf8Path>) -> Result<Result<(), String>> {
        let (mut said, output) = std::io::pipe()?;
        rustix::fs::fcntl_setfl(&said, OFlags::NONBLOCK)?;
        let mut inner = self.arena.enter(&self.inside, &self.case.program);
        // A state of its own: crun keeps compiled filters there, and takes one for another that differs in errors only.
        inner.arg(format!("--root=/{}/state", self.inside));
        if self.case.name == "crun" {
            // No cgroup is needed, and crun 1.8 wants CAP_SYS_RESOURCE for one.
            inner.arg("--cgroup-manager=disabled");
        }
        inner.args(args);
        let mut command = match trace {
            None => inner,
            Some(path) => {
                let mut strace = Command::new("strace");
                strace.args(["-ff", "-qq", "-s0", "-o", path.as_str()]);
                strace.arg(inner.get_program()).args(inner.get_args());
                strace
            }
        };
        let mut child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start `{:?}`", command.get_program()))?;
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            match child.try_wait()? {
                Some(status) => break Some(status),
                None if Instant::now() > deadline => {
                    child.kill()?;
                    child.wait()?;
                    break None;
                }
                None => sleep(Duration::from_millis(2)),
            }
        };
        Ok(match status {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(format!("{status}: {}", summary(&mut said))),
            None => Err(format!("nothing within {} s", PATIENCE.as_secs())),
        })
    }
}

/// The first lines and the last one: a crash of Go says what it was first, the runtime what follows from it last.
fn summary(said: &mut impl Read) -> String {
    let mut bytes = vec![0; 0x1_0000];
    let length = said.read(&mut bytes).unwrap_or(0); // nothing is there
    let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    match lines.as_slice() {
        [first, second, third, .., last] => [*first, second, third, "...", last].join(" | "),
        few => few.join(" | "),
    }
}

/// The bundle's config.json: what an engine asks for, as far as it reaches past the load of the filter.
fn config(id: &str, case: &Case<'_>, seccomp: &Value) -> Value {
    let program = match case.when {
        When::Start => "/exit",
        When::Join => "/pause",
    };
    let capabilities = match case.uid {
        0 => {
            json!({"bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES})
        }
        _ => json!({"bounding": CAPABILITIES}),
    };
    let namespaces = ["ipc", "mount", "network", "pid", "uts"].map(|kind| json!({"type": kind}));
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": case.uid, "gid": case.uid, "additionalGids": [case.uid, 10]},
            "args": [program],
            "cwd": "/",
            "env": ["PATH=/"],
            "capabilities": capabilities,
            "noNewPrivileges": case.no_new_privileges,
            "oomScoreAdj": 0,
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
        },
        "root": {"path": "rootfs"},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
        ],
        "linux": {
            "namespaces": namespaces,
            "cgroupsPath": format!("/{id}"),
            "maskedPaths": ["/proc/kcore"],
            "readonlyPaths": ["/proc/sys"],
            "seccomp": seccomp,
        },
    })
}

/// A static x86_64 program that is `code` alone.
fn elf(code: &[u8]) -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let size = HEADERS + code.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend([2_u16.to_le_bytes(), 62_u16.to_le_bytes()].concat()); // executable, x86_64
    file.extend(1_u32.to_le_bytes());
    for word in [BASE + HEADERS, 64, 0] {
        file.extend(word.to_le_bytes()); // entry, program headers, no sections
    }
    file.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, 1, 64, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    file.extend([1_u32.to_le_bytes(), 5_u32.to_le_bytes()].concat()); // load, readable and executable
    for word in [0, BASE, BASE, size, size, 0x1000] {
        file.extend(word.to_le_bytes());
    }
    file.extend_from_slice(code);
    file
}
