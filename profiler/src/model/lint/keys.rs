//! Keys that engines drop, conditions that never hold, architectures.

use crate::model::{
    arch::Abi,
    effective::Engine,
    lint::{Finding, Lint, Severity, Subject, compatible::conflict, finding::some_of},
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
    let mut report = |only: &str, effect: &str, pointer: String| {
        let message = format!("only {only} knows the key; others drop it, and {effect}");
        found.push(Finding::new(Lint::EngineKey, Severity::Warning, pointer, message));
    };
    if !matches!(subject.engine, Some(Engine::Docker | Engine::Podman)) {
        let only = "Docker or podman";
        if !file.arch_map.is_empty() {
            report(only, "32-bit programs are killed", "/archMap".into());
        }
        for (index, rule) in file.syscalls.iter().enumerate() {
            let conditions = [("includes", &rule.includes), ("excludes", &rule.excludes)];
            for (key, _) in conditions.iter().filter(|(_, filter)| !filter.is_empty()) {
                let effect = "the rule holds for every container";
                report(only, effect, format!("/syscalls/{index}/{key}"));
            }
            if rule.name.as_ref().is_some_and(|name| !name.is_empty()) {
                report(only, "the rule names nothing", format!("/syscalls/{index}/name"));
            }
        }
    }
    if subject.engine == Some(Engine::Podman) {
        for (index, rule) in file.syscalls.iter().enumerate() {
            for (key, filter) in [("includes", &rule.includes), ("excludes", &rule.excludes)] {
                if filter.min_kernel.is_some() {
                    let pointer = format!("/syscalls/{index}/{key}/minKernel");
                    report("Docker", "the rule holds for every kernel", pointer);
                }
            }
        }
    } else {
        let effect = "the error is EPERM";
        if file.default_errno.as_ref().is_some_and(|errno| !errno.is_empty()) {
            report("podman", effect, "/defaultErrno".into());
        }
        for (index, rule) in file.syscalls.iter().enumerate() {
            let other = rule.errno.as_ref().is_some_and(|errno| !errno.is_empty());
            if other && rule.errno_ret.is_none() {
                report("podman", effect, format!("/syscalls/{index}/errno"));
            }
        }
    }
}

fn unreachable(subject: &Subject<'_>, found: &mut Vec<Finding>) {
    for (index, rule) in subject.file.syscalls.iter().enumerate() {
        if let Some(why) = conflict(&[rule], &Abi::ALL) {
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
