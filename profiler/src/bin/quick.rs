//! `profiler verify --quick`: whether a committed profile still fits a changed image or runtime, in seconds.

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use profiler::{
    model::{
        fits,
        floor::{RuntimeUse, User},
        purpose::RuntimeChoice,
    },
    report::quick::{self as report, Document, Fit},
    target::docker::ContainerInfo,
};

use crate::{
    args::Format,
    context::ContextArgs,
    enforce::{self, RunArgs, Subject},
    exit, input,
    made::{self, Container, Engine},
    surface::FilesArgs,
    verify::VerifyArgs,
};

/// What is to be fitted.
#[derive(Debug, Default, Args)]
pub struct QuickArgs {
    /// Start a container of this image, with nothing but what the image says
    #[arg(long, value_name = "IMAGE", group = "place", requires = "quick")]
    pub image: Option<String>,

    /// Look at the files below this directory, and start nothing
    #[arg(long, value_name = "DIR", group = "place", requires = "quick")]
    pub rootfs: Option<PathBuf>,

    /// The programs of --rootfs whose calls are bounded (repeatable)
    #[arg(long, value_name = "PATH", requires = "rootfs")]
    pub program: Vec<String>,

    /// The runtime that will start it: runc, crun, or runc:1.2.0 (default: the container's)
    #[arg(long, value_name = "RUNTIME", requires = "quick")]
    pub runtime: Option<RuntimeChoice>,

    /// How many seconds it must stay up after it is healthy
    #[arg(long = "for", value_name = "SECONDS", default_value_t = 3, requires = "quick")]
    pub seconds: u32,
}

/// Looks, starts, prints, and says by the exit status whether it fits.
pub fn run(args: &VerifyArgs, debug: bool) -> Result<ExitCode> {
    let input = input::policy(&args.profile)?;
    let subject = Subject::of(&input)?;
    let QuickArgs { image, rootfs, program, .. } = &args.quick_args;
    let container = args.run.container.as_ref().or(args.run.copy_of.as_ref());
    if image.is_none() && rootfs.is_none() && container.is_none() {
        bail!("nothing to fit it to\nhint: add --image IMAGE, --copy-of NAME or --rootfs DIR");
    }
    let docker_host = &args.run.docker_host;
    let engine = rootfs.is_none().then(|| Engine::connect(docker_host.as_deref())).transpose()?;
    let of_image = engine.as_ref().zip(image.as_ref());
    let made = of_image.map(|(engine, image)| Container::of_image(engine, image)).transpose()?;
    let name = made.as_ref().map(|made| &made.id).or(container);
    let info = engine.as_ref().zip(name).map(|(engine, name)| found(engine, name)).transpose()?;
    let files = FilesArgs {
        rootfs: rootfs.clone(),
        container: info.as_ref().map(|info| info.id.clone()),
        program: program.clone(),
        docker_host: docker_host.clone(),
        ..FilesArgs::default()
    };
    let has_programs = rootfs.is_none() || !program.is_empty();
    let bound = has_programs.then(|| files.bound(None)).transpose()?;
    let bound =
        bound.map(|(bound, _)| fits::bound(&subject.effective, input.profile.as_ref(), &bound));

    let floors = match usage(args, info.as_ref(), &input) {
        Some(usage) => fits::floors(&subject.effective, subject.context.native, &usage),
        None => Vec::new(),
    };
    made::hand_over();
    let start = match info.as_ref() {
        Some(info) => {
            enforce::privileged()?;
            Some(enforce::verified(&started(args, info), &input, debug)?)
        }
        None => None,
    };
    drop(made);
    let document = Document {
        profile: args.profile.display().to_string(),
        floors,
        bound,
        start,
        verdict: Fit::CouldNotTell,
    };
    let document = document.judged();
    let mut out = anstream::stdout();
    match args.format {
        Format::Human => report::human(&document, &mut out)?,
        Format::Json => report::json(&document, &mut out)?,
    }
    Ok(match document.verdict {
        Fit::Fits => ExitCode::SUCCESS,
        Fit::DoesNotFit => exit::NO.into(),
        Fit::CouldNotTell => exit::INCOMPLETE.into(),
    })
}

fn found(engine: &Engine, name: &str) -> Result<ContainerInfo> {
    let missing = || format!("no container `{}`\nhint: docker ps --all", name.escape_debug());
    engine.runtime.block_on(engine.docker.find(name))?.with_context(missing)
}

/// The verification of a copy that nothing is asked of but to stay up.
fn started(args: &VerifyArgs, info: &ContainerInfo) -> VerifyArgs {
    let RunArgs { replace, allow_denied, docker_host, recording, .. } = &args.run;
    let wait = ["sleep".to_owned(), args.quick_args.seconds.to_string()];
    VerifyArgs {
        profile: args.profile.clone(),
        static_check: false,
        quick: true,
        quick_args: QuickArgs::default(),
        run: RunArgs {
            container: None,
            copy_of: Some(info.id.clone()),
            replace: *replace,
            compose: None,
            service: None,
            log_only: false,
            allow_denied: allow_denied.clone(),
            recording: recording.clone(),
            docker_host: docker_host.clone(),
            command: wait.map(OsString::from).to_vec(),
        },
        context: ContextArgs::default(),
        format: args.format,
    }
}

/// The runtime that is to start it: the one that was typed, else the container's. What was not typed of a typed one is the container's.
fn usage(
    args: &VerifyArgs,
    info: Option<&ContainerInfo>,
    input: &input::PolicyInput,
) -> Option<RuntimeUse> {
    let facts = info.map(|info| &info.facts);
    let of_profile = input.profile.as_ref().map(|profile| profile.made_for.no_new_privileges());
    let of_container = facts.map(|facts| facts.no_new_privileges);
    let known = |runtime: &str| {
        let same = facts.filter(|facts| facts.runtime == runtime);
        same.map(|facts| facts.runtime_version.clone()).unwrap_or_default()
    };
    let (runtime, version) = match &args.quick_args.runtime {
        Some(RuntimeChoice::One { runtime, version }) => ((*runtime).to_owned(), version.clone()),
        Some(RuntimeChoice::Every(runtime)) => ((*runtime).to_owned(), known(runtime)),
        Some(RuntimeChoice::Any) => (String::new(), String::new()),
        None => (facts?.runtime.clone(), facts?.runtime_version.clone()),
    };
    Some(RuntimeUse {
        runtime,
        version,
        no_new_privileges: of_profile.or(of_container).unwrap_or(false),
        user: User::of_setting(facts.map_or("", |facts| &facts.user)),
    })
}
