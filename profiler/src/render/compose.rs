//! The compose override: one service, or all of a project, each with its filter and its capabilities.
//!
//! Owns the shape of `compose.yaml`. The comment at its head holds no text from the target.

use crate::{
    model::{
        profile::{NoteKind, Profile},
        recording::Recording,
    },
    render::{harden, yaml::Yaml},
};

/// How the override of one service begins.
pub(super) const FIRST_LINE: &str = "# Runs the service under what profiler recorded.\n";

const HEAD: &str = "\
# Runs the service under what profiler recorded.
#   docker compose -f compose.yaml -f THIS_FILE up
# Compose takes the path of seccomp.json relative to the project directory, which is that of the first
# -f file (or --project-directory): the one that profiler was run in, else correct the path.
";

/// The head of the override for all services of a project; a file that begins so is profiler's.
pub const PROJECT_HEAD: &str = "\
# Runs the services under what profiler recorded.
#   docker compose -f compose.yaml -f THIS_FILE up
# Compose takes the paths relative to the project directory, which is that of the first -f file (or
# --project-directory); docker-compose 1.29 to the directory that it is run in.
";

/// `compose.yaml`, for a profile in `dir`. The service is compose's own if the container was started by it, else the container's name.
#[must_use]
pub fn render(recording: &Recording, profile: &Profile, dir: &str) -> String {
    let has_file = of_compose(recording).is_some();
    let settings = [(service_name(recording, profile), service(profile, dir, has_file))];
    format!("{HEAD}{}", document(settings, &[profile]))
}

/// `compose.yaml` for all services of a project: the profile of each, and the directory that it is in.
#[must_use]
pub fn render_project<'a>(services: impl IntoIterator<Item = (&'a Profile, &'a str)>) -> String {
    let services: Vec<(&Profile, &str)> = services.into_iter().collect();
    let profiles: Vec<&Profile> = services.iter().map(|(profile, _)| *profile).collect();
    let settings = services
        .iter()
        .map(|(profile, dir)| (profile.target.name.as_str(), service(profile, dir, true)));
    format!("{PROJECT_HEAD}{}", document(settings, &profiles))
}

fn document<'a>(
    services: impl IntoIterator<Item = (&'a str, Yaml)>,
    profiles: &[&Profile],
) -> String {
    let mut document = vec![("services", Yaml::map(services))];
    let volumes: Vec<String> = profiles.iter().flat_map(|p| harden::volumes(p)).collect();
    if !volumes.is_empty() {
        let each = volumes.iter().map(|name| (name.as_str(), Yaml::map([])));
        document.push(("volumes", Yaml::map(each)));
    }
    Yaml::map(document).document()
}

/// What a service gets. `has_file`: what it was recorded with is in a compose file, to which this is added.
fn service(profile: &Profile, dir: &str, has_file: bool) -> Yaml {
    let seccomp = format!("seccomp:{}", path(dir));
    let mut security_opt = vec![seccomp.as_str()];
    // compose 2 refuses an option that is there twice
    let is_there = has_file && !is_asked_for(profile);
    if profile.made_for.no_new_privileges() && !is_there {
        security_opt.push("no-new-privileges:true");
    }
    let mut service = vec![("security_opt", Yaml::texts(security_opt))];
    // Without evidence nothing may be dropped.
    if profile.capabilities.known {
        let added = profile.added_capabilities();
        service.push(("cap_drop", Yaml::texts(["ALL"])));
        if !added.is_empty() {
            service.push(("cap_add", Yaml::texts(added)));
        }
    }
    service.extend(harden::settings(profile));
    Yaml::map(service)
}

/// Whether no-new-privileges is what the profile was asked to be for, and not what was recorded.
fn is_asked_for(profile: &Profile) -> bool {
    let advice = profile.harden.as_ref().and_then(|harden| harden.no_new_privileges.as_ref());
    advice.is_some_and(|advice| advice.is_advised() && !advice.already)
        || profile.notes.iter().any(|note| note.kind == NoteKind::NoNewPrivileges)
}

/// Where seccomp.json is. Compose reads the profile only from what looks like a path.
fn path(dir: &str) -> String {
    let dir = dir.trim_end_matches('/');
    let here = if dir.starts_with(['/', '.']) { "" } else { "./" };
    // a dollar sign would begin a variable
    format!("{here}{dir}/seccomp.json").replace('$', "$$")
}

/// Compose's name for the target, where a run has it, else the target's own.
pub(super) fn service_name<'a>(recording: &'a Recording, profile: &'a Profile) -> &'a str {
    of_compose(recording).unwrap_or(&profile.target.name)
}

/// Compose's name for the target, if compose started it.
fn of_compose(recording: &Recording) -> Option<&str> {
    let mut containers = recording.runs.values().filter_map(|run| run.container.as_ref());
    containers.find_map(|container| container.compose_service.as_deref())
}
