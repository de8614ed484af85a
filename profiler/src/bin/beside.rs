//! What stands beside a profile.json and is deployed in its name: it must be what the profile gives.
//!
//! Filters are held against each other by what they decide, in every context that a gate knows, so that another layout of the
//! same policy is none. Of compose.yaml and kubernetes.yaml, the list of capabilities is.

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
    render,
};
use serde_json::Value;

use crate::{
    context::{self, ContextArgs},
    input,
};

/// As many differences are named.
const MAX_NAMED: usize = 5;

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
    for (name, added) in [
        ("compose.yaml", profile.added_capabilities()),
        ("kubernetes.yaml", render::kubernetes::added_capabilities(profile)),
    ] {
        let Some(text) = read(name)? else { continue };
        let bad = || format!("cannot use the `{name}` beside `{path}`");
        let added = added.into_iter().filter(|_| profile.capabilities.known);
        refuse(name, path, capabilities(profile, added, &text).with_context(bad)?)?;
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
    let mut named = at.into_iter().take(MAX_NAMED).collect::<Vec<_>>().join(", ");
    if more > 0 {
        named.push_str(&format!(" and {more} more"));
    }
    let dir = path.rsplit_once('/').map_or(".", |(dir, _)| dir);
    bail!(
        "`{name}` is not what `{path}` gives: {}\n\
         hint: write both anew: profiler generate RECORDING --into {dir}, or profiler record --into {dir}",
        named.escape_debug()
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

/// What a rendering says of capabilities and the profile does not, or the other way round.
fn capabilities<'a>(
    profile: &Profile,
    added: impl Iterator<Item = &'a str>,
    text: &str,
) -> Result<BTreeSet<String>> {
    let value = serde_saphyr::from_str(text).context("not YAML\nhint: is it complete?")?;
    let mut said = BTreeSet::new();
    collect(&value, &mut said);
    let mut meant: BTreeSet<String> = added.map(|name| format!("add {name}")).collect();
    if profile.capabilities.known {
        meant.insert("drop ALL".to_owned());
    }
    Ok(said.symmetric_difference(&meant).cloned().collect())
}

fn collect(value: &Value, said: &mut BTreeSet<String>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| collect(value, said)),
        Value::Object(map) => {
            for (key, value) in map {
                let verb = match key.as_str() {
                    "cap_add" | "add" => "add",
                    "cap_drop" | "drop" => "drop",
                    "privileged" => "privileged",
                    _ => {
                        collect(value, said);
                        continue;
                    }
                };
                let items = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
                let text =
                    |item: &Value| item.as_str().map_or_else(|| item.to_string(), Into::into);
                said.extend(items.iter().map(|item| format!("{verb} {}", text(item))));
            }
        }
        _ => {}
    }
}
