//! The compose override: one service, or all of a project, each with its filter and its capabilities.
//!
//! Owns the shape of `compose.yaml`. The comment at its head holds no text from the target; it names the project's own files, where
//! they are known, quoted for a shell, by which no character acts.

use serde_json::Value;

use crate::{
    model::{
        profile::{NoNewPrivileges, Profile},
        recording::Recording,
        shell,
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

/// How the override for all services of a project begins; a file that begins so is profiler's.
pub const PROJECT_FIRST_LINE: &str = "# Runs the services under what profiler recorded.\n";

const PROJECT_HEAD: &str = "\
# Runs the services under what profiler recorded.
#   docker compose -f compose.yaml -f THIS_FILE up
# Compose takes the paths relative to the project directory, which is that of the first -f file (or
# --project-directory); docker-compose 1.29 to the directory that it is run in.
";

/// What an override is added to when nobody knows better, as options of compose.
pub const ANY_BASE: &str = "-f compose.yaml";

const NO_NEW_PRIVILEGES: &str = "no-new-privileges:true";

/// What stands before these options in the head, and after them.
const AROUND_BASE: [&str; 2] = ["#   docker compose ", " -f THIS_FILE up\n"];

/// The options that name these files to compose, in this order; [`ANY_BASE`] when there is none.
#[must_use]
pub fn base<S: AsRef<str>>(files: &[S]) -> String {
    if files.is_empty() {
        return ANY_BASE.to_owned();
    }
    shell::join(files.iter().flat_map(|file| ["-f", file.as_ref()]))
}

/// The options by which the head of an override names what it is added to; `None` of a text without such a head, and where a name is
/// more than one plain word, since the options are printed to be pasted.
#[must_use]
pub fn base_of(text: &str) -> Option<&str> {
    let second = text.split_inclusive('\n').nth(1)?;
    let base = second.strip_prefix(AROUND_BASE[0])?.strip_suffix(AROUND_BASE[1])?;
    let words: Vec<&str> = base.split(' ').collect();
    let is_file = |pair: &[&str]| matches!(pair, ["-f", file] if !file.is_empty() && shell::quote(file) == *file);
    words.chunks(2).all(is_file).then_some(base)
}

/// The same override, whose head names `base`, as [`base`] gives it.
#[must_use]
pub fn with_base(text: &str, base: &str) -> String {
    let [before, after] = AROUND_BASE.map(str::to_owned);
    let line = |base: &str| [before.as_str(), base, &after].concat();
    base_of(text).map_or(text.to_owned(), |known| text.replacen(&line(known), &line(base), 1))
}

/// `compose.yaml`, for a profile in `dir`. The service is compose's own if the container was started by it, else the container's name.
#[must_use]
pub fn render(recording: &Recording, profile: &Profile, dir: &str) -> String {
    let has_file = of_compose(recording).is_some();
    let settings =
        [(service_name(recording, profile), service(profile, &filter_in(dir), has_file))];
    format!("{HEAD}{}", document(settings, &[profile]).document())
}

/// `compose.yaml` for all services of a project: the profile of each, and the directory that it is in.
#[must_use]
pub fn render_project<'a>(services: impl IntoIterator<Item = (&'a Profile, &'a str)>) -> String {
    let services: Vec<(&Profile, &str)> = services.into_iter().collect();
    let profiles: Vec<&Profile> = services.iter().map(|(profile, _)| *profile).collect();
    let settings = services.iter().map(|(profile, dir)| {
        (profile.target.name.as_str(), service(profile, &filter_in(dir), true))
    });
    format!("{PROJECT_HEAD}{}", document(settings, &profiles).document())
}

/// Whether an override is one for all services of a project, that profiler wrote.
#[must_use]
pub fn is_of_project(text: &str) -> bool {
    let first = text.trim_start_matches('\u{feff}').lines().next();
    first.is_some_and(|line| line.trim_end() == PROJECT_FIRST_LINE.trim_end())
}

/// What `compose.yaml` of one service says, if `file` is right about where seccomp.json is, and about what the user's own file has.
pub(super) fn like(profile: &Profile, name: &str, file: &Value) -> Value {
    let options = || file["services"][name]["security_opt"].as_array().into_iter().flatten();
    let mut texts = options().filter_map(Value::as_str);
    let filter = texts.find(|option| seccomp_dir(option).is_some());
    let filter = filter.map_or_else(|| filter_in("."), str::to_owned);
    let has_file = options().all(|option| option != NO_NEW_PRIVILEGES);
    document([(name, service(profile, &filter, has_file))], &[profile]).value()
}

/// The directory that an option says seccomp.json is in, as [`render`] takes it; `None` where compose would not read the file.
#[must_use]
pub fn seccomp_dir(option: &str) -> Option<String> {
    let dir = option.strip_prefix("seccomp:")?.strip_suffix("seccomp.json")?;
    let is_path = dir.starts_with(['/', '.']) && dir.ends_with('/');
    is_path.then(|| dir.strip_suffix('/').unwrap_or(dir).replace("$$", "$"))
}

fn document<'a>(
    services: impl IntoIterator<Item = (&'a str, Yaml)>,
    profiles: &[&Profile],
) -> Yaml {
    let mut document = vec![("services", Yaml::map(services))];
    let volumes: Vec<String> = profiles.iter().flat_map(|p| harden::volumes(p)).collect();
    if !volumes.is_empty() {
        let each = volumes.iter().map(|name| (name.as_str(), Yaml::map([])));
        document.push(("volumes", Yaml::map(each)));
    }
    Yaml::map(document)
}

/// What a service gets. `filter` is the option that names its seccomp.json. `has_file`: what it was recorded with is in a compose file, to which this is added.
fn service(profile: &Profile, filter: &str, has_file: bool) -> Yaml {
    let mut security_opt = vec![filter];
    match profile.no_new_privileges() {
        // compose 2 refuses an option that is there twice
        NoNewPrivileges::AsRecorded if has_file => {}
        NoNewPrivileges::Nowhere => {}
        _ => security_opt.push(NO_NEW_PRIVILEGES),
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

/// The option that names the seccomp.json in `dir`. Compose reads the profile only from what looks like a path.
fn filter_in(dir: &str) -> String {
    let dir = dir.trim_end_matches('/');
    let here = if dir.starts_with(['/', '.']) { "" } else { "./" };
    // a dollar sign would begin a variable
    format!("seccomp:{here}{dir}/seccomp.json").replace('$', "$$")
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
