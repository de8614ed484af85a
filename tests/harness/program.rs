//! Running programs with a time limit: no test waits for ever, and none leaves a child behind.
//!
//! Each program gets a process group of its own, so that what it started ends with it.

use std::{
    ffi::OsStr,
    io::{Read, Write as _},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal};

use crate::harness::machine::search_path;

const POLL: Duration = Duration::from_millis(5);
/// How long the output of an ended program may stay open in the hands of others.
const LINGER: Duration = Duration::from_secs(5);

/// How a program ended and what it wrote.
#[derive(Debug, Clone)]
pub struct Output {
    /// Exit status; 128 and the signal's number when a signal killed it.
    pub status: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Fails unless the status is `expected`, with all that was written.
    ///
    /// # Errors
    /// When it is another one.
    pub fn expect(self, expected: i32) -> Result<Self> {
        if self.status != expected {
            bail!("exit status {}, not {expected}\n{}", self.status, self.text());
        }
        Ok(self)
    }

    /// Both streams, for messages.
    pub fn text(&self) -> String {
        format!("--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr)
    }
}

/// A program that runs.
pub struct Running {
    child: Child,
    line: String,
    stdout: Stream,
    stderr: Stream,
    ended: bool,
}

struct Stream {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

/// A command without standard input and with root's tools in its PATH.
pub fn command<S: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    args: impl IntoIterator<Item = S>,
) -> Command {
    let mut command = Command::new(program);
    command.args(args).env("PATH", search_path()).stdin(Stdio::null());
    command
}

/// Runs `command` to its end.
///
/// # Errors
/// When it cannot be started or is not done after `limit`; it is killed then.
pub fn run(command: &mut Command, limit: Duration) -> Result<Output> {
    start(command, &[])?.wait(limit)
}

/// Runs a shell command line that must succeed, and hands back its trimmed standard output.
///
/// # Errors
/// When it does not.
pub fn shell(line: &str) -> Result<String> {
    let output = run(&mut command("sh", ["-c", line]), Duration::from_secs(120))?.expect(0)?;
    Ok(output.stdout.trim().to_owned())
}

/// Starts `command`; `input` is its standard input, none when empty.
///
/// # Errors
/// When it cannot be started.
pub fn start(command: &mut Command, input: &[u8]) -> Result<Running> {
    let line = format!("{command:?}");
    if !input.is_empty() {
        command.stdin(Stdio::piped());
    }
    let mut child = command
        .process_group(0)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {line}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_vec();
        thread::spawn(move || stdin.write_all(&input));
    }
    let stdout = Stream::follow(child.stdout.take());
    let stderr = Stream::follow(child.stderr.take());
    Ok(Running { child, line, stdout, stderr, ended: false })
}

impl Running {
    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// What it wrote to standard output so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Sends it a signal; one that has ended does not mind.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.child.id().cast_signed()) {
            // It may have ended by itself in the meantime.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// Sends its whole process group a signal, as a terminal does.
    pub fn signal_group(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.child.id().cast_signed()) {
            // As above.
            let _ = rustix::process::kill_process_group(pid, signal);
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it is not done after `limit`; it is killed then.
    pub fn wait(mut self, limit: Duration) -> Result<Output> {
        let deadline = Instant::now() + limit;
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if Instant::now() > deadline {
                let text = format!("--- stdout\n{}\n--- stderr\n{}", self.stdout(), self.stderr());
                bail!("{} not done after {limit:?}\n{text}", self.line);
            }
            thread::sleep(POLL);
        };
        self.ended = true;
        let linger = Instant::now() + LINGER;
        for stream in [&self.stdout, &self.stderr] {
            while !stream.reader.is_finished() && Instant::now() < linger {
                thread::sleep(POLL);
            }
        }
        Ok(Output { status: number(status), stdout: self.stdout(), stderr: self.stderr() })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            self.signal_group(Signal::KILL);
            // Reaped, or it was reaped before.
            let _ = self.child.wait();
        }
    }
}

impl Stream {
    fn follow(pipe: Option<impl Read + Send + 'static>) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&bytes);
        let reader = thread::spawn(move || {
            let Some(mut pipe) = pipe else { return };
            let mut chunk = [0; 4096];
            while let Ok(read @ 1..) = pipe.read(&mut chunk) {
                if let Ok(mut sink) = sink.lock() {
                    sink.extend_from_slice(&chunk[..read]);
                }
            }
        });
        Self { bytes, reader }
    }

    fn text(&self) -> String {
        self.bytes
            .lock()
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }
}

/// An exit status as a shell shows it.
pub fn number(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Waits until `done` holds.
///
/// # Errors
/// When it does not within `limit`; `what` says what was waited for.
pub fn until(what: &str, limit: Duration, mut done: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + limit;
    while !done() {
        if Instant::now() > deadline {
            bail!("not within {limit:?}: {what}");
        }
        thread::sleep(POLL);
    }
    Ok(())
}
