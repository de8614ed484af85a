use proptest::prelude::*;

use super::*;
use crate::model::recording::{
    Container, DenialSighting, Host, Run, SCHEMA_VERSION, SeccompSetting, Sighting, SyscallFact,
    Target,
};

const RUN: &str = "00000000000000a1";

fn container() -> Container {
    Container {
        engine: "docker".into(),
        engine_version: "20.10.24".into(),
        runtime: "runc".into(),
        runtime_version: "1.1.5".into(),
        image: "registry.example/shop/backend:1".into(),
        image_id: "sha256:12".into(),
        ids: vec!["b3".into()],
        no_new_privileges: false,
        privileged: false,
        user: String::new(),
        seccomp: SeccompSetting::Permissive,
        capabilities: vec!["CHOWN".into(), "NET_BIND_SERVICE".into()],
        compose_service: None,
        compose_1: false,
    }
}

fn run(missing: Vec<Missing>) -> Run {
    Run {
        started_unix_s: 1_700_000_000,
        duration_ms: 42_345,
        profiler_version: "0.1.0".into(),
        command: vec!["make".into(), "integration-test".into()],
        command_status: Some(0),
        host: Host { kernel: "6.1.0".into(), machine: "x86_64".into(), cgroups: "unified".into() },
        container: Some(container()),
        missing,
        inner_cgroups: 0,
        usage: None,
    }
}

fn syscall(nr: u32, phase: Phase) -> SyscallFact {
    let first = Sighting { first_ms: Some(1), ..Sighting::default() };
    SyscallFact { abi: Abi::X86_64, nr, phase, seen: BTreeMap::from([(RUN.to_owned(), first)]) }
}

fn denial(nr: u32, errno: i32, count: u64, comm: &str) -> DenialFact {
    let programs = [Program { comm: comm.into(), exe: "backend".into() }].into();
    let sighting = Sighting { first_ms: Some(5), programs, ..Sighting::default() };
    let arguments = (nr == 165).then_some([0x7fff_1000, 0x7fff_2000, 0, 0x1002, 0, 99]);
    let sighting = DenialSighting { count, arguments, sighting };
    let seen = BTreeMap::from([(RUN.to_owned(), sighting)]);
    DenialFact { abi: Abi::X86_64, nr, phase: Phase::Workload, errno, killed: false, seen }
}

fn recording(missing: Vec<Missing>) -> Recording {
    Recording {
        schema_version: SCHEMA_VERSION,
        target: Target { kind: TargetKind::Container, name: "backend".into() },
        runs: BTreeMap::from([(RUN.to_owned(), run(missing))]),
        syscalls: vec![
            syscall(0, Phase::Setup),
            syscall(0, Phase::Workload),
            syscall(1, Phase::Workload),
            syscall(59, Phase::Handover),
        ],
        capabilities: vec![],
        denials: vec![],
        arguments: vec![],
    }
}

fn policy() -> PolicySummary {
    let line = |name: &str, class, reasons: &[&str]| CapabilityLine {
        name: name.to_owned(),
        class,
        reasons: reasons.iter().map(|reason| (*reason).to_owned()).collect(),
    };
    PolicySummary {
        no_new_privileges: false,
        allowed: 87,
        by_runtime_only: 6,
        docker_default: 350,
        narrowed: ["clone", "socket"].map(str::to_owned).into(),
        learned: BTreeSet::new(),
        capabilities: vec![
            line("NET_BIND_SERVICE", REQUIRED, &["bind by nginx (inet_bind)"]),
            line("CHOWN", "probed", &["fchown by a", "chown by b", "lchown by c", "fchownat by d"]),
            line("SYS_ADMIN", "denied", &[]),
        ],
        harden: None,
        notes: vec![],
    }
}

fn name(_: Abi, nr: u32) -> Option<&'static str> {
    match nr {
        165 => Some("mount"),
        435 => Some("clone3"),
        _ => None,
    }
}

fn render(recording: &Recording, policy: &PolicySummary, dir: &str) -> String {
    let files = [
        WrittenFile { path: format!("{dir}/recording.json"), purpose: "evidence, for merging" },
        WrittenFile {
            path: format!("{dir}/seccomp.json"),
            purpose: "for Docker, podman, containerd",
        },
    ];
    let summary = Summary {
        recording,
        policy,
        dir,
        base: "-f docker-compose.yml",
        given: None,
        files: &files,
        permissive_profile: "permissive.json",
        syscall_name: &name,
    };
    let mut out = Vec::new();
    write(&summary, &mut out).expect("a vector takes everything");
    let text = String::from_utf8(out).expect("UTF-8");
    anstream::adapter::strip_str(&text).to_string()
}

#[test]
fn a_container_seen_from_start_to_end() {
    insta::assert_snapshot!(render(&recording(vec![]), &policy(), "profiles/backend"));
}

#[test]
fn a_running_container_under_the_default_filter() {
    let mut recording = recording(vec![
        Missing::Startup,
        Missing::Shutdown,
        Missing::Filtered,
        Missing::IoUring,
        Missing::Lost { what: "attribution".into(), count: 1 },
        Missing::Lost { what: "threads".into(), count: 12 },
        Missing::Engine,
    ]);
    recording.denials = vec![
        denial(435, 38, 1, "backend"),
        denial(165, 1, 12, "worker"),
        denial(165, 1, 1, "other"),
        denial(999, 4000, 2, "backend"),
    ];
    let run = recording.runs.get_mut(RUN).expect("the run");
    run.command_status = Some(2);
    let container = run.container.as_mut().expect("the container");
    container.compose_service = Some("web".into());
    let policy = PolicySummary { no_new_privileges: true, ..policy() };
    insta::assert_snapshot!(render(&recording, &policy, "profiles/backend"));
}

#[test]
fn refused_calls_that_are_allowed_now_say_so() {
    const UNSHARE: u32 = 272;
    const CHROOT: u32 = 161;
    let mut recording = recording(vec![]);
    recording.denials = vec![denial(UNSHARE, 1, 3, "sh"), denial(CHROOT, 1, 1, "sh")];
    let text = |learned: &[u32]| {
        let learned = learned.iter().map(|nr| (Abi::X86_64, *nr)).collect();
        render(&recording, &PolicySummary { learned, ..policy() }, "out")
    };
    let heading = "2 calls refused by the filter while recording";
    let none = text(&[]);
    assert!(none.contains(&format!("{heading}\n")) && !none.contains("learned"), "{none}");
    let one = text(&[UNSHARE]);
    assert!(one.contains(&format!("{heading}; the profile allows those that say so\n")), "{one}");
    // a first one's arguments are known, not those of all
    assert!(one.contains("; learned: allowed with any arguments\n"), "{one}");
    assert_eq!(one.matches("learned").count(), 1, "{one}");
    let both = text(&[UNSHARE, CHROOT]);
    assert!(both.contains(&format!("{heading}; the profile allows them\n")), "{both}");
    assert!(both.contains("; learned: allowed\n"), "{both}");
}

#[test]
fn a_command_that_needs_nothing() {
    let mut recording = recording(vec![Missing::Capabilities { reason: "no attach point".into() }]);
    recording.target = Target { kind: TargetKind::Command, name: "true".into() };
    recording.syscalls.retain(|fact| fact.phase == Phase::Workload);
    recording.runs.get_mut(RUN).expect("the run").container = None;
    let policy = PolicySummary { allowed: 12, docker_default: 350, ..PolicySummary::default() };
    insta::assert_snapshot!(render(&recording, &policy, "out"));
}

#[test]
fn a_container_that_ran_unconfined() {
    insta::assert_snapshot!(render(&recording(vec![Missing::Handover]), &policy(), "out"));
}

#[test]
fn what_another_run_saw_is_not_missing() {
    let mut recording = recording(vec![Missing::Startup, Missing::IoUring]);
    recording.runs.insert("00000000000000b2".into(), run(vec![Missing::Shutdown]));
    let text = render(&recording, &policy(), "out");
    assert!(!text.contains("start-up") && !text.contains("shut-down"), "{text}");
    assert!(text.contains("io_uring"), "{text}");
    assert!(text.contains("in 1 min 24 s, 2 runs"), "{text}");
}

#[test]
fn names_with_blanks_are_quoted_in_commands() {
    let mut recording = recording(vec![Missing::Startup]);
    recording.runs.get_mut(RUN).expect("the run").command =
        vec!["sh".into(), "-c".into(), "a; b".into()];
    let text = render(&recording, &policy(), "my out");
    assert!(text.contains("--restart -o 'my out' -- sh -c 'a; b'"), "{text}");
    assert!(text.contains("'seccomp=my out/seccomp.json'"), "{text}");
}

#[test]
fn a_hint_to_record_again_begins_with_what_was_typed() {
    let given = ["record", "--project", "my shop", "--service", "web", "--harden=user", "-o", "o"];
    let given = given.map(str::to_owned);
    let mut recording = recording(vec![Missing::Startup]);
    recording.target.kind = TargetKind::Service;
    let hint = |given: Option<&[String]>| {
        let all = crate::report::warning::warnings(&recording, given, "o/web", "permissive.json");
        all[0].hints[0].clone()
    };
    let typed =
        "profiler record --project 'my shop' --service web --harden=user -o o --restart -- make";
    assert!(hint(Some(&given)).contains(typed), "{}", hint(Some(&given)));
    let known = "profiler record --service backend --restart -o o -- make";
    assert!(hint(None).contains(known), "{}", hint(None));
}

#[test]
fn calls_that_were_counted_are_told() {
    let mut recording = recording(vec![]);
    assert!(!render(&recording, &policy(), "out").contains("counted"));
    for (fact, count) in recording.syscalls.iter_mut().zip([7, 3, u64::MAX, 9]) {
        fact.nr = if fact.nr == 1 { 165 } else { fact.nr };
        for seen in fact.seen.values_mut() {
            seen.count = Some(count);
        }
    }
    let text = render(&recording, &policy(), "out");
    let max = u64::MAX;
    assert!(
        text.contains(&format!("counted: {max} by the workload; most of them {max} mount, 3 0\n")),
        "{text}"
    );
}

#[test]
fn files_that_could_not_be_read_are_named_once() {
    let unread = |program: &str| Missing::Unread { program: program.into() };
    let mut recording = recording(vec![unread("ping"), unread("a\x1b[31m")]);
    recording.runs.insert("00000000000000a2".into(), run(vec![unread("ping")]));
    let warnings = crate::report::warning::warnings(&recording, None, "out", "permissive.json");
    let told: Vec<_> = warnings.iter().filter(|one| one.text.contains("getcap")).collect();
    assert!(told.len() == 1 && !told[0].minor, "{warnings:?}");
    assert!(told[0].text.contains("`ping`") && !told[0].text.contains('\x1b'), "{told:?}");
}

#[test]
fn counts_of_a_file_may_be_any_number() {
    let lost = |what: &str| Missing::Lost { what: what.into(), count: u64::MAX };
    let mut recording = recording(vec![lost("threads")]);
    recording.runs.insert("00000000000000a2".into(), run(vec![lost("threads")]));
    recording.denials = vec![denial(1, 1, u64::MAX, "a"), denial(1, 1, u64::MAX, "b")];
    let warnings = crate::report::warning::warnings(&recording, None, "out", "permissive.json");
    assert!(warnings[0].text.starts_with(&u64::MAX.to_string()), "{warnings:?}");
    let counts: Vec<u64> = denied_calls(&recording.denials).values().map(|row| row.count).collect();
    assert_eq!(counts, [u64::MAX]);
}

proptest! {
    #[test]
    fn hostile_names_do_nothing_on_a_terminal(evil in any::<String>()) {
        let mut recording = recording(vec![
            Missing::Startup,
            Missing::Filtered,
            Missing::Capabilities { reason: evil.clone() },
            Missing::Lost { what: evil.clone(), count: 1 },
            Missing::Unread { program: evil.clone() },
        ]);
        recording.target.name.clone_from(&evil);
        recording.denials = vec![denial(165, 1, 1, &evil)];
        let run = recording.runs.get_mut(RUN).expect("the run");
        run.command = vec![evil.clone()];
        let container = run.container.as_mut().expect("the container");
        for field in [&mut container.image, &mut container.engine, &mut container.engine_version,
            &mut container.runtime, &mut container.runtime_version] {
            field.clone_from(&evil);
        }
        container.compose_service = Some(evil.clone());
        let mut policy = policy();
        policy.notes.push(evil.clone());
        policy.capabilities[0].name.clone_from(&evil);
        policy.capabilities[0].reasons = vec![evil.clone()];
        let mut out = Vec::new();
        let files = [WrittenFile { path: evil.clone(), purpose: "x" }];
        let base = crate::model::shell::join(["-f", &evil]);
        let summary = Summary {
            recording: &recording, policy: &policy, dir: &evil, files: &files,
            base: &base, given: Some(std::slice::from_ref(&evil)),
            permissive_profile: &evil, syscall_name: &name,
        };
        write(&summary, &mut out).expect("a vector takes everything");
        let text = String::from_utf8(out).expect("UTF-8");
        // Our own styles are the only sequences; without them no character acts.
        let bare = unstyled(&text);
        prop_assert!(!bare.contains(|c| crate::model::text::acts(c) && c != '\n'), "{bare:?}");
    }
}

/// Takes out exactly the sequences that `style` writes, so that others stay and are found.
fn unstyled(text: &str) -> String {
    let mut sequences: Vec<String> = [BAD, COMMAND, FAINT, GOOD, HEADING, WARNING]
        .iter()
        .map(|style| style.render().to_string())
        .chain([HEADING.render_reset().to_string()])
        .collect();
    // A longer one may begin with a shorter one.
    sequences.sort_by_key(|sequence| std::cmp::Reverse(sequence.len()));
    sequences.iter().fold(text.to_owned(), |text, sequence| text.replace(sequence, ""))
}
