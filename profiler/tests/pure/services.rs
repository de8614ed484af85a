//! Services of a compose project with any names at all: inert in every format, each of which is read back.

use std::collections::BTreeSet;

use profiler::{
    ingest,
    model::{
        policy::{self, Options},
        profile::Profile,
        recording::{Recording, Target, TargetKind},
        text,
    },
    render,
};
use proptest::{
    collection::{btree_set, vec},
    prelude::*,
    sample::select,
};
use serde_json::Value;

use crate::evidence::{BACKEND, parse};

/// What means something to YAML, shells, compose, paths or terminals.
const PARTS: [&str; 24] = [
    "a",
    "b: ",
    "\n",
    "\"",
    "'",
    "\\",
    "$",
    "${X}",
    "`",
    "..",
    "/",
    "#",
    " ",
    "{",
    "}",
    "[",
    "- ",
    "*",
    "&",
    "!",
    "%",
    "\u{1b}[31m",
    "\u{202e}",
    "\u{85}",
];

fn any_name() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => vec(select(&PARTS[..]), 0..30).prop_map(|parts| parts.concat()),
        1 => "\\PC{0,40}",
    ]
}

fn service(name: &str) -> Recording {
    let mut recording = parse(BACKEND);
    recording.target = Target { kind: TargetKind::Service, name: name.to_owned() };
    for run in recording.runs.values_mut() {
        run.container.as_mut().expect("a container").compose_service = Some(name.to_owned());
    }
    recording
}

fn yaml(text: &str) -> Value {
    let acts = |c: char| text::acts(c) && c != '\n';
    assert!(!text.contains(acts), "{text:?}");
    serde_saphyr::from_str(text).expect("valid YAML")
}

/// The services that an override names; each has the settings of a profile, and nothing else is there.
fn services(text: &str) -> BTreeSet<String> {
    let written = yaml(text);
    assert!(written.as_object().expect("a map").keys().eq(["services"]), "{text}");
    let services = written["services"].as_object().expect("a map");
    for settings in services.values() {
        let keys: BTreeSet<&String> = settings.as_object().expect("a map").keys().collect();
        assert!(keys.into_iter().eq(["cap_add", "cap_drop", "security_opt"]), "{text}");
        let option = settings["security_opt"][0].as_str().expect("text");
        assert!(option.starts_with("seccomp:") && option.ends_with("/seccomp.json"), "{option}");
        assert!(!option.replace("$$", "").contains('$'), "a variable begins: {option}");
    }
    services.keys().cloned().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn names_are_inert_in_every_format(names in btree_set(any_name(), 1..4), dir in any_name()) {
        let recordings: Vec<Recording> = names.iter().map(|name| service(name)).collect();
        let derive = |recording| policy::derive(recording, &Options::default());
        let profiles: Vec<Profile> = recordings.iter().map(derive).collect();
        let all = profiles.iter().map(|profile| (profile, dir.as_str()));
        prop_assert_eq!(services(&render::compose::render_project(all)), names);
        for (recording, profile) in recordings.iter().zip(&profiles) {
            let name = &recording.target.name;
            for (file, text) in render::bundle(recording, profile, &dir) {
                match file {
                    "recording.json" => {
                        let read = parse(&text);
                        prop_assert_eq!(&read.target, &recording.target);
                        prop_assert_eq!(&read.runs, &recording.runs);
                    }
                    "profile.json" => {
                        prop_assert_eq!(&ingest::profile::parse(&text).expect("a profile"), profile);
                    }
                    "compose.yaml" => prop_assert!(services(&text).iter().eq([name])),
                    "kubernetes.yaml" => {
                        let container = &yaml(&text)["spec"]["template"]["spec"]["containers"][0];
                        prop_assert_eq!(container["name"].as_str(), Some(name.as_str()));
                    }
                    _ => prop_assert!(ingest::seccomp::parse(&text).is_ok(), "{}", file),
                }
            }
        }
    }
}
