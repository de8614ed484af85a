//! `--project` and `--service`: from what was typed to the services that are meant, and from their results to one override for all.

use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow, bail};
use profiler::{
    ingest,
    model::{
        capability,
        profile::Profile,
        recording::{Recording, TargetKind},
        shell,
    },
    render::compose,
    report::escape,
    session::{
        Files, Stack,
        store::{self, Place},
    },
    target::{
        compose::{self as client, ComposeError},
        docker::is_name,
    },
};
use serde_json::Value;

use crate::{args::RecordArgs, tell};

/// Name of the override, for one service and for all.
const OVERRIDE: &str = "compose.yaml";

/// What is to be recorded of a compose project.
#[derive(Debug)]
pub struct Chosen {
    /// Which services.
    pub stack: Stack,
    /// What the compose file says, if one was named.
    pub file: Option<client::Project>,
}

/// Finds out which project and services are meant; `None` when none is.
///
/// # Errors
/// When what was typed is neither a project's name nor a file that compose reads, or a service is none of its.
pub async fn choose(args: &RecordArgs) -> Result<Option<Chosen>> {
    if args.project.is_none() && args.services.is_empty() {
        return Ok(None);
    }
    let named = args.project.as_ref().and_then(|project| project.to_str());
    let one_off = !args.no_one_off;
    if let Some(name) = named.filter(|name| is_project(name)) {
        if let Some(odd) = args.services.iter().find(|service| !is_name(service)) {
            bail!(
                "`{odd}` is no name of a service: those are made of letters, digits, `.`, `_` and `-`\nhint: docker compose -p {name} ps --all --services"
            );
        }
        let services = (!args.services.is_empty()).then(|| distinct(&args.services));
        let stack = Stack { project: name.to_owned(), services, declared: None, one_off };
        return Ok(Some(Chosen { stack, file: None }));
    }
    let path = args.project.as_deref().unwrap_or(Path::new("."));
    let file = client::read(path).await.map_err(|error| misnamed(named, error))?;
    let services = Some(distinct(&file.choose(&args.services)?));
    let declared = Some(Files::new(path, &file.files));
    let stack = Stack { project: file.name.clone(), services, declared, one_off };
    Ok(Some(Chosen { stack, file: Some(file) }))
}

/// Whether this is a project's name; anything else is a path. A file with such a name is typed `./NAME`.
fn is_project(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b))
}

/// Says that a name has no capital letters where nothing else keeps this from being one.
fn misnamed(typed: Option<&str>, error: ComposeError) -> anyhow::Error {
    let name = typed.unwrap_or_default().to_lowercase();
    match error {
        ComposeError::NoFile { .. } if typed != Some(&name) && is_project(&name) => anyhow!(
            "there is no compose file `{}`, and a project's name has no capital letters\nhint: profiler record --project {name}",
            typed.unwrap_or_default()
        ),
        error => error.into(),
    }
}

fn distinct(services: &[String]) -> Vec<String> {
    let mut services = services.to_vec();
    services.sort();
    services.dedup();
    services
}

/// `dir`, as whoever starts from `project` would type it.
pub fn seen_from(project: Option<&Path>, dir: &Path) -> PathBuf {
    let relative = || {
        let (project, whole) = (project?.canonicalize().ok()?, dir.canonicalize().ok()?);
        if dir.is_absolute() || std::env::current_dir().ok()? == project {
            return None;
        }
        let mut common = project.components().zip(whole.components());
        let shared = common.by_ref().take_while(|(one, other)| one == other).count();
        let up = project.components().skip(shared).map(|_| Component::ParentDir);
        Some(up.chain(whole.components().skip(shared)).collect())
    };
    relative().unwrap_or_else(|| dir.to_owned())
}

/// The options that name a project's files, for whoever starts here, and for whoever starts from the project's own directory: `None`
/// where one of them is not below it, for its path is this machine's.
pub fn bases(file: &client::Project) -> (String, Option<String>) {
    let here: Vec<_> = file.files.iter().map(|file| file.to_string_lossy()).collect();
    let whole =
        |dir: &Path| if dir.as_os_str().is_empty() { Path::new(".") } else { dir }.canonicalize();
    let project = whole(file.directory()).ok();
    let below = |file: &PathBuf| {
        // not the file's own, which may be a link
        let dir = whole(file.parent()?).ok()?;
        let path = dir.strip_prefix(project.as_ref()?).ok()?.join(file.file_name()?);
        Some(path.to_string_lossy().into_owned())
    };
    let there: Option<Vec<String>> = file.files.iter().map(below).collect();
    (compose::base(&here), there.map(|files| compose::base(&files)))
}

/// The options that the override in `place` names the project's files by, if it is profiler's.
pub fn known_base(place: &Place) -> Option<String> {
    let text = place.read(OVERRIDE).ok()??;
    compose::base_of(&text).map(str::to_owned)
}

/// Lets the override among `files` name its project's own files by these options.
pub fn name_base(files: &mut [(&'static str, String)], base: &str) {
    for (_, text) in files.iter_mut().filter(|(name, _)| *name == OVERRIDE) {
        *text = compose::with_base(text, base);
    }
}

/// Writes the override for all services whose profiles are in `place`, each in a directory of its own, and tells of what no override can do.
pub fn write(place: &Place, chosen: &Chosen, recordings: &[(&str, &Recording)]) -> Result<()> {
    let file = chosen.file.as_ref();
    let project = file.map(client::Project::directory);
    let mut profiles = profiles(place)?;
    if let Some(file) = file {
        let gone = |profile: &Profile| !file.services.contains(&profile.target.name);
        for (dir, _) in profiles.extract_if(.., |(_, profile)| gone(profile)) {
            tell::note(&format!(
                "`{}` is of a service that `{}` does not have, or not now: it is left out",
                dir.display(),
                file.file().display()
            ));
        }
    }
    for (_, profile) in &profiles {
        let recorded = recordings.iter().find(|(name, _)| *name == profile.target.name);
        if let Some(text) = recorded.and_then(|(_, recording)| beyond(recording, profile)) {
            tell::note(&text);
        }
    }
    if profiles.is_empty() {
        return Ok(());
    }
    let seen = |dir: &Path| seen_from(project, dir).to_string_lossy().into_owned();
    let services: Vec<_> = profiles.iter().map(|(dir, profile)| (profile, seen(dir))).collect();
    let text =
        compose::render_project(services.iter().map(|(profile, dir)| (*profile, dir.as_str())));
    check(place)?;
    let (here, there) = file.map(bases).unzip();
    let there = there.flatten().or_else(|| known_base(place));
    let mut files = [(OVERRIDE, text)];
    if let Some(base) = &there {
        name_base(&mut files, base);
    }
    store::write(place.clone(), &files)?;
    let path = place.path().join(OVERRIDE);
    let here = here.or(there).unwrap_or(compose::ANY_BASE.to_owned());
    tell::note(&format!("override for all services: {}", path.display()));
    tell::note(&format!(
        "  docker compose {here} {}",
        shell::join(["-f", &path.to_string_lossy(), "up"])
    ));
    Ok(())
}

/// Refuses a place whose `compose.yaml` is not profiler's, which would be replaced, and one where compose finds a file by another
/// name, which it would not any more.
pub fn check(place: &Place) -> Result<()> {
    let others = client::FILES.into_iter().filter(|name| *name != OVERRIDE);
    let mut others = others.map(|name| place.path().join(name));
    if let Some(other) = others.find(|file| file.symlink_metadata().is_ok()) {
        bail!(
            "`{}` is a compose file, and compose would take profiler's `{OVERRIDE}` beside it instead\nhint: write elsewhere with `-o DIR`",
            other.display()
        );
    }
    if override_in(place)?.is_some_and(|text| !compose::is_of_project(&text)) {
        bail!(
            "`{}` was not written by profiler, and would be replaced\nhint: write elsewhere with `-o DIR`",
            place.path().join(OVERRIDE).display()
        );
    }
    Ok(())
}

fn override_in(place: &Place) -> Result<Option<String>> {
    let unusable = || format!("cannot use `{}`", place.path().join(OVERRIDE).display());
    place.read(OVERRIDE).with_context(unusable)
}

/// Brings the override for all services up to date, when the one of `dir` has a new profile.
pub fn renew(dir: &Path) -> Result<()> {
    // `.` and a link say nothing of what is above
    let whole = match dir.file_name() {
        Some(_) if !dir.is_symlink() => dir.to_owned(),
        _ => dir.canonicalize().with_context(|| format!("cannot find `{}`", dir.display()))?,
    };
    let Some(above) = whole.parent() else { return Ok(()) };
    let place = Place::from(above);
    let Ok(Some(text)) = override_in(&place) else { return Ok(()) };
    if !compose::is_of_project(&text) {
        return Ok(());
    }
    let known = paths(&text).with_context(|| {
        format!("cannot use `{}`\nhint: remove it and record again", above.join(OVERRIDE).display())
    })?;
    let profiles = profiles(&place)?;
    let is_there = |name: &&String| profiles.iter().any(|(_, it)| it.target.name == **name);
    if let Some(gone) = known.keys().find(|name| !is_there(name)) {
        tell::warning(&format!(
            "`{}` is as it was: the profile of its service `{}` is not beside it, in a directory of that name",
            above.join(OVERRIDE).display(),
            escape::short(gone, 80)
        ));
        return Ok(());
    }
    // a service that it left out stays out
    let services = profiles.iter().filter_map(|(_, profile)| {
        let dir = known.get(&profile.target.name)?;
        Some((profile, dir.as_str()))
    });
    let renewed = compose::render_project(services);
    let renewed = match compose::base_of(&text) {
        Some(base) => compose::with_base(&renewed, base),
        None => renewed,
    };
    if renewed != text {
        store::write(place, &[(OVERRIDE, renewed)])?;
        tell::note(&format!("brought up to date: {}", above.join(OVERRIDE).display()));
    }
    Ok(())
}

/// Where an override says that the profile of each service is.
fn paths(text: &str) -> Result<BTreeMap<String, String>> {
    let value: Value = serde_saphyr::from_str(text)?;
    let services = value["services"].as_object().into_iter().flatten();
    Ok(services
        .filter_map(|(name, settings)| {
            let options = settings["security_opt"].as_array().into_iter().flatten();
            let mut paths = options.filter_map(|option| compose::seccomp_dir(option.as_str()?));
            Some((name.clone(), paths.next()?))
        })
        .collect())
}

/// The profiles of services in the directories below `place`, in the order of their names.
fn profiles(place: &Place) -> Result<Vec<(PathBuf, Profile)>> {
    let typed = place.path();
    let here = if typed.as_os_str().is_empty() { Path::new(".") } else { &typed };
    let Ok(entries) = std::fs::read_dir(here) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir())) {
        let below = place.below(entry.file_name());
        let path = below.path();
        let unusable = || format!("cannot use `{}`", path.join("profile.json").display());
        let Some(text) = below.read("profile.json").with_context(unusable)? else { continue };
        let profile = ingest::profile::parse(&text).with_context(unusable)?;
        let is_its_own = || {
            crate::record::file_name(&profile.target.name) == entry.file_name().to_string_lossy()
        };
        if profile.target.kind == TargetKind::Service && is_its_own() {
            found.push((path, profile));
        }
    }
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(found)
}

/// What a service was started with beyond what it needs, and what an override cannot take back: compose joins lists.
fn beyond(recording: &Recording, profile: &Profile) -> Option<String> {
    let name = &profile.target.name;
    let containers = recording.runs.values().filter_map(|run| run.container.as_ref());
    if containers.clone().any(|container| container.privileged) {
        return Some(format!(
            "service `{name}` is privileged, which an override does not take back: remove `privileged: true` from the compose file"
        ));
    }
    if !profile.capabilities.known {
        return None;
    }
    let needs = |name: &str| profile.capabilities.required.iter().any(|rule| rule.name == name);
    let mut extra: Vec<&str> = containers
        .flat_map(|container| container.capabilities.iter().map(String::as_str))
        .filter(|name| !capability::DOCKER_DEFAULT.contains(name) && !needs(name))
        .collect();
    extra.sort_unstable();
    extra.dedup();
    (!extra.is_empty()).then(|| {
        format!(
            "service `{name}` has {} and did not need it, and an override takes nothing out of a list: remove it from `cap_add` in the compose file",
            extra.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use profiler::model::policy::{self, Options};

    use super::*;

    const RECORDING: &str = include_str!("../../tests/data/backend.json");

    fn recording(service: &str) -> Recording {
        let mut recording = ingest::recording::parse(RECORDING).expect("a recording");
        recording.target.kind = TargetKind::Service;
        recording.target.name = service.to_owned();
        recording
    }

    /// A result directory as `record` leaves it.
    fn keep(place: &Place, service: &str) -> Profile {
        let profile = policy::derive(&recording(service), &Options::default());
        let text = profiler::render::json::profile(&profile);
        let dir = place.below(crate::record::file_name(service));
        store::write(dir, &[("profile.json", text)]).expect("writes");
        profile
    }

    fn chosen(file: Option<&[&str]>) -> Chosen {
        let declared = Some(Files::new(Path::new("."), &["compose.yaml".into()]));
        let stack = Stack { project: "shop".into(), services: None, declared, one_off: true };
        let file = file.map(|services| client::Project {
            name: "shop".into(),
            services: services.iter().map(|name| (*name).to_owned()).collect(),
            files: vec!["docker-compose.yml".into()],
        });
        Chosen { stack, file }
    }

    #[test]
    fn a_projects_name_and_a_path_are_told_apart() {
        for name in ["shop", "0shop", "a-b_c"] {
            assert!(is_project(name), "{name}");
        }
        for path in ["", ".", "./shop", "shop.yaml", "a/b", "Shop", "-x", "_x", "ü"] {
            assert!(!is_project(path), "{path}");
        }
    }

    #[test]
    fn the_projects_files_are_named_as_they_are_seen_and_never_by_this_machines_paths() {
        let dir = tempfile::tempdir().expect("a directory");
        let top = dir.path();
        std::fs::create_dir_all(top.join("app/more")).expect("creates");
        let of = |files: &[&str]| client::Project {
            name: "shop".into(),
            services: vec![],
            files: files.iter().map(|file| top.join(file)).collect(),
        };
        let (here, there) = bases(&of(&["app/docker-compose.yml", "app/more/a b.yaml"]));
        let top = top.display();
        assert_eq!(here, format!("-f {top}/app/docker-compose.yml -f '{top}/app/more/a b.yaml'"));
        assert_eq!(there.as_deref(), Some("-f docker-compose.yml -f 'more/a b.yaml'"));
        assert_eq!(bases(&of(&["app/compose.yaml", "base.yaml"])).1, None, "it is elsewhere");
        let plain = client::Project { files: vec!["compose.yml".into()], ..of(&[]) };
        assert_eq!(bases(&plain), ("-f compose.yml".to_owned(), Some("-f compose.yml".to_owned())));
    }

    #[test]
    fn a_directory_is_seen_from_the_projects_own() {
        let dir = tempfile::tempdir().expect("a directory");
        let top = dir.path().canonicalize().expect("exists");
        std::fs::create_dir_all(top.join("app/deploy")).expect("creates");
        std::fs::create_dir_all(top.join("profiles/shop")).expect("creates");
        let seen = |project: &str, to: &Path| seen_from(Some(&top.join(project)), to);
        let absolute = top.join("profiles/shop");
        assert_eq!(seen("app", &absolute), absolute, "what is typed as absolute stays so");
        let here = std::env::current_dir().expect("a directory");
        let up: PathBuf = here.components().skip(1).map(|_| Component::ParentDir).collect();
        let typed = up.join(absolute.strip_prefix("/").expect("absolute"));
        assert_eq!(seen("app/deploy", &typed), Path::new("../../profiles/shop"));
        assert_eq!(seen("profiles", &typed), Path::new("shop"));
        assert_eq!(seen_from(None, Path::new("profiles/x")), Path::new("profiles/x"));
        assert_eq!(seen_from(Some(&here), Path::new("src")), Path::new("src"));
    }

    #[test]
    fn the_override_has_all_services_with_a_profile_and_is_brought_up_to_date() {
        let dir = tempfile::tempdir().expect("a directory");
        let place = Place::from(dir.path());
        let web = keep(&place, "web");
        for service in ["db", "gone", "..."] {
            keep(&place, service);
        }
        let read = || std::fs::read_to_string(dir.path().join(OVERRIDE)).expect("written");
        let services = |text: &str| {
            let value: Value = serde_saphyr::from_str(text).expect("YAML");
            value["services"].as_object().expect("a map").clone()
        };
        write(&place, &chosen(None), &[]).expect("writes");
        assert!(services(&read()).keys().eq(["...", "db", "gone", "web"]), "{}", read());
        assert!(read().contains("docker compose -f compose.yaml -f THIS_FILE up"), "{}", read());
        let known = chosen(Some(&["...", "db", "web"]));
        write(&place, &known, &[]).expect("writes");
        let all = read();
        assert!(all.contains("docker compose -f docker-compose.yml -f THIS_FILE up"), "{all}");
        assert!(services(&all).keys().eq(["...", "db", "web"]), "{all}");

        renew(&dir.path().join("web")).expect("nothing is new");
        assert_eq!(read(), all);
        let narrow = profiler::render::json::profile(&web);
        let mut wider = web;
        wider.capabilities.required[0].name = "SYS_TIME".to_owned();
        let text = profiler::render::json::profile(&wider);
        store::write(place.below("web"), &[("profile.json", text)]).expect("writes");
        renew(&dir.path().join("web")).expect("renews");
        let head = |text: &str| text.lines().nth(1).map(str::to_owned);
        assert_eq!(head(&read()), head(&all));
        let (before, after) = (services(&all), services(&read()));
        assert!(after["web"]["cap_add"].to_string().contains("SYS_TIME"));
        assert_eq!(
            (&before["db"], before["web"]["security_opt"].clone()),
            (&after["db"], after["web"]["security_opt"].clone())
        );
        assert!(after.keys().eq(["...", "db", "web"]), "what was left out stays out");

        // a link says nothing of what is above, and a service whose directory has another name stays
        store::write(place.below("web"), &[("profile.json", narrow)]).expect("writes");
        let elsewhere = tempfile::tempdir().expect("a directory");
        let link = elsewhere.path().join("link");
        std::os::unix::fs::symlink(dir.path().join("web"), &link).expect("links");
        renew(&link).expect("renews");
        assert_eq!(services(&read())["web"], before["web"]);
        std::fs::rename(dir.path().join("web"), dir.path().join("api")).expect("moves");
        let all = read();
        renew(&dir.path().join("api")).expect("warns");
        assert_eq!(read(), all);
        std::fs::rename(dir.path().join("api"), dir.path().join("web")).expect("moves");

        for name in ["compose.yml", "docker-compose.yml", "docker-compose.yaml"] {
            std::fs::write(dir.path().join(name), "").expect("writes");
            let error = check(&place).expect_err("compose would take the override instead");
            assert!(error.to_string().contains(&format!("{name}` is a compose file")), "{error}");
            std::fs::remove_file(dir.path().join(name)).expect("removes");
        }
        check(&place).expect("what is there is profiler's");
        std::fs::write(dir.path().join(OVERRIDE), "services: {}\n").expect("writes");
        renew(&dir.path().join("web")).expect("it is somebody else's");
        write(&place, &known, &[]).expect_err("it is somebody else's");
        assert_eq!(read(), "services: {}\n");
    }

    #[test]
    fn what_no_override_takes_back_is_told() {
        let mut recording = recording("web");
        let profile = policy::derive(&recording, &Options::default());
        assert_eq!(beyond(&recording, &profile), None);
        let change = |recording: &mut Recording, privileged: bool| {
            for run in recording.runs.values_mut() {
                let container = run.container.as_mut().expect("a container");
                container.capabilities.push("SYS_MODULE".to_owned());
                container.privileged = privileged;
            }
        };
        change(&mut recording, false);
        assert!(beyond(&recording, &profile).expect("one too many").contains("has SYS_MODULE and"));
        change(&mut recording, true);
        assert!(beyond(&recording, &profile).expect("privileged").contains("privileged: true"));
    }
}
