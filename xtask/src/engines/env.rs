//! What a shell or a test needs to use an engine: `target/engines/NAME/env`, a `NAME=value` line each.

use anyhow::Result;
use camino::Utf8Path;

/// Names and values.
pub type Environment = Vec<(String, String)>;

/// The file, in an engine's directory.
pub const FILE: &str = "env";

/// Writes it.
///
/// # Errors
/// When the file cannot be written.
pub fn write(dir: &Utf8Path, environment: &Environment) -> Result<()> {
    let lines = environment.iter().map(|(name, value)| format!("{name}={value}\n"));
    Ok(fs_err::write(dir.join(FILE), lines.collect::<String>())?)
}
