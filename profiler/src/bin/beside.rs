//! What stands beside a profile.json and is deployed in its name: it must be what the profile gives.
//!
//! Filters are held against each other by what they decide, in every context that a gate knows, so that another layout of the
//! same policy is none. Of compose.yaml and kubernetes.yaml, all that [`held`] looks at is.

use std::{collections::BTreeSet, io::ErrorKind, path::Path};

use anyhow::{Context as _, Result, bail};
use profiler::{
    ingest,
    model::{
        diff::{self, Side},
        effective::{self, Context, Engine},
        profile::Profile,
        seccomp::SeccompFile,
    },
    render::{self, compose, held},
    report::escape,
};
use serde_json::Value;

use crate::{
    context::{self, ContextArgs},
    input,
};

/// As many differences are named, and so much of each.
const MAX_NAMED: usize = 5;
const MAX_LENGTH: usize = 120;

/// The override for all services of the project, from the directory of one.
const PROJECTS: &str = "../compose.yaml";

/// Where a file says something else than the profile.
type Differences = fn(&Profile, &Value) -> BTreeSet<String>;

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
    let renderings: [(&str, Differences); 3] = [
        ("compose.yaml", held::of_compose),
        (PROJECTS, held::of_project),
        ("kubernetes.yaml", held::of_kubernetes),
    ];
    for (name, differences) in renderings {
        let Some(text) = read(name)? else { continue };
        if name == PROJECTS && !text.starts_with(compose::PROJECT_FIRST_LINE) {
            continue; // the user's own
        }
        let bad = || format!("cannot use the `{name}` beside `{path}`");
        // compose takes `!reset` for the opposite of what follows it
        let options = serde_saphyr::options! { reject_unsupported_tags: true };
        let value = serde_saphyr::from_str_with_options(&text, options);
        let value = value
            .context("not YAML as profiler writes it\nhint: is it complete?")
            .with_context(bad)?;
        refuse(name, path, differences(profile, &value))?;
    }
    Ok(())
}

/// The text of the file `name` in the directory of `path`, if there is one.
pub fn on_disk(path: &Path, name: &str) -> Result<Option<String>> {
    let file = path.with_file_name(name);
    match file.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        _ => input::text(&file, "is this the right file?").map(Some),
    }
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
    bail!(
        "`{name}` is not what `{path}` gives: {named}\n\
         hint: write both anew: profiler generate RECORDING --into {dir}, or profiler record --into {dir}"
    )
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
