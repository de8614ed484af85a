//! `profiler completions`: from the definitions of the arguments.

use std::{io::Write as _, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::CommandFactory as _;
use clap_complete::shells;

use crate::args::{Cli, CompletionsArgs, Shell};

/// Prints the script.
pub fn run(args: &CompletionsArgs) -> Result<ExitCode> {
    let mut script = Vec::new();
    let mut command = Cli::command();
    match args.shell {
        Shell::Bash => clap_complete::generate(shells::Bash, &mut command, "profiler", &mut script),
        Shell::Zsh => clap_complete::generate(shells::Zsh, &mut command, "profiler", &mut script),
        Shell::Fish => clap_complete::generate(shells::Fish, &mut command, "profiler", &mut script),
    }
    std::io::stdout().write_all(&script).context("cannot write to stdout")?;
    Ok(ExitCode::SUCCESS)
}
