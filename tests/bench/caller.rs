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
    process::getppid,
    thread::{CpuSet, sched_setaffinity},
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
}

impl Call {
    /// The word for it.
    const fn name(self) -> &'static str {
        match self {
            Call::Plain => "getppid",
            Call::Watched => "fcntl",
        }
    }
}

/// Makes the calls and prints nanoseconds per call, of the best batch.
pub fn serve(calls: u64, call: &str) -> Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(CPU);
    sched_setaffinity(None, &cpus).context("cannot stay on one CPU")?;
    let stdin = std::io::stdin();
    let spin = || {
        let start = Instant::now();
        if call == Call::Watched.name() {
            for _ in 0..BATCH {
                let _ = std::hint::black_box(fcntl_getfd(&stdin));
            }
        } else {
            for _ in 0..BATCH {
                std::hint::black_box(getppid());
            }
        }
        start.elapsed().as_nanos() as f64 / BATCH as f64
    };
    spin(); // warm up
    println!("{}", (0..calls / BATCH).map(|_| spin()).fold(f64::INFINITY, f64::min));
    Ok(())
}

/// Starts a caller, in `cgroup` when there is one, and returns its nanoseconds per call.
///
/// The gate keeps it from executing before it was moved, as a recorder would.
pub fn measure(calls: u64, call: Call, cgroup: Option<&Path>, under: &[&str]) -> Result<f64> {
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
    if let Some(dir) = cgroup {
        fs_err::write(dir.join("cgroup.procs"), child.id().to_string())?;
    }
    child.stdin.take().context("a pipe")?.write_all(b"go\n")?;
    let mut text = String::new();
    child.stdout.take().context("a pipe")?.read_to_string(&mut text)?;
    child.wait()?;
    let last = text.lines().rfind(|line| line.parse::<f64>().is_ok());
    last.context("the caller said nothing")?.parse().context("not a number")
}
