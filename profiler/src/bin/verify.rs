//! `profiler verify`: whether a profile holds.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::Args;
use profiler::{
    kernel::libseccomp::Libseccomp,
    model::{effective, static_check, syscall},
    report::static_check::{self as report, Checked, Document},
};

use crate::{
    args::Format,
    context::ContextArgs,
    enforce, exit,
    input::{self, PolicyInput},
    quick,
};

/// The tests run against a container that is under the profile, or COMMAND itself runs under it; every call that is
/// refused is told, and that the filter is in force is looked up on the running threads.
///
/// With --static nothing is started and no privileges are needed: the filter that a runtime would load is compiled with this
/// machine's libseccomp, and held against what the file says of every call.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  profiler verify profiles/backend --copy-of backend --replace -- make integration-test
  profiler verify profiles/backend --container backend -- make integration-test
  profiler verify profiles/backend --compose compose.yaml --service backend -- make integration-test
  profiler verify profiles/ls -- ls -l
  profiler verify profiles/backend --quick --image localhost/backend:2
  profiler verify --static profiles/backend
  profiler verify --static --engine podman seccomp.json

Exit status: 0 it holds; 1 it does not, or the tests failed; 2 usage or environment; 3 evidence incomplete.")]
pub struct VerifyArgs {
    /// A profile.json, a result directory, a seccomp file of any kind, or docker-default and its like
    pub profile: PathBuf,

    /// Compile the filter and compare its verdicts with the file's; say its size, its depth and what the kernel caches
    #[arg(long = "static", conflicts_with = "command")]
    pub static_check: bool,

    /// Say in seconds whether it still fits an image and a runtime: what the runtime needs, what the files could do, and a start
    /// of the container, up to its health check, under the profile
    #[arg(long, conflicts_with_all = ["static_check", "command", "log_only", "compose"])]
    pub quick: bool,

    #[command(flatten)]
    pub quick_args: quick::QuickArgs,

    #[command(flatten)]
    pub run: enforce::RunArgs,

    #[command(flatten)]
    pub context: ContextArgs,

    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub format: Format,
}

/// Checks, prints, and says by the exit status whether the profile holds.
pub fn run(args: &VerifyArgs, debug: bool) -> Result<ExitCode> {
    if args.quick {
        return quick::run(args, debug);
    }
    if !args.static_check {
        return enforce::run(args, debug);
    }
    let policy = input::policy(&args.profile)?;
    let document = check(&policy, &args.context)?;
    let mut out = anstream::stdout();
    match args.format {
        Format::Human => report::human(&document, &mut out)?,
        Format::Json => report::json(&document, &mut out)?,
    }
    let holds = document.checks.iter().all(|checked| checked.holds);
    Ok(if holds { ExitCode::SUCCESS } else { exit::NO.into() })
}

/// The static check of a policy, for each machine that it is for.
fn check(policy: &PolicyInput, args: &ContextArgs) -> Result<Document> {
    let library = Libseccomp::open()?;
    let mut checks = Vec::new();
    for context in args.all(policy) {
        let compiled = library.compile(&policy.file, &context).with_context(|| {
            format!("cannot compile `{}` for {}", policy.path.display(), context.native)
        })?;
        let mut effective = effective::decide(&policy.file, &context);
        // what no seccomp file can say, the profile may
        for rule in policy.profile.iter().flat_map(|profile| &profile.syscalls) {
            if let Some(nr) = syscall::parse(rule.abi, &rule.name)
                && syscall::is_unnamed(&rule.name)
            {
                effective.allow(rule.abi, nr);
            }
        }
        let check =
            static_check::check(&compiled.program, &effective, &compiled.unknown, context.native);
        checks.push(Checked { machine: context.native, holds: check.holds(), check });
    }
    Ok(Document {
        file: policy.path.to_string_lossy().into_owned(),
        libseccomp: library.version().to_string(),
        checks,
    })
}
