//! Running commands, with errors that say what ran, how it ended and what it said last.
//!
//! Owns the way this crate starts programs and finds the workspace. It knows no program by name.

use std::{
    collections::VecDeque,
    ffi::OsStr,
    io::Write as _,
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};

/// How many lines of a failed command's output an error repeats.
const LAST_LINES: usize = 15;

/// The directory of the workspace's Cargo.toml.
pub fn root() -> Utf8PathBuf {
    let here = Utf8Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// One line of progress on stderr.
pub fn say(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// A command that is about to run: no standard input, `sbin` in its PATH.
pub struct Cmd {
    command: Command,
}

/// Starts the description of a command.
pub fn cmd(program: impl AsRef<OsStr>) -> Cmd {
    let mut command = Command::new(program);
    // Root's PATH after `su` has no sbin, where iptables, debootstrap and dockerd are.
    let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/bin:/bin".to_owned());
    command.env("PATH", format!("{path}:/usr/local/sbin:/usr/sbin:/sbin"));
    Cmd { command }
}

impl Cmd {
    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets the working directory.
    pub fn dir(mut self, dir: impl AsRef<Utf8Path>) -> Self {
        self.command.current_dir(dir.as_ref());
        self
    }

    /// Looks for programs in these directories first; so does what it starts.
    pub fn programs(mut self, dirs: &[Utf8PathBuf]) -> Self {
        let known = self.command.get_envs().find(|(name, _)| *name == "PATH");
        let known = known.and_then(|(_, value)| value).map(OsStr::to_owned).unwrap_or_default();
        let path: Vec<&OsStr> =
            dirs.iter().map(|dir| dir.as_std_path().as_os_str()).chain([&*known]).collect();
        self.command.env("PATH", path.join(OsStr::new(":")));
        self
    }

    /// The command as it would be typed, for messages.
    pub fn line(&self) -> String {
        let mut line = self.command.get_program().to_string_lossy().into_owned();
        for arg in self.command.get_args() {
            line.push(' ');
            line.push_str(&arg.to_string_lossy());
        }
        line
    }

    /// Runs it and hands back status and output, whatever the status.
    pub fn capture(mut self) -> Result<Output> {
        let line = self.line();
        self.command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{line}`"))
    }

    /// Runs it quietly; a failure carries the last lines that it wrote.
    pub fn run(self) -> Result<()> {
        self.stdout().map(drop)
    }

    /// As [`Cmd::run`], and hands back its trimmed standard output.
    pub fn stdout(self) -> Result<String> {
        let line = self.line();
        let output = self.capture()?;
        if !output.status.success() {
            bail!("`{line}` failed ({}){}", output.status, last_lines(&output));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Whether it ran and succeeded.
    pub fn succeeds(self) -> bool {
        self.capture().is_ok_and(|output| output.status.success())
    }

    /// The bare command, for callers that keep the child.
    pub fn into_command(self) -> Command {
        self.command
    }
}

/// The last lines of both streams, each on an indented line of its own; empty when there are none.
fn last_lines(output: &Output) -> String {
    let mut lines = VecDeque::new();
    for stream in [&output.stdout, &output.stderr] {
        for line in String::from_utf8_lossy(stream).lines().filter(|line| !line.trim().is_empty()) {
            lines.push_back(format!("\n  {line}"));
            if lines.len() > LAST_LINES {
                lines.pop_front();
            }
        }
    }
    lines.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_command_the_status_and_the_last_lines() {
        let error = cmd("sh")
            .args(["-c", "seq 40; echo broken >&2; exit 3"])
            .run()
            .expect_err("exit 3")
            .to_string();
        assert!(error.starts_with("`sh -c seq 40"), "{error}");
        assert!(error.contains("exit status: 3"), "{error}");
        assert!(error.ends_with("\n  40\n  broken"), "{error}");
        assert!(!error.contains("\n  26\n"), "{error}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = cmd("no-such-program").arg("-x").run().expect_err("not there").to_string();
        assert_eq!(error, "cannot start `no-such-program -x`");
    }
}
