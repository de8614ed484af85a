//! `profiler mark`: sets the label of the test that runs.

use std::process::ExitCode;

use anyhow::Result;
use profiler::session::{Label, Request, mark};

use crate::args::MarkArgs;

/// Asks the recorder, and returns when the label is in force.
pub fn run(args: &MarkArgs) -> Result<ExitCode> {
    let label = args.label.as_deref().map(Label::new).transpose()?;
    let request = match (label, args.begin) {
        (label, false) if args.end => Request::End(label),
        (Some(label), true) => Request::Begin(label),
        (Some(label), false) => Request::Mark(label),
        // clap asks for a label unless `--end` is there
        (None, _) => Request::End(None),
    };
    mark(args.socket.as_deref(), &request)?;
    Ok(ExitCode::SUCCESS)
}
