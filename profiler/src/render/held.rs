//! Whether a rendering that lies beside a profile still says what the profile gives.
//!
//! Owns what may differ: layout, order, and what no profile knows, which is what the target is called there and where seccomp.json is.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::{
    model::profile::Profile,
    render::{compose, harden, kubernetes},
};

/// Where `compose.yaml` of one service says something else. Hostile text.
#[must_use]
pub fn of_compose(profile: &Profile, file: &Value) -> BTreeSet<String> {
    let services = file["services"].as_object();
    let only = services.filter(|services| services.len() == 1).and_then(|it| it.keys().next());
    let name = only.unwrap_or(&profile.target.name);
    differences(&compose::like(profile, name, file), file, same_text)
}

/// The same of the override for all services of a project, as far as it is this one's or nobody's. A service that it leaves out is not missed.
#[must_use]
pub fn of_project(profile: &Profile, file: &Value) -> BTreeSet<String> {
    let name = &profile.target.name;
    if file["services"].get(name).is_none() {
        return BTreeSet::new();
    }
    let volumes = harden::volumes(profile);
    let mut file = file.clone();
    keep(&mut file, "services", |key, _| key == name);
    keep(&mut file, "volumes", |key, value| volumes.contains(key) || !is_empty(value));
    differences(&compose::like(profile, name, &file), &file, same_text)
}

/// The services of the override for all of a project, each with the name of the directory that has its profile.
pub fn services(file: &Value) -> impl Iterator<Item = (&String, Option<String>)> {
    let services = file["services"].as_object().into_iter().flatten();
    services.map(|(name, service)| {
        let options = service["security_opt"].as_array().into_iter().flatten();
        let mut dirs = options.filter_map(|option| compose::seccomp_dir(option.as_str()?));
        let last = |dir: String| Some(dir.rsplit('/').next()?.to_owned());
        (name, dirs.next().and_then(last).filter(|dir| !matches!(dir.as_str(), "" | "." | "..")))
    })
}

/// Where `kubernetes.yaml` says something else. Hostile text.
#[must_use]
pub fn of_kubernetes(profile: &Profile, file: &Value) -> BTreeSet<String> {
    // its server takes no text for a number
    differences(&kubernetes::like(profile, file), file, |given, file| given == file)
}

/// Removes from the map at `key` all but these, and it when it is empty then.
fn keep(file: &mut Value, key: &str, is_kept: impl Fn(&String, &Value) -> bool) {
    let Some(file) = file.as_object_mut() else { return };
    let Some(Value::Object(map)) = file.get_mut(key) else { return };
    map.retain(|key, value| is_kept(key, value));
    if map.is_empty() {
        file.remove(key);
    }
}

/// Whether two scalars are the same.
type Same = fn(&Value, &Value) -> bool;

fn differences(given: &Value, file: &Value, same: Same) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    compare("", [given, file], same, &mut found);
    found
}

fn compare(at: &str, both: [&Value; 2], same: Same, found: &mut BTreeSet<String>) {
    let [given, file] = both;
    match (given, file) {
        (Value::Object(ours), Value::Object(theirs)) => {
            let keys: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
            for key in keys {
                let at = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                match (ours.get(key), theirs.get(key)) {
                    (Some(given), Some(file)) => compare(&at, [given, file], same, found),
                    (Some(_), None) => drop(found.insert(format!("{at} is missing"))),
                    (None, _) => drop(found.insert(format!("{at} is there"))),
                }
            }
        }
        (Value::Array(ours), Value::Array(theirs))
            if ours.len() == theirs.len() && ours.iter().any(Value::is_object) =>
        {
            for (index, (given, file)) in ours.iter().zip(theirs).enumerate() {
                compare(&format!("{at}.{index}"), [given, file], same, found);
            }
        }
        (Value::Array(ours), Value::Array(theirs)) => {
            let is_longer = theirs.len() > ours.len();
            let [ours, theirs] =
                [ours, theirs].map(|items| items.iter().map(text).collect::<BTreeSet<_>>());
            found.extend(theirs.difference(&ours).map(|item| format!("{at} has {item}")));
            found.extend(ours.difference(&theirs).map(|item| format!("{at} has no {item}")));
            if is_longer && ours == theirs {
                found.insert(format!("{at} has something twice"));
            }
        }
        _ if is_empty(given) && is_empty(file) || same(given, file) => {}
        _ if at.is_empty() => drop(found.insert(format!("it is {}", text(file)))),
        _ => drop(found.insert(format!("{at} is {}", text(file)))),
    }
}

fn same_text(given: &Value, file: &Value) -> bool {
    text(given) == text(file)
}

/// As compose takes it: a number is the same with quotation marks and without.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_object().is_some_and(Map::is_empty)
}
