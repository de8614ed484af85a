//! Renderings beside a profile: what it gives is accepted in any layout, and nothing else is.

use std::collections::BTreeSet;

use profiler::{
    model::{
        harden::Kind,
        policy::{self, Options},
        profile::Profile,
        recording::Recording,
        usage::{Protocol, Role, Usage},
    },
    render::{
        self,
        held::{of_compose, of_kubernetes, of_project},
    },
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{
    evidence::{BACKEND, parse},
    harden::{
        any_usage, file, hostile, layer, profile, profile_of, recording, rooted, socket, usage,
        user,
    },
};

type Held = fn(&Profile, &Value) -> BTreeSet<String>;

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn renderings(recording: &Recording, profile: &Profile) -> [(Value, Held); 2] {
    [
        (yaml(&render::compose::render(recording, profile, "profiles/$x/web")), of_compose),
        (yaml(&render::kubernetes::render(recording, profile)), of_kubernetes),
    ]
}

/// All that a container can be advised, in memory only or with a volume.
fn hardened(path: &str) -> Recording {
    let sockets = [socket(Role::Listening, "0.0.0.0", 80, Protocol::Tcp)].into();
    recording(Usage { root: layer([file(path)]), sockets, ..usage() })
}

/// Every place in a document.
fn places(value: &Value, at: String, found: &mut Vec<String>) {
    let below: Vec<(String, &Value)> = match value {
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), value)).collect(),
        Value::Array(items) => {
            items.iter().enumerate().map(|(index, item)| (index.to_string(), item)).collect()
        }
        _ => vec![],
    };
    for (key, value) in below {
        let at = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
        places(value, at.clone(), found);
        found.push(at);
    }
}

fn without(document: &Value, place: &str) -> Value {
    let mut edited = document.clone();
    let (above, key) = place.rsplit_once('/').expect("a place");
    let key = key.replace("~1", "/").replace("~0", "~");
    match edited.pointer_mut(above) {
        Some(Value::Object(map)) => drop(map.remove(&key)),
        Some(Value::Array(items)) => drop(items.remove(key.parse().expect("an index"))),
        other => panic!("{place} is in {other:?}"),
    }
    edited
}

fn with(document: &Value, place: &str, value: Value) -> Value {
    let mut edited = document.clone();
    *edited.pointer_mut(place).expect("a place") = value;
    edited
}

#[test]
fn nothing_can_be_taken_out_put_in_or_replaced() {
    // names that nobody but the user knows
    let free = ["/name", "/localhostProfile"];
    let mut edits = 0;
    for path in ["/tmp/x", "/opt/odd/x"] {
        let recording = hardened(path);
        let profile = profile(&recording);
        for (document, held) in renderings(&recording, &profile) {
            assert_eq!(held(&profile, &document), BTreeSet::new());
            let mut all = Vec::new();
            places(&document, String::new(), &mut all);
            for place in &all {
                let value = document.pointer(place).expect("it is there");
                let is_free = free.iter().any(|end| place.ends_with(end)) && value.is_string();
                let is_seccomp = value.as_str().is_some_and(|it| it.starts_with("seccomp:"));
                let mut edited = vec![without(&document, place)];
                match value {
                    Value::Object(_) => {
                        edited.push(with(&document, place, json!({"privileged": true})));
                        let mut more = value.clone();
                        more["privileged"] = true.into();
                        edited.push(with(&document, place, more));
                    }
                    Value::Array(items) => {
                        let more = items.iter().cloned().chain([json!("more")]);
                        edited.push(with(&document, place, more.collect()));
                    }
                    _ if is_free => {}
                    _ => edited.push(with(&document, place, json!("other"))),
                }
                if is_seccomp {
                    edited.push(with(&document, place, json!("seccomp:unconfined")));
                }
                for edited in edited {
                    edits += 1;
                    assert!(!held(&profile, &edited).is_empty(), "{place}: {edited}");
                }
            }
        }
    }
    assert!(edits > 200, "{edits}");
}

#[test]
fn what_no_profile_knows_may_differ() {
    let recording = hardened("/tmp/x");
    let profile = profile(&recording);
    let compose = "services:\n  other-name:\n    cpus: 1\n";
    let [(mut document, _), (patch, _)] = renderings(&recording, &profile);
    let name = recording.target.name.as_str();
    let mut service = document["services"][name].take();
    let options = service["security_opt"].as_array_mut().expect("options");
    options.reverse();
    for option in options {
        if option.as_str().expect("text").starts_with("seccomp:") {
            *option = "seccomp:/srv/elsewhere/seccomp.json".into();
        }
    }
    service["cpus"] = yaml(compose)["services"]["other-name"]["cpus"].clone();
    let document = json!({"services": {"other-name": service}});
    assert_eq!(of_compose(&profile, &document), BTreeSet::new());
    let context = "/spec/template/spec/containers/0/securityContext";
    let patch = with(&patch, "/spec/template/spec/containers/0/name", json!("api"));
    let path = format!("{context}/seccompProfile/localhostProfile");
    let patch = with(&patch, &path, json!("team/api.json"));
    assert_eq!(of_kubernetes(&profile, &patch), BTreeSet::new());
}

/// The comment at the head of kubernetes.yaml asks for it.
#[test]
fn what_the_patch_asks_for_may_be_set_and_nothing_else() {
    let sockets = [socket(Role::Listening, "0.0.0.0", 80, Protocol::Tcp)].into();
    let users = [user(0, true, &["sh"]), user(999, true, &["db"])].into();
    let low = rooted(Usage { sockets, users, ..usage() });
    for (recording, settings, another) in [
        (hardened("/opt/odd/x"), vec![("readOnlyRootFilesystem", json!(true))], json!(false)),
        (
            low,
            vec![
                ("runAsNonRoot", json!(true)),
                ("runAsGroup", json!(999)),
                ("runAsUser", json!(999)),
            ],
            json!(0),
        ),
    ] {
        let profile = profile_of(&recording, &[Kind::User, Kind::ReadOnly]);
        let [_, (mut patch, _)] = renderings(&recording, &profile);
        let context = "/spec/template/spec/containers/0/securityContext";
        let context = patch.pointer_mut(context).expect("a context");
        for (key, value) in &settings {
            assert_eq!(context.get(*key), None);
            context[*key] = value.clone();
        }
        let (key, _) = settings.last().expect("one");
        let right = patch.clone();
        patch["spec"]["template"]["spec"]["containers"][0]["securityContext"][*key] = another;
        assert_eq!(of_kubernetes(&profile, &right), BTreeSet::new());
        let said = of_kubernetes(&profile, &patch);
        let end = format!("securityContext.{key} is there");
        assert!(said.iter().any(|line| line.ends_with(&end)), "{said:?}");
    }
}

#[test]
fn of_a_project_the_others_are_theirs() {
    let mut web = profile(&hardened("/opt/odd/x"));
    let mut db = profile_of(&hardened("/tmp/x"), &[Kind::User]);
    (web.target.name, db.target.name) = ("web".into(), "db".into());
    let all = yaml(&render::compose::render_project([(&web, "p/web"), (&db, "p/db")]));
    for profile in [&web, &db] {
        assert_eq!(of_project(profile, &all), BTreeSet::new());
    }
    let edited = with(&all, "/services/db/cap_drop", json!(["NET_RAW"]));
    assert_eq!(of_project(&web, &edited), BTreeSet::new());
    let said = of_project(&db, &edited);
    let said: Vec<&str> = said.iter().map(String::as_str).collect();
    assert_eq!(said, ["services.db.cap_drop has NET_RAW", "services.db.cap_drop has no ALL"]);
    // a volume that is a directory of the host's is nobody's
    let mut bound = all.clone();
    bound["volumes"]["more"] = json!({"driver_opts": {"device": "/", "o": "bind"}});
    for profile in [&web, &db] {
        assert!(!of_project(profile, &bound).is_empty());
    }
    let mut left_out = all;
    left_out["services"].as_object_mut().expect("a map").remove("db");
    assert_eq!(of_project(&db, &left_out), BTreeSet::new());
}

#[test]
fn an_option_that_is_in_the_users_file_need_not_be_here() {
    let mut recording = parse(BACKEND);
    for run in recording.runs.values_mut() {
        let container = run.container.as_mut().expect("a container");
        container.no_new_privileges = true;
        container.compose_service = Some("web".into());
    }
    let profile = policy::derive(&recording, &Options::default());
    for in_file in [true, false] {
        for run in recording.runs.values_mut() {
            let container = run.container.as_mut().expect("a container");
            container.compose_service = in_file.then(|| "web".into());
        }
        let document = yaml(&render::compose::render(&recording, &profile, "p/web"));
        let name = if in_file { "web" } else { &recording.target.name };
        let options = document["services"][name]["security_opt"].as_array().map(Vec::len);
        assert_eq!(options, Some(if in_file { 1 } else { 2 }));
        assert_eq!(of_compose(&profile, &document), BTreeSet::new());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn own_output_is_accepted(usage in any_usage(), name in hostile(), root: bool, advised: bool) {
        let mut recording = if root { rooted(usage) } else { recording(usage) };
        recording.target.name = name;
        let kinds: &[Kind] = if advised { &Kind::ALL } else { &[] };
        let profile = profile_of(&recording, kinds);
        for (document, held) in renderings(&recording, &profile) {
            prop_assert_eq!(held(&profile, &document), BTreeSet::new());
        }
        let project = yaml(&render::compose::render_project([(&profile, "p/web")]));
        prop_assert_eq!(of_project(&profile, &project), BTreeSet::new());
    }
}
