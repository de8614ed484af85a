//! Driving `profiler record`: what is typed, when it is armed, how it ends. Reads no result; `evidence` does.

use std::{
    ffi::OsStr,
    io::Read as _,
    os::fd::AsRawFd as _,
    process::Command,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use rustix::{io::FdFlags, process::Signal};

use crate::harness::{
    evidence::{Emitted, Recording},
    machine::Machine,
    pair::Pair,
    program::{self, Output, Running},
};

/// How long arming may take.
const ARM: Duration = Duration::from_secs(30);

/// How often something is recorded again when the kernel has left out runs of the recorder's programs.
pub const TRIES: u32 = 16;

/// A `profiler record` to be started.
pub struct Record {
    command: Command,
    dir: Utf8PathBuf,
    input: Vec<u8>,
    limit: Duration,
}

impl Record {
    /// Records into `dir`.
    pub fn new(machine: &Machine, dir: impl AsRef<Utf8Path>) -> Self {
        Self::by(&machine.profiler, dir)
    }

    /// The same by another copy of the program.
    pub fn by(profiler: impl AsRef<Utf8Path>, dir: impl AsRef<Utf8Path>) -> Self {
        let dir = dir.as_ref().to_owned();
        let command = program::command(profiler.as_ref(), ["record", "-o", dir.as_str()]);
        Self { command, dir, input: Vec::new(), limit: Duration::from_secs(120) }
    }

    /// Records containers of the machine's engine.
    ///
    /// # Errors
    /// When there is no engine.
    pub fn containers(
        machine: &Machine,
        dir: impl AsRef<Utf8Path>,
        names: &[&str],
    ) -> Result<Self> {
        let mut record = Self::new(machine, dir);
        for name in names {
            record.command.args(["--container", name]);
        }
        machine.engine()?.environment(&mut record.command);
        Ok(record)
    }

    /// Records containers of a pair.
    ///
    /// # Errors
    /// When its engine was taken down.
    pub fn pair(
        machine: &Machine,
        dir: impl AsRef<Utf8Path>,
        pair: Pair,
        names: &[&str],
    ) -> Result<Self> {
        let mut record = Self::new(machine, dir);
        for name in names {
            record.command.args(pair.target(machine, name)?);
        }
        if let Some(host) = pair.host(machine)? {
            record.command.env("DOCKER_HOST", host);
        }
        Ok(record)
    }

    /// Adds options.
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    /// Adds the command, after `--`.
    pub fn workload(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.arg("--").args(args);
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it in another directory.
    pub fn current_dir(mut self, dir: impl AsRef<Utf8Path>) -> Self {
        self.command.current_dir(dir.as_ref());
        self
    }

    /// Gives it a standard input.
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// Lets it run longer than two minutes.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs it as a child of other programs, `strace -f` for one.
    pub fn under(mut self, wrapper: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        let mut words = wrapper.into_iter();
        let Some(first) = words.next() else { return self };
        let mut wrapped = program::command(first, words);
        wrapped.arg(self.command.get_program()).args(self.command.get_args());
        for (name, value) in self.command.get_envs() {
            if let Some(value) = value {
                wrapped.env(name, value);
            }
        }
        if let Some(dir) = self.command.get_current_dir() {
            wrapped.current_dir(dir);
        }
        self.command = wrapped;
        self
    }

    /// Runs it to its end; again, as it says itself, when the kernel left out runs of its programs.
    ///
    /// # Errors
    /// When it does not end. Its status is not judged here.
    pub fn run(mut self) -> Result<Recorded> {
        let mut again = TRIES;
        loop {
            let recorded = self.run_once()?;
            if !recorded.lacks_runs() || again == 0 {
                return Ok(recorded);
            }
            fs_err::remove_dir_all(&self.dir)?;
            again -= 1;
        }
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// When it does not end. Its status is not judged here.
    pub fn run_once(&mut self) -> Result<Recorded> {
        let output = program::start(&mut self.command, &self.input)?.wait(self.limit)?;
        Ok(Recorded { output, dir: self.dir.clone() })
    }

    /// Starts it, and waits for nothing.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn begin(mut self) -> Result<Session> {
        let running = program::start(&mut self.command, &self.input)?;
        Ok(Session { running, dir: self.dir, limit: self.limit })
    }

    /// Starts it and returns when it is armed: the byte on `--ready-fd` has come.
    ///
    /// # Errors
    /// When it ends before that, or takes too long.
    pub fn start(mut self) -> Result<Session> {
        let (mut ready, write) = std::io::pipe()?;
        rustix::io::fcntl_setfd(&write, FdFlags::empty())?;
        let fd = write.as_raw_fd().to_string();
        // Options stand before `--`: the command line is rebuilt with this one in front.
        let args: Vec<_> = self.command.get_args().map(OsStr::to_owned).collect();
        let at = args.iter().position(|arg| arg == "record").map_or(0, |at| at + 1);
        let mut command = program::command(self.command.get_program(), &args[..at]);
        command.args(["--ready-fd", &fd]).args(&args[at..]);
        for (name, value) in self.command.get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        if let Some(dir) = self.command.get_current_dir() {
            command.current_dir(dir);
        }
        self.command = command;
        let mut running = program::start(&mut self.command, &self.input)?;
        drop(write);
        let (send, byte) = mpsc::channel();
        thread::spawn(move || send.send(ready.read(&mut [0; 1]).unwrap_or(0)));
        let deadline = Instant::now() + ARM;
        loop {
            match byte.recv_timeout(Duration::from_millis(20)) {
                Ok(1..) => break,
                Ok(0) => bail!("ended before it was armed\n{}", running.wait(ARM)?.text()),
                Err(_) if running.has_ended() => {
                    bail!("ended before it was armed\n{}", running.wait(ARM)?.text())
                }
                Err(_) if Instant::now() > deadline => {
                    bail!("not armed within {ARM:?}\n{}", running.stderr())
                }
                Err(_) => {}
            }
        }
        Ok(Session { running, dir: self.dir, limit: self.limit })
    }
}

/// An armed recording.
pub struct Session {
    /// The recorder.
    pub running: Running,
    dir: Utf8PathBuf,
    limit: Duration,
}

impl Session {
    /// Fails unless it has said `line` by now; what is on its way through the pipe counts.
    ///
    /// # Errors
    /// When it has not.
    pub fn expect_line(&self, line: &str) -> Result<()> {
        let said = || self.running.stderr().lines().any(|said| said == line);
        program::until(&format!("the line {line:?}"), Duration::from_secs(1), said)
            .with_context(|| self.running.stderr())
    }

    /// Ctrl-C, and its end.
    ///
    /// # Errors
    /// When it does not end.
    pub fn interrupt(self) -> Result<Recorded> {
        self.running.signal(Signal::INT);
        self.finish()
    }

    /// Waits for its own end.
    ///
    /// # Errors
    /// When it does not end.
    pub fn finish(self) -> Result<Recorded> {
        let output = self.running.wait(self.limit)?;
        Ok(Recorded { output, dir: self.dir })
    }
}

/// A recording that has ended.
pub struct Recorded {
    /// How, and what it said.
    pub output: Output,
    /// Where its files are.
    pub dir: Utf8PathBuf,
}

impl Recorded {
    /// Fails unless the status is `expected`.
    ///
    /// # Errors
    /// When it is another one.
    pub fn expect(self, expected: i32) -> Result<Self> {
        let Self { output, dir } = self;
        Ok(Self { output: output.expect(expected)?, dir })
    }

    /// Whether something may be missing through no fault of its own, as on kernels whose tracepoints can be preempted.
    pub fn lacks_runs(&self) -> bool {
        self.output.status == 3
            && self.output.stderr.contains("the kernel did not run the recorder's programs")
    }

    /// Fails unless it is complete, or lacks what only the kernel can give: where the workload leaves no chance that all is seen. What
    /// was seen is then judged all the same.
    ///
    /// # Errors
    /// When it failed, or lacks anything else.
    pub fn expect_what_runs(self) -> Result<Self> {
        if !self.lacks_runs() {
            return self.expect(0);
        }
        let mut missing = self.recording()?.missing();
        missing.remove("skipped");
        missing.remove("capabilities"); // no way to see them, which is no loss
        ensure!(missing.is_empty(), "missing is {missing:?}");
        self.expect(3)
    }

    /// The evidence.
    ///
    /// # Errors
    /// When the file is not there or not as the schema says.
    pub fn recording(&self) -> Result<Recording> {
        Recording::read(&self.dir)
    }

    /// The policy's files.
    pub fn emitted(&self) -> Emitted {
        Emitted::new(&self.dir)
    }

    /// Fails unless standard error contains `text`.
    ///
    /// # Errors
    /// When it does not.
    pub fn says(&self, text: &str) -> Result<()> {
        if !self.output.stderr.contains(text) {
            bail!("the story does not say {text:?}\n{}", self.output.text());
        }
        Ok(())
    }
}
