//! The C program of `below.c`: built, run beside a measurement, and ended.
//!
//! It makes bpf(2) and seccomp(2) calls that neither aya nor the library has. Which of its verbs is measured how is `below`'s.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};

/// Builds it in a directory.
pub fn build(dir: &Utf8Path) -> Result<Utf8PathBuf> {
    let program = dir.join("below");
    let source = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/below.c");
    let flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-o"];
    let status = Command::new("gcc").args(flags).arg(&program).arg(&source).status()?;
    ensure!(status.success(), "gcc refuses `{source}`");
    Ok(program)
}

/// It, attached to something or listening. What is left of it when this is dropped is killed.
pub struct Beside {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    /// What it said of its start.
    pub ready: String,
}

impl Beside {
    /// Starts it, and comes back when it is ready. `None` when this kernel has not what it needs, which it has said.
    pub fn start(program: &Utf8Path, args: &[&str]) -> Result<Option<Self>> {
        let mut child = Command::new(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().context("a pipe")?);
        let mut beside = Self { child, stdin, stdout, ready: String::new() };
        let line = beside.line()?;
        let Some(ready) = line.strip_prefix("ready") else {
            eprintln!("`{}`: left out", args.join(" "));
            return Ok(None);
        };
        beside.ready = ready.trim().to_owned();
        Ok(Some(beside))
    }

    /// Tells it something, and waits until it has done what follows from that.
    pub fn tell(&mut self, what: impl std::fmt::Display) -> Result<()> {
        writeln!(self.stdin.as_mut().context("a pipe")?, "{what}")?;
        ensure!(self.line()? == "ok\n", "it did not take `{what}`");
        Ok(())
    }

    /// Ends it; the last that it said.
    pub fn end(mut self) -> Result<String> {
        drop(self.stdin.take());
        let mut text = String::new();
        self.stdout.read_to_string(&mut text)?;
        self.child.wait()?;
        Ok(text)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        Ok(line)
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended by itself
        let _ = self.child.wait();
    }
}
