//! `profiler explain`: what is in a policy, and what would happen to a call.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use profiler::{
    model::{arguments::constants, explain::Subject},
    report::explain,
};

use crate::{
    args::{ExplainArgs, Format},
    input,
};

/// Prints the answer.
pub fn run(args: &ExplainArgs) -> Result<ExitCode> {
    let policy = input::policy(&args.profile)?;
    let profile = policy.profile.as_ref();
    let context = args.context.one(&policy).context("the file is for no machine")?;
    let subject = Subject { file: &policy.file, profile, context: &context };
    let mut out = anstream::stdout();
    if let [name, arguments @ ..] = args.why_not.as_slice() {
        let arguments: Vec<u64> =
            arguments.iter().map(|text| argument(text)).collect::<Result<_>>()?;
        let answers = subject.why_not(name, &arguments)?;
        match args.format {
            Format::Human => explain::why_not(&answers, &mut out)?,
            Format::Json => explain::json(&explain::Answers { answers: &answers }, &mut out)?,
        }
        return Ok(ExitCode::SUCCESS);
    }
    let (entries, left_out) = match &args.name {
        Some(name) => (subject.named(name)?, Vec::new()),
        None => (subject.ranked(), subject.left_out()),
    };
    match (args.format, &args.name) {
        (Format::Json, _) => {
            explain::json(&explain::Entries { entries: &entries, left_out: &left_out }, &mut out)?;
        }
        (Format::Human, Some(_)) => explain::detailed(&entries, &mut out)?,
        (Format::Human, None) => explain::ranked(&entries, &left_out, &mut out)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn argument(text: &str) -> Result<u64> {
    constants::parse_any(text).with_context(|| {
        format!("`{text}` is no argument\nhint: write `17`, `0x11`, `AF_PACKET` or `CLONE_NEWNS|CLONE_NEWUSER`")
    })
}
