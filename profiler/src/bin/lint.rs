//! `profiler lint`: the traps in files, and mending them.

use std::{path::Path, process::ExitCode};

use anyhow::{Context as _, Result, ensure};
use profiler::{
    ingest::{self, layout::Layout},
    kernel::libseccomp::Libseccomp,
    model::{
        effective,
        floor::{self, RuntimeUse, User},
        lint::{Edit, Finding, Severity, Subject, libseccomp::Version, lint},
        purpose::RuntimeChoice,
    },
    report::lint::{self as report, Found},
    session::store,
};

use crate::{
    args::{FailOn, LintArgs, LintFormat},
    exit,
    input::{self, PolicyInput},
};

/// Prints what was found; fails when it is as bad as `--fail-on`.
pub fn run(args: &LintArgs) -> Result<ExitCode> {
    let mut found = Vec::new();
    let mut fixed = 0;
    let machines = || Libseccomp::open().ok().map(|library| library.version());
    let libseccomp = args.libseccomp.or_else(machines);
    for path in &args.files {
        let mut policy = input::policy(path)?;
        let mut findings = of(args, libseccomp, &policy);
        if args.fix
            && policy.profile.is_none()
            && findings.iter().any(|finding| finding.fix.is_some())
        {
            let before = findings.len();
            if let Some(text) = mend(args, &policy, &findings)? {
                replace(&policy.path, text)?;
                policy = input::policy(&policy.path)?;
                findings = of(args, libseccomp, &policy);
                fixed += before.saturating_sub(findings.len());
            }
        }
        let layout = Layout::of(&policy.text).filter(|_| policy.profile.is_none());
        let prefix = layout.as_ref().map_or("", |layout| layout.prefix);
        let file = path_text(&policy.path);
        found.extend(findings.iter().map(|finding| {
            let index = finding
                .pointer
                .strip_prefix("/syscalls/")
                .and_then(|rest| rest.split('/').next()?.parse().ok());
            let line = index.and_then(|index| layout.as_ref()?.line_of_rule(index));
            Found::new(finding, &file, prefix, line)
        }));
    }
    let mut out = anstream::stdout();
    match args.format {
        LintFormat::Human => report::human(&found, fixed, &mut out)?,
        LintFormat::Json => report::json(&found, &mut out)?,
        LintFormat::Sarif => report::sarif(&found, env!("CARGO_PKG_VERSION"), &mut out)?,
    }
    let least = match args.fail_on {
        FailOn::Note => Severity::Note,
        FailOn::Warning => Severity::Warning,
        FailOn::Error => Severity::Error,
    };
    let fails = found.iter().any(|finding| finding.severity >= least);
    Ok(if fails { exit::NO.into() } else { ExitCode::SUCCESS })
}

fn of(args: &LintArgs, libseccomp: Option<Version>, policy: &PolicyInput) -> Vec<Finding> {
    let profile = policy.profile.as_ref();
    let contexts = args.context.all(policy);
    let mut subject =
        Subject::new(&policy.file, profile, args.context.engine().or(policy.engine), contexts);
    if let Some(version) = libseccomp {
        subject.libseccomp = version;
    }
    subject.runtimes = args.runtime.as_ref().map(|choice| {
        let uses: Vec<(String, String)> = match choice {
            RuntimeChoice::One { runtime, version } => vec![((*runtime).into(), version.clone())],
            RuntimeChoice::Any | RuntimeChoice::Every(_) => floor::measured()
                .filter(|(name, _)| !matches!(choice, RuntimeChoice::Every(one) if one != name))
                .map(|(name, version)| (name.into(), version.into()))
                .collect(),
        };
        let no_new_privileges = args.no_new_privileges;
        let user = User::NonRoot;
        let usage = |(runtime, version)| RuntimeUse { runtime, version, no_new_privileges, user };
        uses.into_iter().map(usage).collect()
    });
    lint(&subject)
}

/// The text with the fixes made; `None` when it is not JSON. What no fix means to change must stay as it was.
fn mend(args: &LintArgs, policy: &PolicyInput, findings: &[Finding]) -> Result<Option<String>> {
    let Some(layout) = Layout::of(&policy.text) else { return Ok(None) };
    let contexts = args.context.all(policy);
    let mut edits: Vec<Edit> = findings.iter().filter_map(|finding| finding.fix.clone()).collect();
    let meant = |abi, nr| {
        let name = profiler::model::syscall::name(abi, nr);
        findings.iter().filter_map(|finding| finding.fix.as_ref()).any(|edit| {
            matches!(edit, Edit::AppendRule { names, .. } if name.is_some_and(|name| names.contains(&name)))
        })
    };
    let unchanged = |text: &str| -> Result<bool> {
        let file = ingest::seccomp::parse(text)?;
        Ok(contexts.iter().all(|context| {
            let before = effective::decide(&policy.file, context);
            let after = effective::decide(&file, context);
            let calls: std::collections::BTreeSet<_> =
                before.ruled().chain(after.ruled()).collect();
            before.default == after.default
                && calls.into_iter().all(|(abi, nr)| {
                    meant(abi, nr) || before.decision(abi, nr) == after.decision(abi, nr)
                })
                && before.largest.iter().all(|(abi, nr)| after.largest.get(abi) >= Some(nr))
        }))
    };
    let mut text = layout.edited(&edits);
    if !unchanged(&text)? {
        // A rule without effect can still hold the largest number, above which runc answers ENOSYS.
        edits.retain(|edit| !matches!(edit, Edit::RemoveRule(_)));
        text = layout.edited(&edits);
        ensure!(
            unchanged(&text)?,
            "cannot mend `{}` without changing more than was found",
            policy.path.display()
        );
    }
    Ok(Some(text))
}

/// Atomically: the old text or the new one.
fn replace(path: &Path, text: String) -> Result<()> {
    let name = path.file_name().and_then(|name| name.to_str()).context("a file has a name")?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    Ok(store::write(parent.unwrap_or(Path::new(".")), &[(name, text)])?)
}

fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
