//! Arguments, output and exit codes; nothing else.

mod args;
mod doctor;
mod exit;
mod generate;
mod mark;
mod output;
mod ready;
mod record;
mod tell;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Cli, Verb};

fn main() -> ExitCode {
    let cli = Cli::parse();
    tell::init_log(cli.debug);
    let done = match cli.verb {
        Verb::Record(args) => record::run(args, cli.debug),
        Verb::Generate(args) => generate::run(&args),
        Verb::Mark(args) => mark::run(&args),
        Verb::Doctor(args) => doctor::run(&args),
        Verb::Permissive => generate::permissive(),
        Verb::Enter(args) => record::enter(&args),
    };
    done.unwrap_or_else(|error| {
        tell::error(&error);
        exit::USAGE.into()
    })
}
