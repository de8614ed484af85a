//! What two policies set beyond calls and capabilities, where advice is followed.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    diff::{Change, Entry, Kind, Subject, Users},
    facts::Risk,
    harden::{
        Harden,
        settings::{KUBERNETES_PORT, KUBERNETES_USER, READ_ONLY, Setting, WRITABLE},
    },
};

type Settings = BTreeMap<String, (Setting, BTreeSet<String>)>;

/// The differences of their settings.
pub(super) fn entries(old: &Harden, new: &Harden) -> Vec<Entry> {
    let (before, after) = (old.settings(), new.settings());
    // what stays writable says nothing where all is
    let both_have = |name| before.contains_key(name) && after.contains_key(name);
    let (both_read_only, both_users) = (both_have(READ_ONLY), both_have("user"));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let changed = names.into_iter().filter_map(|name| {
        let is_place = name.starts_with(WRITABLE);
        if is_place && !both_read_only || name == KUBERNETES_USER && !both_users {
            return None;
        }
        let is_exception = is_place || [KUBERNETES_USER, KUBERNETES_PORT].contains(&name.as_str());
        let (was, is) = (at(&before, name), at(&after, name));
        let grows = match (was, is) {
            (Some((was, _)), Some((is, _))) if was == is => return None,
            (Some((was, _)), Some((is, _))) => is.exceeds(was),
            // what a user of the image's may do is not known; all but exceptions takes something away
            (None, Some((is, _))) => is_exception || is.is_privileged(),
            (None, None) => false,
            (_, None) => !is_exception,
        };
        let told = |of: Option<&(Setting, _)>| {
            of.map_or_else(|| absent(name).to_owned(), |(setting, _)| setting.to_string())
        };
        let why = is.or(was).map(|(_, why)| why.iter().cloned().collect());
        let (risk, reason) = risk(name);
        Some(Entry {
            subject: Subject::Harden(name.clone()),
            change: Change { kind: Kind::Action, old: told(was), new: told(is) },
            grows,
            risk,
            risk_reason: reason.to_owned(),
            users: Users { others: why.unwrap_or_default(), ..Users::default() },
        })
    });
    changed.collect()
}

/// What is set, for a directory by itself or by the nearest one around it.
fn at<'a>(settings: &'a Settings, name: &str) -> Option<&'a (Setting, BTreeSet<String>)> {
    let around = || settings.iter().rev().find(|(other, _)| is_around(other, name));
    settings.get(name).or_else(|| Some(around()?.1))
}

/// Of two directories that stay writable.
fn is_around(one: &str, other: &str) -> bool {
    let below = other.strip_prefix(one).filter(|_| one.starts_with(WRITABLE));
    below.is_some_and(|below| below.starts_with('/'))
}

/// What holds where nothing is set.
fn absent(name: &str) -> &'static str {
    match name {
        READ_ONLY => "writable",
        "user" => "as the image says",
        KUBERNETES_USER => "the user that is set",
        KUBERNETES_PORT => "no capability for it",
        "network" => "anything",
        _ if name.starts_with(WRITABLE) => "read-only",
        _ => "no limit",
    }
}

fn risk(name: &str) -> (Risk, &'static str) {
    match name {
        "user" | KUBERNETES_USER => {
            (Risk::High, "it decides which files are its own, and whether it is root")
        }
        "network" => (Risk::Moderate, "it decides who reaches it and whom it reaches"),
        READ_ONLY => (Risk::Moderate, "what is writable can be replaced, programs among it"),
        _ if name.starts_with(WRITABLE) => {
            (Risk::Moderate, "what is written there may be used, or fill what it is on")
        }
        _ => (Risk::Moderate, "it may take what others on the machine need"),
    }
}
