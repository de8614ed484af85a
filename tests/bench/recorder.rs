//! A recorder in a process of its own, and what /proc tells about it.

use std::{
    collections::BTreeMap,
    io::Read as _,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// A recorder that is armed.
pub struct Recorder {
    child: Child,
    /// How long that took.
    pub armed: Duration,
}

impl Recorder {
    /// Starts it with a target or a command, and comes back when it is armed.
    pub fn start(dir: &Path, target: &[&str]) -> Result<Self> {
        let program = std::env::current_exe()?.with_file_name("profiler");
        let began = Instant::now();
        let mut child = Command::new(program)
            .args(["record", "--ready-fd", "1", "-o"])
            .arg(dir)
            .args(target)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut byte = [0];
        child.stdout.as_mut().context("a pipe")?.read_exact(&mut byte)?;
        Ok(Self { child, armed: began.elapsed() })
    }

    fn proc(&self, file: &str) -> Result<String> {
        Ok(fs_err::read_to_string(format!("/proc/{}/{file}", self.child.id()))?)
    }

    /// A field of /proc/PID/status, in KiB.
    pub fn status_kb(&self, field: &str) -> Result<f64> {
        let status = self.proc("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kb = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse().ok());
        kb.with_context(|| format!("no {field} in its status"))
    }

    /// Seconds of processor time of all its threads, from /proc/PID/schedstat, which counts in nanoseconds.
    pub fn processor(&self) -> Result<f64> {
        let mut ns = 0.0;
        for thread in fs_err::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let text = fs_err::read_to_string(thread?.path().join("schedstat"))?;
            ns += text.split(' ').next().context("a number")?.parse::<f64>()?;
        }
        Ok(ns / 1e9)
    }

    /// Bytes of each map, by its id, as the kernel accounts them.
    pub fn maps(&self) -> Result<BTreeMap<u64, f64>> {
        let mut maps = BTreeMap::new();
        for entry in fs_err::read_dir(format!("/proc/{}/fdinfo", self.child.id()))? {
            let text = fs_err::read_to_string(entry?.path()).unwrap_or_default(); // closed meanwhile
            let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
            if let (Some(id), Some(bytes)) = (field("map_id:"), field("memlock:")) {
                maps.insert(id.trim().parse()?, bytes.trim().parse()?);
            }
        }
        ensure!(!maps.is_empty(), "it has no maps");
        Ok(maps)
    }

    /// Seconds that its programs in the kernel have run, of all that called them, while the kernel counts that
    /// ([`CountTime`]).
    pub fn programs(&self) -> Result<f64> {
        let mut times = BTreeMap::new();
        for entry in fs_err::read_dir(format!("/proc/{}/fdinfo", self.child.id()))? {
            let text = fs_err::read_to_string(entry?.path()).unwrap_or_default(); // closed meanwhile
            let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
            if let (Some(id), Some(ns)) = (field("prog_id:"), field("run_time_ns:")) {
                times.insert(id.trim().to_owned(), ns.trim().parse::<f64>()?);
            }
        }
        ensure!(!times.is_empty(), "it has no programs");
        Ok(times.values().sum::<f64>() / 1e9)
    }

    /// Ends the recording, and waits for the result.
    pub fn interrupt(self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::INT)?;
        self.wait()
    }

    /// Waits for the end of the command.
    pub fn wait(mut self) -> Result<()> {
        drop(self.child.stdout.take());
        self.child.wait()?;
        Ok(())
    }
}

const STATS: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// While it lives the kernel counts the time of programs.
pub struct CountTime {
    before: String,
}

impl CountTime {
    /// From now on.
    pub fn begin() -> Result<Self> {
        let before = fs_err::read_to_string(STATS)?;
        fs_err::write(STATS, "1")?;
        Ok(Self { before })
    }
}

impl Drop for CountTime {
    fn drop(&mut self) {
        let _ = fs_err::write(STATS, &self.before); // it was written before
    }
}
