//! `profiler man`: from the definitions of the arguments.

use std::{io::Write as _, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::{Command, CommandFactory as _};
use clap_mangen::Man;

use crate::args::{Cli, ManArgs};

/// Prints `profiler(1)`, or writes it and a page for each command.
pub fn run(args: &ManArgs) -> Result<ExitCode> {
    // A date would change the pages from day to day.
    let command = Cli::command().disable_help_subcommand(true);
    let Some(directory) = &args.directory else {
        let page = page(command)?;
        std::io::stdout().write_all(&page).context("cannot write to stdout")?;
        return Ok(ExitCode::SUCCESS);
    };
    fs_err::create_dir_all(directory)?;
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let name = format!("profiler-{}", verb.get_name());
        let verb = verb.clone().name(name.clone()).bin_name(name.replacen('-', " ", 1));
        fs_err::write(directory.join(format!("{name}.1")), page(verb)?)?;
    }
    fs_err::write(directory.join("profiler.1"), page(command)?)?;
    Ok(ExitCode::SUCCESS)
}

fn page(command: Command) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    Man::new(command).date("").source("profiler").render(&mut text)?;
    Ok(text)
}
