//! `cargo xtask self-profile`: the filter that the recorder puts itself under, made with itself.
//!
//! One recorder, without a filter, goes each way that a recording can go once everything is attached, in a cgroup of its own.
//! Another one records that cgroup from then on, so that what only starting needs is not in the result. Owns the ways, and
//! what is allowed beside what was seen, each with its reason.

use std::{
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Value, json};

use crate::sh::{cmd, root, say};

/// How long a recorder may take to arm, and to end.
const LIMIT: Duration = Duration::from_secs(60);

/// Long enough for two looks of the recorder, and for its threads.
const WHILE: Duration = Duration::from_millis(1500);

/// Calls that no way below may make, and that are harmless: what an error or a signal leads to, and what another allocator,
/// C library or kernel has in place of what was seen.
const ALSO: [(&[&str], &str); 7] = [
    (
        &[
            "clock_gettime",
            "getrandom",
            "gettimeofday",
            "geteuid",
            "getuid",
            "sched_getaffinity",
            "sysinfo",
            "time",
            "uname",
        ],
        "questions",
    ),
    (&["brk", "madvise", "mmap", "mprotect", "mremap", "munmap"], "memory"),
    (
        &[
            "exit",
            "exit_group",
            "getpid",
            "gettid",
            "kill",
            "rt_sigaction",
            "rt_sigprocmask",
            "rt_sigreturn",
            "sigaltstack",
            "tgkill",
            "wait4",
            "waitid",
        ],
        "ends: of a thread, by a panic, of the command",
    ),
    (
        &[
            "clock_nanosleep",
            "epoll_ctl",
            "epoll_pwait",
            "epoll_wait",
            "eventfd2",
            "futex",
            "nanosleep",
            "poll",
            "ppoll",
            "restart_syscall",
            "sched_yield",
        ],
        "waiting",
    ),
    (
        &[
            "close",
            "dup",
            "fcntl",
            "fstat",
            "fstatfs",
            "getdents64",
            "getxattr",
            "lseek",
            "newfstatat",
            "open",
            "openat",
            "openat2",
            "pread64",
            "read",
            "readlink",
            "readlinkat",
            "readv",
            "stat",
            "statfs",
            "statx",
        ],
        "reading files",
    ),
    (
        &[
            "fchmod",
            "fdatasync",
            "fsync",
            "ftruncate",
            "linkat",
            "mkdir",
            "mkdirat",
            "rename",
            "renameat",
            "renameat2",
            "rmdir",
            "unlink",
            "unlinkat",
            "write",
            "writev",
        ],
        "writing results, removing cgroups and sockets",
    ),
    (
        &[
            "accept",
            "accept4",
            "getsockname",
            "getsockopt",
            "recvfrom",
            "recvmsg",
            "sched_setscheduler",
            "sendmsg",
            "sendto",
            "shutdown",
        ],
        "labels; and a thread that looked at a file for long runs as others do",
    ),
];

/// The same of calls that are allowed with some first or second arguments only: name, index, values.
const ALSO_WITH: [(&str, u32, &[u64], &str); 3] = [
    // lookup, update, delete, next key, attach
    ("bpf", 0, &[1, 2, 3, 4, 17], "reading maps, and attaching sys_exit again"),
    // TCGETS, TIOCGWINSZ, FIONBIO, FIOCLEX, TCGETS2
    (
        "ioctl",
        1,
        &[0x5401, 0x5413, 0x5421, 0x5451, 0x802c_542a],
        "whether it is a terminal, and how wide",
    ),
    // PR_SET_NAME, PR_GET_NAME, PR_SET_VMA
    ("prctl", 0, &[15, 16, 0x5356_4d41], "names of threads and of memory"),
];

/// What a profile allows so that its target can be started: this one runs already.
const LAUNCH: [&str; 2] = ["execve", "execveat"];

/// All bits of an argument of 32.
const INT: u64 = 0xffff_ffff;

/// Arguments of `self-profile`.
#[derive(clap::Args)]
pub struct Args {
    /// Use this build (default: a release build)
    #[arg(long, value_name = "FILE")]
    profiler: Option<Utf8PathBuf>,
}

/// Runs the verb: writes `profiles/self`.
///
/// # Errors
/// When something does not run, or this is not root.
pub fn run(args: &Args) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("only root can record the recorder\nhint: sudo cargo xtask self-profile");
    }
    let profiler = match &args.profiler {
        Some(path) => path.canonicalize_utf8()?,
        None => {
            cmd("cargo").args(["build", "--release", "-p", "profiler"]).dir(root()).run()?;
            root().join("target/release/profiler")
        }
    };
    let work = root().join("target/self-profile");
    if work.exists() {
        fs_err::remove_dir_all(&work)?;
    }
    fs_err::create_dir_all(&work)?;
    let mut recordings = Vec::new();
    for way in WAYS {
        say(format_args!("self-profile: {}", way.name));
        recordings.push(way.record(&profiler, &work)?);
    }
    let made = work.join("made");
    cmd(&profiler)
        .arg("generate")
        .args(&recordings)
        .args(["--portable", "--arguments", "attack-surface", "-o", made.as_str()])
        .run()?;
    let to = root().join("profiles/self");
    fs_err::create_dir_all(&to)?;
    let file = fs_err::read_to_string(made.join("seccomp.json"))?;
    fs_err::write(to.join("seccomp.json"), with_margin(&file)?)?;
    fs_err::copy(made.join("profile.json"), to.join("profile.json"))?;
    Ok(())
}

/// One way that a recording can go.
struct Way {
    name: &'static str,
    /// What the recorder is given. `{b}` is another cgroup's path, `{dir}` a directory.
    args: &'static str,
    /// What runs it: a shell's words before it.
    under: &'static str,
    /// A shell script, while it is recorded. `{join}` lets the shell join the other cgroup, `{pid}` is the recorder.
    meanwhile: &'static str,
}

const WAYS: [Way; 4] = [
    Way {
        name: "a command that leaves a process behind",
        args: "--stacks --counts -o {dir}/out -- sh -c 'setsid -f sleep 60; exec sleep 15'",
        under: "exec",
        meanwhile: "true",
    },
    Way {
        name: "a command that is told to end",
        args: "-o {dir}/out -- sleep 60",
        under: "exec",
        meanwhile: "sleep 1; kill -USR1 {pid}; sleep 0.3; kill -TERM {pid}",
    },
    Way {
        name: "a cgroup, with labels and files that root executes",
        args: "--cgroup {b} --stacks --counts --socket {dir}/socket --into {dir}/into",
        under: "exec",
        meanwhile: WORKLOAD,
    },
    Way {
        name: "a cgroup, on a terminal",
        args: "--cgroup {b} -o {dir}/out",
        under: "script -qec",
        meanwhile: "({join}; ls / >/dev/null; sleep 1; chown 1 {dir})",
    },
];

/// New checks after a pause, for sys_exit goes and comes; files that are there, gone, and out of reach; labels, and what is none.
const WORKLOAD: &str = "\
    export PROFILER_SOCKET={dir}/socket; profiler=$0
    for round in 1 2; do
        \"$profiler\" mark one; \"$profiler\" mark --begin two; \"$profiler\" mark --end
        (head -c 9000 /dev/zero | tr '\\0' x; echo) | timeout 2 python3 -c '
import socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(\"{dir}/socket\"); s.sendall(sys.stdin.buffer.read()); s.recv(100)' || true
        ({join}; cp /bin/true {dir}/gone; {dir}/gone; rm {dir}/gone; ls / >/dev/null; chown $round {dir}/..; python3 -c 1; cd {dir}; cp /bin/true own; ./own)
        sleep 7
    done
    ({join}; exec unshare --mount --pid --fork sh -c 'mount -t tmpfs none {dir}/..; chroot / true')";

impl Way {
    /// Records a recorder that goes it; the recording.
    fn record(&self, profiler: &Utf8Path, work: &Utf8Path) -> Result<Utf8PathBuf> {
        let number = WAYS.iter().position(|way| way.name == self.name).unwrap_or_default();
        let dir = work.join(format!("way-{number}"));
        fs_err::create_dir_all(&dir)?;
        // the same for each: recordings of one target are joined
        let (own, other) = (Cgroup::new("self-profile-a")?, Cgroup::new("self-profile-b")?);
        let filled = |text: &str| {
            text.replace("{dir}", dir.as_str())
                .replace("{b}", &other.path())
                .replace("{join}", &format!("echo 0 >{}/cgroup.procs", other.0))
        };
        let inner = format!("{profiler} record --unfiltered --ready-fd 9 {}", filled(self.args));
        let ready = dir.join("ready");
        let joined = format!("echo 0 >{}/cgroup.procs; exec {inner} 9>{ready}", own.0);
        let script = match self.under {
            "exec" => joined,
            under => {
                format!("exec {under} {} /dev/null", quoted(&format!("sh -c {}", quoted(&joined))))
            }
        };
        if self.args.contains("--into") {
            // there is something to join with
            let first =
                format!("{profiler} record --cgroup {} -o {dir}/into -- true", other.path());
            let _ = cmd("sh").args(["-c", &first]).capture()?; // nothing was recorded, so it is incomplete
        }
        let mut recorder = Running::start("sh", &["-c", &script])?;
        until("the recorder is armed", || {
            fs_err::read(&ready).is_ok_and(|bytes| !bytes.is_empty())
        })?;
        thread::sleep(Duration::from_millis(300));
        let (out, armed) = (dir.join("recorded"), dir.join("armed"));
        let outer = format!(
            "exec {profiler} record --cgroup {} --ready-fd 9 -o {out} 9>{armed}",
            own.path()
        );
        let outer = Running::start("sh", &["-c", &outer])?;
        until("the other one is armed", || {
            fs_err::read(&armed).is_ok_and(|bytes| !bytes.is_empty())
        })?;
        let pid = own.processes()?.first().copied().context("the recorder is in its cgroup")?;
        let meanwhile = filled(self.meanwhile).replace("{pid}", &pid.to_string());
        cmd("sh").args(["-c", &meanwhile, profiler.as_str()]).run()?;
        thread::sleep(WHILE);
        if self.args.contains("--cgroup") {
            signal(pid, rustix::process::Signal::INT);
        }
        recorder.wait()?;
        own.end()?;
        signal(outer.0.id(), rustix::process::Signal::INT);
        let mut outer = outer;
        outer.wait()?;
        Ok(out.join("recording.json"))
    }
}

/// The file with what is allowed beside what was seen.
fn with_margin(text: &str) -> Result<String> {
    let mut file: Value = serde_json::from_str(text)?;
    let rules = file["syscalls"].as_array_mut().context("it has rules")?;
    for rule in rules.iter_mut() {
        if let Some(names) = rule["names"].as_array_mut() {
            names.retain(|name| !LAUNCH.iter().any(|launch| name == launch));
        }
    }
    let is_named = |rules: &[Value], name: &str| {
        let names = |rule: &Value| rule["names"].as_array().cloned().unwrap_or_default();
        rules.iter().any(|rule| names(rule).iter().any(|known| known == name))
    };
    for (names, reason) in ALSO {
        let new: Vec<&str> = names.iter().copied().filter(|name| !is_named(rules, name)).collect();
        if !new.is_empty() {
            rules.push(json!({"names": new, "action": "SCMP_ACT_ALLOW", "comment": reason}));
        }
    }
    for (name, index, values, reason) in ALSO_WITH {
        let is_any = |rule: &Value| {
            let has_conditions = rule["args"].as_array().is_some_and(|args| !args.is_empty());
            !has_conditions && is_named(std::slice::from_ref(rule), name)
        };
        if rules.iter().any(is_any) {
            bail!(
                "any arguments of `{name}` were seen: the filter would be wide open\nhint: target/self-profile/made/profile.json has who"
            );
        }
        // one rule for each value: these do not overlap
        let known: Vec<u64> = rules
            .iter()
            .filter(|rule| is_named(std::slice::from_ref(rule), name))
            .filter_map(|rule| rule["args"][0]["valueTwo"].as_u64())
            .collect();
        if known.len() > values.len() {
            continue; // all but a few are allowed
        }
        for value in values.iter().filter(|value| !known.contains(value)) {
            let condition = json!({"index": index, "value": INT, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"});
            rules.push(json!({"names": [name], "action": "SCMP_ACT_ALLOW", "args": [condition], "comment": reason}));
        }
    }
    Ok(serde_json::to_string_pretty(&file)? + "\n")
}

/// A word for a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn signal(pid: u32, signal: rustix::process::Signal) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid.cast_signed()) {
        let _ = rustix::process::kill_process(pid, signal); // it may have ended by itself
    }
}

fn until(what: &str, done: impl Fn() -> bool) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    while !done() {
        if Instant::now() > deadline {
            bail!("not within {LIMIT:?}: {what}");
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// A process. Dropping it ends it.
struct Running(Child);

impl Running {
    fn start(program: &str, args: &[&str]) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null());
        Ok(Self(command.spawn().with_context(|| format!("cannot start `{program}`"))?))
    }

    fn wait(&mut self) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        while self.0.try_wait()?.is_none() {
            if Instant::now() > deadline {
                bail!("process {} does not end", self.0.id());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it may have ended
        let _ = self.0.wait();
    }
}

/// A cgroup below the root of the cgroup2 tree. Dropping it removes it.
struct Cgroup(Utf8PathBuf);

impl Cgroup {
    fn new(name: &str) -> Result<Self> {
        let mounts = fs_err::read_to_string("/proc/self/mounts")?;
        let mount = mounts.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            (fields.get(2) == Some(&"cgroup2")).then(|| fields.get(1).copied()).flatten()
        });
        let dir = Utf8Path::new(mount.context("no cgroup2 tree is mounted")?).join(name);
        if !dir.exists() {
            fs_err::create_dir(&dir)?;
        }
        Ok(Self(dir))
    }

    /// As `/proc/PID/cgroup` has it.
    fn path(&self) -> String {
        format!("/{}", self.0.file_name().unwrap_or_default())
    }

    fn processes(&self) -> Result<Vec<u32>> {
        let text = fs_err::read_to_string(self.0.join("cgroup.procs"))?;
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// Ends what is in it.
    fn end(&self) -> Result<()> {
        until("its cgroup is empty", || {
            let left = self.processes().unwrap_or_default();
            left.iter().for_each(|pid| signal(*pid, rustix::process::Signal::KILL));
            left.is_empty()
        })
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = self.end(); // told by what follows
        if let Err(error) = fs_err::remove_dir(&self.0) {
            say(format_args!("self-profile: {error}"));
        }
    }
}
