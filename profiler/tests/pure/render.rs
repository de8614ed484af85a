//! Whole outputs, as they are committed.

use std::collections::{BTreeMap, BTreeSet};

use profiler::{
    ingest,
    model::{
        arch::Abi,
        errno,
        merge::canonical,
        policy::{self, Options},
        purpose::Purpose,
        recording::Recording,
        seccomp::Action,
        text,
    },
    render,
};
use serde_json::Value;

use crate::evidence::{BACKEND, COMMAND, FILTERED, LATE, parse};

fn files(recording: &Recording) -> BTreeMap<&'static str, String> {
    let profile = policy::derive(recording, &Options::default());
    render::bundle(recording, &profile, "profiles/backend").into_iter().collect()
}

fn whole(recording: &Recording) -> String {
    let profile = policy::derive(recording, &Options::default());
    let files = render::bundle(recording, &profile, "profiles/backend");
    files.iter().map(|(name, text)| format!("==> {name} <==\n{text}\n")).collect()
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).expect("valid YAML")
}

#[test]
fn container() {
    insta::assert_snapshot!(whole(&parse(BACKEND)));
}

#[test]
fn late_hostile_container_without_capability_evidence() {
    insta::assert_snapshot!(whole(&parse(LATE)));
}

#[test]
fn filtered_container() {
    insta::assert_snapshot!(whole(&parse(FILTERED)));
}

#[test]
fn command() {
    insta::assert_snapshot!(whole(&parse(COMMAND)));
}

#[test]
fn a_command_has_no_container_files() {
    let names: Vec<_> = files(&parse(COMMAND)).into_keys().collect();
    assert_eq!(names, ["profile.json", "recording.json", "seccomp.json"]);
    let of_container = files(&parse(BACKEND));
    let mut all = BTreeSet::from(render::bundle::NAMES);
    assert!(all.remove("networkpolicy.yaml"), "asked for only");
    assert!(of_container.keys().eq(&all), "{of_container:?}");
}

#[test]
fn committed_files_hold_nothing_of_the_run() {
    let one = parse(BACKEND);
    let mut other = one.clone();
    let runs = std::mem::take(&mut other.runs);
    for (id, mut run) in runs {
        run.started_unix_s += 86_400;
        run.duration_ms *= 2;
        run.host.kernel = "6.12.1".into();
        let container = run.container.as_mut().expect("a container");
        container.ids = vec!["beef".into()];
        container.image_id = "sha256:cd".into();
        other.runs.insert(id.replace("00", "11"), run);
    }
    let renamed = |id: &String| id.replace("00", "11");
    for fact in &mut other.syscalls {
        fact.seen = fact.seen.iter().map(|(id, seen)| (renamed(id), seen.clone())).collect();
        for seen in fact.seen.values_mut() {
            seen.first_ms = seen.first_ms.map(|ms| ms + 77);
        }
    }
    for fact in &mut other.capabilities {
        fact.seen = fact.seen.iter().map(|(id, seen)| (renamed(id), seen.clone())).collect();
        for seen in fact.seen.values_mut() {
            seen.checks *= 3;
        }
    }
    let (mut one, mut other) = (files(&one), files(&other));
    assert_ne!(one.remove("recording.json"), other.remove("recording.json"));
    assert_eq!(one, other);
}

#[test]
fn hostile_names_are_inert_in_yaml() {
    let mut recording = parse(BACKEND);
    for run in recording.runs.values_mut() {
        run.container.as_mut().expect("a container").compose_service = None;
    }
    for name in [
        "a: b",
        "- x",
        "'",
        "\"",
        "#",
        "null",
        "yes",
        "~",
        "1",
        "0x1f",
        "*a",
        "&a",
        "!!int 3",
        "a\nservices:\n  b: {}",
        "{}",
        "[]",
        "%TAG",
        "---",
        "...",
        "\u{1b}[31m",
        "\u{85}",
        "\u{2028}",
        "\u{202e}",
        "a #b",
        " a ",
        "",
        "\\",
        "<<",
        "=",
        "\u{fe0f}\u{3164}\u{ffff}\u{e0fff}\u{1d173}",
    ] {
        recording.target.name = name.into();
        let files = files(&recording);
        for file in ["compose.yaml", "kubernetes.yaml"] {
            let content = &files[file];
            let acts = |c: char| text::acts(c) && c != '\n';
            assert!(!content.contains(acts), "{file} for {name:?}: {content:?}");
        }
        let compose = yaml(&files["compose.yaml"]);
        let services = compose["services"].as_object().expect("a map");
        assert_eq!(services.keys().collect::<Vec<_>>(), [name]);
        assert_eq!(services[name]["cap_drop"], serde_json::json!(["ALL"]));
        let patch = yaml(&files["kubernetes.yaml"]);
        let container = &patch["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["name"], name);
        let path = container["securityContext"]["seccompProfile"]["localhostProfile"].as_str();
        let stem = path.and_then(|path| path.strip_prefix("profiler/")).expect("a path");
        assert!(!stem.contains('/') && !stem.starts_with('.'), "{stem}");
    }
}

#[test]
fn without_capability_evidence_none_is_dropped() {
    let files = files(&parse(LATE));
    assert!(!files["compose.yaml"].contains("cap_"));
    assert!(!files["kubernetes.yaml"].contains("capabilities"));
    assert!(files["compose.yaml"].contains("no-new-privileges:true"));
    assert!(files["kubernetes.yaml"].contains("allowPrivilegeEscalation: false"));
}

#[test]
fn no_new_privileges_is_set_only_as_recorded() {
    let files = files(&parse(BACKEND));
    assert!(!files["compose.yaml"].contains("no-new-privileges"));
    assert!(!files["kubernetes.yaml"].contains("allowPrivilegeEscalation"));
}

#[test]
fn what_the_compose_file_sets_is_not_said_again() {
    let is_set = |recording: &Recording, options: &Options| {
        let profile = policy::derive(recording, options);
        assert!(profile.made_for.no_new_privileges());
        let all = render::compose::render_project([(&profile, "x")]);
        [render::compose::render(recording, &profile, "x"), all]
            .map(|text| text.contains("no-new-privileges:true"))
    };
    let mut recording = parse(BACKEND);
    let purpose = Purpose { no_new_privileges: Some(true), ..Purpose::default() };
    let asked = Options { purpose, ..Options::default() };
    assert_eq!(is_set(&recording, &asked), [true, true], "asked for, and not recorded");
    for run in recording.runs.values_mut() {
        run.container.as_mut().expect("a container").no_new_privileges = true;
    }
    assert_eq!(is_set(&recording, &Options::default()), [false, false]);
    assert_eq!(is_set(&recording, &asked), [false, false]);
}

#[test]
fn a_seccomp_file_is_pure_oci_and_names_only_calls() {
    let recording = parse(LATE);
    let text = files(&recording).remove("seccomp.json").expect("made for every target");
    let value: Value = serde_json::from_str(&text).expect("JSON");
    let keys: Vec<_> = value.as_object().expect("an object").keys().collect();
    assert_eq!(keys, ["architectures", "defaultAction", "defaultErrnoRet", "syscalls"]);
    assert!(!text.contains("syscall_999"));

    let file = ingest::seccomp::parse(&text).expect("own output");
    assert_eq!(
        (file.default_action, file.default_errno_ret),
        (Action::Errno, Some(errno::DEFAULT))
    );
    let [allow, fallback] = file.syscalls.as_slice() else { panic!("two rules: {text}") };
    assert_eq!(allow.action, Action::Allow);
    assert_eq!((fallback.action, fallback.errno_ret), (Action::Errno, Some(errno::FALLBACK)));
    for name in ["clone3", "statx", "openat2", "faccessat2"] {
        assert!(fallback.names.iter().any(|n| n == name), "{name}");
    }
    assert!(allow.names.is_sorted() && fallback.names.is_sorted());
}

#[test]
fn a_call_allowed_on_one_abi_is_not_refused_by_name_on_another() {
    let mut recording = parse(BACKEND);
    for fact in &mut recording.syscalls {
        // clone3 is seen by 32-bit code only.
        if (fact.abi, fact.nr) == (Abi::X86_64, 435) {
            fact.abi = Abi::Ia32;
        }
    }
    let text = files(&recording).remove("seccomp.json").expect("made for every target");
    let file = ingest::seccomp::parse(&text).expect("own output");
    assert!(file.syscalls[0].names.iter().any(|name| name == "clone3"));
    assert!(!file.syscalls[1].names.iter().any(|name| name == "clone3"));
}

#[test]
fn a_rendered_recording_gives_the_same_bundle() {
    for fixture in [BACKEND, LATE, FILTERED, COMMAND] {
        let recording = parse(fixture);
        let files = files(&recording);
        let read = ingest::recording::parse(&files["recording.json"]).expect("own output");
        assert_eq!(read, canonical(recording));
        assert_eq!(self::files(&read), files);
    }
}
