//! Arguments, output and exit codes; nothing else.

mod args;
mod audit;
mod beside;
mod completions;
mod context;
mod coverage;
mod diff;
mod doctor;
mod enforce;
mod exit;
mod explain;
mod generate;
mod git;
mod hardening;
mod input;
mod lint;
mod made;
mod man;
mod mark;
mod merge;
mod minimise;
mod output;
mod policy;
mod quick;
mod ready;
mod record;
mod repository;
mod stack;
mod surface;
mod tell;
mod verify;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Cli, Verb};

fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| hardening::with_hint(error).exit());
    tell::init_log(cli.debug);
    tell::init_color(cli.color);
    let done = match cli.verb {
        Verb::Record(args) => record::run(args, cli.debug),
        Verb::Generate(args) => generate::run(&args),
        Verb::Explain(args) => explain::run(&args),
        Verb::Lint(args) => lint::run(&args),
        Verb::Audit(args) => audit::run(&args),
        Verb::Merge(args) => merge::run(&args),
        Verb::Diff(args) => diff::run(&args),
        Verb::Minimise(args) => minimise::run(&args, cli.debug),
        Verb::Git(args) => git::run(&args),
        Verb::Coverage(args) => coverage::run(&args),
        Verb::Verify(args) => verify::run(&args, cli.debug),
        Verb::Mark(args) => mark::run(&args),
        Verb::Doctor(args) => doctor::run(&args),
        Verb::Permissive => generate::permissive(),
        Verb::Completions(args) => completions::run(&args),
        Verb::Man(args) => man::run(&args),
        Verb::Enter(args) => record::enter(&args),
        Verb::Warden => record::warden(),
    };
    done.unwrap_or_else(|error| {
        if is_broken_pipe(&error) {
            return ExitCode::SUCCESS; // whoever reads has seen enough
        }
        tell::error(&error);
        exit::USAGE.into()
    })
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let cause = error.root_cause().downcast_ref::<std::io::Error>();
    cause.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
