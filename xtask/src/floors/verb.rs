//! Arguments of `cargo xtask floors`, and what it says.

use anyhow::{Context as _, Result, bail, ensure};
use camino::{Utf8Path, Utf8PathBuf};

use super::{
    arena::Arena,
    data::{File, differences},
    measure::{self, Effort},
    releases::{self, Runtime},
};
use crate::{
    apt,
    sh::{cmd, root, say},
};

/// What is needed beside the runtimes themselves.
const PACKAGES: [&str; 3] = ["busybox-static", "strace", "util-linux"];
/// For a comparison with what is shipped.
const CHECK: Effort = Effort { traces: 2, together: 10 };
/// For what is going to be shipped.
const WRITE: Effort = Effort { traces: 4, together: 30 };

/// Arguments of `cargo xtask floors`.
#[derive(clap::Args)]
pub struct Args {
    /// `runc`, `crun`, `bookworm`, `crun@sid`, ... (default: both, of bookworm and trixie)
    runtimes: Vec<String>,
    /// Compare with the shipped files, and fail when they differ (default).
    #[arg(long)]
    check: bool,
    /// Measure more often, and write the files.
    #[arg(long, conflicts_with = "check")]
    write: bool,
    /// Measure nothing: fail unless containers start, and processes join them, under this seccomp profile.
    #[arg(long = "try", value_name = "SECCOMP.json", conflicts_with_all = ["check", "write"])]
    profile: Option<Utf8PathBuf>,
    /// With --try: only with no-new-privileges, which is what the profile is for.
    #[arg(long, requires = "profile")]
    no_new_privileges: bool,
}

/// Measures runtimes, and compares with the shipped floors or writes them.
///
/// # Errors
/// When a runtime cannot be had or run, or a shipped floor is not what was measured.
pub fn run(args: &Args) -> Result<()> {
    ensure!(std::env::consts::ARCH == "x86_64", "floors are measured on x86_64 only");
    apt::ensure(&PACKAGES)?;
    let home = root().join("target/floors");
    fs_err::create_dir_all(&home)?;
    if let Some(profile) = &args.profile {
        return attempt(args, profile, &home);
    }
    let mut failed = Vec::new();
    for runtime in releases::chosen(&args.runtimes)? {
        if !one(&runtime, &home, args.write)? {
            failed.push(runtime.label());
        }
    }
    if !failed.is_empty() {
        let failed = failed.join(" ");
        bail!(
            "the shipped floors are not what was measured: {failed}\n\
             hint: cargo xtask floors --write {failed}, then look at the difference"
        );
    }
    Ok(())
}

/// Starts and joins containers under a profile, as root and as another user.
fn attempt(args: &Args, profile: &Utf8Path, home: &Utf8Path) -> Result<()> {
    let text = fs_err::read_to_string(profile)?;
    let seccomp = serde_json::from_str(&text).with_context(|| format!("`{profile}` is no JSON"))?;
    let settings: &[bool] = if args.no_new_privileges { &[true] } else { &[false, true] };
    let mut failures = Vec::new();
    for runtime in releases::chosen(&args.runtimes)? {
        let root = releases::fetched(runtime.release, home)?;
        let program = runtime.program(&root)?;
        let arena = Arena::open(&root)?;
        for case in measure::cases(runtime.name, &program) {
            if settings.contains(&case.no_new_privileges)
                && let Err(said) = arena.run(&case, &seccomp)?
            {
                failures.push(format!("{} {}: {said}", runtime.label(), case.label()));
            }
        }
    }
    ensure!(failures.is_empty(), "under `{profile}`:\n  {}", failures.join("\n  "));
    say(format!("floors: `{profile}` starts and joins"));
    Ok(())
}

/// Measures one; says whether the shipped file is right.
fn one(runtime: &Runtime, home: &Utf8Path, write: bool) -> Result<bool> {
    let root = releases::fetched(runtime.release, home)?;
    let program = runtime.program(&root)?;
    let arena = Arena::open(&root)?;
    let package = arena.version(&program)?;
    let version = package.split('+').next().unwrap_or(&package);
    let name = runtime.name;
    let shipped = File::shipped(name, version)?;
    let known = shipped.as_ref().map(File::rows).unwrap_or_default();
    let sometimes = File::known_sometimes(name)?;
    let effort = if write { WRITE } else { CHECK };
    let began = std::time::Instant::now();
    let measured = measure::measure(&arena, name, &program, &sometimes, effort)?;
    let took = began.elapsed().as_secs();
    let differences = differences(&known, &measured);
    if write {
        let kernel = cmd("uname").arg("-r").stdout()?;
        let kernel: Vec<&str> = kernel.split('.').take(2).collect();
        let source = format!(
            "`cargo xtask floors --write {}`: Linux {} x86_64, {name} {package}; each call left out with EPERM and \
             with ENOSYS; then the whole with nothing else allowed, {} of {} starts and as many joins each as uid 0 \
             and as another",
            runtime.label(),
            kernel.join("."),
            effort.together,
            effort.together,
        );
        let path = File::new(name, version, source, measured).write()?;
        say(format!("floors: {name} {version}: wrote {path}, {took} s"));
    } else if shipped.is_none() {
        say(format!("floors: {name} {version}: no floor is shipped for it"));
    } else if differences.is_empty() {
        say(format!("floors: {name} {version}: as shipped, {took} s"));
    } else {
        say(format!("floors: {name} {version}: differs"));
    }
    for line in &differences {
        say(format!("  {line}"));
    }
    Ok(write || (shipped.is_some() && differences.is_empty()))
}
