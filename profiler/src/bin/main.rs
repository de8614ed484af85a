//! Arguments, output and exit codes; nothing else.

mod args;
mod diff;
mod doctor;
mod exit;
mod generate;
mod git;
mod mark;
mod merge;
mod output;
mod policy;
mod ready;
mod record;
mod repository;
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
        Verb::Merge(args) => merge::run(&args),
        Verb::Diff(args) => diff::run(&args),
        Verb::Git(args) => git::run(&args),
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
