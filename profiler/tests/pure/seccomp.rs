//! Seccomp files of every kind, and what each does with a call.

use std::{collections::BTreeSet, error::Error as _};

use profiler::{
    ingest,
    model::{
        arch::Abi,
        capability,
        effective::{Context, Effective, Engine, Outcome, decide},
        seccomp::{Action, KernelVersion, SeccompFile},
        syscall,
    },
};

pub fn context(engine: Engine) -> Context {
    Context {
        native: Abi::X86_64,
        capabilities: BTreeSet::new(),
        kernel: KernelVersion { major: 6, minor: 18 },
        engine,
    }
}

fn parse(text: &str) -> SeccompFile {
    ingest::seccomp::parse(text).unwrap_or_else(|error| panic!("{error}: {:?}", error.source()))
}

fn effective(text: &str, engine: Engine) -> Effective {
    decide(&parse(text), &context(engine))
}

/// What happens to a call of x86_64 with this first argument.
fn verdict(effective: &Effective, name: &str, argument: u64) -> String {
    let nr = syscall::number(Abi::X86_64, name).expect("a call");
    effective.verdict(Abi::X86_64, nr, &[argument, 0, 0, 0, 0, 0]).to_string()
}

const ERRNO: Outcome = Outcome { action: Action::Errno, data: 1 };

#[test]
fn kinds_of_files_are_told_apart_and_mean_the_same() {
    let docker = r#"{"defaultAction": "SCMP_ACT_ERRNO", "archMap": [{"architecture": "SCMP_ARCH_X86_64",
        "subArchitectures": ["SCMP_ARCH_X86"]}], "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW",
        "args": null, "comment": "", "includes": {}, "excludes": {}}, {"name": "write", "action": "SCMP_ACT_ALLOW"}]}"#;
    let oci = r#"{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "syscalls": [{"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"}]}"#;
    let bundle = format!(r#"{{"ociVersion": "1.0.2", "linux": {{"seccomp": {oci}}}}}"#);
    let operator = "apiVersion: security-profiles-operator.x-k8s.io/v1beta1\nkind: SeccompProfile\n\
        metadata:\n  name: x\nspec:\n  defaultAction: SCMP_ACT_ERRNO\n  architectures: [SCMP_ARCH_X86_64, SCMP_ARCH_X86]\n\
        \x20 syscalls:\n  - action: SCMP_ACT_ALLOW\n    names:\n    - read\n    - write\n";
    let podman = r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "defaultErrno": "EPERM",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "syscalls": [{"names": ["read", "write"], "action": "SCMP_ACT_ALLOW", "errno": ""}]}"#;
    let expected = effective(oci, Engine::Oci);
    assert_eq!(effective(docker, Engine::Docker), expected);
    assert_eq!(effective(&bundle, Engine::Oci), expected);
    assert_eq!(effective(operator, Engine::Oci), expected);
    assert_eq!(effective(podman, Engine::Podman), expected);
    assert_eq!(effective(podman, Engine::Docker).default.to_string(), "ENOSYS");
    let dropped = effective(docker, Engine::Oci);
    assert_eq!(dropped.abis, BTreeSet::from([Abi::X86_64]));
    assert_eq!(verdict(&dropped, "write", 0), "EPERM");
}

#[test]
fn what_no_engine_loads_is_refused() {
    let rule =
        |rule: &str| format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{rule}]}}"#);
    let spo = |group: &str, kind: &str, spec: &str| {
        format!(
            "apiVersion: {group}/v1\nkind: {kind}\nspec: {{defaultAction: SCMP_ACT_ALLOW{spec}}}\n"
        )
    };
    let cases = [
        ("not a file", "hello".to_owned()),
        ("cut short", "{\"defaultAction\": ".to_owned()),
        (
            "both architectures",
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"],
            "archMap": [{"architecture": "SCMP_ARCH_X86_64"}]}"#
                .to_owned(),
        ),
        ("both names", rule(r#"{"name": "a", "names": ["b"], "action": "SCMP_ACT_ALLOW"}"#)),
        ("empty name", rule(r#"{"names": [""], "action": "SCMP_ACT_ALLOW"}"#)),
        ("unknown action", rule(r#"{"names": ["a"], "action": "SCMP_ACT_MAYBE"}"#)),
        ("unknown key", rule(r#"{"names": ["a"], "action": "SCMP_ACT_ALLOW", "colour": 1}"#)),
        ("doubled key", rule(r#"{"names": ["a"], "names": [], "action": "SCMP_ACT_ALLOW"}"#)),
        (
            "unknown errno",
            rule(r#"{"names": ["a"], "action": "SCMP_ACT_ERRNO", "errno": "EPREM"}"#),
        ),
        (
            "argument 6",
            rule(
                r#"{"names": ["a"], "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}"#,
            ),
        ),
        (
            "unknown operator",
            rule(
                r#"{"names": ["a"], "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_IS"}]}"#,
            ),
        ),
        ("bundle without", r#"{"ociVersion": "1.0.2", "linux": {}}"#.to_owned()),
        ("other object", spo("security-profiles-operator.x-k8s.io", "SelinuxProfile", "")),
        ("other group", spo("apps", "SeccompProfile", "")),
        (
            "base profile",
            spo("security-profiles-operator.x-k8s.io", "SeccompProfile", ", baseProfileName: runc"),
        ),
        (
            "unknown key in yaml",
            spo("security-profiles-operator.x-k8s.io", "SeccompProfile", ", colour: 1"),
        ),
    ];
    let said: Vec<String> = cases
        .iter()
        .map(|(name, text)| {
            let error = ingest::seccomp::parse(text).expect_err(name);
            let cause = error.source().map(|cause| format!("\ncause: {cause}")).unwrap_or_default();
            format!("## {name}\n{error}{cause}\n")
        })
        .collect();
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn conditions_of_docker_are_evaluated_by_those_who_know_them() {
    let text = r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
        {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
        {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["modify_ldt"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm64", "arm"]}}]}"#;
    let file = parse(text);
    let of = |context: &Context| {
        let effective = decide(&file, context);
        ["ptrace", "mount", "clone3", "modify_ldt"].map(|name| verdict(&effective, name, 0))
    };
    let docker = context(Engine::Docker);
    assert_eq!(of(&docker), ["allow", "EPERM", "ENOSYS", "EPERM"]);
    let admin = BTreeSet::from([capability::number("SYS_ADMIN").expect("a capability")]);
    let old = KernelVersion { major: 4, minor: 7 };
    let admin = Context { capabilities: admin, kernel: old, ..docker.clone() };
    assert_eq!(of(&admin), ["EPERM", "allow", "EPERM", "EPERM"]);
    assert_eq!(
        of(&Context { engine: Engine::Podman, ..admin.clone() })[0],
        "allow",
        "podman ignores minKernel"
    );
    assert_eq!(
        of(&Context { engine: Engine::Oci, ..admin }),
        ["allow", "allow", "ENOSYS", "allow"]
    );
}

#[test]
fn rules_are_added_as_runc_adds_them() {
    let text = r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
        {"names": ["personality", "no_such_call"], "action": "SCMP_ACT_ALLOW", "args": [
            {"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 131072, "op": "SCMP_CMP_EQ"}]},
        {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 22},
        {"names": ["socket"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 1, "value": 1, "op": "SCMP_CMP_GT"}]},
        {"names": ["read"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["read"], "action": "SCMP_ACT_ERRNO"}]}"#;
    let effective = effective(text, Engine::Docker);
    let personality = |argument| verdict(&effective, "personality", argument);
    assert_eq!(
        [8, 131_072, 0].map(personality),
        ["allow", "allow", "EPERM"],
        "twice one index is either"
    );
    assert_eq!(verdict(&effective, "socket", 1), "EINVAL", "the first unconditional rule stays");
    assert_eq!(
        verdict(&effective, "read", 0),
        "allow",
        "one that does what the default does is skipped"
    );
    let other = effective.verdict(Abi::Aarch64, 63, &[0; 6]);
    assert_eq!(other, Outcome::BAD_ARCHITECTURE);
    assert_eq!(effective.default, ERRNO);
    assert_eq!(effective.largest[&Abi::X86_64], 135);
}
