//! `profiler audit`: containers, compose files and manifests against a checklist.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use profiler::{
    ingest::{self, stack::Stack},
    model::{
        arch::Abi,
        audit::{
            Contents, Facts, Finding, Inputs, Known, Machine, Scan, Severity, State, Unknown,
            audit, pod_findings, unread_finding,
        },
        policy::{self, native_abi},
        profile::Profile,
        seccomp::KernelVersion,
    },
    report::audit::{self as report, Audited},
    target::docker::contents,
};

use crate::{
    args::FailOn,
    exit, input,
    made::{Bounded, Engine},
    tell,
};

/// More is not taken from an engine, in bytes.
const MAX_ARCHIVE: u64 = 32 << 30;

/// A name is a file's if there is one, else a container's. Checks have stable identifiers; docs/audit.md has a table.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  profiler audit backend
  profiler audit --profile profiles/backend backend
  profiler audit --fail-on error --format sarif compose.yaml > audit.sarif
  profiler audit --scan trivy.json deploy/*.yaml

Exit status: 0 nothing as bad as --fail-on; 1 findings; 2 usage, a file that cannot be read, no such container.")]
pub struct AuditArgs {
    /// Containers by name or id, compose files, Kubernetes manifests
    #[arg(required = true, value_name = "CONTAINER|FILE")]
    pub targets: Vec<String>,

    /// Say what this profile shows could go: a profile.json, or a result directory, also of a project
    #[arg(long, value_name = "PROFILE", conflicts_with = "recording")]
    pub profile: Option<PathBuf>,

    /// The same for the profile that a recording comes to
    #[arg(long, value_name = "FILE")]
    pub recording: Option<PathBuf>,

    /// Join a JSON report of Trivy or Grype (repeatable)
    #[arg(long, value_name = "FILE")]
    pub scan: Vec<PathBuf>,

    /// Do not read the files of containers: no privileged files, no packages
    #[arg(long)]
    pub no_files: bool,

    /// The least severity with which the status is 1
    #[arg(long, value_enum, default_value_t = FailOn::Warning)]
    pub fail_on: FailOn,

    /// Show what passed, too
    #[arg(long)]
    pub all: bool,

    /// How to print
    #[arg(long, value_enum, default_value_t = AuditFormat::Human)]
    pub format: AuditFormat,

    /// Ask the engine at this address (default: DOCKER_HOST, then the context, then the socket)
    #[arg(long, value_name = "URL")]
    pub docker_host: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AuditFormat {
    /// For people
    Human,
    /// For programs
    Json,
    /// For code hosts
    Sarif,
    /// For a comment or a ticket
    Markdown,
}

/// Prints what was found; fails when it is as bad as `--fail-on`.
pub fn run(args: &AuditArgs) -> Result<ExitCode> {
    let profiles = Profiles::read(args)?;
    let scans: Vec<Scan> = args.scan.iter().map(|path| scan(path)).collect::<Result<_>>()?;
    let mut audited = Vec::new();
    let mut engine = None;
    for target in &args.targets {
        if Path::new(target).is_file() {
            file(target, &profiles, &scans, &mut audited)?;
            continue;
        }
        if Path::new(target).is_dir() || is_file_name(target) {
            bail!("`{target}` is no file\nhint: name a container, a compose file or a manifest");
        }
        let engine = match &engine {
            Some(engine) => engine,
            None => engine.insert(Engine::connect(args.docker_host.as_deref())?),
        };
        let facts = container(engine, target, !args.no_files)?;
        let is_only = args.targets.len() == 1;
        audited.push(Audited {
            file: None,
            line: 1,
            findings: judged(&facts, profiles.of(&facts, is_only), &scans),
            subject: facts.name,
        });
    }
    nothing(&audited)?;
    if args.format == AuditFormat::Sarif {
        for file in audited.iter_mut().filter_map(|one| one.file.as_mut()) {
            *file = in_repository(file);
        }
    }
    let mut out = anstream::stdout();
    match args.format {
        AuditFormat::Human => report::human(&audited, args.all, &mut out)?,
        AuditFormat::Json => report::json(&audited, &mut out)?,
        AuditFormat::Sarif => report::sarif(&audited, env!("CARGO_PKG_VERSION"), &mut out)?,
        AuditFormat::Markdown => report::markdown(&audited, &mut out)?,
    }
    let least = match args.fail_on {
        FailOn::Note => Severity::Note,
        FailOn::Warning => Severity::Warning,
        FailOn::Error => Severity::Error,
    };
    let mut findings = audited.iter().flat_map(|one| &one.findings);
    let fails = findings.any(|it| matches!(it.state, State::Found(severity) if severity >= least));
    Ok(if fails { exit::NO.into() } else { ExitCode::SUCCESS })
}

/// Refuses to call good what nobody looked at.
fn nothing(audited: &[Audited]) -> Result<()> {
    let findings = || audited.iter().flat_map(|one| &one.findings);
    if findings().any(|it| it.check.id != "PA039") {
        return Ok(());
    }
    let told = |it: &Finding| format!("; {}: {}", it.subject.escape_debug(), it.message);
    let told: String = findings().take(10).map(told).collect();
    bail!(
        "nothing was audited: no file has containers that could be read{told}\nhint: name files with services or pods in them"
    );
}

/// A path as code hosts take it: from the root of its repository, where it is in one.
fn in_repository(path: &str) -> String {
    let Ok(whole) = fs_err::canonicalize(path) else { return path.to_owned() };
    let root = whole.ancestors().skip(1).find(|dir| dir.join(".git").exists());
    let here = || std::env::current_dir().ok().and_then(|dir| dir.canonicalize().ok());
    let root = root.map(Path::to_owned).or_else(here);
    let below = root.and_then(|root| whole.strip_prefix(root).ok().map(Path::to_owned));
    below.and_then(|path| path.to_str().map(str::to_owned)).unwrap_or_else(|| path.to_owned())
}

/// What no container can be called.
fn is_file_name(target: &str) -> bool {
    let name = target.strip_prefix('/').unwrap_or(target);
    name.contains('/') || [".yaml", ".yml", ".json"].iter().any(|end| name.ends_with(end))
}

/// What shows what could go: nothing, one profile, or those of a project.
struct Profiles(Vec<Profile>);

impl Profiles {
    fn read(args: &AuditArgs) -> Result<Self> {
        if let Some(path) = &args.profile {
            let services = services(path)?;
            if !services.is_empty() {
                return services.iter().map(|path| profile(path)).collect::<Result<_>>().map(Self);
            }
            return Ok(Self(vec![profile(path)?]));
        }
        let Some(path) = &args.recording else { return Ok(Self(Vec::new())) };
        let text = input::text(path, "name the recording.json that `profiler record` wrote")?;
        let recording = ingest::recording::parse(&text)
            .with_context(|| format!("cannot use `{}`", path.display()))?;
        Ok(Self(vec![policy::derive(&recording, &policy::Options::default())]))
    }

    /// The one for this container: by name, or the only one for the only container.
    fn of(&self, facts: &Facts, is_only: bool) -> Option<&Profile> {
        match self.0.as_slice() {
            [profile] if is_only => Some(profile),
            profiles => profiles.iter().find(|profile| is_of(profile, facts)),
        }
    }
}

/// The result directories below that of a project, by name; none below any other.
fn services(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() || path.join("profile.json").exists() {
        return Ok(Vec::new());
    }
    let mut services = Vec::new();
    for entry in fs_err::read_dir(path)? {
        let path = entry?.path();
        if path.join("profile.json").is_file() {
            services.push(path);
        }
    }
    services.sort();
    Ok(services)
}

fn profile(path: &Path) -> Result<Profile> {
    let hint = "name a profile.json, or a directory that profiler wrote";
    input::policy(path)?
        .profile
        .with_context(|| format!("`{}` is no profile\nhint: {hint}", path.display()))
}

fn scan(path: &Path) -> Result<Scan> {
    let text = input::text(path, "name a report: trivy image --format json, or grype -o json")?;
    ingest::scan::parse(&text).with_context(|| format!("cannot use `{}`", path.display()))
}

fn judged(facts: &Facts, profile: Option<&Profile>, scans: &[Scan]) -> Vec<Finding> {
    // The report that knows the image; where none does, the first tells so.
    let known = scans.iter().find(|scan| scan.is_of(facts)).or(scans.first());
    audit(facts, Inputs { machine: machine(), profile, scan: known })
}

/// Whether a profile is of this container, by name: of several in a file it says nothing about the others.
fn is_of(profile: &Profile, facts: &Facts) -> bool {
    let name = facts.name.rsplit_once(" container ").map_or(facts.name.as_str(), |(_, name)| name);
    name == profile.target.name
}

/// This one: containers of an engine run on its kernel, and files are for machines like it.
fn machine() -> Machine {
    let host = rustix::system::uname();
    let native = host.machine().to_str().ok().and_then(native_abi).unwrap_or(Abi::X86_64);
    Machine { native, kernel: KernelVersion { major: u32::MAX, minor: 0 } }
}

fn container(engine: &Engine, name: &str, with_files: bool) -> Result<Facts> {
    let Engine { runtime, docker } = engine;
    let found = runtime.block_on(docker.find(name))?;
    let info = found.with_context(|| {
        let endpoint = docker.endpoint();
        format!(
            "no container `{}` at {endpoint}, and no such file\nhint: docker ps --all",
            name.escape_debug()
        )
    })?;
    let parse = |text: &str| ingest::seccomp::parse(text).ok();
    let mut facts = runtime.block_on(docker.audited(&info, &parse))?;
    if with_files && let Ok(image) = &mut facts.image {
        image.contents = files(engine, &info.id);
    }
    Ok(facts)
}

/// What is in its files, by the engine's own archive of them.
fn files(engine: &Engine, id: &str) -> Known<Contents> {
    let read = || -> Result<Contents> {
        let mut archive = tempfile::tempfile()?;
        let mut bounded = Bounded::new(&mut archive, MAX_ARCHIVE);
        engine.runtime.block_on(engine.docker.export(id, &mut bounded))?;
        std::io::Seek::rewind(&mut archive)?;
        Ok(contents::read(std::io::BufReader::new(archive))?)
    };
    read().map_err(|error| Unknown::because(format!("the files could not be read: {error}")))
}

fn file(path: &str, profiles: &Profiles, scans: &[Scan], audited: &mut Vec<Audited>) -> Result<()> {
    let text = input::text(Path::new(path), "name a container, a compose file or a manifest")?;
    let beside = Path::new(path).parent().unwrap_or(Path::new("."));
    // Compose takes a path from the directory of the first file, which an override need not be in.
    let read = |name: &str| {
        let places = [beside.join(name), PathBuf::from(name)];
        let path = places.iter().find(|path| path.is_file())?;
        ingest::seccomp::parse(&input::text(path, "name a seccomp file").ok()?).ok()
    };
    let mut stack =
        ingest::stack::parse(&text, &read).with_context(|| format!("cannot use `{path}`"))?;
    if let Some(directory) = fs_err::canonicalize(path).ok().as_deref().and_then(Path::parent)
        && let Some(directory) = directory.to_str()
    {
        stack.resolve(directory);
    }
    let Stack { containers, pods, unread } = stack;
    let mut push = |subject: String, findings| {
        let line = ingest::place::line_of(&text, &subject);
        audited.push(Audited { file: Some(path.to_owned()), line, subject, findings });
    };
    for (name, pod) in pods {
        let findings = pod_findings(&name, &pod.violations());
        push(name, findings);
    }
    let is_only = containers.len() == 1;
    for facts in &containers {
        push(facts.name.clone(), judged(facts, profiles.of(facts, is_only), scans));
    }
    if let [of] = profiles.0.as_slice()
        && !containers.iter().any(|facts| profiles.of(facts, is_only).is_some())
    {
        tell::note(&format!(
            "the profile is of `{}`, which `{path}` does not name: it is held against none of its containers",
            of.target.name.escape_debug()
        ));
    }
    for (name, why) in unread {
        let findings = unread_finding(&name, &why).into_iter().collect();
        push(name, findings);
    }
    Ok(())
}
