//! `profiler record`: from what was typed to a plan, and from the outcome to files and a summary.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Result, bail};
use profiler::{
    ingest,
    model::{
        recording::{Missing, Phase, Recording, Target, TargetKind},
        seccomp::SeccompFile,
    },
    observe::ebpf::{Options, Twins, Way},
    render::json,
    session::{
        self, CgroupPlan, Confinement, ContainerPlan, Event, Named, Outcome, Plan, Recorded, Seal,
        Whom,
        store::{self, Place},
    },
    target::docker::{Docker, Endpoint, Environment},
};

use crate::{
    args::{EnterArgs, RecordArgs},
    exit, hardening,
    output::{self, Choices, Committed},
    ready,
    stack::{self, Chosen},
    tell::{self, Teller},
};

/// How long the engine may take to answer a question.
const ENGINE_TIMEOUT: Duration = Duration::from_secs(30);

/// Losses of these tables leave something out of a profile, or let in what is the runtime's; of others, it is less well explained.
const UNSOUND_LOSSES: [&str; 6] =
    ["syscalls", "scopes", "capabilities", "denials", "threads", "files"];

/// Records, writes the results, and prints the summary.
pub fn run(args: RecordArgs, debug: bool) -> Result<ExitCode> {
    let named = match (&args.cgroup, args.pid) {
        (Some(path), _) => Some(Named::Path(path.clone())),
        (None, Some(pid)) => Some(Named::Pid(pid)),
        (None, None) => None,
    };
    let of_engine =
        !args.containers.is_empty() || args.project.is_some() || !args.services.is_empty();
    if !of_engine && named.is_none() && args.command.is_empty() {
        bail!(
            "nothing to record\nhint: profiler record --container NAME, or profiler record -- COMMAND"
        );
    }
    if args.containers.iter().any(String::is_empty) {
        bail!("`--container` needs a name\nhint: docker ps");
    }
    if args.harden.kinds().is_some() && !of_engine {
        let kind = if named.is_some() { TargetKind::Cgroup } else { TargetKind::Command };
        return Err(hardening::only_of_containers(&Target {
            kind,
            name: result_name(&args, None),
        }));
    }
    distinct(&args.containers)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let chosen = runtime.block_on(stack::choose(&args))?;
    let name = result_name(&args, chosen.as_ref());
    let (dir, committed) = args.into.destination(args.output.as_deref());
    let place = dir.map_or_else(|| Place::from("").below("profiles").below(&name), Place::from);
    let whom = match &chosen {
        None => Whom::containers(args.containers.clone()),
        Some(chosen) => Whom::Project(chosen.stack.clone()),
    };
    let names = match &whom {
        Whom::Containers(names) => Some(names),
        Whom::Project(stack) => stack.services.as_ref(),
    };
    let several = args.containers.len() > 1 || chosen.is_some();
    let dirs = ResultDirs { several, place, spare: spare() };
    let places = names.map_or_else(|| vec![dirs.place.clone()], |names| dirs.all(names));
    for place in &places {
        output::check(place, committed)?; // now, not when the tests are done
        if several || !args.containers.is_empty() {
            output::check_own(place, &["compose.yaml", "kubernetes.yaml"])?;
        }
    }
    if chosen.is_some() {
        stack::check(&dirs.place)?;
    }
    let _prepared = store::prepare(places)?;
    let ready = args.ready_fd.map(ready::open).transpose()?;
    let observe = Options {
        debug,
        capabilities: args.attach_capabilities.map(Way::from),
        twins: args.attach_twins.map(Twins::from),
        stacks: args.stacks,
        counts: args.counts,
        filters: false,
    };
    let plan = Plan {
        name,
        command: args.command.clone(),
        duration: args.duration,
        ready,
        observe,
        socket: args.socket.clone(),
        confined: None,
        driver: None,
        seal: Some(Seal { filter: own_filter(&args, of_engine)? }),
    };

    let project = chosen.as_ref().map(|chosen| chosen.stack.project.as_str());
    let mut teller = Teller::new(project);
    let outcome = runtime.block_on(async {
        if let Some(place) = named {
            let cgroup = CgroupPlan { place, wait: !args.no_wait };
            let tell = |event: Event| teller.event(&event);
            return Ok(session::record_cgroup(plan, cgroup, tell).await?);
        }
        if !of_engine {
            return anyhow::Ok(session::record_command(plan, |event| teller.event(&event)).await?);
        }
        let environment = Environment::of_process();
        let endpoint = Endpoint::resolve(args.docker_host.as_deref(), &environment)?;
        let docker = Docker::connect_or_podman(&endpoint, &environment, ENGINE_TIMEOUT).await?;
        let containers =
            ContainerPlan { whom, wait: !args.no_wait, restart: args.restart, usage: true };
        let tell = |event: Event| teller.event(&event);
        Ok(session::record_containers(plan, containers, &docker, tell).await?)
    });
    teller.end();
    let choices = Choices {
        arguments: args.narrow.choice(),
        harden: args.harden.kinds(),
        project: chosen.as_ref().and_then(|chosen| chosen.file.clone()),
        given: given(std::env::args_os().skip(1)),
        ..Choices::default()
    };
    Ok(write(&outcome?, &dirs, &choices, committed, chosen.as_ref()).into())
}

/// What was typed before the command, for hints to begin with; without what each of them decides for itself, and what holds for one
/// run alone. `None` where a process was named, which is not there the next time.
fn given(typed: impl Iterator<Item = OsString>) -> Option<Vec<String>> {
    let mut given = Vec::new();
    let mut typed = typed.map(|word| word.to_string_lossy().into_owned());
    while let Some(word) = typed.next() {
        match word.as_str() {
            "--" => break,
            "--pid" => return None,
            _ if word.starts_with("--pid=") => return None,
            "--restart" | "--wait" | "--no-wait" => {}
            "--ready-fd" => drop(typed.next()),
            _ if word.starts_with("--ready-fd=") => {}
            _ => given.push(word),
        }
    }
    Some(given)
}

/// The filter for the recorder itself, made by `cargo xtask self-profile`. Not on other machines than it was made on; and not with
/// containers, for whose runtimes a program may have to be run: `RUNTIME --version`.
fn own_filter(args: &RecordArgs, of_engine: bool) -> Result<Option<SeccompFile>> {
    const FILTER: &str = include_str!("../../../profiles/self/seccomp.json");
    if args.unfiltered || of_engine || cfg!(not(target_arch = "x86_64")) {
        return Ok(None);
    }
    Ok(Some(ingest::seccomp::parse(FILTER)?))
}

/// Serves the hidden `__enter`.
pub fn enter(args: &EnterArgs) -> Result<ExitCode> {
    let confinement = args
        .filter
        .as_ref()
        .map(|filter| {
            Confinement::taken_over(filter, args.capabilities.as_deref(), args.no_new_privileges)
        })
        .transpose()?;
    let error = session::enter(args.parent, &args.command, confinement.as_ref());
    let program = args.command.first().map(|word| word.to_string_lossy()).unwrap_or_default();
    tell::error(&anyhow::Error::new(error).context(format!("cannot execute `{program}`")));
    Ok(exit::CANNOT_EXECUTE.into())
}

/// Serves the hidden `__warden`. Nobody hears it.
pub fn warden() -> Result<ExitCode> {
    session::warden()?;
    Ok(ExitCode::SUCCESS)
}

/// Refuses containers that are named twice, with a slash or without.
fn distinct(containers: &[String]) -> Result<()> {
    let bare = |name: &str| name.strip_prefix('/').unwrap_or(name).to_owned();
    let mut seen = BTreeSet::new();
    for name in containers {
        if !seen.insert(bare(name)) {
            bail!(
                "`--container {name}` is given twice\nhint: name each container once: profiler record --container {}",
                bare(name)
            );
        }
    }
    Ok(())
}

/// Where results go: one into the directory itself, each of several into one of its own below.
struct ResultDirs {
    several: bool,
    place: Place,
    /// Where a recording goes when there is no room.
    spare: Vec<PathBuf>,
}

impl ResultDirs {
    fn of(&self, name: &str) -> Place {
        if self.several { self.place.below(file_name(name)) } else { self.place.clone() }
    }

    fn all(&self, names: &[String]) -> Vec<Place> {
        if self.several {
            names.iter().map(|name| self.of(name)).collect()
        } else {
            vec![self.place.clone()]
        }
    }
}

/// Writes what was recorded, each target by itself: one that cannot be written costs no other its result. The exit
/// status says the gravest: the command's failure, then a result that was not written, then incomplete evidence.
fn write(
    outcome: &Outcome,
    dirs: &ResultDirs,
    choices: &Choices,
    committed: Committed,
    chosen: Option<&Chosen>,
) -> u8 {
    let mut unwritten = false;
    for recorded in &outcome.recordings {
        let place = dirs.of(&recorded.name);
        if choices.harden.is_some() {
            recorded.unseen.iter().for_each(|text| tell::warning(text));
        }
        if let Err(error) = output::write(&recorded.recording, &place, choices, committed) {
            tell::error(&saved(recorded, dirs, committed, error));
            unwritten = true;
        }
    }
    for target in &outcome.never_ran {
        tell::error(&never_ran(target, chosen));
    }
    if let Some(chosen) = chosen {
        let recorded: Vec<_> =
            outcome.recordings.iter().map(|one| (one.name.as_str(), &one.recording)).collect();
        if let Err(error) = stack::write(&dirs.place, chosen, &recorded) {
            tell::error(&error.context("the override for all services is not up to date"));
            unwritten = true;
        }
        if recorded.is_empty() && outcome.never_ran.is_empty() {
            tell::error(&anyhow::anyhow!(
                "no container of project `{}` ran while it was recorded\nhint: start it while profiler waits, or check its name with `docker compose ls --all`",
                chosen.stack.project
            ));
        }
    }
    let complete = outcome.never_ran.is_empty()
        && !outcome.recordings.is_empty()
        && outcome.recordings.iter().all(|recorded| is_complete(&recorded.recording));
    match outcome.command_status {
        Some(status) if status != 0 => u8::try_from(status).unwrap_or(1),
        _ if unwritten => exit::USAGE,
        _ if !complete => exit::INCOMPLETE,
        _ => 0,
    }
}

/// The tests are not run again for a disk that is full: the recording is kept elsewhere, and `error` says where.
fn saved(
    recorded: &Recorded,
    dirs: &ResultDirs,
    committed: Committed,
    error: anyhow::Error,
) -> anyhow::Error {
    let into = if committed == Committed::Replace { "-o" } else { "--into" };
    match store::rescue(&dirs.spare, &json::recording(&recorded.recording)) {
        Ok(path) => error.context(format!(
            "what was recorded is in `{0}`, and not where it belongs\nhint: make room, then: profiler generate {0} {into} {1}",
            path.display(),
            dirs.of(&recorded.name).path().display()
        )),
        Err(nowhere) => error.context(format!(
            "what was recorded is lost, no other directory takes it ({})",
            nowhere.to_string().lines().next().unwrap_or_default()
        )),
    }
}

/// Where a recording goes that its own directory does not take: on another disk, if there is one.
fn spare() -> Vec<PathBuf> {
    vec![std::env::temp_dir(), PathBuf::from("/var/tmp"), PathBuf::from("/dev/shm")]
}

fn never_ran(target: &Target, chosen: Option<&Chosen>) -> anyhow::Error {
    let Target { kind, name } = target;
    match kind {
        TargetKind::Cgroup => anyhow::anyhow!(
            "cgroup `{name}` was not created while it was recorded\nhint: start what runs in it while profiler waits; /proc/PID/cgroup has its path"
        ),
        TargetKind::Service => {
            let project = chosen.map_or("", |chosen| &chosen.stack.project);
            anyhow::anyhow!(
                "service `{name}` did not run in project `{project}` while it was recorded\nhint: start it while profiler waits, under that name of the project, or say with --service which do; docker compose -p {project} ps --all shows what there is"
            )
        }
        _ => anyhow::anyhow!(
            "container `{name}` did not run while it was recorded\nhint: start it while profiler waits, or check its name with `docker ps --all`"
        ),
    }
}

/// Whether the target ran, and everything that it did while it was recorded is in the recording.
fn is_complete(recording: &Recording) -> bool {
    let ran = recording.syscalls.iter().any(|fact| fact.phase == Phase::Workload);
    ran && !recording.runs.values().flat_map(|run| &run.missing).any(|missing| match missing {
        Missing::Lost { what, .. } => UNSOUND_LOSSES.contains(&what.as_str()),
        Missing::Skipped { .. } | Missing::Engine | Missing::Unread { .. } => true,
        _ => false,
    })
}

/// What the result is called when nobody says.
fn result_name(args: &RecordArgs, chosen: Option<&Chosen>) -> String {
    let program = || {
        let program = args.command.first().map(PathBuf::from).unwrap_or_default();
        program.file_name().unwrap_or(OsStr::new("command")).to_string_lossy().into_owned()
    };
    let cgroup = || {
        let last = args.cgroup.as_ref().and_then(|path| path.file_name());
        last.map(|name| name.to_string_lossy().into_owned())
    };
    let process = || args.pid.map(|pid| pid.to_string());
    let name = args.name.clone().or_else(|| args.containers.first().cloned());
    let name = name.or_else(|| chosen.map(|chosen| chosen.stack.project.clone()));
    let name = name.or_else(cgroup).or_else(process);
    file_name(&name.unwrap_or_else(program))
}

/// A name that is one harmless path component: what is not a letter, digit, `.`, `_` or `-` becomes
/// `_`, and a leading dot, also after such, gets one more: names that differ in nothing else stay apart.
pub fn file_name(name: &str) -> String {
    let mut safe: String = name
        .trim_start_matches('/')
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' })
        .take(128)
        .collect();
    if safe.is_empty() || safe.trim_start_matches('_').starts_with('.') {
        safe.insert(0, '_');
    }
    safe
}

#[cfg(test)]
mod tests {

    use super::*;

    const RECORDING: &str = include_str!("../../tests/data/command.json");

    #[test]
    fn a_result_that_cannot_be_written_costs_no_other_one() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("a"), "in the way").expect("writes");
        let recorded = |name: &str| Recorded {
            name: name.to_owned(),
            recording: ingest::recording::parse(RECORDING).expect("a recording"),
            entries: Default::default(),
            unseen: vec![],
        };
        let outcome = |command_status| Outcome {
            recordings: vec![recorded("a"), recorded("b")],
            never_ran: vec![],
            command_status,
        };
        let spare = dir.path().join("spare");
        std::fs::create_dir(&spare).expect("creates");
        let saved = || std::fs::read_dir(&spare).expect("lists").count();
        let spare = vec![spare.clone()];
        let dirs = ResultDirs { several: true, place: Place::from(dir.path()), spare };
        assert_eq!(
            write(&outcome(Some(0)), &dirs, &Choices::default(), Committed::Replace, None),
            exit::USAGE
        );
        assert!(dir.path().join("b/seccomp.json").exists());
        assert_eq!(saved(), 1, "what cannot be written is kept elsewhere");
        assert_eq!(
            write(&outcome(Some(7)), &dirs, &Choices::default(), Committed::Replace, None),
            7,
            "the tests' failure is not hidden"
        );
        std::fs::remove_file(dir.path().join("a")).expect("removes");
        assert_eq!(
            write(&outcome(Some(0)), &dirs, &Choices::default(), Committed::Replace, None),
            0
        );
        assert!(dir.path().join("a/seccomp.json").exists());
    }

    #[test]
    fn hints_begin_with_what_was_typed_before_the_command() {
        let given =
            |typed: &str| given(typed.split(' ').map(OsString::from)).map(|it| it.join(" "));
        let typed = "record --project shop --service worker --harden=read-only,user -o o/int";
        assert_eq!(given(typed).as_deref(), Some(typed));
        let more =
            format!("{typed} --restart --no-wait --ready-fd 3 --ready-fd=3 -- make --restart");
        assert_eq!(given(&more).as_deref(), Some(typed));
        assert_eq!(given("record --pid 7 -o out"), None);
        assert_eq!(given("record --pid=7"), None);
    }

    #[test]
    fn a_container_is_named_once() {
        let names =
            |names: &[&str]| distinct(&names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>());
        assert!(names(&["a", "b"]).is_ok());
        for twice in [["cc", "cc"], ["cc", "/cc"], ["/cc", "cc"]] {
            assert!(names(&twice).expect_err("twice").to_string().contains("given twice"));
        }
    }

    #[test]
    fn a_file_that_could_not_be_read_leaves_it_incomplete() {
        let with = |missing: Missing| {
            let mut recording = ingest::recording::parse(RECORDING).expect("a recording");
            recording.runs.values_mut().for_each(|run| run.missing.push(missing.clone()));
            is_complete(&recording)
        };
        let lost = |what: &str| Missing::Lost { what: what.to_owned(), count: 1 };
        assert!(with(Missing::Shutdown) && with(lost("attribution")));
        assert!(!with(Missing::Unread { program: "ping".to_owned() }) && !with(lost("files")));
    }

    #[test]
    fn names_stay_inside_their_directory() {
        assert_eq!(file_name("backend"), "backend");
        assert_eq!(file_name("/backend"), "backend");
        assert_eq!(file_name("../../etc"), "_.._.._etc");
        assert_eq!(file_name(".."), "_..");
        assert_eq!(file_name("_.."), "__..", "not that of `..`");
        assert_eq!(file_name("a b\n\x1b[31m"), "a_b___31m");
        assert_eq!(file_name(""), "_");
        assert_eq!(file_name(&"x".repeat(4096)).len(), 128);
    }
}
