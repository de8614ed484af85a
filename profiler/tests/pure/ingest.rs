//! Bad text ends in one clear error.

use std::error::Error;

use profiler::{
    ingest::{self, error::IngestError},
    model::{
        policy::{self, Options},
        recording::SeccompSetting,
        seccomp::PERMISSIVE,
    },
    render,
};

use crate::evidence::{COMMAND, LATE, parse};

fn message(error: &IngestError) -> String {
    match error.source() {
        Some(source) => format!("{error}\ncause: {source}"),
        None => error.to_string(),
    }
}

fn recording_error(text: &str) -> String {
    message(&ingest::recording::parse(text).expect_err("bad text"))
}

fn edited(from: &str, to: &str) -> String {
    assert!(COMMAND.contains(from), "{from}");
    COMMAND.replacen(from, to, 1)
}

#[test]
fn a_file_of_another_kind_is_named() {
    let profile = policy::derive(&parse(COMMAND), &Options::default());
    let [profile, filter] = [render::json::profile(&profile), render::seccomp::render(&profile)];
    assert!(recording_error(&profile).starts_with("a profile, not a recording\nhint: give"));
    assert!(recording_error(&filter).starts_with("a seccomp file, not a recording\nhint: give"));
    let error = ingest::profile::parse(COMMAND).expect_err("another kind").to_string();
    assert!(error.starts_with("a recording, not a profile\nhint: make one"), "{error}");
}

#[test]
fn recording_errors() {
    let cut: String = COMMAND.chars().take(100).collect();
    let cases = [
        ("empty", String::new()),
        ("cut short", cut),
        ("no version", edited("\"schema_version\": 1,", "")),
        ("version zero", edited("\"schema_version\": 1", "\"schema_version\": 0")),
        ("version is text", edited("\"schema_version\": 1", "\"schema_version\": \"1\"")),
        ("a list", "[]".into()),
        ("unknown key", edited("\"target\"", "\"colour\": 1, \"target\"")),
        ("unknown key in a fact", edited("\"abi\"", "\"colour\": 1, \"abi\"")),
        ("unknown key beside a tag", {
            LATE.replacen("\"kind\": \"startup\"", "\"kind\": \"startup\", \"why\": 1", 1)
        }),
        ("a key twice in a struct", edited("\"target\"", "\"target\": 1, \"target\"")),
        ("a run twice", { edited("\"runs\": {", "\"runs\": { \"00000000000000aa\": 1,") }),
        ("unknown abi", edited("x86_64\", \"nr\"", "vax\", \"nr\"")),
        ("negative number", edited("\"nr\": 0", "\"nr\": -1")),
        ("undescribed run", edited("{\"00000000000000aa\": {\"first", "{\"b\\u001b\": {\"first")),
    ];
    let text: Vec<String> = cases
        .iter()
        .map(|(name, text)| format!("## {name}\n{}\n", recording_error(text)))
        .collect();
    insta::assert_snapshot!(text.join("\n"));
}

#[test]
fn an_argument_fits_its_register_and_its_mask() {
    let with = |index: u8, value: u64| {
        let fact = format!(
            r#"{{"abi": "x86_64", "nr": 41, "phase": "workload", "values": [{{"index": {index}, "mask": 255, "value": {value}}}], "seen": {{}}}}"#
        );
        ingest::recording::parse(&edited(
            "\"denials\"",
            &format!("\"arguments\": [{fact}], \"denials\""),
        ))
    };
    assert_eq!(with(5, 255).expect("fits").arguments.len(), 1);
    for (index, value) in [(6, 0), (0, 256)] {
        let error = with(index, value).expect_err("does not fit");
        assert!(matches!(error, IngestError::Value { field: "argument", .. }), "{error}");
    }
}

#[test]
fn a_newer_version_is_told_before_anything_else() {
    let text = r#"{"runs": "of another shape", "schema_version": 99}"#;
    let error = ingest::recording::parse(text).expect_err("newer");
    assert!(matches!(error, IngestError::Newer { found: 99, known: 1, .. }), "{error}");
    let error = ingest::profile::parse(text).expect_err("newer");
    assert!(matches!(error, IngestError::Newer { what: "profile", found: 99, .. }), "{error}");
}

#[test]
fn a_profile_names_only_what_exists() {
    let profile = policy::derive(&parse(COMMAND), &Options::default());
    let good = render::json::profile(&profile);
    ingest::profile::parse(&good).expect("own output");
    for (from, to, what) in [
        ("\"openat\"", "\"opnat\"", "invalid syscall `opnat`"),
        ("\"openat\"", "\"syscall_2\"", "invalid syscall `syscall_2`"),
        (
            "\"required\": []",
            "\"required\": [{\"name\": \"CAP_CHOWN\", \"reasons\": []}]",
            "capability",
        ),
        ("\"always-allowed\"", "\"always-allowed\", \"x\": 1", "unknown field `x`"),
    ] {
        assert!(good.contains(from), "{from}");
        let error = ingest::profile::parse(&good.replacen(from, to, 1)).expect_err(to);
        assert!(message(&error).contains(what), "{}", message(&error));
    }
    ingest::profile::parse(&good.replacen("\"openat\"", "\"syscall_999\"", 1)).expect("unnamed");
}

#[test]
fn seccomp_files_are_judged_by_their_actions() {
    let file = ingest::seccomp::parse(PERMISSIVE).expect("ours");
    assert_eq!(file.setting(), SeccompSetting::Permissive);

    let default = include_str!("../../../profiles/upstream/docker-default.json");
    let file = ingest::seccomp::parse(default).expect("Docker's");
    assert_eq!(file.setting(), SeccompSetting::Custom);

    for (text, setting) in [
        (r#"{"defaultAction":"SCMP_ACT_LOG","syscalls":null}"#, SeccompSetting::Permissive),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mount"],"action":"SCMP_ACT_ERRNO"}]}"#,
            SeccompSetting::Custom,
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"read","action":"SCMP_ACT_LOG","args":null}]}"#,
            SeccompSetting::Permissive,
        ),
    ] {
        assert_eq!(ingest::seccomp::parse(text).expect(text).setting(), setting, "{text}");
    }
}

#[test]
fn seccomp_errors() {
    for (text, what) in [
        ("{", "not valid JSON"),
        (r#"{"defaultAction":"SCMP_ACT_SMILE"}"#, "unknown variant `SCMP_ACT_SMILE`"),
        (r#"{"defaultAction":"SCMP_ACT_ALLOW","default":1}"#, "unknown field `default`"),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":[],"action":"SCMP_ACT_LOG","includes":{"minKernel":"four"}}]}"#,
            "`four` is no kernel version",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86"],"archMap":[{"architecture":"SCMP_ARCH_X86"}]}"#,
            "invalid combination",
        ),
    ] {
        let error = ingest::seccomp::parse(text).expect_err(text);
        assert!(message(&error).contains(what), "{}", message(&error));
    }
}
