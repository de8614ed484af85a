//! The process that calls: started anew for each measurement, in a cgroup of its own or not.

use std::{
    io::{Read as _, Write as _},
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result};
use rustix::{
    io::fcntl_getfd,
    process::{
        getegid, geteuid, getgid, getpgid, getpgrp, getppid, getpriority_process, getsid, getuid,
    },
    system::{sysinfo, uname},
    thread::{CpuSet, sched_setaffinity, set_thread_gid},
};

/// The word that makes this program the caller.
pub const WORD: &str = "call";

/// The CPU that calls.
const CPU: usize = 1;

/// How many calls are measured at once, in about a millisecond: short enough to be left alone now and then on a busy machine.
const BATCH: u64 = 5_000;

/// What is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// getppid(2), whose arguments nobody watches.
    Plain,
    /// fcntl(2) with F_GETFD, whose command is recorded.
    Watched,
    /// setgid(2) to the caller's own group: the kernel checks CAP_SETGID before it looks.
    Checked,
    /// Ten calls that this program has not made before, once each.
    First,
}

impl Call {
    /// Each of them.
    pub const ALL: [Call; 4] = [Call::Plain, Call::Watched, Call::Checked, Call::First];

    /// The word for it, also in the table.
    pub const fn name(self) -> &'static str {
        match self {
            Call::Plain => "getppid",
            Call::Watched => "fcntl",
            Call::Checked => "setgid",
            Call::First => "the first time",
        }
    }
}

/// Makes the calls and prints nanoseconds per call, of the best batch.
pub fn serve(calls: u64, word: &str) -> Result<()> {
    let call = Call::ALL.into_iter().find(|call| call.name() == word).context("no such call")?;
    let mut cpus = CpuSet::new();
    cpus.set(CPU);
    sched_setaffinity(None, &cpus).context("cannot stay on one CPU")?;
    let (stdin, gid) = (std::io::stdin(), getgid());
    let make = || match call {
        Call::Plain => drop(std::hint::black_box(getppid())),
        Call::Watched => drop(std::hint::black_box(fcntl_getfd(&stdin))),
        Call::Checked => drop(std::hint::black_box(set_thread_gid(gid))),
        Call::First => {}
    };
    let spin = || {
        let start = Instant::now();
        for _ in 0..BATCH {
            make();
        }
        start.elapsed().as_nanos() as f64 / BATCH as f64
    };
    let ns = match call {
        Call::First => first(),
        _ => (0..=calls / BATCH).map(|_| spin()).fold(f64::INFINITY, f64::min),
    };
    println!("{ns}");
    Ok(())
}

/// Nanoseconds per call of calls that were not made before.
fn first() -> f64 {
    let start = Instant::now();
    std::hint::black_box((getuid(), geteuid(), getegid(), getppid(), getpgrp()));
    std::hint::black_box((getpgid(None).is_ok(), getsid(None).is_ok(), sysinfo().uptime));
    std::hint::black_box((getpriority_process(None).is_ok(), uname().nodename().is_empty()));
    start.elapsed().as_nanos() as f64 / 10.0
}

/// Starts a caller, in `cgroup` when there is one, and returns its nanoseconds per call.
///
/// The gate keeps it from executing before it was moved, as a recorder would.
pub fn measure(calls: u64, call: Call, cgroup: Option<&Path>, under: &[&str]) -> Result<f64> {
    measure_placed(calls, call, under, |pid| {
        let write = |dir: &Path| fs_err::write(dir.join("cgroup.procs"), pid.to_string());
        Ok(cgroup.map_or(Ok(()), write)?)
    })
}

/// The same, after `place` has done with the caller, by its process id, what it must.
pub fn measure_placed(
    calls: u64,
    call: Call,
    under: &[&str],
    place: impl FnOnce(u32) -> Result<()>,
) -> Result<f64> {
    let itself = std::env::current_exe()?;
    let mut child = Command::new("sh")
        .args(["-c", "read gate; exec \"$@\"", "sh"])
        .args(under)
        .arg(itself)
        .args([WORD, &calls.to_string(), call.name()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    place(child.id())?;
    child.stdin.take().context("a pipe")?.write_all(b"go\n")?;
    let mut text = String::new();
    child.stdout.take().context("a pipe")?.read_to_string(&mut text)?;
    child.wait()?;
    let last = text.lines().rfind(|line| line.parse::<f64>().is_ok());
    last.context("the caller said nothing")?.parse().context("not a number")
}
