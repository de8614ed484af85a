//! The committed JSON schemas are those of the types, and what is written follows them.

use std::{collections::BTreeSet, path::PathBuf};

use profiler::{
    model::{
        arch::Abi,
        baseline::docker_default_file,
        bpf::Program,
        check::{Check, CheckState},
        effective::{Context, Engine, decide},
        explain::Subject,
        harden::Kind,
        lint,
        policy::{self, Options},
        seccomp::KernelVersion,
        static_check::check,
    },
    render,
    report::{doctor, explain, lint as lint_report, schema, static_check},
};
use serde_json::Value;

use crate::evidence::{BACKEND, COMMAND, FILTERED, LATE, parse};

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/schemas")
}

#[test]
fn committed_schemas_are_those_of_the_types() {
    for (name, text) in schema::all() {
        let path = directory().join(name);
        if std::env::var_os("UPDATE_SCHEMAS").is_some() {
            fs_err::write(&path, &text).expect("writes");
        }
        let committed = fs_err::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == text,
            "`{name}` differs: UPDATE_SCHEMAS=1 cargo test -p profiler --test pure schemas"
        );
    }
    let known: Vec<&str> = schema::all().iter().map(|(name, _)| *name).collect();
    for entry in fs_err::read_dir(directory()).expect("lists") {
        let name = entry.expect("an entry").file_name().into_string().expect("UTF-8");
        assert!(known.contains(&name.as_str()), "`{name}` is the schema of nothing");
    }
}

/// Fails unless `text` follows the schema of this name.
pub fn follows(schema: &str, text: &str) {
    let (_, schema) = schema::all().into_iter().find(|(name, _)| *name == schema).expect(schema);
    let schema: Value = serde_json::from_str(&schema).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let document: Value = serde_json::from_str(text).expect("JSON");
    if let Err(error) = validator.validate(&document) {
        panic!("{error} at {}\n{text}", error.instance_path);
    }
    // A validator that takes everything would say the same.
    assert!(!validator.is_valid(&Value::String("x".into())));
}

fn written(write: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> String {
    let mut out = Vec::new();
    write(&mut out).expect("a vector takes everything");
    String::from_utf8(out).expect("UTF-8")
}

#[test]
fn what_is_written_follows_its_schema() {
    for text in [BACKEND, COMMAND, FILTERED, LATE] {
        let recording = parse(text);
        follows("recording.schema.json", &render::json::recording(&recording));
        let profile = policy::derive(
            &recording,
            &Options { learn_denied: true, harden: Kind::ALL.into(), ..Default::default() },
        );
        follows("profile.schema.json", &render::json::profile(&profile));
        let file = profiler::ingest::seccomp::parse(&render::seccomp::render(&profile));
        let file = file.expect("own output");
        let context = context();
        let subject = Subject { file: &file, profile: Some(&profile), context: &context };
        let entries = subject.ranked();
        follows(
            "explain.schema.json",
            &written(|out| {
                explain::json(
                    &explain::Entries {
                        entries: &entries,
                        left_out: &subject.left_out(),
                        harden: profile.harden.as_ref(),
                    },
                    out,
                )
            }),
        );
    }
    let context = context();
    let file = docker_default_file();
    let subject = Subject { file, profile: None, context: &context };
    for (call, arguments) in [("read", vec![]), ("personality", vec![]), ("clone", vec![0x11])] {
        let answers = subject.why_not(call, &arguments).expect("known");
        follows(
            "why-not.schema.json",
            &written(|out| explain::json(&explain::Answers { answers: &answers }, out)),
        );
    }
    let findings = lint::lint(&lint::Subject::new(file, None, None, vec![context.clone()]));
    let found: Vec<_> =
        findings.iter().map(|f| lint_report::Found::new(f, "x.json", "", Some(1))).collect();
    assert!(!found.is_empty());
    follows("lint.schema.json", &written(|out| lint_report::json(&found, out)));
    // a filter that allows everything is none of Docker's
    let program = Program::parse(&[6, 0, 0, 0, 0, 0, 0xff, 0x7f]).expect("a program");
    let checked = check(&program, &decide(file, &context), &BTreeSet::new(), context.native);
    assert!(!checked.holds() && checked.longest_path == 1);
    let document = static_check::Document {
        file: "x.json".into(),
        libseccomp: "2.5.4".into(),
        checks: vec![static_check::Checked {
            machine: context.native,
            holds: checked.holds(),
            check: checked,
        }],
    };
    follows("verify-static.schema.json", &written(|out| static_check::json(&document, out)));
    let checks = [Check::new("BTF", CheckState::Missing, "not there").hint("another kernel")];
    follows("doctor.schema.json", &written(|out| doctor::json(&checks, out)));
}

fn context() -> Context {
    Context {
        native: Abi::X86_64,
        capabilities: [21].into(),
        kernel: KernelVersion { major: 6, minor: 18 },
        engine: Engine::Docker,
    }
}
