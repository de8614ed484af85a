//! A daemon of ours: started in a session of its own, known by its pid file, stopped by its pid.
//!
//! A pid counts as ours only while its command line names our directory, so a stale pid file never
//! ends a stranger.

use std::{
    fs,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use rustix::process::{Pid, Signal, kill_process};

use crate::{engines::place::Place, sh::cmd};

/// One daemon program of an engine.
pub struct Daemon {
    program: &'static str,
    dir: Utf8PathBuf,
    place: Place,
    programs: Vec<Utf8PathBuf>,
    env: Vec<(&'static str, String)>,
}

impl Daemon {
    /// `program`, with its pid file and log in `dir`.
    pub fn new(program: &'static str, dir: &Utf8Path) -> Self {
        Self {
            program,
            dir: dir.to_owned(),
            place: Place::Machine,
            programs: Vec::new(),
            env: Vec::new(),
        }
    }

    /// Runs in `place`, not among the machine's cgroups.
    pub fn within(mut self, place: &Place) -> Self {
        self.place = place.clone();
        self
    }

    /// Looks for itself and for the programs it starts in these directories first.
    pub fn programs(mut self, dirs: &[Utf8PathBuf]) -> Self {
        self.programs = dirs.to_vec();
        self
    }

    /// Has this variable in its environment.
    pub fn env(mut self, name: &'static str, value: &str) -> Self {
        self.env.push((name, value.to_owned()));
        self
    }

    /// Its pid, while it runs.
    pub fn pid(&self) -> Option<Pid> {
        let pid = fs::read_to_string(self.pid_file()).ok()?.trim().parse().ok()?;
        let words = command_line(pid)?;
        let ours = words.first()?.ends_with(self.program)
            && words.iter().any(|word| word.contains(&format!("{}/", self.dir)));
        if ours { Pid::from_raw(pid) } else { None }
    }

    /// Starts it with `args` unless it runs, and waits until `ready`.
    ///
    /// # Errors
    /// When it ends or is not ready within 30 seconds; the error carries the end of its log.
    pub fn start(&self, args: &[&str], ready: impl Fn() -> bool) -> Result<()> {
        let running = self.pid().is_some();
        if running && ready() {
            return Ok(());
        }
        let mut child = if running { None } else { Some(self.spawn(args)?) };
        let deadline = Instant::now() + Duration::from_secs(30);
        while !ready() {
            let ended = match &mut child {
                // Until the launcher has become the daemon, its command line is another.
                Some(child) => child.try_wait()?.is_some(),
                None => self.pid().is_none(),
            };
            if ended || Instant::now() > deadline {
                let what = if ended { "ended at once" } else { "is not ready after 30 s" };
                bail!("`{}` {what}{}\nhint: less {}", self.program, self.log_end(), self.log());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn spawn(&self, args: &[&str]) -> Result<Child> {
        let log = fs_err::File::create(self.log())?.into_parts().0;
        // setsid and the launcher replace themselves, so the child's pid is the daemon's.
        let mut command = cmd("setsid")
            .args(self.place.launcher())
            .arg(self.program)
            .args(args)
            .dir("/")
            .programs(&self.programs)
            .into_command();
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start `{}`", self.program))?;
        fs_err::write(self.pid_file(), format!("{}\n", child.id()))?;
        Ok(child)
    }

    /// Stops it: SIGTERM, and SIGKILL after 20 seconds. Removes its pid file.
    ///
    /// # Errors
    /// When the pid file cannot be removed or the daemon survives.
    pub fn stop(&self) -> Result<()> {
        if let Some(pid) = self.pid() {
            end(pid, self.program)?;
        }
        match fs::remove_file(self.pid_file()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// The file that holds its pid.
    pub fn pid_file(&self) -> Utf8PathBuf {
        self.dir.join(format!("{}.pid", self.program))
    }

    fn log(&self) -> Utf8PathBuf {
        self.dir.join(format!("{}.log", self.program))
    }

    fn log_end(&self) -> String {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(5)..].iter().map(|line| format!("\n  {line}")).collect()
    }
}

/// Ends the processes of `program` that name `path` as an argument of their own: children that a
/// daemon left when it was killed.
///
/// # Errors
/// When one survives.
pub fn end_orphans(program: &str, path: &Utf8Path) -> Result<()> {
    for entry in fs_err::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(number) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        let words = command_line(number).unwrap_or_default();
        let ours = words.first().is_some_and(|first| first.ends_with(program))
            && words.iter().any(|word| word == path.as_str());
        if ours && let Some(pid) = Pid::from_raw(number) {
            end(pid, program)?;
        }
    }
    Ok(())
}

fn end(pid: Pid, name: &str) -> Result<()> {
    let number = pid.as_raw_nonzero().get();
    for (signal, patience) in [(Signal::TERM, 20), (Signal::KILL, 5)] {
        if kill_process(pid, signal).is_err() {
            return Ok(());
        }
        let deadline = Instant::now() + Duration::from_secs(patience);
        while Instant::now() < deadline {
            // A zombie has no command line; whoever is its parent will collect it.
            if command_line(number).is_none_or(|words| words.is_empty()) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    bail!("`{name}` does not end\nhint: cat /proc/{number}/stack")
}

/// The words of a process's command line; `None` when there is no such process.
fn command_line(pid: i32) -> Option<Vec<String>> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words = bytes.split(|byte| *byte == 0).filter(|word| !word.is_empty());
    Some(words.map(|word| String::from_utf8_lossy(word).into_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_pid_file_is_not_ours() {
        let dir = std::env::temp_dir().join(format!("profiler-daemon-{}", std::process::id()));
        let dir = Utf8PathBuf::try_from(dir).expect("utf-8 temporary directory");
        fs::create_dir_all(&dir).expect("create");
        let mut stranger = std::process::Command::new("sleep").arg("60").spawn().expect("sleep");
        let daemon = Daemon::new("sleep", &dir);
        fs::write(daemon.pid_file(), stranger.id().to_string()).expect("write");
        assert_eq!(daemon.pid(), None);
        daemon.stop().expect("nothing to stop");
        assert!(stranger.try_wait().expect("wait").is_none(), "the stranger lives");
        stranger.kill().expect("kill");
        stranger.wait().expect("wait");
        fs::remove_dir_all(&dir).expect("remove");
    }

    #[test]
    fn a_daemon_that_ends_is_reported_with_its_log() {
        let dir = std::env::temp_dir().join(format!("profiler-ends-{}", std::process::id()));
        let dir = Utf8PathBuf::try_from(dir).expect("utf-8 temporary directory");
        fs::create_dir_all(&dir).expect("create");
        let daemon = Daemon::new("cat", &dir);
        let missing = dir.join("missing");
        let error = daemon.start(&[missing.as_str()], || false).expect_err("cat fails");
        let error = error.to_string();
        assert!(error.starts_with("`cat` ended at once\n"), "{error}");
        assert!(error.contains("No such file"), "{error}");
        fs::remove_dir_all(&dir).expect("remove");
    }
}
