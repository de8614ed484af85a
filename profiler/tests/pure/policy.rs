//! What is allowed, and why, on recordings made for the purpose.

use profiler::model::{
    arch::Abi,
    floor::{User, When},
    policy::{self, ALWAYS_ALLOWED, Options},
    profile::{CapabilityRule, NoteKind, Outcome, Profile, SyscallReason},
    purpose::Purpose,
    recording::{Missing, Phase, Verdict},
    syscall,
};

use crate::evidence::{BACKEND, COMMAND, FILTERED, LATE, parse};

fn derive(text: &str) -> Profile {
    policy::derive(&parse(text), &Options::default())
}

fn reasons<'a>(profile: &'a Profile, abi: Abi, name: &str) -> &'a [SyscallReason] {
    let rule = profile.syscalls.iter().find(|rule| rule.abi == abi && rule.name == name);
    rule.map(|rule| rule.reasons.as_slice()).unwrap_or_default()
}

fn names(rules: &[CapabilityRule]) -> Vec<&str> {
    rules.iter().map(|rule| rule.name.as_str()).collect()
}

fn kinds(profile: &Profile) -> Vec<NoteKind> {
    profile.notes.iter().map(|note| note.kind).collect()
}

#[test]
fn setup_is_not_allowed_and_handover_and_workload_are() {
    let profile = derive(BACKEND);
    for name in ["mount", "pivot_root", "clone"] {
        assert_eq!(reasons(&profile, Abi::X86_64, name), []);
    }
    let runc = SyscallReason::Handover {
        runtime: "runc".into(),
        version: "1.1.5".into(),
        optional: false,
    };
    let nginx = SyscallReason::Workload { programs: vec!["nginx".into()], tests: vec![] };
    assert_eq!(reasons(&profile, Abi::X86_64, "getppid"), std::slice::from_ref(&runc));
    assert_eq!(reasons(&profile, Abi::X86_64, "accept4"), std::slice::from_ref(&nginx));
    assert_eq!(reasons(&profile, Abi::X86_64, "read"), [nginx, runc]);
}

#[test]
fn programs_are_sorted_distinct_and_may_be_unknown() {
    let profile = derive(BACKEND);
    let both =
        SyscallReason::Workload { programs: vec!["nginx".into(), "sh".into()], tests: vec![] };
    assert_eq!(reasons(&profile, Abi::X86_64, "statx"), [both]);
    let unknown = SyscallReason::Workload { programs: vec![], tests: vec![] };
    assert_eq!(reasons(&profile, Abi::X86_64, "uname"), [unknown]);
}

#[test]
fn a_handover_that_was_seen_needs_only_what_depends_on_timing() {
    let profile = derive(BACKEND);
    let floor = |reason: &SyscallReason| matches!(reason, SyscallReason::Floor { .. });
    let rules = profile.syscalls.iter().filter(|rule| rule.reasons.iter().any(floor));
    // The recording was made up without faccessat2.
    assert_eq!(
        rules.map(|rule| rule.name.as_str()).collect::<Vec<_>>(),
        ["faccessat2", "futex", "mmap"]
    );
}

#[test]
fn what_joins_need_is_there_although_none_was_seen() {
    let profile = derive(FILTERED);
    assert_eq!(profile.made_for.runtimes[0].runtime, "crun");
    let joins = |name| match reasons(&profile, Abi::X86_64, name) {
        [.., SyscallReason::Floor { when, .. }] => *when == When::Join,
        _ => false,
    };
    // A start of crun makes the first two, too; only joining it needs the others.
    for (name, only_join) in [
        ("execve", false),
        ("capset", false),
        ("openat", true),
        ("setgroups", true),
        ("statx", true),
    ] {
        assert_ne!(reasons(&profile, Abi::X86_64, name), [], "{name}");
        assert_eq!(joins(name), only_join, "{name}");
    }
}

fn derive_for(text: &str, runtime: &str, no_new_privileges: Option<bool>) -> Profile {
    let purpose =
        Purpose { runtime: Some(runtime.parse().expect(runtime)), no_new_privileges, user: None };
    policy::derive(&parse(text), &Options { purpose, ..Options::default() })
}

#[test]
fn for_another_runtime_its_floor_takes_the_place_of_what_was_seen() {
    let profile = derive_for(BACKEND, "crun:1.8.1", None);
    assert_eq!(reasons(&profile, Abi::X86_64, "getppid"), []);
    let floor = |when| SyscallReason::Floor {
        runtime: "crun".into(),
        version: "1.8.1".into(),
        no_new_privileges: false,
        when,
        stands_in_for: None,
    };
    assert_eq!(reasons(&profile, Abi::X86_64, "rt_sigaction"), [floor(When::Start)]);
    let nginx = SyscallReason::Workload { programs: vec!["nginx".into()], tests: vec![] };
    assert_eq!(reasons(&profile, Abi::X86_64, "read"), [nginx, floor(When::Start)]);
    assert_eq!(reasons(&profile, Abi::X86_64, "statx").last(), Some(&floor(When::Join)));
    assert_eq!(profile.made_for.runtimes.len(), 1);
    assert_eq!(profile.made_for.runtimes[0].label(), "crun 1.8.1");
}

#[test]
fn what_another_purpose_costs_is_noted() {
    let profile = derive_for(BACKEND, "any", None);
    let note = profile.notes.iter().find(|note| note.kind == NoteKind::Runtime).expect("a note");
    for part in [
        "made for crun 1.21, ",
        "; recorded under runc 1.1.5; allowed for that: ",
        "rt_sigaction",
        "setresuid",
    ] {
        assert!(note.text.contains(part), "{}", note.text);
    }
    assert!(!note.text.contains("no longer"), "{}", note.text);
    let less = derive_for(BACKEND, "runc:1.1.5", Some(true));
    let texts: Vec<&str> = less.notes.iter().map(|note| note.text.as_str()).collect();
    assert!(
        texts[0].contains("runc 1.1.5 with no-new-privileges; recorded under runc 1.1.5; "),
        "{texts:?}"
    );
    assert!(texts[0].contains("; no longer allowed: "), "{texts:?}");
    assert!(texts.iter().any(|text| text.contains("set-user-ID")), "{texts:?}");
    assert!(less.made_for.no_new_privileges());
}

#[test]
fn without_new_privileges_only_what_is_known_to_be_unneeded_goes() {
    let later = |runtime| derive_for(BACKEND, runtime, Some(true));
    assert_eq!(reasons(&later("runc:1.1.5"), Abi::X86_64, "getppid"), []);
    let mut unmeasured = parse(BACKEND);
    for run in unmeasured.runs.values_mut() {
        run.container.as_mut().expect("a container").runtime_version = "1.1.7".into();
    }
    let purpose = Purpose { no_new_privileges: Some(true), ..Purpose::default() };
    let profile = policy::derive(&unmeasured, &Options { purpose, ..Options::default() });
    assert_ne!(reasons(&profile, Abi::X86_64, "getppid"), [], "seen, and not known to be unneeded");
}

#[test]
fn a_command_can_be_made_for_a_runtime() {
    let profile = derive_for(COMMAND, "crun:1.8.1", None);
    assert_ne!(reasons(&profile, Abi::X86_64, "setresuid"), []);
    assert_eq!(profile.made_for.runtimes[0].user, User::NonRoot);
}

#[test]
fn what_depends_on_timing_does_not_show() {
    let quiet = parse(BACKEND);
    let mut busy = quiet.clone();
    for (name, phase) in [
        ("futex", Phase::Handover),
        ("rt_sigreturn", Phase::Handover),
        ("restart_syscall", Phase::Workload),
        ("clock_gettime", Phase::Workload),
    ] {
        let mut fact = busy.syscalls[5].clone();
        fact.nr = syscall::number(Abi::X86_64, name).expect(name);
        fact.phase = phase;
        busy.syscalls.push(fact);
    }
    let derive = |recording| policy::derive(recording, &Options::default());
    assert_eq!(derive(&quiet), derive(&busy));
}

#[test]
fn without_a_handover_the_floor_is_added() {
    let mut recording = parse(BACKEND);
    recording.syscalls.retain(|fact| fact.phase != Phase::Handover);
    let profile = policy::derive(&recording, &Options::default());
    let floor = SyscallReason::Floor {
        runtime: "runc".into(),
        version: "1.1.5".into(),
        no_new_privileges: false,
        when: When::Start,
        stands_in_for: None,
    };
    for name in ["getppid", "execve", "faccessat2", "futex"] {
        assert_eq!(reasons(&profile, Abi::X86_64, name), std::slice::from_ref(&floor), "{name}");
    }
}

#[test]
fn a_late_start_gets_the_floor_although_a_join_was_seen() {
    let mut recording = parse(BACKEND);
    for run in recording.runs.values_mut() {
        run.missing = vec![Missing::Startup];
    }
    recording.syscalls.retain(|fact| fact.phase != Phase::Handover || fact.nr == 59);
    let profile = policy::derive(&recording, &Options::default());
    assert_ne!(reasons(&profile, Abi::X86_64, "getppid"), []);
}

#[test]
fn a_floor_for_a_version_that_was_not_measured_says_so() {
    let profile = derive(LATE);
    assert_eq!(profile.made_for.runtimes[0].user, User::NonRoot);
    let floor = SyscallReason::Floor {
        runtime: "runc".into(),
        version: "1.1.15".into(),
        no_new_privileges: true,
        when: When::Start,
        stands_in_for: Some("runc 1.3.0".into()),
    };
    assert_eq!(reasons(&profile, Abi::X86_64, "fstatfs"), [floor]);
    assert_eq!(reasons(&profile, Abi::X86_64, "setuid"), []);
}

#[test]
fn a_command_has_no_floor_and_may_be_executed() {
    let profile = derive(COMMAND);
    assert_eq!(reasons(&profile, Abi::X86_64, "execve"), [SyscallReason::Launch {}]);
    assert_eq!(profile.made_for.runtimes, []);
    assert!(!profile.made_for.no_new_privileges());
    let known = ["brk", "execve", "mmap", "openat", "read", "write"];
    for rule in &profile.syscalls {
        let name = rule.name.as_str();
        assert!(known.contains(&name) || ALWAYS_ALLOWED.contains(&name), "{name}");
    }
}

#[test]
fn what_tests_rarely_make_is_always_allowed_on_each_abi() {
    let profile = derive(BACKEND);
    assert_eq!(profile.architectures, [Abi::X86_64, Abi::Ia32]);
    for abi in [Abi::X86_64, Abi::Ia32] {
        for name in ALWAYS_ALLOWED {
            let expected = syscall::number(abi, name).is_some();
            let allowed = reasons(&profile, abi, name).contains(&SyscallReason::AlwaysAllowed {});
            assert_eq!(allowed, expected, "{abi} {name}");
        }
    }
    assert_ne!(reasons(&profile, Abi::Ia32, "sigreturn"), []);
    assert_ne!(reasons(&profile, Abi::Ia32, "clock_gettime64"), []);
}

#[test]
fn denials_are_reported_and_learned_on_request_only() {
    let strict = derive(FILTERED);
    let names: Vec<_> = strict.denied.iter().map(|call| (call.name.as_str(), call.errno)).collect();
    assert_eq!(names, [("clone3", 38), ("unshare", 1)]);
    assert_eq!(reasons(&strict, Abi::X86_64, "unshare"), []);
    assert_eq!(kinds(&strict), [NoteKind::Filtered]);
    assert!(
        strict.notes[0].text.contains("it refused clone3, unshare"),
        "{}",
        strict.notes[0].text
    );

    let learning =
        policy::derive(&parse(FILTERED), &Options { learn_denied: true, ..Options::default() });
    let postgres = SyscallReason::Denied { programs: vec!["postgres".into()], tests: vec![] };
    assert_eq!(reasons(&learning, Abi::X86_64, "clone3"), [postgres]);
    assert_eq!(reasons(&learning, Abi::X86_64, "mount"), []);
}

#[test]
fn needs_and_probes_are_told_apart() {
    let capabilities = derive(BACKEND).capabilities;
    assert!(capabilities.known);
    // A bind that succeeded, a setgid that succeeded, a setuid whose end was not seen.
    assert_eq!(names(&capabilities.required), ["NET_BIND_SERVICE", "SETGID", "SETUID"]);
    assert_eq!(capabilities.required[2].reasons[0].outcome, Outcome::NotObserved);
    assert_eq!(capabilities.required[0].reasons[0].syscall, "bind");
    assert_eq!(capabilities.required[0].reasons[0].programs, ["nginx"]);
    // Granted, but the call failed; granted without audit.
    assert_eq!(names(&capabilities.probed), ["CHOWN", "SYS_PTRACE"]);
    assert_eq!(names(&capabilities.denied), ["SYS_RESOURCE"]);
    // Memory accounting is nobody's need; what remains of SYS_ADMIN is runc's.
    assert_eq!(names(&capabilities.runtime), ["SYS_ADMIN"]);
}

#[test]
fn the_strongest_class_wins() {
    let mut recording = parse(BACKEND);
    let bind = recording.capabilities[0].clone();
    let mut denied = bind.clone();
    denied.verdict = Verdict::Denied;
    recording.capabilities = vec![denied, bind];
    let capabilities = policy::derive(&recording, &Options::default()).capabilities;
    assert_eq!(names(&capabilities.required), ["NET_BIND_SERVICE"]);
    assert_eq!(capabilities.denied, []);
}

#[test]
fn a_filter_without_no_new_privs_needs_sys_admin_although_the_check_is_not_audited() {
    let mut recording = parse(BACKEND);
    let mut fact = recording.capabilities.pop().expect("the unaudited one");
    fact.capability = 21;
    for (call, needed) in [("prctl", true), ("seccomp", true), ("openat", false)] {
        fact.nr = syscall::number(Abi::X86_64, call).expect(call);
        recording.capabilities = vec![fact.clone()];
        let capabilities = policy::derive(&recording, &Options::default()).capabilities;
        assert_eq!(names(&capabilities.required) == ["SYS_ADMIN"], needed, "{call}");
    }
}

#[test]
fn some_functions_ask_in_earnest_although_they_do_not_audit() {
    let mut recording = parse(BACKEND);
    let fact = recording.capabilities.pop().expect("the unaudited one");
    for (asked_by, call, needed) in [
        ("net_ctl_permissions", "openat", true),
        ("net_ctl_permissions", "write", true),
        ("ipc_permissions", "openat", true),
        ("get_sequential_mnt_ns", "ioctl", true),
        ("pid_table_root_permissions", "write", true),
        // everyone may read pid_max
        ("pid_table_root_permissions", "openat", false),
        ("pid_table_root_permissions", "read", false),
        ("ptrace_may_access", "read", false),
        ("__ptrace_may_access", "openat", false),
        ("", "openat", false),
    ] {
        let mut fact = fact.clone();
        fact.asked_by = asked_by.into();
        fact.nr = syscall::number(Abi::X86_64, call).expect(call);
        recording.capabilities = vec![fact.clone()];
        let granted = policy::derive(&recording, &Options::default()).capabilities;
        assert_eq!(names(&granted.required) == ["SYS_PTRACE"], needed, "{asked_by} {call}");

        fact.verdict = Verdict::Denied;
        recording.capabilities = vec![fact];
        let refused = policy::derive(&recording, &Options::default()).capabilities;
        assert_eq!(refused.denied, [], "{asked_by} {call}: refused, and the call succeeded");
    }
}

#[test]
fn mounts_out_of_reach_are_told_to_sys_admin_only() {
    let mut recording = parse(BACKEND);
    let mut fact = recording.capabilities.pop().expect("the unaudited one");
    fact.capability = 21;
    for call in ["statmount", "listmount"] {
        fact.nr = syscall::number(Abi::X86_64, call).expect(call);
        recording.capabilities = vec![fact.clone()];
        let capabilities = policy::derive(&recording, &Options::default()).capabilities;
        assert_eq!(names(&capabilities.required), ["SYS_ADMIN"], "{call}");
    }
}

#[test]
fn a_call_that_was_not_seen_to_end_may_have_succeeded() {
    let mut recording = parse(BACKEND);
    let mut fact = recording.capabilities.remove(0);
    for (succeeded, failed, unsettled, outcome) in [
        (0, 3, 0, Outcome::Failed),
        (0, 3, 1, Outcome::NotObserved),
        (0, 0, 1, Outcome::NotObserved),
        (0, 0, 0, Outcome::NotObserved),
        (1, 3, 1, Outcome::Succeeded),
    ] {
        for seen in fact.seen.values_mut() {
            (seen.succeeded, seen.failed, seen.unsettled) = (succeeded, failed, unsettled);
        }
        recording.capabilities = vec![fact.clone()];
        let capabilities = policy::derive(&recording, &Options::default()).capabilities;
        let required = names(&capabilities.required) == ["NET_BIND_SERVICE"];
        assert_eq!(required, outcome != Outcome::Failed, "{succeeded} {failed} {unsettled}");
        let rules = if required { capabilities.required } else { capabilities.probed };
        assert_eq!(rules[0].reasons[0].outcome, outcome);
    }
}

#[test]
fn what_is_missing_is_noted() {
    let profile = derive(LATE);
    assert!(!profile.capabilities.known);
    assert_eq!(
        kinds(&profile),
        [
            NoteKind::Startup,
            NoteKind::UnnamedSyscalls,
            NoteKind::Lost,
            NoteKind::Capabilities,
            NoteKind::Handover,
            NoteKind::Runtime,
            NoteKind::IoUring,
        ]
    );
    let unnamed = &profile.notes[1].text;
    assert!(unnamed.contains("x86_64 syscall_999"), "{unnamed}");
    assert_ne!(reasons(&profile, Abi::X86_64, "syscall_999"), []);
}

#[test]
fn files_that_could_not_be_read_are_noted_without_what_timing_decides() {
    let notes_with = |missing: Vec<Missing>| {
        let mut recording = parse(COMMAND);
        for run in recording.runs.values_mut() {
            run.missing.clone_from(&missing);
        }
        policy::derive(&recording, &Options::default()).notes
    };
    let unread = |program: &str| Missing::Unread { program: program.into() };
    let lost = |count| Missing::Lost { what: "files".into(), count };
    let one = notes_with(vec![unread("ping")]);
    let told: Vec<_> = one.iter().filter(|note| note.kind == NoteKind::Capabilities).collect();
    assert!(told.len() == 1 && told[0].text.contains("could not be read"), "{one:?}");
    assert!(!told[0].text.contains("ping"), "{one:?}");
    assert_eq!(one, notes_with(vec![unread("mtr"), unread("ping"), lost(7)]));
    assert_eq!(one, notes_with(vec![lost(1)]));
    assert_ne!(one, notes_with(vec![]));
}

#[test]
fn an_empty_recording_is_noted() {
    let mut recording = parse(COMMAND);
    recording.syscalls.clear();
    let profile = policy::derive(&recording, &Options::default());
    assert_eq!(kinds(&profile), [NoteKind::Empty]);
    assert_eq!(profile.architectures, [Abi::X86_64]);
}
