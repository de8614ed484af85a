//! How a verb tells what it does: titles, and commands as they would be typed, with all that they say.
//!
//! Owns the look of it. What is told is the verb's.

use std::{
    io::Write as _,
    os::fd::AsFd as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use camino::Utf8PathBuf;

use crate::sh::{Cmd, root};

/// Begins a chapter.
pub fn title(text: &str) {
    println!("\n== {text}\n");
}

/// Runs a command visibly: its line, and what it says on either stream, in order, on our standard output.
///
/// # Errors
/// When it cannot be started or fails.
pub fn show(command: Cmd) -> Result<()> {
    let mut command = command.into_command();
    let line = line(&command);
    println!("$ {line}\n");
    std::io::stdout().flush()?;
    command
        .current_dir(root())
        .stdin(Stdio::null())
        .stderr(Stdio::from(std::io::stdout().as_fd().try_clone_to_owned()?));
    let status = command.status().with_context(|| format!("cannot start `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(())
}

/// The command as it would be typed in the workspace's root.
fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let quoted = words.map(|word| {
        let word = word.to_string_lossy().replace(&format!("{}/", root()), "");
        if word.contains([' ', '&', ';', '|']) { format!("'{word}'") } else { word }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// The profiler of the development profile: the tests build the same one, and it is there minutes earlier.
pub fn binary() -> Utf8PathBuf {
    let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".to_owned());
    root().join(target).join("debug/profiler")
}
