//! Advice beyond calls, as settings of compose.
//!
//! Owns how mounts, users, ports and limits are spelt. Paths hold nothing that has a meaning in an option
//! ([`crate::model::harden::read_only::is_plain`]); advice that something stands in the way of is not written.

use crate::{
    model::{
        harden::{
            Harden, Limits,
            network::Port,
            read_only::{Place, Tmpfs, volume_name},
            resources::processors,
        },
        profile::Profile,
        usage::Protocol,
    },
    render::yaml::Yaml,
};

/// What a service of compose gets.
pub(super) fn settings(profile: &Profile) -> Vec<(&'static str, Yaml)> {
    let mut settings = Vec::new();
    let Some(harden) = &profile.harden else { return settings };
    let changed = harden.user.as_ref().filter(|advice| !advice.already);
    if let Some((ids, groups)) =
        changed.and_then(|advice| Some((advice.applied()?, &advice.groups)))
    {
        settings.push(("user", Yaml::text(&ids.to_string())));
        if !groups.is_empty() {
            let groups = groups.iter().map(|group| Yaml::Text(group.to_string()));
            settings.push(("group_add", Yaml::List(groups.collect())));
        }
    }
    let (in_memory, volumes) = places(harden);
    if is_read_only(harden) {
        settings.push(("read_only", Yaml::Bool(true)));
    }
    if !in_memory.is_empty() {
        let options =
            in_memory.iter().map(|(path, tmpfs)| Yaml::Text(format!("{path}:{}", tmpfs.options())));
        settings.push(("tmpfs", Yaml::List(options.collect())));
    }
    if !volumes.is_empty() {
        let mounts = volumes
            .iter()
            .map(|path| Yaml::Text(format!("{}:{path}", volume_name(&profile.target.name, path))));
        settings.push(("volumes", Yaml::List(mounts.collect())));
    }
    if let Some(network) = harden.network.as_ref().filter(|advice| advice.is_advised())
        && !network.listens.is_empty()
    {
        settings.push(("expose", Yaml::List(network.listens.iter().map(expose).collect())));
    }
    if let Some(limits) = &harden.resources {
        if let Some(pids) = limits.pids {
            settings.push(("pids_limit", Yaml::Number(pids)));
        }
        if let Some(files) = limits.open_files {
            let both = [("soft", Yaml::Number(files)), ("hard", Yaml::Number(files))];
            settings.push(("ulimits", Yaml::map([("nofile", Yaml::map(both))])));
        }
        if let Some(millis) = limits.cpu_millis {
            settings.push(("cpus", Yaml::Text(processors(millis))));
        }
        if let Some(mib) = limits.memory_mib {
            settings.push(("mem_limit", Yaml::Text(format!("{mib}m"))));
        }
        if let Some(mib) = limits.reserved_mib {
            settings.push(("mem_reservation", Yaml::Text(format!("{mib}m"))));
        }
        // compose 2 refuses what differs in the two places, whichever of them the user's file has; 1.29 refuses `pids` in this one
        settings.extend(deploy(limits).filter(|_| !limits.compose_1));
    }
    settings
}

/// The same limits once more, as `deploy`. Where one of them is there, what is absent counts as another value than the user's in the old place.
fn deploy(limits: &Limits) -> Option<(&'static str, Yaml)> {
    let memory = |mib: u64| ("memory", Yaml::Text(format!("{mib}m")));
    let cpus = |millis: u64| ("cpus", Yaml::Text(processors(millis)));
    let mut resources = Vec::new();
    if let (Some(millis), Some(mib), Some(pids)) =
        (limits.cpu_millis, limits.memory_mib, limits.pids)
    {
        let most = [cpus(millis), memory(mib), ("pids", Yaml::Number(pids))];
        resources.push(("limits", Yaml::map(most)));
    }
    if let Some(mib) = limits.reserved_mib {
        let processors = limits.reserved_cpu_millis.map(cpus);
        let least = processors.into_iter().chain([memory(mib)]);
        resources.push(("reservations", Yaml::map(least)));
    }
    (!resources.is_empty()).then(|| ("deploy", Yaml::map([("resources", Yaml::map(resources))])))
}

/// The names of the volumes that a service's settings use.
pub(super) fn volumes(profile: &Profile) -> Vec<String> {
    let paths = profile.harden.iter().flat_map(|harden| places(harden).1);
    paths.map(|path| volume_name(&profile.target.name, path)).collect()
}

/// Whether the root is to be read-only.
pub(super) fn is_read_only(harden: &Harden) -> bool {
    harden.read_only.as_ref().is_some_and(|advice| advice.is_advised())
}

/// What stays writable, in memory and as volumes; nothing where the root stays so.
pub(super) fn places(harden: &Harden) -> (Vec<(&str, Tmpfs)>, Vec<&str>) {
    let advised = harden.read_only.iter().filter(|advice| advice.is_advised());
    let (mut in_memory, mut volumes) = (Vec::new(), Vec::new());
    for Place { path, tmpfs, .. } in advised.flat_map(|advice| &advice.places) {
        match tmpfs {
            Some(tmpfs) => in_memory.push((path.as_str(), *tmpfs)),
            None => volumes.push(path.as_str()),
        }
    }
    (in_memory, volumes)
}

fn expose(port: &Port) -> Yaml {
    let protocol = match port.protocol {
        Protocol::Tcp => "",
        Protocol::Udp => "/udp",
    };
    Yaml::Text(format!("{}{protocol}", port.port))
}
