//! Every trap is found where it stands, nothing else is, and a fix changes only what it says.

use std::collections::BTreeSet;

use profiler::{
    ingest::{self, layout::Layout},
    model::{
        arch::Abi,
        capability,
        effective::{Context, Engine, decide},
        facts,
        lint::{Finding, Lint, Severity, Subject, lint},
        policy::{self, Options},
        profile::Profile,
        recording::{Phase, Recording},
        seccomp::{KernelVersion, PERMISSIVE, SeccompFile},
    },
    render,
    report::lint::{Found, human, json, sarif},
};
use proptest::prelude::*;

use crate::evidence::{BACKEND, COMMAND, FILTERED, LATE, any_recording, parse};

/// Rules without which a file is not clean.
const BASE: &str = r#"{"names": ["execve", "exit", "exit_group", "rt_sigreturn", "restart_syscall", "clock_gettime", "gettimeofday", "time", "getcpu"], "action": "SCMP_ACT_ALLOW"}"#;

/// Files with one trap each, and the trap.
const TRAPS: &[(&str, Lint)] = &[
    (
        r#"{"names": ["raed", "CAP_CHOWN", "syscall_999", "\u001b[2Jx"], "action": "SCMP_ACT_ALLOW"}"#,
        Lint::UnknownName,
    ),
    (r#"{"names": ["read", "mseal", "fchroot"], "action": "SCMP_ACT_ALLOW"}"#, Lint::IgnoredName),
    (r#"{"names": ["statmount"], "action": "SCMP_ACT_ALLOW"}"#, Lint::FallbackErrno),
    (r#"{"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13}"#, Lint::FallbackErrno),
    (
        r#"{"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}}"#,
        Lint::EngineKey,
    ),
    (r#"{"name": "read", "action": "SCMP_ACT_ALLOW"}"#, Lint::EngineKey),
    (r#"{"names": ["read"], "action": "SCMP_ACT_ERRNO", "errno": "EACCES"}"#, Lint::EngineKey),
    (
        r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW"}, {"names": ["read"], "action": "SCMP_ACT_LOG"}"#,
        Lint::TwoActions,
    ),
    (
        r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW"}, {"names": ["read"], "action": "SCMP_ACT_KILL_PROCESS", "args": [{"index": 0, "value": 3, "op": "SCMP_CMP_EQ"}]}"#,
        Lint::TwoActions,
    ),
    (
        r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 4, "op": "SCMP_CMP_EQ"}]}, {"names": ["read"], "action": "SCMP_ACT_LOG", "args": [{"index": 1, "value": 3, "op": "SCMP_CMP_EQ"}]}"#,
        Lint::TwoActions,
    ),
    (r#"{"names": ["read", "read"], "action": "SCMP_ACT_ALLOW"}"#, Lint::NoEffect),
    (
        r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW"}, {"names": ["read"], "action": "SCMP_ACT_ALLOW"}"#,
        Lint::NoEffect,
    ),
    (r#"{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}"#, Lint::NoEffect),
    (r#"{"names": [], "action": "SCMP_ACT_ALLOW"}"#, Lint::NoEffect),
    (
        r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 2, "value": 4294967296, "op": "SCMP_CMP_GE"}]}, {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 2, "value": 8589934592, "op": "SCMP_CMP_GE"}]}"#,
        Lint::OverlappingComparisons,
    ),
    (
        r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 3, "op": "SCMP_CMP_GE"}, {"index": 0, "value": 9, "op": "SCMP_CMP_LE"}]}"#,
        Lint::RepeatedIndex,
    ),
    (
        r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_BPF"]}, "excludes": {"caps": ["CAP_BPF"]}}"#,
        Lint::UnreachableRule,
    ),
    (
        r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYSADMIN"]}}"#,
        Lint::UnreachableRule,
    ),
    (
        r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd46"]}}"#,
        Lint::UnreachableRule,
    ),
    (
        r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "5.0"}, "excludes": {"minKernel": "4.8"}}"#,
        Lint::UnreachableRule,
    ),
    (
        r#"{"names": ["clone3"], "action": "SCMP_ACT_ALLOW"}, {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 2114060288, "op": "SCMP_CMP_MASKED_EQ"}]}"#,
        Lint::Clone3Open,
    ),
];

/// What is beside the rules: a file, and the trap.
const WHOLE: &[(&str, Lint)] = &[
    (
        r#"{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": []}"#,
        Lint::MissingExit,
    ),
    (
        r#"{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]}"#,
        Lint::RuntimeCannotStart,
    ),
    (r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#, Lint::Architectures),
    (
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AMD64"]}"#,
        Lint::Architectures,
    ),
    (
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_RISCV64"]}"#,
        Lint::Architectures,
    ),
    (
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [{"names": ["listmount"], "action": "SCMP_ACT_ERRNO"}]}"#,
        Lint::IgnoredName,
    ),
    (
        r#"{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"], "syscalls": [{"names": ["socketcall"], "action": "SCMP_ACT_ALLOW"}, {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 2, "op": "SCMP_CMP_EQ"}]}]}"#,
        Lint::SocketcallOpen,
    ),
    (
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "archMap": [{"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]}]}"#,
        Lint::EngineKey,
    ),
    (
        r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrno": "ENOSYS", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": []}"#,
        Lint::EngineKey,
    ),
];

fn around(rules: &str) -> String {
    format!(
        "{{\n  \"defaultAction\": \"SCMP_ACT_ERRNO\",\n  \"architectures\": [\"SCMP_ARCH_X86_64\"],\n  \"syscalls\": [\n    {BASE},\n    {rules}\n  ]\n}}\n"
    )
}

fn context(native: Abi) -> Context {
    Context {
        native,
        capabilities: capability::DOCKER_DEFAULT
            .iter()
            .filter_map(|n| capability::number(n))
            .collect(),
        kernel: KernelVersion { major: 6, minor: 18 },
        engine: Engine::Docker,
    }
}

fn found(file: &SeccompFile, profile: Option<&Profile>) -> Vec<Finding> {
    let natives: Vec<Context> = match file.architectures.iter().any(|a| a == "SCMP_ARCH_AARCH64") {
        true if !file.architectures.iter().any(|a| a == "SCMP_ARCH_X86_64") => {
            vec![context(Abi::Aarch64)]
        }
        true => vec![context(Abi::X86_64), context(Abi::Aarch64)],
        false => vec![context(Abi::X86_64)],
    };
    lint(&Subject::new(file, profile, None, natives))
}

fn files() -> Vec<(String, Lint)> {
    let rules = TRAPS.iter().map(|&(rules, trap)| (around(rules), trap));
    rules.chain(WHOLE.iter().map(|&(file, trap)| (file.to_owned(), trap))).collect()
}

#[test]
fn every_trap_is_found_and_told() {
    let mut told = String::new();
    let mut caught = BTreeSet::from([Lint::CapabilityWithoutEffect]); // has a test of its own
    for (text, trap) in files() {
        let file = ingest::seccomp::parse(&text).expect(&text);
        let findings = found(&file, None);
        assert!(
            findings.iter().any(|finding| finding.lint == trap),
            "{trap:?}: {findings:#?}\n{text}"
        );
        caught.insert(trap);
        let layout = Layout::of(&text);
        let lines: Vec<Found> = findings
            .iter()
            .map(|finding| {
                let index = finding.pointer.split('/').nth(2).and_then(|part| part.parse().ok());
                let line = index.and_then(|index| layout.as_ref()?.line_of_rule(index));
                Found::new(finding, "seccomp.json", "", line)
            })
            .collect();
        let mut out = Vec::new();
        human(&lines, 0, &mut out).expect("a vector takes everything");
        let out = String::from_utf8(out).expect("UTF-8");
        let rules = text.lines().rev().nth(2).filter(|_| text.contains(BASE)).unwrap_or(&text);
        told.push_str(&format!("## {}\n{}\n", rules.trim(), anstream::adapter::strip_str(&out)));
    }
    assert_eq!(caught, BTreeSet::from(Lint::ALL), "each lint has a trap");
    insta::assert_snapshot!(told);
}

#[test]
fn files_without_a_trap_are_clean() {
    let clean =
        around(r#"{"names": ["clone3", "openat2"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}"#);
    for (text, limit) in [(PERMISSIVE, Severity::Note), (clean.as_str(), Severity::Error)] {
        let findings = found(&ingest::seccomp::parse(text).expect("parses"), None);
        let bad: Vec<_> = findings.iter().filter(|finding| finding.severity >= limit).collect();
        assert!(bad.is_empty(), "{bad:#?}");
    }
}

#[test]
fn a_capability_that_nothing_uses_is_found() {
    let mut profile = policy::derive(&parse(BACKEND), &Options::default());
    let users = facts::capability("NET_BIND_SERVICE").and_then(|facts| facts.calls);
    let users = users.expect("a list");
    profile.syscalls.retain(|rule| !users.contains(&rule.name.as_str()));
    let file = rendered(&profile);
    let findings = found(&file, Some(&profile));
    let of = |lint| findings.iter().filter(|finding| finding.lint == lint).collect::<Vec<_>>();
    let [finding] = of(Lint::CapabilityWithoutEffect)[..] else { panic!("{findings:#?}") };
    assert!(finding.message.contains("CAP_NET_BIND_SERVICE"), "{findings:#?}");
}

fn rendered(profile: &Profile) -> SeccompFile {
    ingest::seccomp::parse(&render::seccomp::render(profile)).expect("own output")
}

#[test]
fn what_profiler_writes_of_the_fixtures_is_clean() {
    for text in [BACKEND, COMMAND, FILTERED, LATE] {
        for learn_denied in [false, true] {
            let profile =
                policy::derive(&parse(text), &Options { learn_denied, ..Default::default() });
            let findings = found(&rendered(&profile), Some(&profile));
            let bad: Vec<_> = findings.iter().filter(|f| f.severity > Severity::Note).collect();
            assert!(bad.is_empty(), "{bad:#?}");
        }
    }
}

/// A recording that cannot be: a hand-over without what every hand-over has, a capability asked for by a call that never asks.
fn is_made_up(finding: &Finding, recording: &Recording) -> bool {
    let handed_over = recording.syscalls.iter().any(|fact| fact.phase == Phase::Handover);
    match finding.lint {
        Lint::RuntimeCannotStart => handed_over,
        Lint::CapabilityWithoutEffect => true,
        // where a run did not look, or saw namespaces; a note says so
        Lint::Clone3Open => true,
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_profiler_writes_is_clean(recording in any_recording()) {
        let profile = policy::derive(&recording, &Options::default());
        let findings = found(&rendered(&profile), Some(&profile));
        let bad: Vec<_> = findings
            .iter()
            .filter(|f| f.severity > Severity::Note && !is_made_up(f, &recording))
            .collect();
        prop_assert!(bad.is_empty(), "{:#?}", bad);
    }
}

#[test]
fn a_fix_mends_and_changes_nothing_else() {
    for (text, _) in files() {
        let file = ingest::seccomp::parse(&text).expect(&text);
        let findings = found(&file, None);
        let fixes: Vec<_> = findings.iter().filter_map(|finding| finding.fix.clone()).collect();
        let Some(layout) = Layout::of(&text) else { continue };
        let mended = ingest::seccomp::parse(&layout.edited(&fixes)).expect("still a file");
        let left = found(&mended, None);
        let left: Vec<_> = left.iter().filter(|finding| finding.fix.is_some()).collect();
        assert!(left.is_empty(), "{left:#?}\n{}", layout.edited(&fixes));
        // What passed passes; what passes anew are the calls without which nothing ends.
        let [before, after] =
            [&file, &mended].map(|file| decide(file, &context(Abi::X86_64)).passing(Abi::X86_64));
        assert!(before.is_subset(&after), "{text}");
        let new: Vec<_> = after.difference(&before).collect();
        assert!(new.iter().all(|name| policy::ALWAYS_ALLOWED.contains(name)), "{new:?}");
    }
}

#[test]
fn machines_get_the_same_and_nothing_acts() {
    let (text, _) = files().swap_remove(0);
    let findings = found(&ingest::seccomp::parse(&text).expect("parses"), None);
    let lines: Vec<Found> = findings
        .iter()
        .map(|finding| Found::new(finding, "a [b](c)\u{1b}[2J\u{202e}.json", "", Some(6)))
        .collect();
    let (mut as_json, mut as_sarif) = (Vec::new(), Vec::new());
    json(&lines, &mut as_json).expect("a vector takes everything");
    sarif(&lines, "0.0.0", &mut as_sarif).expect("a vector takes everything");
    for bytes in [&as_json, &as_sarif] {
        let text = String::from_utf8(bytes.clone()).expect("UTF-8");
        assert!(
            !text.contains(|c: char| c != '\n' && (c.is_control() || c == '\u{202e}')),
            "{text}"
        );
    }
    let document: serde_json::Value = serde_json::from_slice(&as_sarif).expect("JSON");
    let results = &document["runs"][0]["results"];
    insta::assert_snapshot!(serde_json::to_string_pretty(&results[0]).expect("JSON"));
    assert_eq!(results.as_array().map(Vec::len), Some(lines.len()));
    let rules = document["runs"][0]["tool"]["driver"]["rules"].as_array().expect("rules");
    for result in results.as_array().expect("results") {
        let index = result["ruleIndex"].as_u64().expect("a number") as usize;
        assert_eq!(rules[index]["id"], result["ruleId"]);
    }
}
