//! What stands beside a profile.json and is deployed in its name: it must be what the profile gives.
//!
//! Filters are held against each other by what they decide, in every context that a gate knows, so that another layout of the
//! same policy is none. Of compose.yaml and kubernetes.yaml, all that [`held`] looks at is.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{ErrorKind, Read as _},
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use profiler::{
    ingest,
    model::{
        diff::{self, Side},
        effective::{self, Context, Engine},
        profile::Profile,
        seccomp::SeccompFile,
        text,
    },
    render::{self, compose, held},
    report::escape,
};
use serde_json::Value;
use serde_saphyr::MergeKeyPolicy;

use crate::{
    context::{self, ContextArgs},
    input,
};

/// As many differences are named, and so much of each.
const MAX_NAMED: usize = 5;
const MAX_LENGTH: usize = 120;

/// The override for all services of the project, from the directory of one.
const PROJECTS: &str = "../compose.yaml";

/// Refuses what `read` finds beside the profile at `path` and is not what the profile gives.
pub fn hold(
    profile: &Profile,
    path: &str,
    read: impl Fn(&str) -> Result<Option<String>>,
) -> Result<()> {
    if let Some(text) = read("seccomp.json")? {
        let bad = || format!("cannot use the `seccomp.json` beside `{path}`");
        let file = ingest::seccomp::parse(&text).with_context(bad)?;
        let given = ingest::seccomp::parse(&render::seccomp::render(profile))?;
        refuse("seccomp.json", path, differences(&given, &file))?;
    }
    for (name, is_compose) in [("compose.yaml", true), ("kubernetes.yaml", false)] {
        let Some(text) = read(name)? else { continue };
        let file = parse(name, path, &text)?;
        let held = if is_compose { held::of_compose } else { held::of_kubernetes };
        refuse(name, path, held(profile, &file))?;
    }
    let Some(text) = read(PROJECTS)?.filter(|text| compose::is_of_project(text)) else {
        return Ok(());
    };
    let file = parse(PROJECTS, path, &text)?;
    let mut found = held::of_project(profile, &file);
    for (service, dir) in held::services(&file) {
        let owner = dir.map(|dir| read(&format!("../{dir}/profile.json"))).transpose()?.flatten();
        let bad = || format!("cannot use the profile of service `{}`", service.escape_debug());
        let owner = owner.map(|text| ingest::profile::parse(&text)).transpose();
        let name = owner.with_context(bad)?.map(|profile| profile.target.name);
        if name.as_ref() != Some(service) {
            found.insert(format!("services.{service} has no profile beside it"));
        }
    }
    refuse(PROJECTS, path, found)
}

/// A rendering as every reader of YAML takes it. Those of compose and Kubernetes end lines where YAML 1.2 does not, and let another key win.
fn parse(name: &str, path: &str, text: &str) -> Result<Value> {
    let bad = || format!("cannot use the `{name}` beside `{path}`");
    let text = text.trim_start_matches('\u{feff}').replace("\r\n", "\n");
    let acts = text.chars().find(|&c| text::acts(c) && !matches!(c, '\n' | '\t'));
    if let Some(acts) = acts {
        let code = u32::from(acts);
        bail!("{}: it has the character U+{code:04X}, which profiler writes escaped", bad());
    }
    let options = serde_saphyr::options! {
        reject_unsupported_tags: true, // compose takes `!reset` for the opposite of what follows it
        merge_keys: MergeKeyPolicy::Error,
        with_snippet: false,
    };
    let value = serde_saphyr::from_str_with_options(&text, options);
    value.context("not YAML as profiler writes it\nhint: is it complete?").with_context(bad)
}

/// Whether a name is of a file above the directory: it may be the user's own.
pub fn is_above(name: &str) -> bool {
    name.starts_with("../")
}

/// The text of the file `name` in the directory of `path`, if there is one. Above it, only a regular file is one, and an override only if profiler wrote it.
pub fn on_disk(path: &Path, name: &str) -> Result<Option<String>> {
    let file = path.with_file_name(name);
    let kind = match file.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        of_file => of_file.map(|metadata| metadata.file_type()),
    };
    if is_above(name) && !kind.is_ok_and(|kind| kind.is_file()) {
        return Ok(None);
    }
    if name == PROJECTS && !compose::is_of_project(&beginning(&file)?) {
        return Ok(None);
    }
    if file.metadata().is_ok_and(|metadata| !metadata.is_file()) {
        bail!("`{}` is no regular file\nhint: is this the right directory?", file.display());
    }
    input::text(&file, "is this the right file?").map(Some)
}

/// Enough of a file to see who wrote it.
fn beginning(file: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    let failed = || format!("cannot read `{}`", file.display());
    let open = File::open(file).with_context(failed)?;
    open.take(200).read_to_end(&mut bytes).with_context(failed)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn refuse(name: &str, path: &str, at: BTreeSet<String>) -> Result<()> {
    if at.is_empty() {
        return Ok(());
    }
    let more = at.len().saturating_sub(MAX_NAMED);
    let short = at.iter().take(MAX_NAMED).map(|difference| escape::short(difference, MAX_LENGTH));
    let mut named = short.collect::<Vec<_>>().join(", ");
    if more > 0 {
        named.push_str(&format!(" and {more} more"));
    }
    let dir = path.rsplit_once('/').map_or(".", |(dir, _)| dir);
    let hint = match name {
        PROJECTS => "write all anew: profiler record --project NAME".to_owned(),
        _ => format!(
            "write both anew: profiler generate RECORDING --into {dir}, or profiler record --into {dir}"
        ),
    };
    bail!("`{name}` is not what `{path}` gives: {named}\nhint: {hint}")
}

/// What two filters decide differently in any context.
fn differences(given: &SeccompFile, file: &SeccompFile) -> BTreeSet<String> {
    let natives: BTreeSet<_> =
        context::natives(given).into_iter().chain(context::natives(file)).collect();
    let mut at = BTreeSet::new();
    for native in natives {
        for (context, _) in ContextArgs::default().gates(native) {
            for engine in [Engine::Docker, Engine::Podman, Engine::Oci] {
                let context = Context { engine, ..context.clone() };
                let side = |file| Side::of_filter(String::new(), effective::decide(file, &context));
                let found = diff::diff(&side(given), &side(file)).entries;
                at.extend(found.iter().map(|entry| entry.subject.to_string()));
            }
        }
    }
    at
}
