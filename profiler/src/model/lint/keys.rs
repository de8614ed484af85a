//! Keys that engines drop, conditions that never hold, architectures.

use crate::model::{
    arch::Abi,
    effective::Engine,
    lint::{Finding, Lint, Severity, Subject, compatible::conflict, finding::some_of},
    seccomp::Rule,
};

/// `SCMP_ARCH_*` that runtimes know beside those with a table here. Source: runc 1.1.5, `libcontainer/seccomp/config.go`.
const OTHER_ARCHITECTURES: [&str; 12] = [
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_NATIVE",
];

pub(super) fn check(subject: &Subject<'_>, found: &mut Vec<Finding>) {
    engine_keys(subject, found);
    unreachable(subject, found);
    architectures(subject, found);
}

fn engine_keys(subject: &Subject<'_>, found: &mut Vec<Finding>) {
    let file = subject.file;
    let mut report = |key: &str, only: &str, effect: &str, has: &dyn Fn(&Rule) -> bool| {
        let rules: Vec<usize> =
            (0..).zip(&file.syscalls).filter(|(_, r)| has(r)).map(|(i, _)| i).collect();
        let Some(first) = rules.first() else { return };
        let count = match rules.len() {
            1 => "1 rule has".to_owned(),
            some => format!("{some} rules have"),
        };
        let message = format!("{count} `{key}`: only {only} it; others drop the key, and {effect}");
        let pointer = format!("/syscalls/{first}/{key}");
        found.push(Finding::new(Lint::EngineKey, Severity::Warning, pointer, message));
    };
    let is_given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    let both = "Docker and podman know";
    let always = "the rule holds for every container";
    match subject.engine {
        Some(Engine::Docker) => {}
        Some(Engine::Podman) => {
            let every = "the rule holds for every kernel";
            report("includes", "Docker knows `minKernel` in", every, &|r| {
                r.includes.min_kernel.is_some()
            });
            report("excludes", "Docker knows `minKernel` in", every, &|r| {
                r.excludes.min_kernel.is_some()
            });
        }
        Some(Engine::Oci) | None => {
            report("includes", both, always, &|rule| !rule.includes.is_empty());
            report("excludes", both, always, &|rule| !rule.excludes.is_empty());
            report("name", both, "the rule names nothing", &|rule| is_given(&rule.name));
        }
    }
    if subject.engine != Some(Engine::Podman) {
        let is_alone = |rule: &Rule| is_given(&rule.errno) && rule.errno_ret.is_none();
        report("errno", "podman knows", "the error is EPERM", &is_alone);
    }
    let mut whole = |pointer: &str, message: &str| {
        found.push(Finding::new(Lint::EngineKey, Severity::Warning, pointer, message));
    };
    if matches!(subject.engine, Some(Engine::Oci) | None) && !file.arch_map.is_empty() {
        whole(
            "/archMap",
            "only Docker and podman know `archMap`; others drop it, and 32-bit programs are killed",
        );
    }
    let is_alone = is_given(&file.default_errno) && file.default_errno_ret.is_none();
    if subject.engine != Some(Engine::Podman) && is_alone {
        whole(
            "/defaultErrno",
            "only podman knows `defaultErrno`; others drop it, and the error is EPERM",
        );
    }
}

fn unreachable(subject: &Subject<'_>, found: &mut Vec<Finding>) {
    for (index, rule) in subject.file.syscalls.iter().enumerate() {
        if let Some(why) = conflict(&[rule]) {
            let message = format!("the rule is never kept: {why}");
            let pointer = format!("/syscalls/{index}");
            found.push(Finding::new(Lint::UnreachableRule, Severity::Warning, pointer, message));
        }
    }
}

fn architectures(subject: &Subject<'_>, found: &mut Vec<Finding>) {
    let file = subject.file;
    let lint = Lint::Architectures;
    let known = |name: &&String| {
        Abi::ALL.iter().any(|abi| abi.scmp_arch() == name.as_str())
            || OTHER_ARCHITECTURES.contains(&name.as_str())
    };
    for (index, name) in file.architectures.iter().enumerate().filter(|(_, name)| !known(name)) {
        let name: String = name.chars().take(64).collect();
        let message =
            format!("no runtime knows the architecture `{name}`: containers do not start");
        found.push(Finding::new(lint, Severity::Error, format!("/architectures/{index}"), message));
    }
    if let Some(index) = file.architectures.iter().position(|n| n == Abi::Riscv64.scmp_arch()) {
        let message = "runc 1.1.5 does not know `SCMP_ARCH_RISCV64`: containers do not start there, and on \
                       riscv64 it is not needed";
        let pointer = format!("/architectures/{index}");
        let severity =
            if file.architectures.len() == 1 { Severity::Note } else { Severity::Warning };
        found.push(Finding::new(lint, severity, pointer, message));
    }
    if file.architectures.is_empty() && file.arch_map.is_empty() {
        let message =
            "no architectures: only the machine's own is admitted, and 32-bit programs are killed";
        found.push(Finding::new(lint, Severity::Note, "", message));
    }
    let missing: Vec<&str> = subject
        .contexts
        .iter()
        .map(|context| context.native.scmp_arch())
        .filter(|native| {
            !file.arch_map.is_empty()
                && !file.arch_map.iter().any(|map| map.architecture == *native)
        })
        .collect();
    if !missing.is_empty() {
        let message =
            format!("no entry for {}: only that architecture is admitted there", some_of(&missing));
        found.push(Finding::new(lint, Severity::Note, "/archMap", message));
    }
}
