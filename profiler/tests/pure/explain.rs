//! Answers about policies: whole outputs, and that they agree with the decision function.

use profiler::{
    ingest,
    model::{
        arch::Abi,
        arguments::constants,
        baseline::docker_default_file,
        capability,
        effective::{Context, Engine, decide},
        explain::{DecidedBy, ExplainError, Subject},
        harden::Kind,
        policy::{self, Options},
        profile::Arguments,
        seccomp::KernelVersion,
        syscall,
    },
    render,
    report::{explain, harden},
};
use proptest::prelude::*;

use crate::{
    evidence::{BACKEND, parse},
    harden::{profile_of, rooted, usage},
};

fn context(caps: &[&str]) -> Context {
    Context {
        native: Abi::X86_64,
        capabilities: caps.iter().filter_map(|name| capability::number(name)).collect(),
        kernel: KernelVersion { major: 6, minor: 18 },
        engine: Engine::Docker,
    }
}

fn plain(write: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> String {
    let mut out = Vec::new();
    write(&mut out).expect("a vector takes everything");
    anstream::adapter::strip_str(&String::from_utf8(out).expect("UTF-8")).to_string()
}

#[test]
fn a_profile_with_reasons() {
    // A hostile name of a program and of a test.
    let text = BACKEND.replacen("\"exe\": \"nginx\"", "\"exe\": \"ng\\u001b[2Jinx\\u202e\"", 1);
    let profile = policy::derive(&parse(&text), &Options::default());
    let file = ingest::seccomp::parse(&render::seccomp::render(&profile)).expect("own output");
    let context = context(&[]);
    let subject = Subject { file: &file, profile: Some(&profile), context: &context };
    let mut all = plain(|out| explain::ranked(&subject.ranked(), &subject.left_out(), out));
    for name in ["setgroups", "CAP_SETGID", "sys_admin", "execve", "mount"] {
        let entries = subject.named(name).expect(name);
        all.push_str(&format!("\n# {name}\n{}", plain(|out| explain::detailed(&entries, out))));
    }
    assert!(!all.contains(|c: char| c != '\n' && c.is_control()) && !all.contains('\u{202e}'));
    insta::assert_snapshot!(all);
}

#[test]
fn what_is_there_for_the_runtime_alone_is_said_to_be() {
    let prctl = |arguments| {
        let options = Options { arguments, ..Options::default() };
        let profile = policy::derive(&parse(BACKEND), &options);
        let file = ingest::seccomp::parse(&render::seccomp::render(&profile)).expect("own output");
        let context = context(&[]);
        let subject = Subject { file: &file, profile: Some(&profile), context: &context };
        plain(|out| explain::detailed(&subject.named("prctl").expect("it is there"), out))
    };
    let own = "PR_SET_NO_NEW_PRIVS (not seen; the OCI runtime's own, under the filter)";
    let strict = prctl(Arguments::Strict);
    assert!(strict.contains(own) && !strict.contains("comes with the call"), "{strict}");
    let wider = prctl(Arguments::AttackSurface);
    assert!(wider.contains("comes with the call") && !wider.contains("runtime's own"), "{wider}");
}

#[test]
fn limits_are_told_with_their_margin_where_the_peaks_are_not_at_hand() {
    let recording = rooted(usage());
    let advice = profile_of(&recording, &[Kind::Resources]).harden.expect("asked for");
    for (recording, evidence) in [
        (Some(&recording), ["peak 37 MiB", "peak 301", "peak 40 in a process", "peak 620"]),
        (
            None,
            ["at least 2 times", "at least 4 times", "at least 4 times", "as many as were busy"],
        ),
    ] {
        let told = plain(|out| harden::write(&advice, false, recording, out));
        for (name, evidence) in ["memory", "pids", "open files", "processors"].iter().zip(evidence)
        {
            let line = told.lines().find(|line| line.trim_start().starts_with(name));
            assert!(line.is_some_and(|line| line.contains(evidence)), "{name}: {told}");
        }
    }
}

#[test]
fn what_would_happen() {
    let file = docker_default_file();
    let context = context(&capability::DOCKER_DEFAULT);
    let subject = Subject { file, profile: None, context: &context };
    let mut all = String::new();
    for (call, arguments) in [
        ("read", vec![]),
        ("clone", vec!["CLONE_NEWUSER|0x11"]),
        ("clone", vec!["0x11"]),
        ("clone3", vec![]),
        ("personality", vec![]),
        ("personality", vec!["UNAME26"]),
        ("personality", vec!["0x10"]),
        ("mount", vec![]),
        ("mseal", vec![]),
        ("socketcall", vec!["1"]),
    ] {
        let values: Vec<u64> =
            arguments.iter().map(|a| constants::parse_any(a).expect(a)).collect();
        let answers = subject.why_not(call, &values).expect(call);
        let text = plain(|out| explain::why_not(&answers, out));
        all.push_str(&format!("# {call} {}\n{text}\n", arguments.join(" ")));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn what_cannot_be_answered_is_said() {
    let context = context(&[]);
    let subject = Subject { file: docker_default_file(), profile: None, context: &context };
    let error = |name| subject.named(name).expect_err(name).to_string();
    let list = [
        error("opnat"),
        error("SYS_ADMN"),
        error("CAP_CHOWNN"),
        error("\u{1b}[2J"),
        error(""),
        error("riscv_hwprobe"),
        subject.why_not("read", &[0; 7]).expect_err("seven").to_string(),
    ];
    insta::assert_snapshot!(list.join("\n\n"));
    assert!(matches!(subject.named("reed"), Err(ExplainError::UnknownName { .. })));
}

const CALLS: [&str; 8] =
    ["read", "clone", "clone3", "personality", "socket", "mount", "ptrace", "arch_prctl"];

proptest! {
    /// The answer is the filter's, and the rule that is named gives it.
    #[test]
    fn answers_are_the_filters(
        call in proptest::sample::select(&CALLS[..]),
        value in prop_oneof![any::<u64>(), Just(0), Just(8), Just(0x2_0000), Just(0xffff_ffff)],
        admin in any::<bool>(),
    ) {
        let context = context(if admin { &["SYS_ADMIN"] } else { &["CHOWN"] });
        let file = docker_default_file();
        let subject = Subject { file, profile: None, context: &context };
        let effective = decide(file, &context);
        for answer in subject.why_not(call, &[value; 6]).expect("known") {
            let nr = syscall::number(answer.abi, call).expect("known");
            let verdict = effective.verdict(answer.abi, nr, &[value; 6]);
            prop_assert_eq!(answer.outcome, Some(verdict.to_string()));
            match answer.by {
                DecidedBy::Default {} => prop_assert_eq!(verdict, effective.default),
                DecidedBy::Rule { index } => {
                    prop_assert!(file.syscalls[index].all_names().any(|name| name == call));
                    prop_assert!(!answer.left_out.contains(&index));
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }
}

/// An argument that is given rules out what asks for another, whatever those are that are not given.
#[test]
fn one_argument_may_be_enough() {
    let text = r#"{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86_64"],"syscalls":[
        {"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[
            {"index":0,"value":4294967295,"valueTwo":2,"op":"SCMP_CMP_MASKED_EQ"},
            {"index":1,"value":4294967295,"valueTwo":1,"op":"SCMP_CMP_MASKED_EQ"}]}]}"#;
    let (file, context) = (ingest::seccomp::parse(text).expect("a file"), context(&[]));
    let subject = Subject { file: &file, profile: None, context: &context };
    let passes = |given: &[u64]| subject.why_not("socket", given).expect("known")[0].passes;
    // AF_ALG; AF_INET with a type that is not given, with SOCK_STREAM, with SOCK_RAW
    assert_eq!(
        [&[38][..], &[2], &[2, 1], &[2, 3]].map(passes),
        [Some(false), None, Some(true), Some(false)]
    );
}

#[test]
fn a_name_may_be_a_calls_and_a_capabilitys() {
    let (file, context) = (docker_default_file(), context(&[]));
    let subject = Subject { file, profile: None, context: &context };
    let count = |name: &str| subject.named(name).expect(name).len();
    assert!(count("setuid") > 1 && count("CAP_SETUID") == 1 && count("net_raw") == 1);
}
