//! `profiler verify ... -- COMMAND`: from what was typed to a verification, and from what was seen to the report.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use profiler::{
    ingest,
    kernel::{
        libseccomp::LibseccompError,
        privileges::{self, Privileges},
    },
    model::{
        arch::Abi,
        capability,
        effective::{self, Context, Effective, Engine},
        ended::Must,
        in_force::Difference,
        policy::native_abi,
        profile::Profile,
        recording::{Phase, Recording, Target, TargetKind},
        seccomp::{KernelVersion, PERMISSIVE, SeccompFile},
        shell, syscall,
        verdict::{self, Basis},
    },
    observe::ebpf::Options,
    render::{self, compose},
    report::verify::{self as report, Document, Mode, Ran, Verdict},
    session::{
        store,
        verify::{self, Evidence, Fault, Place, Policy, Verification, Verified},
    },
    target::docker::{Docker, Endpoint, Environment},
};

use crate::{
    args::Format,
    context, exit,
    input::{self, PolicyInput},
    stack,
    tell::Teller,
    verify::VerifyArgs,
};

/// How long the engine may take to answer a question.
const ENGINE_TIMEOUT: Duration = Duration::from_secs(30);

/// How many differences are shown.
const SHOWN: usize = 5;

/// As shells report a process that SIGSYS killed.
const KILLED: i32 = 128 + libc::SIGSYS;

/// What runs, and under what.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Verify the container of this name or id, which must be under the profile already
    #[arg(long, value_name = "NAME", group = "place")]
    pub container: Option<String>,

    /// Verify a copy of this container: the same image and settings, under the profile; removed after
    #[arg(long, value_name = "NAME", group = "place")]
    pub copy_of: Option<String>,

    /// Stop the container that is copied for the time, and start it again after
    #[arg(long, requires = "copy_of")]
    pub replace: bool,

    /// Verify a service of this compose file, started with what it depends on in a project of its own
    #[arg(long, value_name = "FILE", group = "place", requires = "service")]
    pub compose: Option<PathBuf>,

    /// The service of --compose
    #[arg(long, value_name = "NAME", requires = "compose")]
    pub service: Option<String>,

    /// Refuse nothing, and say what would have been refused
    #[arg(long)]
    pub log_only: bool,

    /// Take it for granted that a call, or a capability, is refused (repeatable)
    #[arg(long, value_name = "CALL|CAP_NAME", value_parser = known_call)]
    pub allow_denied: Vec<String>,

    /// Write what was recorded to FILE, for `generate --learn-denied`
    #[arg(long, value_name = "FILE")]
    pub recording: Option<PathBuf>,

    /// Ask the engine at this address (default: DOCKER_HOST, then the context, then the socket)
    #[arg(long, value_name = "URL", requires = "place")]
    pub docker_host: Option<String>,

    /// The test run, or the command to run under the profile; it finds the container in PROFILER_CONTAINER and
    /// PROFILER_ADDRESS
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

impl RunArgs {
    fn place(&self) -> Option<Place> {
        let RunArgs { container, copy_of, replace, compose, service, .. } = self;
        if let Some(name) = container {
            return Some(Place::Container { name: name.clone() });
        }
        if let Some(name) = copy_of {
            return Some(Place::Copy { name: name.clone(), replace: *replace, label: None });
        }
        let (file, service) = compose.clone().zip(service.clone())?;
        Some(Place::Compose { file, service })
    }

    /// What the target is called.
    fn name(&self) -> String {
        let named = self.container.as_ref().or(self.copy_of.as_ref()).or(self.service.as_ref());
        let program = || {
            let program = self.command.first().map(PathBuf::from).unwrap_or_default();
            program.file_name().unwrap_or_default().to_string_lossy().into_owned()
        };
        named.map_or_else(program, |name| name.trim_start_matches('/').to_owned())
    }
}

fn known_call(text: &str) -> Result<String, String> {
    let is_known = Abi::ALL.into_iter().any(|abi| syscall::parse(abi, text).is_some());
    if let (Some(number), true) = (capability::number(text), text.starts_with("CAP_")) {
        return Ok(format!("CAP_{}", capability::display(number)));
    }
    is_known.then(|| text.to_owned()).ok_or_else(|| format!("no system call is named `{text}`"))
}

/// Runs the tests under the profile, prints what was seen, and says by the exit status whether it holds.
pub fn run(args: &VerifyArgs, debug: bool) -> Result<ExitCode> {
    if args.run.command.is_empty() {
        bail!(
            "nothing to run under the profile\nhint: profiler verify PROFILE --copy-of NAME -- COMMAND, or profiler verify --static PROFILE"
        );
    }
    privileged()?;
    let input = input::policy(&args.profile)?;
    let document = verified(args, &input, debug)?;
    let mut out = anstream::stdout();
    match args.format {
        Format::Human => {
            report::human(&document, Ran::Tests, &next(args, &input, &document), &mut out)?;
        }
        Format::Json => report::json(&document, &mut out)?,
    }
    Ok(match document.verdict {
        Verdict::Holds => ExitCode::SUCCESS,
        Verdict::Fails => exit::NO.into(),
        Verdict::Incomplete => exit::INCOMPLETE.into(),
    })
}

/// Runs the tests under the profile; what was seen, and the verdict. Only root can.
pub fn verified(args: &VerifyArgs, input: &PolicyInput, debug: bool) -> Result<Document> {
    let policy = Subject::of(input)?;
    let enforced = if args.run.log_only { policy.permissive()? } else { policy.enforced()? };
    let plan = Verification {
        policy: enforced,
        place: args.run.place(),
        name: args.run.name(),
        command: args.run.command.clone(),
        observe: Options { debug, filters: true, ..Options::default() },
    };
    let mut teller = Teller::new(None);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let verified = runtime.block_on(async {
        let docker = match plan.place {
            None => None,
            Some(_) => {
                let environment = Environment::of_process();
                let endpoint = Endpoint::resolve(args.run.docker_host.as_deref(), &environment)?;
                let docker =
                    Docker::connect_or_podman(&endpoint, &environment, ENGINE_TIMEOUT).await?;
                Some(docker)
            }
        };
        let tell = |event| teller.event(&event);
        anyhow::Ok(verify::verify(plan, docker.as_ref(), tell).await?)
    });
    teller.end();
    let verified = verified?;
    if let (Some(path), Some(recording)) = (&args.run.recording, &verified.recording) {
        let evidence = evidence(recording, input.profile.as_ref());
        write(path, render::json::recording(&evidence)).context(
            "cannot write what was recorded\nhint: name another file with `--recording FILE`",
        )?;
    }
    Ok(policy.document(args, verified).judged())
}

/// What was recorded, as evidence for the profile that it was recorded under: of that one's target, for what ran may have
/// another name, a copy's or a service's. What is no run of such a target, as a command under a container's profile, stays what it is.
fn evidence(recording: &Recording, profile: Option<&Profile>) -> Recording {
    let mut evidence = recording.clone();
    if let Some(profile) =
        profile.filter(|profile| is_run_of(recording.target.kind, &profile.target))
    {
        evidence.target = profile.target.clone();
    }
    evidence
}

/// Refuses whoever cannot put a profile in force.
pub fn privileged() -> Result<()> {
    let lacking = Privileges::read(Path::new("/"))?.lacking_to_enforce();
    if !lacking.is_empty() {
        bail!(
            "putting a profile in force and seeing what it refuses needs more privileges: this process lacks {}\nhint: run it as root, with sudo; `profiler verify --static PROFILE` needs no privileges",
            privileges::names(&lacking)
        );
    }
    Ok(())
}

fn write(path: &Path, text: String) -> Result<()> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.with_context(|| format!("`{}` is no file name", path.display()))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    Ok(store::write(parent.unwrap_or(Path::new(".")), &[(name, text)])?)
}

/// The policy that is verified.
pub struct Subject<'a> {
    input: &'a PolicyInput,
    text: String,
    /// How it is loaded.
    pub context: Context,
    /// What it decides.
    pub effective: Effective,
}

impl<'a> Subject<'a> {
    /// What `input` puts in force here.
    pub fn of(input: &'a PolicyInput) -> Result<Subject<'a>> {
        let profile = input.profile.as_ref();
        let text = profile.map_or_else(|| input.text.clone(), render::seccomp::render);
        if !text.trim_start().starts_with('{') || !text.contains("\"defaultAction\"") {
            bail!(
                "`{}` is no file that an engine loads\nhint: name a `profile.json`, a result directory or a seccomp file in JSON",
                input.path.display()
            );
        }
        let host = rustix::system::uname();
        let native = host.machine().to_str().ok().and_then(native_abi);
        let native = native.context("this machine's architecture is not known")?;
        let release = host.release().to_string_lossy();
        let context = Context {
            native,
            capabilities: profile.and_then(given).unwrap_or_else(context::dockers),
            kernel: KernelVersion::of_release(&release)
                .unwrap_or(KernelVersion { major: u32::MAX, minor: 0 }),
            engine: if profile.is_some() { Engine::Oci } else { Engine::Docker },
        };
        let effective = effective::decide(&input.file, &context);
        Ok(Subject { input, text, context, effective })
    }

    fn enforced(&self) -> Result<Policy> {
        let profile = self.input.profile.as_ref();
        Ok(self.of_file(self.text.clone(), &self.input.file, profile)?)
    }

    /// The same with another file, of this profile.
    pub fn of_file(
        &self,
        text: String,
        file: &SeccompFile,
        profile: Option<&Profile>,
    ) -> Result<Policy, LibseccompError> {
        let is_for_runtimes = |profile: &&Profile| !profile.made_for.runtimes.is_empty();
        let no_new_privileges =
            profile.filter(is_for_runtimes).map(|profile| profile.made_for.no_new_privileges());
        Policy::new(text, file, &self.context, profile.and_then(given), no_new_privileges)
    }

    fn permissive(&self) -> Result<Policy> {
        let file = ingest::seccomp::parse(PERMISSIVE)?;
        Ok(Policy::new(PERMISSIVE.to_owned(), &file, &self.context, None, None)?)
    }

    fn document(&self, args: &VerifyArgs, verified: Verified) -> Document {
        let allowed: BTreeSet<String> = args.run.allow_denied.iter().cloned().collect();
        let profile = self.input.profile.as_ref();
        let basis = Basis { effective: &self.effective, profile, allowed: &allowed };
        let recording = verified.recording.as_ref();
        let (mode, denials) = if args.run.log_only {
            (Mode::LogOnly, recording.map(|it| verdict::would_be_denied(it, basis)))
        } else {
            (Mode::Enforced, recording.map(|it| verdict::denials(it, basis)))
        };
        let mut missing = recording.map(verdict::lost).unwrap_or_default();
        let ran = recording
            .is_some_and(|it| it.syscalls.iter().any(|fact| fact.phase == Phase::Workload));
        if args.run.log_only {
            let undecided = recording.map(|it| verdict::undecided(it, basis)).unwrap_or_default();
            missing.extend(undecided.iter().map(|name| format!("arguments of {name}")));
        }
        if !ran && verified.status.is_some() {
            missing.insert("calls".to_owned());
        }
        let found = &verified.in_force;
        if found.evidence == Some(Evidence::Kernel) && found.read < found.entered {
            missing.insert("filters".to_owned());
        }
        let ended = verified.ended(if args.quick { Must::StayUp } else { Must::NotFail });
        let mut incidents = ended.told;
        if !verified.in_force.left.is_empty() {
            incidents.push(left_running(&verified.in_force.left));
            missing.insert("shutdown".to_owned());
        }
        let killed = verified.target.kind == TargetKind::Command && verified.status == Some(KILLED)
            || verified.states.iter().any(|state| state.exit_code == i64::from(KILLED))
            || recording.is_some_and(|it| it.denials.iter().any(|fact| fact.killed));
        let refused = recording.map(|it| verdict::refused_capabilities(it, basis));
        Document {
            profile: args.profile.display().to_string(),
            mode,
            command: args.run.command.iter().map(|w| w.to_string_lossy().into_owned()).collect(),
            status: verified.status,
            down: verified.down,
            interrupted: verified.interrupted,
            in_force: in_force(verified.in_force),
            denials: denials.unwrap_or_default(),
            gives_capabilities: profile.is_some_and(|profile| profile.capabilities.known),
            capabilities: refused.unwrap_or_default(),
            failures: ended.failures,
            incidents,
            killed,
            missing,
            target: verified.target,
            verdict: Verdict::Incomplete,
        }
    }
}

/// What a profile gives, unless it does not know what is needed.
fn given(profile: &Profile) -> Option<BTreeSet<u8>> {
    let required = profile.capabilities.required.iter();
    let numbers = required.filter_map(|rule| capability::number(&rule.name)).collect();
    profile.capabilities.known.then_some(numbers)
}

fn in_force(found: verify::InForce) -> report::InForce {
    report::InForce {
        evidence: found.evidence.map(|evidence| match evidence {
            Evidence::Kernel => report::Evidence::Kernel,
            Evidence::Loaded => report::Evidence::Loaded,
        }),
        after_ms: found.after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
        processes: found.processes,
        looks: found.looks,
        entered: found.entered,
        read: found.read,
        faults: found.faults.into_iter().map(fault).collect(),
        unread: found.unread,
    }
}

fn fault(fault: Fault) -> report::Fault {
    let (kind, program, all) = match fault {
        Fault::Unfiltered { program } => ("unfiltered", program, Vec::new()),
        Fault::NewPrivileges { program } => ("new-privileges", program, Vec::new()),
        Fault::Gone { program } => ("gone", program, Vec::new()),
        Fault::Another { program, differences } => {
            ("another-filter", program, differences.iter().map(difference).collect())
        }
        Fault::Capabilities { program, names } => {
            let names = names.iter().map(|name| format!("CAP_{name}"));
            ("capabilities", program, names.collect::<Vec<_>>())
        }
    };
    let number = all.len();
    let examples = all.into_iter().take(SHOWN).collect();
    report::Fault { kind, program, number, examples }
}

fn difference(difference: &Difference) -> String {
    let Difference { abi, nr, wanted, found } = difference;
    let found = found.map_or_else(|| "no known answer".to_owned(), |found| found.to_string());
    format!("{abi} {}: {wanted} in the profile, {found} in force", syscall::display(*abi, *nr))
}

fn left_running(names: &[String]) -> String {
    let shown: BTreeSet<&String> = names.iter().collect();
    let shown: Vec<String> = shown.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    let (number, shown) = (names.len(), shown.join(", "));
    format!("left running by the command, under the filter: {shown} (processes: {number})")
}

/// Adds what was recorded to a profile.
fn generate(file: &str, mode: Mode, to: &str) -> String {
    let learn = if mode == Mode::Enforced { " --learn-denied" } else { "" };
    format!("profiler generate {}{learn} {to}", shell::quote(file))
}

/// Where the policy is, as it is typed.
fn home(input: &PolicyInput) -> &Path {
    let dir = input.path.parent().filter(|dir| !dir.as_os_str().is_empty());
    dir.unwrap_or(Path::new("."))
}

/// Whether what ran as a target of this kind counts as a run of `target`: a container of a service is one of the service.
fn is_run_of(kind: TargetKind, target: &Target) -> bool {
    kind == target.kind || kind.is_container() && target.kind.is_container()
}

/// Where `generate` puts what was recorded of such a target: into the profile's directory where the two can be joined. A seccomp
/// file has nothing to join with.
fn destination(input: &PolicyInput, kind: TargetKind) -> String {
    let is_joined = input.profile.as_ref().is_some_and(|profile| is_run_of(kind, &profile.target))
        && input.path.file_name().is_some_and(|name| name == "profile.json");
    match is_joined {
        true => shell::join(["--into", &home(input).to_string_lossy()]),
        false => "-o learned".to_owned(),
    }
}

/// Command lines that lead on.
fn next(args: &VerifyArgs, input: &PolicyInput, document: &Document) -> Vec<String> {
    let to = destination(input, document.target.kind);
    let mut next = Vec::new();
    if !document.in_force.faults.is_empty() && args.run.container.is_some() {
        let home = home(input);
        let base = stack::known_base(&home.into()).unwrap_or(compose::ANY_BASE.to_owned());
        let file = home.join("compose.yaml");
        let options = shell::join(["-f", &file.to_string_lossy(), "up", "-d"]);
        next.push(format!("docker compose {base} {options}"));
    }
    if document.denials.iter().any(|denial| denial.expected.is_none()) {
        match (&args.run.recording, document.mode) {
            (Some(file), mode) => next.push(generate(&file.to_string_lossy(), mode, &to)),
            (None, mode) => next.push(format!(
                "again with `--recording seen.json`, then: {}",
                generate("seen.json", mode, &to)
            )),
        }
    }
    next
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use profiler::model::policy::{self, Options as Choices};

    use super::*;
    use crate::{
        args::{Cli, Verb},
        generate,
    };

    #[test]
    fn what_is_to_be_typed_joins_what_was_recorded_under_another_name() {
        let place = tempfile::tempdir().expect("a directory");
        let (dir, file) = (place.path().join("backend"), place.path().join("seen.json"));
        let text = include_str!("../../tests/data/backend.json");
        let backend = ingest::recording::parse(text).expect("a recording");
        let profile = policy::derive(&backend, &Choices::default());
        store::write(&dir, &[("profile.json", render::json::profile(&profile))]).expect("writes");
        let input = input::policy(&dir).expect("a profile");

        let of = |kind| {
            let target = Target { kind, name: "shop-web-1".to_owned() };
            evidence(&Recording { target, ..backend.clone() }, input.profile.as_ref())
        };
        write(&file, render::json::recording(&of(TargetKind::Container))).expect("writes");
        let to = destination(&input, TargetKind::Container);
        let typed = super::generate(&file.to_string_lossy(), Mode::Enforced, &to);
        let cli = Cli::try_parse_from(typed.split(' ')).expect("it can be typed");
        let Verb::Generate(args) = cli.verb else { panic!("{typed}") };
        generate::run(&args).expect("it is of one target");
        assert!(dir.join("seccomp.json").exists(), "{typed}");

        // a command is no run of a container: it gets a directory of its own
        assert_eq!(of(TargetKind::Command).target.name, "shop-web-1");
        assert_eq!(destination(&input, TargetKind::Command), "-o learned");
        let alone = input::policy(&dir.join("seccomp.json")).expect("a filter");
        assert_eq!(destination(&alone, TargetKind::Container), "-o learned");
    }
}
