//! The commands that a person types next, with the target's own names in them, quoted.

use std::borrow::Cow;

use crate::model::{
    harden::{Harden, read_only::volume_name},
    recording::{Container, Recording, Run, TargetKind},
    shell,
};

/// Starts the target under its profile. A service of compose is started by compose alone: what it runs, and on which volumes, no
/// recording says. `base` names the project's own files, as options.
pub(super) fn enforce(
    recording: &Recording,
    no_new_privileges: bool,
    dir: &str,
    capabilities: &[&str],
    harden: Option<&Harden>,
    base: &str,
) -> Vec<String> {
    if recording.target.kind == TargetKind::Command
        && let Some(run) = newest(recording).filter(|run| !run.command.is_empty())
    {
        let command = run.command.iter().map(String::as_str);
        return vec![shell::join(["profiler", "verify", dir, "--"].into_iter().chain(command))];
    }
    let container = newest(recording).and_then(|run| run.container.as_ref());
    if let Some(Container { compose_service: Some(service), engine, .. }) = container {
        let client = shell::join([program(engine), "compose"]);
        let file = join_path(dir, "compose.yaml");
        return vec![format!("{client} {base} {}", shell::join(["-f", &file, "up", service]))];
    }
    let engine = container.map_or("docker", |container| program(&container.engine));
    let mut words = vec![engine.to_owned(), "run".to_owned()];
    if no_new_privileges {
        words.extend(["--security-opt", "no-new-privileges"].map(str::to_owned));
    }
    words.push("--security-opt".to_owned());
    words.push(format!("seccomp={}", join_path(dir, "seccomp.json")));
    words.extend(["--cap-drop", "ALL"].map(str::to_owned));
    for capability in capabilities {
        words.extend(["--cap-add".to_owned(), (*capability).to_owned()]);
    }
    words.extend(harden.map(|harden| options(harden, &recording.target.name)).unwrap_or_default());
    vec![format!("{} {}", shell::join(words), image(container))]
}

/// What advice comes to, for an engine's `run`.
fn options(harden: &Harden, name: &str) -> Vec<String> {
    let mut options = Vec::new();
    let user = harden.user.as_ref().filter(|advice| !advice.already);
    if let Some((ids, groups)) = user.and_then(|advice| Some((advice.applied()?, &advice.groups))) {
        options.push(format!("--user={ids}"));
        options.extend(groups.iter().map(|group| format!("--group-add={group}")));
    }
    if let Some(advice) = harden.read_only.as_ref().filter(|advice| advice.is_advised()) {
        options.push("--read-only".to_owned());
        options.extend(advice.places.iter().map(|place| match &place.tmpfs {
            Some(tmpfs) => format!("--tmpfs={}:{}", place.path, tmpfs.options()),
            None => format!("--volume={}:{}", volume_name(name, &place.path), place.path),
        }));
    }
    if let Some(limits) = &harden.resources {
        let numbers = [
            ("--memory", limits.memory_mib, "m"),
            ("--memory-reservation", limits.reserved_mib, "m"),
            ("--pids-limit", limits.pids, ""),
            ("--ulimit=nofile", limits.open_files, ""),
        ];
        let known = numbers.into_iter().filter_map(|(name, number, unit)| {
            number.map(|number| format!("{name}={number}{unit}"))
        });
        options.extend(known);
        options.extend(
            limits
                .cpu_millis
                .map(|millis| format!("--cpus={}.{:03}", millis / 1000, millis % 1000)),
        );
    }
    options
}

/// Records the target once more, from its first syscall when that means to restart it: with the `given` arguments, or, where they
/// are not known, those that the recording tells.
pub(super) fn record_again(
    recording: &Recording,
    given: Option<&[String]>,
    dir: &str,
    restart: bool,
) -> String {
    let mut words = vec!["profiler"];
    match given {
        Some(given) => words.extend(given.iter().map(String::as_str)),
        None => words.extend(of_recording(recording)),
    }
    if restart {
        words.push("--restart");
    }
    if given.is_none() {
        words.extend(["-o", place(recording, dir)]);
    }
    if let Some(run) = newest(recording)
        && !run.command.is_empty()
    {
        words.push("--");
        words.extend(run.command.iter().map(String::as_str));
    }
    shell::join(words)
}

/// Names the target.
fn of_recording(recording: &Recording) -> Vec<&str> {
    let name = recording.target.name.as_str();
    match recording.target.kind {
        TargetKind::Service => vec!["record", "--service", name],
        TargetKind::Container => vec!["record", "--container", name],
        TargetKind::Cgroup => vec!["record", "--cgroup", name],
        TargetKind::Command => vec!["record"],
    }
}

/// Where its results go: each service has a directory of its own in the one that is named.
fn place<'a>(recording: &Recording, dir: &'a str) -> &'a str {
    match recording.target.kind {
        TargetKind::Service => {
            dir.trim_end_matches('/').rsplit_once('/').map_or(".", |(above, _)| above)
        }
        _ => dir,
    }
}

/// Ways to start a container so that nothing is denied while it is recorded.
pub(super) fn permissive(recording: &Recording, profile: &str) -> Vec<String> {
    let container = newest(recording).and_then(|run| run.container.as_ref());
    let engine = container.map_or("docker", |container| program(&container.engine));
    let option = format!("seccomp={profile}");
    let words = shell::join([engine, "run", "--security-opt", &option]);
    let file = shell::quote(profile);
    if let Some(service) = container.and_then(|container| container.compose_service.as_ref()) {
        return vec![
            format!("profiler permissive > {file}"),
            format!(
                "for service {} in the compose file: security_opt: [{}]",
                shell::quote(service),
                shell::quote(&format!("seccomp:{profile}")),
            ),
        ];
    }
    vec![format!("profiler permissive > {file} && {words} ... {}", image(container))]
}

/// As configured, or a word to be replaced.
fn image(container: Option<&Container>) -> Cow<'_, str> {
    match container {
        Some(container) if !container.image.is_empty() => shell::quote(&container.image),
        _ => Cow::Borrowed("IMAGE"),
    }
}

/// The run that began last.
pub(super) fn newest(recording: &Recording) -> Option<&Run> {
    recording.runs.values().max_by_key(|run| run.started_unix_s)
}

/// Only the two that are known: this becomes a command.
fn program(engine: &str) -> &'static str {
    if engine == "podman" { "podman" } else { "docker" }
}

fn join_path(dir: &str, file: &str) -> String {
    format!("{}/{file}", dir.trim_end_matches('/'))
}
