//! What a diff says: exactly what differs, by whatever text it was written, and nothing that acts in any of its forms.

use std::collections::BTreeSet;

use profiler::{
    ingest,
    model::{
        arch::Abi,
        capability,
        diff::{
            Allowlist, Comparison, Date, Diff, Entry, Extent, FailOn, Gate, Kind, Relation, Side,
            Subject, Users, compare, diff,
        },
        effective::{Condition, Context, Decision, Engine, Outcome, decide},
        facts::Risk,
        policy::{self, Options},
        profile::Profile,
        seccomp::{Action, Op},
        text::acts,
    },
    render,
    report::diff::{Compared, Report, Source, json, markdown, sarif, write},
};
use proptest::{collection::vec, option, prelude::*, sample::select};
use pulldown_cmark::{Event, Parser};
use serde_json::Value;

use crate::{
    evidence::{BACKEND, COMMAND, any_recording, parse},
    seccomp::context,
};

pub fn of_profile(label: &str, profile: &Profile) -> Side {
    let file = ingest::seccomp::parse(&render::seccomp::render(profile)).expect("own output");
    Side::of_profile(label.into(), profile, decide(&file, &context(Engine::Oci)))
}

pub fn of_file(text: &str, context: &Context) -> Side {
    Side::of_filter("file".into(), decide(&ingest::seccomp::parse(text).expect("a file"), context))
}

fn backend() -> Profile {
    policy::derive(&parse(BACKEND), &Options::default())
}

/// A backend that grew: a call with a program and a test, a capability; and that lost one call.
fn grown() -> Profile {
    let text = render::json::profile(&backend());
    let (rule, needed) = (
        "{\"abi\": \"x86_64\", \"name\": \"mount\", \"reasons\": [{\"kind\": \"workload\", \"programs\": [\"import\\u001b[31m\"], \"tests\": [\"test_upload\"]}]}",
        "{\"name\": \"SYS_ADMIN\", \"reasons\": [{\"abi\": \"x86_64\", \"syscall\": \"mount\", \"outcome\": \"succeeded\", \"programs\": [\"import\"]}]}",
    );
    let lines: Vec<String> = text
        .lines()
        .filter(|line| !line.contains("\"epoll_wait\""))
        .map(|line| match line.trim() {
            "\"syscalls\": [" => format!("{line}\n{rule},"),
            "\"required\": [" => format!("{line}\n{needed},"),
            _ => line.to_owned(),
        })
        .collect();
    ingest::profile::parse(&lines.join("\n")).expect("a profile")
}

pub fn gate(fail_on: FailOn, allow: &str) -> Gate {
    let allowlist = match allow {
        "" => Allowlist::default(),
        allow => ingest::allowlist::parse(allow).expect("an allow file"),
    };
    Gate { fail_on, allowlist, today: "2026-06-15".parse().expect("a date") }
}

pub fn report<'a>(diffs: &'a [Diff], gate: &'a Gate, file: Option<Source<'a>>) -> Report<'a> {
    let compared = diffs.iter().map(|diff| Compared { diff, verdicts: gate.judge(diff), file });
    Report { compared: compared.collect(), unused: gate.unused(diffs) }
}

pub fn human(report: &Report<'_>) -> String {
    let mut out = Vec::new();
    write(report, &mut out).expect("a Vec takes all");
    anstream::adapter::strip_str(&String::from_utf8(out).expect("UTF-8")).to_string()
}

const ALLOW: &str = "allow:
  - {entry: syscall/mount, reason: 'imports loop devices, reviewed by [ops](x)', expires: 2026-12-31}
  - {entry: capability/SYS_ADMIN, reason: for mount, expires: 2026-06-14}
  - {entry: syscall/x86_64/bpf, reason: not any more, expires: 2026-12-31}
";

#[test]
fn a_profile_that_grew() {
    let (old, new) = (
        of_profile("main:profiles/backend", &backend()),
        of_profile("HEAD:profiles/backend", &grown()),
    );
    let diffs = [diff(&old, &new)];
    let gate = gate(FailOn::Growth, ALLOW);
    let text = render::json::profile(&grown());
    let report =
        report(&diffs, &gate, Some(Source { path: "profiles/backend/profile.json", text: &text }));
    assert_eq!(report.failing(), 1, "the expired one");
    insta::assert_snapshot!("diff_human", human(&report));
    insta::assert_snapshot!("diff_markdown", markdown::render(&report));
    let document = json::render(&report).expect("JSON");
    crate::schemas::follows("diff.schema.json", &document);
    insta::assert_snapshot!("diff_json", document);
    insta::assert_snapshot!("diff_sarif", sarif::render(&report).expect("JSON"));
}

#[test]
fn every_kind_of_change_is_told_apart() {
    let file = |action: &str, more: &str, rules: &str| {
        format!(
            r#"{{"defaultAction": "{action}", "architectures": ["SCMP_ARCH_X86_64"{more}], "syscalls": [{rules}]}}"#
        )
    };
    let rule = |name: &str, action: &str, arg: &str| {
        let arg = if arg.is_empty() { String::new() } else { format!(r#", "args": [{arg}]"#) };
        format!(r#"{{"names": ["{name}"], "action": "{action}"{arg}}}"#)
    };
    let eq = |value: u64| format!(r#"{{"index": 0, "value": {value}, "op": "SCMP_CMP_EQ"}}"#);
    let lt = |value: u64| format!(r#"{{"index": 0, "value": {value}, "op": "SCMP_CMP_LT"}}"#);
    const ALLOW: &str = "SCMP_ACT_ALLOW";
    let old = file(
        "SCMP_ACT_ERRNO",
        "",
        &[
            rule("read", ALLOW, ""),
            rule("socket", ALLOW, &eq(1)),
            rule("personality", ALLOW, &eq(8)),
            rule("prctl", ALLOW, &lt(9)),
            rule("ioctl", ALLOW, &lt(9)),
            rule("bpf", "SCMP_ACT_TRAP", ""),
        ]
        .join(","),
    );
    let new = file(
        "SCMP_ACT_KILL_PROCESS",
        ", \"SCMP_ARCH_X86\", \"SCMP_ARCH_MIPS\"",
        &[
            rule("write", ALLOW, &eq(1)),
            rule("socket", ALLOW, &lt(2)),
            rule("personality", ALLOW, &eq(9)),
            rule("prctl", ALLOW, &lt(8)),
            rule("ioctl", ALLOW, &lt(12)),
            rule("ioctl", "SCMP_ACT_LOG", &eq(40)),
            rule("ioctl", "SCMP_ACT_TRAP", &lt(2)),
            rule("bpf", "SCMP_ACT_KILL", ""),
        ]
        .join(","),
    );
    let new = new.replace("\"syscalls\"", "\"flags\": [\"SECCOMP_FILTER_FLAG_SPEC_ALLOW\"], \"listenerPath\": \"/run/\\u001b[2J\", \"syscalls\"");
    let context = context(Engine::Oci);
    let diffs = [diff(&of_file(&old, &context), &of_file(&new, &context))];
    let kinds: Vec<(String, Kind, bool)> = diffs[0]
        .entries
        .iter()
        .map(|entry| (entry.subject.to_string(), entry.change.kind, entry.grows))
        .collect();
    let of = |name: &str| {
        let found = kinds.iter().find(|kind| kind.0 == format!("syscall/x86_64/{name}"));
        found
            .map(|&(_, kind, grows)| (kind, grows))
            .unwrap_or_else(|| panic!("{name} in {kinds:?}"))
    };
    assert_eq!(of("read"), (Kind::Removed, false));
    assert_eq!(of("write"), (Kind::Added, true));
    assert_eq!(of("socket"), (Kind::Wider, true));
    assert_eq!(of("prctl"), (Kind::Narrower, false));
    assert_eq!(of("personality"), (Kind::Disjoint, true));
    assert_eq!(of("bpf"), (Kind::Action, false));
    assert_eq!(of("ioctl"), (Kind::Wider, true), "the later rule for less than 2 is never reached");
    insta::assert_snapshot!("diff_kinds", human(&report(&diffs, &gate(FailOn::Any, ""), None)));
}

#[test]
fn files_that_decide_alike_do_not_differ() {
    let docker = r#"{"defaultAction": "SCMP_ACT_ERRNO", "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
        "syscalls": [{"names": ["read", "ptrace", "no_such_call"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
        {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]},
        {"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 9, "op": "SCMP_CMP_EQ"}]},
        {"names": ["write"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]}"#;
    let oci = r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 4294967295, "valueTwo": 9, "op": "SCMP_CMP_MASKED_EQ"}]},
        {"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 4294967295, "valueTwo": 8, "op": "SCMP_CMP_MASKED_EQ"}]},
        {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW"}, {"names": ["read"], "action": "SCMP_ACT_ALLOW"}]}"#;
    let with = context(Engine::Docker);
    let entries = diff(&of_file(docker, &with), &of_file(oci, &with)).entries;
    let names: Vec<String> = entries.iter().map(|entry| entry.subject.to_string()).collect();
    assert_eq!(
        names,
        ["syscall/x86_64/personality"],
        "32 bits of 64 are wider; of ia32's 32 they are all"
    );
    let oci = oci.replace("4294967295", "18446744073709551615");
    assert_eq!(diff(&of_file(docker, &with), &of_file(&oci, &with)).entries, []);
    let admin = BTreeSet::from([capability::number("SYS_ADMIN").expect("a capability")]);
    let admin = Context { capabilities: admin, ..with };
    let differs = diff(&of_file(docker, &admin), &of_file(&oci, &admin)).entries;
    assert!(differs.iter().all(|entry| entry.change.kind == Kind::Removed), "{differs:?}");
    assert_eq!(differs.len(), 2, "mount on both ABIs");
}

#[test]
fn what_is_too_large_is_not_called_alike() {
    // Products of intervals over all arguments, in orders that share nothing.
    let mut state = 1_u64;
    let mut draw = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state
    };
    let mut decision = Decision::always(Outcome::new(Action::Errno, None));
    for _ in 0..3000 {
        let condition = |index| Condition { index, op: Op::MaskedEq, value: draw(), value_two: 0 };
        decision.rules.push(((0..6).map(condition).collect(), Outcome::new(Action::Allow, None)));
    }
    let mut other = decision.clone();
    other.rules.pop();
    let started = std::time::Instant::now();
    let found = compare(&decision, &other, 64);
    assert_eq!((found.alike, found.passing), (false, Relation::Undecided));
    assert!(compare(&decision, &decision, 64).alike);
    assert!(started.elapsed().as_secs() < 60, "it is bounded");
}

fn decision() -> impl Strategy<Value = Decision> {
    let op = select(vec![Op::Ne, Op::Lt, Op::Le, Op::Eq, Op::Ge, Op::Gt, Op::MaskedEq]);
    let condition =
        (0..2_u8, op, 0..16_u64, 0..16_u64).prop_map(|(index, op, value, value_two)| {
            let value_two = if op == Op::MaskedEq { value_two } else { 0 };
            Condition { index, op, value, value_two }
        });
    let outcome = select(vec![
        Outcome::new(Action::Allow, None),
        Outcome::new(Action::Log, None),
        Outcome::new(Action::Errno, None),
        Outcome::new(Action::Errno, Some(38)),
    ]);
    (vec((vec(condition, 1..3), outcome.clone()), 0..4), outcome)
        .prop_map(|(rules, otherwise)| Decision { rules, otherwise })
}

/// The same by trying every pair of four-bit arguments.
fn tried(old: &Decision, new: &Decision) -> Comparison {
    let all = (0..16).flat_map(|a| (0..16).map(move |b| [a, b, 0, 0, 0, 0]));
    let pairs: Vec<(Outcome, Outcome)> =
        all.map(|args| (old.verdict(&args), new.verdict(&args))).collect();
    let passing: Vec<(bool, bool)> =
        pairs.iter().map(|(a, b)| (a.may_pass(), b.may_pass())).collect();
    let extent =
        |passes: &dyn Fn(&(bool, bool)) -> bool| match passing.iter().filter(|p| passes(p)).count()
        {
            0 => Extent::Never,
            256 => Extent::Always,
            _ => Extent::Sometimes,
        };
    let any = |wanted| passing.contains(&wanted);
    let relation = match (any((true, true)), any((true, false)), any((false, true))) {
        (_, false, false) => Relation::Same,
        (_, false, true) => Relation::Wider,
        (_, true, false) => Relation::Narrower,
        (false, true, true) => Relation::Disjoint,
        (true, true, true) => Relation::Overlapping,
    };
    Comparison {
        alike: pairs.iter().all(|(a, b)| a == b),
        old: extent(&|p| p.0),
        new: extent(&|p| p.1),
        passing: relation,
    }
}

fn hostile() -> impl Strategy<Value = String> {
    let piece = select(vec![
        "`",
        "``",
        "\n",
        "\r",
        "\u{1b}[31m",
        "\u{202e}",
        "[a](http://x)",
        "<b>",
        "<!--",
        "|",
        "@team",
        "#1",
        "\\",
        "*",
        "{0}",
        "</details>",
        "&lt;",
        "\u{9b}",
        " ",
        "a",
        "www.x.org",
        "\"",
        "'",
        "~~",
        "- ",
        "> ",
        "\t",
    ]);
    prop_oneof![vec(piece, 0..6).prop_map(|pieces| pieces.concat()), any::<String>()]
}

fn hostile_diff() -> impl Strategy<Value = (Diff, Allowlist)> {
    let users = (vec(hostile(), 0..3), vec(hostile(), 0..3), vec(hostile(), 0..2))
        .prop_map(|(programs, tests, others)| Users { programs, tests, others });
    let reason =
        select(vec!["the host's (CVE-2022-0492)", "3 of its calls can pass, `mount` among them"]);
    let texts = (hostile(), hostile(), hostile(), reason.prop_map(str::to_owned));
    let entry = (texts, users, any::<bool>(), select(Risk::ALL.to_vec())).prop_map(
        |(texts, users, grows, risk)| {
            let (name, old, new, risk_reason) = texts;
            let kind = if grows { Kind::Added } else { Kind::Removed };
            let change = profiler::model::diff::Change { kind, old, new };
            Entry { subject: Subject::Architecture(name), change, grows, risk, risk_reason, users }
        },
    );
    let allowed = (hostile(), hostile());
    (hostile(), hostile(), vec(entry, 0..3), vec(hostile(), 0..2), option::of(allowed)).prop_map(
        |(old, new, entries, notes, allowed)| {
            let expires: Date = "2026-06-15".parse().expect("a date");
            let first = entries.first().map(|entry| entry.subject.to_string());
            let allow = allowed.map(|(entry, reason)| profiler::model::diff::Allowed {
                entry: first.unwrap_or(entry),
                reason,
                expires,
            });
            (Diff { old, new, entries, notes }, Allowlist { allow: allow.into_iter().collect() })
        },
    )
}

proptest! {
    #[test]
    fn comparing_is_trying_every_argument(old in decision(), new in decision()) {
        prop_assert_eq!(compare(&old, &new, 4), tried(&old, &new));
    }
}

proptest! {
    // Each derives and renders whole profiles.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_policy_does_not_differ_from_itself(a in any_recording()) {
        let profile = policy::derive(&a, &Options { learn_denied: true, ..Options::default() });
        let side = of_profile("a", &profile);
        prop_assert_eq!(diff(&side, &side).entries, vec![]);
        let again = ingest::profile::parse(&render::json::profile(&profile)).expect("own output");
        prop_assert_eq!(diff(&side, &of_profile("b", &again)).entries, vec![]);
    }

    #[test]
    fn growth_one_way_is_shrinking_the_other(a in any_recording(), b in any_recording()) {
        let side = |recording| of_profile("x", &policy::derive(recording, &Options::default()));
        let (a, b) = (side(&a), side(&b));
        let (there, back) = (diff(&a, &b), diff(&b, &a));
        let subjects = |diff: &Diff| diff.entries.iter().map(|e| e.subject.to_string()).collect::<BTreeSet<_>>();
        prop_assert_eq!(subjects(&there), subjects(&back));
        for entry in there.entries.iter().filter(|e| matches!(e.subject, Subject::Syscall { .. } | Subject::Capability(_))) {
            let other = back.entries.iter().find(|other| other.subject == entry.subject).expect("the same subject");
            prop_assert!(!(entry.grows && other.grows), "{:?}", entry);
        }
    }

    #[test]
    fn nothing_acts_in_a_terminal((diff, allowlist) in hostile_diff()) {
        let gate = Gate { fail_on: FailOn::Any, allowlist, today: "2026-06-15".parse().expect("a date") };
        let diffs = [diff];
        let text = human(&report(&diffs, &gate, None));
        prop_assert!(!text.contains(|c| acts(c) && c != '\n'), "{text:?}");
    }

    #[test]
    fn nothing_of_others_is_markup((diff, allowlist) in hostile_diff()) {
        let gate = Gate { fail_on: FailOn::Any, allowlist, today: "2026-06-15".parse().expect("a date") };
        let diffs = [diff];
        let text = markdown::render(&report(&diffs, &gate, None));
        prop_assert!(!text.contains(|c| acts(c) && c != '\n'), "{text:?}");
        // Outside of code there is only what the report itself says.
        for event in Parser::new(&text) {
            let plain = match event {
                Event::Text(text) => text,
                Event::Html(html) => {
                    let html = html.trim_end();
                    let ours = html == "</details>" || html.starts_with("<details><summary>") && html.ends_with("</summary>");
                    prop_assert!(ours, "{html:?}");
                    continue;
                }
                Event::InlineHtml(html) => return Err(TestCaseError::fail(html.to_string())),
                _ => continue,
            };
            prop_assert!(plain.chars().all(|c| c.is_ascii_alphanumeric() || " :;,()→-.'`".contains(c)), "{plain:?} in {text}");
        }
    }

    #[test]
    fn code_spans_hold_what_they_are_given(text in hostile()) {
        let shown = profiler::report::escape::short(&text, 400);
        let written = markdown::code(&text);
        let events: Vec<Event<'_>> = Parser::new(&written).collect();
        let code = events.iter().find_map(|event| match event {
            Event::Code(code) => Some(code.to_string()),
            _ => None,
        });
        prop_assert_eq!(events.len(), 3, "a paragraph of one span: {:?}", events);
        let code = code.expect("a span");
        prop_assert_eq!(code.trim(), shown.trim());
    }

    #[test]
    fn sarif_is_json_without_links((diff, allowlist) in hostile_diff()) {
        let gate = Gate { fail_on: FailOn::Any, allowlist, today: "2026-06-15".parse().expect("a date") };
        let diffs = [diff];
        let text = sarif::render(&report(&diffs, &gate, None)).expect("JSON");
        prop_assert!(!text.contains(|c| acts(c) && c != '\n'), "{text:?}");
        let value: Value = serde_json::from_str(&text).expect("JSON");
        is_sarif(&value, diffs[0].entries.len());
    }

    #[test]
    fn json_says_what_was_found((diff, allowlist) in hostile_diff()) {
        let gate = Gate { fail_on: FailOn::Any, allowlist, today: "2026-06-15".parse().expect("a date") };
        let diffs = [diff];
        let text = json::render(&report(&diffs, &gate, None)).expect("JSON");
        prop_assert!(!text.contains(|c| acts(c) && c != '\n'), "{text:?}");
        let value: Value = serde_json::from_str(&text).expect("JSON");
        prop_assert_eq!(value["compared"][0]["old"].as_str(), Some(diffs[0].old.as_str()));
        prop_assert_eq!(value["compared"][0]["entries"].as_array().map(Vec::len), Some(diffs[0].entries.len()));
    }
}

/// What code scanning needs of a document, by GitHub's list of supported properties.
fn is_sarif(value: &Value, results: usize) {
    assert_eq!(value["version"], "2.1.0");
    assert_eq!(value["$schema"], "https://json.schemastore.org/sarif-2.1.0.json");
    let run = &value["runs"][0];
    assert_eq!(run["tool"]["driver"]["name"], "profiler");
    let rules = run["tool"]["driver"]["rules"].as_array().expect("rules");
    for rule in rules {
        for key in ["shortDescription", "fullDescription", "help"] {
            assert!(rule[key]["text"].as_str().is_some_and(|text| !text.is_empty()), "{key}");
        }
    }
    let found = run["results"].as_array().expect("results");
    assert_eq!(found.len(), results);
    for result in found {
        let rule = rules.iter().position(|rule| rule["id"] == result["ruleId"]);
        assert_eq!(result["ruleIndex"].as_u64(), rule.map(|index| index as u64));
        assert!(["error", "warning", "note"].contains(&result["level"].as_str().expect("a level")));
        let message = result["message"]["text"].as_str().expect("a message");
        let mut escaped = false;
        for c in message.chars() {
            assert!(escaped || !matches!(c, '[' | ']'), "a link in {message:?}");
            escaped = c == '\\' && !escaped;
        }
        let place = &result["locations"][0]["physicalLocation"];
        let uri = place["artifactLocation"]["uri"].as_str().expect("a uri");
        assert!(!uri.is_empty() && !uri.starts_with('/'), "{uri}");
        assert!(
            uri.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-._~%".contains(&byte)),
            "{uri}"
        );
        assert!(place["region"]["startLine"].as_u64().is_some_and(|line| line > 0));
        assert!(result["partialFingerprints"]["profilerEntry/v1"].is_string());
    }
}

#[test]
fn a_command_and_a_container_differ_in_all_that_one_has_more() {
    let command = policy::derive(&parse(COMMAND), &Options::default());
    let found = diff(&of_profile("a", &command), &of_profile("b", &backend())).entries;
    let grows = found.iter().filter(|entry| entry.grows).map(|entry| entry.subject.to_string());
    let grows: BTreeSet<String> = grows.collect();
    let more = backend().syscalls.into_iter().filter(|rule| {
        rule.abi == Abi::X86_64 && !command.syscalls.iter().any(|known| known.name == rule.name)
    });
    for rule in more {
        assert!(grows.contains(&format!("syscall/x86_64/{}", rule.name)), "{}", rule.name);
    }
    assert!(
        grows.contains("architecture/ia32") && grows.contains("capability/SETUID"),
        "{grows:?}"
    );
}

#[test]
fn an_allow_file_says_what_why_and_until_when() {
    for (text, what) in [
        ("allow: [{entry: syscall/mount, reason: x}]", "expires"),
        ("allow: [{entry: syscall/mount, expires: 2026-01-01}]", "reason"),
        ("allow: [{entry: syscall/mount, reason: ' ', expires: 2026-01-01}]", "reason"),
        ("allow: [{entry: mount, reason: x, expires: 2026-01-01}]", "names no call"),
        ("allow: [{entry: syscall/mount, reason: x, expires: tomorrow}]", "no date"),
        ("allow: [{entry: syscall/mount, reason: x, expires: 2026-01-01, by: y}]", "by"),
        ("[]", "mapping"),
    ] {
        let error = ingest::allowlist::parse(text).expect_err(text);
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        assert!(format!("{error} {cause}").contains(what), "{error}: {cause}");
    }
    let json = r#"{"allow": [{"entry": "default", "reason": "x", "expires": "2026-01-01"}]}"#;
    assert_eq!(ingest::allowlist::parse(json).expect("JSON is YAML").allow.len(), 1);
}
