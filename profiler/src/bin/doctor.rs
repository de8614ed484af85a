//! `profiler doctor`: every check of every part, in one table.

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use profiler::{
    kernel, observe,
    report::doctor,
    target::{self, docker::Environment},
};

use crate::{
    args::{DoctorArgs, Format},
    exit,
};

/// Prints the table; fails when something that recording needs is missing.
pub fn run(args: &DoctorArgs) -> Result<ExitCode> {
    let root = Path::new("/");
    let mut checks = kernel::doctor::checks(root);
    checks.extend(observe::ebpf::checks(&root.join("sys")));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    checks.extend(runtime.block_on(target::doctor::checks(
        args.docker_host.as_deref(),
        &Environment::of_process(),
        std::env::var_os("PATH"),
    )));
    let mut out = anstream::stdout();
    match args.format {
        Format::Human => doctor::human(&checks, &mut out)?,
        Format::Json => doctor::json(&checks, &mut out)?,
    }
    Ok(if doctor::is_ready(&checks) { ExitCode::SUCCESS } else { exit::NO.into() })
}
