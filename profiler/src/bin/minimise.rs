//! `profiler minimise`: which entries of a profile its tests can do without.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use profiler::{
    ingest,
    model::{
        minimise::{
            Candidate, Entry, Fingerprint, SCHEMA_VERSION, Settings, Standing, State, Wanted,
            candidates, minimised, without,
        },
        profile::Profile,
        recording::{Recording, SCHEMA_VERSION as RECORDING_VERSION},
        shell,
    },
    observe::ebpf::Options,
    render::{self, bundle},
    report::minimise as report,
    session::{
        SessionError,
        minimise::{Enforcing, Minimise, MinimiseError, Original},
        store,
        verify::{Place, Policy},
    },
    target::docker::{Endpoint, Environment},
};
use sha2::{Digest as _, Sha256};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::{
    args::{self, Format},
    enforce::{self, Subject},
    input, stack, tell,
};

/// The file with the runs that were made.
const STATE: &str = "minimise.json";

/// The tests are run under the profile without some of its entries, again and again: capabilities, and with --syscalls calls,
/// too. What they pass without is removed, and what they fail without gets that as a reason. Without --copy-of, COMMAND
/// itself is run under the profile.
///
/// Each run is kept in DIR/minimise.json: interrupted, the same command goes on.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  profiler minimise profiles/ls --syscalls -- ls -l
  profiler minimise profiles/backend --copy-of backend --replace -- make integration-test
  profiler minimise profiles/backend --syscalls --prove --copy-of backend --into profiles/backend -- make test

Exit status: 0 done; 2 usage or environment, or the tests fail under the whole profile, or it was interrupted.")]
pub struct MinimiseArgs {
    /// A profile.json or a result directory
    pub profile: PathBuf,

    /// Start a copy of this container under the profile for each run: same image, same settings
    #[arg(long, value_name = "NAME")]
    pub copy_of: Option<String>,

    /// Stop the container of --copy-of while a copy of it runs, and start it again after
    #[arg(long, requires = "copy_of")]
    pub replace: bool,

    /// Try calls, too, not only capabilities
    #[arg(long)]
    pub syscalls: bool,

    /// Try the arguments with which calls were seen, too: a run for each
    #[arg(long)]
    pub arguments: bool,

    /// Leave out every call by itself that the tests make: a run for each, or more
    #[arg(long, requires = "syscalls")]
    pub prove: bool,

    /// How many runs must agree
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=20))]
    pub repeats: u8,

    /// How many runs to make at once
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub jobs: u8,

    /// End a run after this time: 90s, 5m; it has failed then (default: ten times what the whole profile takes)
    #[arg(long, value_name = "TIME", value_parser = args::duration)]
    pub timeout: Option<Duration>,

    /// Write results to DIR (default: the profile's directory with `-minimised`)
    #[arg(short, long, value_name = "DIR", conflicts_with = "into")]
    pub output: Option<PathBuf>,

    /// Write results to DIR, in place of what it has: the profile's own directory, say
    #[arg(long, value_name = "DIR")]
    pub into: Option<PathBuf>,

    /// Ask the engine at this address (default: DOCKER_HOST, then the context, then the socket)
    #[arg(long, value_name = "URL", requires = "copy_of")]
    pub docker_host: Option<String>,

    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub format: Format,

    /// The tests, or the command that is run under the profile
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// Runs the search, writes the profile that is left, and prints the verdicts.
pub fn run(args: &MinimiseArgs, debug: bool) -> Result<ExitCode> {
    let input = input::policy(&args.profile)?;
    let Some(profile) = &input.profile else {
        bail!(
            "`{}` is no profile: nothing says what each entry is for\nhint: name a `profile.json`, or its directory",
            input.path.display()
        );
    };
    let home = input.path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let home = home.unwrap_or(Path::new(".")).to_owned();
    let dir = destination(args, &home)?;
    let candidates = candidates(profile, args.wanted());
    check(args, profile, &candidates)?;
    enforce::privileged()?;

    let mut state = resume(args, profile, &dir)?;
    let _prepared = store::prepare([&dir])?;
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))
            .map_err(SessionError::Signals)?;
    }
    let whole = state.runs.iter().filter(|run| run.removed.is_empty());
    let longest = whole.map(|run| run.duration_ms).max().unwrap_or(0);
    let environment = Environment::of_process();
    let original = original(args, &environment, &state.fingerprint, &dir)?;
    if let Some(original) = original.as_ref().filter(|_| args.jobs > 1) {
        let shared = original.shared()?;
        ensure!(
            shared.is_empty(),
            "copies of container `{}` cannot run at the same time: all would have {}\nhint: leave out --jobs",
            original.name.escape_debug(),
            shared.join(", ").escape_debug()
        );
    }
    let place = original.as_ref().map(|original| {
        let (name, label) = (original.name.clone(), Some(original.label.clone()));
        (Place::Copy { name, replace: args.replace, label }, original)
    });
    let subject = Subject::of(&input)?;
    let trial = Enforcing {
        profile,
        policy: &|removed| policy(&subject, profile, removed),
        place,
        name: profile.target.name.clone(),
        command: args.command.clone(),
        observe: Options { debug, filters: true, ..Options::default() },
        limit: args.timeout,
        longest_ms: AtomicU64::new(longest),
    };
    let settings = Settings { repeats: usize::from(args.repeats), prove: args.prove };
    let jobs = usize::from(args.jobs);
    let search = Minimise { candidates: &candidates, settings, jobs, interrupted: &interrupted };
    if !state.runs.is_empty() {
        tell::note(&format!(
            "{} runs are known from `{}`",
            state.runs.len(),
            dir.join(STATE).display()
        ));
    }
    let keep = |state: &State| store::write(&dir, &[(STATE, render::json::minimise(state))]);
    if let Some(original) = &original {
        original.restore(state.stopped.as_deref())?;
        state.stopped = if args.replace { original.running()? } else { None };
        if state.stopped.is_some() {
            keep(&state)?; // before it is stopped
        }
    }
    let mut runs = state.runs.clone();
    let outcome = search.finish(
        &trial,
        &mut runs,
        |runs| {
            state.runs = runs.to_vec();
            keep(&state)
        },
        |now| tell::note(&report::progress(now.run, now.runs, now.left, now.median_ms, jobs)),
    );
    let mut tidy = || -> Result<()> {
        if let Some((original, id)) = original.as_ref().zip(state.stopped.take()) {
            original.restore(Some(&id))?;
            if state.runs.is_empty() {
                fs_err::remove_file(dir.join(STATE))?;
            } else {
                keep(&state)?;
            }
        }
        Ok(())
    };
    let tidied = tidy();
    let outcome = outcome.map_err(|error| told(error, args, std::env::args_os()))?;
    tidied?;
    write(&minimised(profile, &outcome, &runs), &home, &dir)?;
    let document = report::Document::new(&outcome, &runs, &dir.to_string_lossy());
    let mut out = anstream::stdout();
    match args.format {
        Format::Human => report::human(&document, &mut out)?,
        Format::Json => report::json(&document, &mut out)?,
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// The error with what is to be typed next, whole: a search's target is in its flags. `typed` is the command line.
fn told(
    error: MinimiseError,
    args: &MinimiseArgs,
    typed: impl IntoIterator<Item = OsString>,
) -> anyhow::Error {
    let hint = match &error {
        MinimiseError::Broken { .. } => format!("what is refused: {}", args.verification()),
        MinimiseError::Session(SessionError::NotInForce { .. }) => {
            format!("more of it: {}", args.verification())
        }
        MinimiseError::Interrupted { .. } => {
            let words = typed.into_iter().map(|word| word.to_string_lossy().into_owned());
            format!("the same command goes on from there: {}", shell::join(words))
        }
        MinimiseError::Session(_) => return error.into(),
    };
    let text = error.to_string();
    let message = text.split("\nhint: ").next().unwrap_or_default();
    let whole = format!("{message}\nhint: {hint}");
    anyhow::Error::new(error).context(whole)
}

impl MinimiseArgs {
    /// One run of the same under the whole profile, as it is typed.
    fn verification(&self) -> String {
        let profile = self.profile.to_string_lossy();
        let mut words = vec!["profiler", "verify", &profile];
        if let Some(name) = &self.copy_of {
            words.extend(["--copy-of", name]);
        }
        if self.replace {
            words.push("--replace");
        }
        if let Some(host) = &self.docker_host {
            words.extend(["--docker-host", host]);
        }
        words.push("--");
        let command: Vec<_> = self.command.iter().map(|word| word.to_string_lossy()).collect();
        shell::join(words.into_iter().chain(command.iter().map(|word| &**word)))
    }

    fn wanted(&self) -> Wanted {
        Wanted { syscalls: self.syscalls, arguments: self.arguments }
    }
}

/// Where results go; never over the profile without a word.
fn destination(args: &MinimiseArgs, home: &Path) -> Result<PathBuf> {
    if let Some(dir) = &args.into {
        return Ok(dir.clone());
    }
    let dir = args.output.clone().unwrap_or_else(|| {
        let mut name = home.canonicalize().unwrap_or_else(|_| home.to_owned()).into_os_string();
        name.push("-minimised");
        let absolute = PathBuf::from(name);
        match (home.parent(), absolute.file_name()) {
            (Some(parent), Some(name)) if home.file_name().is_some() => parent.join(name),
            _ => absolute,
        }
    });
    let is_home =
        dir.canonicalize().is_ok_and(|dir| home.canonicalize().is_ok_and(|home| home == dir));
    ensure!(
        !is_home,
        "`{}` has the profile that is to be minimised\nhint: --into {} replaces it",
        dir.display(),
        dir.display()
    );
    // The state is there from the first run on, the profile only after the last.
    ensure!(
        dir.join(STATE).exists() || !dir.join("profile.json").exists(),
        "`{}` has another profile already\nhint: --into {} replaces it",
        dir.display(),
        dir.display()
    );
    Ok(dir)
}

fn check(args: &MinimiseArgs, profile: &Profile, candidates: &[Candidate]) -> Result<()> {
    let is_container = profile.target.kind.is_container();
    ensure!(
        !is_container || args.copy_of.is_some(),
        "the profile is of {} `{}`, and a command is not that\nhint: add --copy-of {}",
        profile.target.kind.name(),
        profile.target.name.escape_debug(),
        profile.target.name.escape_debug()
    );
    ensure!(
        args.jobs == 1 || !args.replace,
        "one copy at a time takes the place of the container\nhint: leave out --jobs, or stop the container and leave out --replace"
    );
    if !candidates.iter().any(|candidate| candidate.standing == Standing::Try) {
        let more = match (args.syscalls, args.arguments) {
            (true, true) => "record again",
            (true, false) => "add --arguments",
            (false, _) => "add --syscalls",
        };
        let why = if profile.capabilities.known {
            "has no capability"
        } else {
            "does not know its capabilities"
        };
        bail!("the profile {why}, and there is nothing else to try\nhint: {more}");
    }
    Ok(())
}

/// The runs that were made for this profile, target and command.
fn resume(args: &MinimiseArgs, profile: &Profile, dir: &Path) -> Result<State> {
    let fingerprint = Fingerprint {
        profile: digest(render::json::profile(profile)),
        target: match &args.copy_of {
            Some(name) => format!("copies of container {name}"),
            None => "the command itself".to_owned(),
        },
        command: args.command.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
    };
    let path = dir.join(STATE);
    if !path.exists() {
        return Ok(State {
            schema_version: SCHEMA_VERSION,
            fingerprint,
            stopped: None,
            runs: Vec::new(),
        });
    }
    let text = input::text(&path, "choose another directory with `-o DIR`")?;
    let state = ingest::minimise::parse(&text)
        .with_context(|| format!("cannot use `{}`", path.display()))?;
    let known = &state.fingerprint;
    let differs = [
        ("profile", known.profile == fingerprint.profile),
        ("target", known.target == fingerprint.target),
        ("command", known.command == fingerprint.command),
    ];
    if let Some((what, _)) = differs.iter().find(|(_, is_same)| !is_same) {
        bail!(
            "`{}` holds the runs of another {what}\nhint: choose another directory with `-o DIR`, or begin anew: rm {}",
            path.display(),
            path.display()
        );
    }
    Ok(state)
}

/// The container that is copied; its copies are those of this search and this directory.
fn original<'a>(
    args: &MinimiseArgs,
    environment: &'a Environment,
    of: &Fingerprint,
    dir: &Path,
) -> Result<Option<Original<'a>>> {
    let Some(name) = args.copy_of.clone() else { return Ok(None) };
    let endpoint = Endpoint::resolve(args.docker_host.as_deref(), environment)?;
    let dir = dir.canonicalize().with_context(|| format!("cannot find `{}`", dir.display()))?;
    let label = digest(format!("{of:?} {}", dir.display()));
    Ok(Some(Original { name, endpoint, environment, label }))
}

fn digest(text: impl AsRef<[u8]>) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is in force when these entries are left out.
fn policy(
    subject: &Subject<'_>,
    profile: &Profile,
    removed: &BTreeSet<Entry>,
) -> Result<Policy, SessionError> {
    let profile = without(profile, removed);
    let text = render::seccomp::render(&profile);
    let file = ingest::seccomp::parse(&text).expect("what is rendered can be read");
    Ok(subject.of_file(text, &file, Some(&profile))?)
}

/// The profile that is left, with its renderings, and the evidence of the one that it is made of.
fn write(profile: &Profile, home: &Path, dir: &Path) -> Result<()> {
    let path = home.join("recording.json");
    let recording = if path.exists() {
        let text = input::text(&path, "record again")?;
        let parsed = ingest::recording::parse(&text);
        Some(parsed.with_context(|| format!("cannot use `{}`", path.display()))?)
    } else {
        None
    };
    let none = Recording {
        schema_version: RECORDING_VERSION,
        target: profile.target.clone(),
        runs: Default::default(),
        syscalls: Vec::new(),
        capabilities: Vec::new(),
        denials: Vec::new(),
        arguments: Vec::new(),
    };
    let mut files =
        bundle::bundle(recording.as_ref().unwrap_or(&none), profile, &dir.to_string_lossy());
    files.retain(|(name, _)| recording.is_some() || *name != "recording.json");
    if let Some(base) = stack::known_base(&home.into()).or_else(|| stack::known_base(&dir.into())) {
        stack::name_base(&mut files, &base);
    }
    store::write(dir, &files)?;
    stack::renew(dir)?;
    let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
    tell::note(&format!("written to `{}`: {}", dir.display(), names.join(", ")));
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Verb};

    #[test]
    fn what_is_to_be_typed_next_has_the_target_and_can_be_typed() {
        const TYPED: &str = "profiler minimise web --syscalls --copy-of backend --replace --docker-host unix:///d --jobs 1 -- make test";
        let typed = || TYPED.split(' ').map(OsString::from);
        let Verb::Minimise(args) = Cli::parse_from(typed()).verb else { panic!("{TYPED}") };
        let next = |error: MinimiseError| {
            let error = told(error, &args, typed()).to_string();
            let (message, hint) = error.split_once("\nhint: ").expect("a hint");
            let (_, command) = hint.split_once(": ").expect("a command");
            assert!(!message.is_empty() && !message.contains("hint"), "{error}");
            Cli::try_parse_from(command.split(' ')).expect("it can be typed");
            command.to_owned()
        };
        assert_eq!(next(MinimiseError::Interrupted { runs: 3 }), TYPED);
        let verify =
            "profiler verify web --copy-of backend --replace --docker-host unix:///d -- make test";
        assert_eq!(next(MinimiseError::Broken { output: "no".to_owned() }), verify);
        let elsewhere = SessionError::NotInForce { why: "`x` ran without it".to_owned() };
        assert_eq!(next(elsewhere.into()), verify);
    }
}
