//! Recordings to test with: the fixtures, and a strategy that makes arbitrary ones.

use std::collections::BTreeMap;

use profiler::{
    ingest,
    model::{
        arch::Abi,
        arguments::Masked,
        recording::{
            ArgumentFact, AuditClass, CapabilityFact, CheckSighting, Container, DenialFact,
            DenialSighting, Host, Missing, Phase, Program, Recording, Run, SCHEMA_VERSION,
            SeccompSetting, Sighting, SyscallFact, Target, TargetKind, UserNamespace, Verdict,
        },
    },
};
use proptest::{
    collection::{btree_set, vec},
    option,
    prelude::*,
    sample::select,
};

pub const BACKEND: &str = include_str!("../data/backend.json");
pub const COMMAND: &str = include_str!("../data/command.json");
pub const FILTERED: &str = include_str!("../data/filtered.json");
pub const LATE: &str = include_str!("../data/late.json");

pub fn parse(text: &str) -> Recording {
    ingest::recording::parse(text).expect("the fixture is valid")
}

/// A run that follows from its number alone, so that recordings which share a run agree on it.
fn run(number: u8) -> Run {
    let missing = match number % 4 {
        0 => vec![],
        1 => vec![Missing::Shutdown, Missing::Handover],
        2 => {
            let unread = Missing::Unread { program: "x".into() };
            vec![Missing::Startup, unread, Missing::Left { count: 2 }]
        }
        _ => vec![Missing::Lost { what: "attribution".into(), count: u64::from(number) }],
    };
    Run {
        started_unix_s: 1_700_000_000 + u64::from(number),
        duration_ms: 1000,
        profiler_version: "0.1.0".into(),
        command: vec![],
        command_status: None,
        host: Host {
            kernel: "6.18.0".into(),
            machine: if number % 5 == 4 { "aarch64" } else { "x86_64" }.into(),
            cgroups: "unified".into(),
        },
        container: Some(Container {
            engine: "docker".into(),
            engine_version: "20.10.24".into(),
            runtime: ["runc", "crun", "kata"][usize::from(number % 3)].into(),
            runtime_version: "1.1.5".into(),
            image: "image".into(),
            image_id: "sha256:0".into(),
            ids: vec![],
            no_new_privileges: number.is_multiple_of(2),
            privileged: false,
            user: String::new(),
            seccomp: SeccompSetting::Permissive,
            capabilities: vec![],
            compose_service: None,
            compose_1: false,
        }),
        missing,
        inner_cgroups: u64::from(number % 3),
        usage: (number % 3 == 1).then(|| crate::usage::of_run(number)),
    }
}

fn sighting() -> impl Strategy<Value = Sighting> {
    let program = (select(vec!["a", "b", ""]), select(vec!["x", "y", ""]))
        .prop_map(|(comm, exe)| Program { comm: comm.into(), exe: exe.into() });
    let test = select(vec!["test_login", "test_logout"]).prop_map(str::to_owned);
    let stack = vec(select(vec!["unknown", "read+0x1 (libc)"]).prop_map(str::to_owned), 0..3);
    let tests = (btree_set(test, 0..2), any::<bool>());
    let times = (option::of(0..3u64), option::of(1..4u64));
    (times, btree_set(program, 0..3), tests, stack).prop_map(
        |((first_ms, count), programs, (tests, outside), stack)| {
            let outside = outside && !tests.is_empty();
            Sighting { first_ms, count, programs, tests, outside, stack }
        },
    )
}

/// One to three of `runs`, each with a value.
fn seen<S: Strategy>(
    runs: &[u8],
    value: S,
) -> impl Strategy<Value = BTreeMap<String, S::Value>> + use<S>
where
    S::Value: Clone,
{
    let ids: Vec<String> = runs.iter().map(|&number| id(number)).collect();
    vec((select(ids), value), 1..3).prop_map(|pairs| pairs.into_iter().collect())
}

fn id(number: u8) -> String {
    format!("{number:016x}")
}

fn call() -> impl Strategy<Value = (Abi, u32, Phase)> {
    let abi = select(vec![Abi::X86_64, Abi::Ia32, Abi::Aarch64]);
    let phase = select(vec![Phase::Setup, Phase::Handover, Phase::Workload]);
    (abi, select(vec![0, 1, 59, 332, 435, 999]), phase)
}

/// A recording of the runs with the given numbers; all have the same target.
pub fn recording(runs: Vec<u8>) -> impl Strategy<Value = Recording> {
    let syscall = (call(), seen(&runs, sighting()))
        .prop_map(|((abi, nr, phase), seen)| SyscallFact { abi, nr, phase, seen });
    let check = (1..4u64, 0..3u64, 0..3u64, 0..2u64, sighting()).prop_map(
        |(checks, succeeded, failed, unsettled, sighting)| CheckSighting {
            checks,
            succeeded,
            failed,
            unsettled,
            sighting,
        },
    );
    let kind = (
        select(vec![0u8, 21, 63]),
        select(vec![Verdict::Granted, Verdict::Denied]),
        select(vec![AuditClass::Audited, AuditClass::Noaudit, AuditClass::Memory]),
        select(vec![UserNamespace::Host, UserNamespace::Own, UserNamespace::Other]),
        any::<bool>(),
        select(vec!["", "inet_bind_sk", "net_ctl_permissions"]),
    );
    let capability =
        (call(), kind, seen(&runs, check)).prop_map(|((abi, nr, phase), kind, seen)| {
            let (capability, verdict, audit, user_namespace, overridden, asked_by) = kind;
            CapabilityFact {
                capability,
                phase,
                verdict,
                audit,
                user_namespace,
                overridden,
                abi,
                nr,
                asked_by: asked_by.into(),
                seen,
            }
        });
    let denied = (1..4u64, option::of(any::<[u64; 6]>()), sighting())
        .prop_map(|(count, arguments, sighting)| DenialSighting { count, arguments, sighting });
    let answer = select(vec![(1, false), (38, false), (0, true)]);
    let denial = (call(), answer, seen(&runs, denied)).prop_map(
        |((abi, nr, phase), (errno, killed), seen)| DenialFact {
            abi,
            nr,
            phase,
            errno,
            killed,
            seen,
        },
    );

    let masked = (0..3u8, select(vec![0xff, 0xffff_ffff]), 0..4u64)
        .prop_map(|(index, mask, value)| Masked { index, mask, value });
    let argument = (call(), vec(masked, 0..3), seen(&runs, sighting()))
        .prop_map(|((abi, nr, phase), values, seen)| ArgumentFact { abi, nr, phase, values, seen });

    (vec(syscall, 0..8), vec(capability, 0..8), vec(denial, 0..4), vec(argument, 0..4)).prop_map(
        move |(syscalls, capabilities, denials, arguments)| Recording {
            schema_version: SCHEMA_VERSION,
            target: Target { kind: TargetKind::Container, name: "backend".into() },
            runs: runs.iter().map(|&number| (id(number), run(number))).collect(),
            syscalls,
            capabilities,
            denials,
            arguments,
        },
    )
}

/// A recording of some of the runs 0 to 7, which others may share.
pub fn any_recording() -> impl Strategy<Value = Recording> {
    vec(0..8u8, 1..4).prop_flat_map(recording)
}
