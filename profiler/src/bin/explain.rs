//! `profiler explain`: what is in a policy, and what would happen to a call.

use std::{io::Write as _, process::ExitCode};

use anyhow::{Context as _, Result};
use profiler::{
    model::{
        arguments::constants,
        explain::Subject,
        harden::{Harden, Kind},
    },
    report::{explain, harden},
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
    let advice = profile.and_then(|profile| profile.harden.as_ref());
    let kind = args.name.as_deref().and_then(|name| name.parse::<Kind>().ok());
    let (entries, left_out, advice) = match (&args.name, kind) {
        (_, Some(kind)) => (Vec::new(), Vec::new(), Some(of_kind(advice, kind)?)),
        (Some(name), None) => (subject.named(name)?, Vec::new(), None),
        (None, None) => (subject.ranked(), subject.left_out(), advice.cloned()),
    };
    if args.format == Format::Json {
        let harden = advice.as_ref();
        let entries = explain::Entries { entries: &entries, left_out: &left_out, harden };
        explain::json(&entries, &mut out)?;
        return Ok(ExitCode::SUCCESS);
    }
    match &args.name {
        Some(_) => explain::detailed(&entries, &mut out)?,
        None => explain::ranked(&entries, &left_out, &mut out)?,
    }
    if let (Some(advice), Some(profile)) = (&advice, profile) {
        if kind.is_none() {
            writeln!(out)?;
        }
        harden::write(advice, profile.made_for.no_new_privileges(), None, &mut out)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The advice of this kind, from all that there is.
fn of_kind(advice: Option<&Harden>, kind: Kind) -> Result<Harden> {
    advice.and_then(|advice| advice.only(kind)).with_context(|| {
        format!(
            "it has no advice on `{name}`\nhint: record or generate it with --harden={name}",
            name = kind.name()
        )
    })
}

fn argument(text: &str) -> Result<u64> {
    constants::parse_any(text).with_context(|| {
        format!("`{text}` is no argument\nhint: write `17`, `0x11`, `AF_PACKET` or `CLONE_NEWNS|CLONE_NEWUSER`")
    })
}
