//! The compose override: one service, with its filter and its capabilities.
//!
//! Owns the shape of `compose.yaml`. The comment at its head holds no text from the target.

use crate::{
    model::{profile::Profile, recording::Recording},
    render::yaml::Yaml,
};

const HEAD: &str = "\
# Runs the service under what profiler recorded.
#   docker compose -f compose.yaml -f THIS_FILE up
# Compose takes the path of seccomp.json relative to the project directory, which is that of the first
# -f file (or --project-directory): the one that profiler was run in, else correct the path.
";

/// `compose.yaml`, for a profile in `dir`. The service is compose's own if the container was started by it, else the container's name.
#[must_use]
pub fn render(recording: &Recording, profile: &Profile, dir: &str) -> String {
    let seccomp = format!("seccomp:{}", path(dir));
    let mut security_opt = vec![seccomp.as_str()];
    if profile.made_for.no_new_privileges() {
        security_opt.push("no-new-privileges:true");
    }
    let mut service = vec![("security_opt", Yaml::texts(security_opt))];
    // Without evidence nothing may be dropped.
    if profile.capabilities.known {
        let required = &profile.capabilities.required;
        service.push(("cap_drop", Yaml::texts(["ALL"])));
        if !required.is_empty() {
            let names = required.iter().map(|rule| rule.name.as_str());
            service.push(("cap_add", Yaml::texts(names)));
        }
    }
    let services = Yaml::map([(service_name(recording, profile), Yaml::map(service))]);
    format!("{HEAD}{}", Yaml::map([("services", services)]).document())
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
    let mut containers = recording.runs.values().filter_map(|run| run.container.as_ref());
    containers.find_map(|c| c.compose_service.as_deref()).unwrap_or(&profile.target.name)
}
