//! The commands that a person types next, with the target's own names in them, quoted.

use std::borrow::Cow;

use crate::model::{
    harden::{Harden, read_only::volume_name},
    recording::{Container, Recording, Run, TargetKind},
    shell,
};

/// Starts the target under its profile.
pub(super) fn enforce(
    recording: &Recording,
    no_new_privileges: bool,
    dir: &str,
    capabilities: &[&str],
    harden: Option<&Harden>,
) -> Vec<String> {
    if recording.target.kind == TargetKind::Command
        && let Some(run) = newest(recording).filter(|run| !run.command.is_empty())
    {
        let command = run.command.iter().map(String::as_str);
        return vec![shell::join(["profiler", "verify", dir, "--"].into_iter().chain(command))];
    }
    let container = newest(recording).and_then(|run| run.container.as_ref());
    let mut commands = Vec::new();
    if let Some(Container { compose_service: Some(service), engine, .. }) = container {
        commands.push(shell::join([
            program(engine),
            "compose",
            "-f",
            "compose.yaml",
            "-f",
            &join_path(dir, "compose.yaml"),
            "up",
            service,
        ]));
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
    commands.push(format!("{} {}", shell::join(words), image(container)));
    commands
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

/// Records the target once more, from its first syscall when that means to restart it.
pub(super) fn record_again(recording: &Recording, dir: &str, restart: bool) -> String {
    let mut words = vec!["profiler", "record"];
    let mut to = dir;
    match recording.target.kind {
        TargetKind::Service => {
            words.extend(["--service", &recording.target.name]);
            // each service has a directory of its own in the one that is named
            to = dir.trim_end_matches('/').rsplit_once('/').map_or(".", |(above, _)| above);
        }
        TargetKind::Container => words.extend(["--container", &recording.target.name]),
        TargetKind::Cgroup => words.extend(["--cgroup", &recording.target.name]),
        TargetKind::Command => {}
    }
    if restart {
        words.push("--restart");
    }
    words.extend(["-o", to]);
    if let Some(run) = newest(recording)
        && !run.command.is_empty()
    {
        words.push("--");
        words.extend(run.command.iter().map(String::as_str));
    }
    shell::join(words)
}

/// Ways to start a container so that nothing is denied while it is recorded.
pub(super) fn permissive(recording: &Recording, profile: &str) -> Vec<String> {
    let container = newest(recording).and_then(|run| run.container.as_ref());
    let engine = container.map_or("docker", |container| program(&container.engine));
    let option = format!("seccomp={profile}");
    let words = shell::join([engine, "run", "--security-opt", &option]);
    let file = shell::quote(profile);
    let mut ways =
        vec![format!("profiler permissive > {file} && {words} ... {}", image(container))];
    if let Some(service) = container.and_then(|container| container.compose_service.as_ref()) {
        ways.push(format!(
            "or, for service {} in compose.yaml: security_opt: [{}]",
            shell::quote(service),
            shell::quote(&format!("seccomp:{profile}")),
        ));
    }
    ways
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
