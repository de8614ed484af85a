//! What Docker's default filter says of a call, derived from the pinned file.

use std::{collections::BTreeSet, fmt};

use crate::model::{baseline::docker_default_file, seccomp::Rule};

/// The verdict of Docker's default filter on a call, on the architectures and kernels that its rules are for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerDefault {
    /// It lets the call pass whatever the arguments, for every container.
    pub allowed: bool,
    /// It lets the call pass for some values of its arguments, for every container.
    pub with_arguments: bool,
    /// It lets the call pass for containers with one of these capabilities; without `CAP_`.
    pub with_capabilities: BTreeSet<&'static str>,
}

/// The verdict on the call with this name. One that the file does not name is denied.
#[must_use]
pub fn docker_default(name: &str) -> DockerDefault {
    let names_it = |rule: &&Rule| rule.names.iter().chain(&rule.name).any(|known| known == name);
    let rules = docker_default_file().syscalls.iter().filter(names_it);
    let mut verdict =
        DockerDefault { allowed: false, with_arguments: false, with_capabilities: BTreeSet::new() };
    for rule in rules.filter(|rule| rule.action.passes()) {
        if !rule.includes.caps.is_empty() {
            let caps = rule.includes.caps.iter().map(|cap| cap.strip_prefix("CAP_").unwrap_or(cap));
            verdict.with_capabilities.extend(caps);
        } else if rule.args.is_empty() {
            verdict.allowed = true;
        } else {
            verdict.with_arguments = true;
        }
    }
    verdict
}

impl fmt::Display for DockerDefault {
    /// `allowed`, `allowed with some arguments; any with CAP_SYS_ADMIN`, `allowed with CAP_BPF or CAP_SYS_ADMIN`, `denied`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let caps: Vec<String> =
            self.with_capabilities.iter().map(|cap| format!("CAP_{cap}")).collect();
        let caps = caps.join(" or ");
        match (self.allowed, self.with_arguments, caps.is_empty()) {
            (true, ..) => f.write_str("allowed"),
            (false, true, true) => f.write_str("allowed with some arguments"),
            (false, true, false) => {
                write!(f, "allowed with some arguments; with any given {caps}")
            }
            (false, false, false) => write!(f, "allowed with {caps}"),
            (false, false, true) => f.write_str("denied"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_those_of_the_file() {
        for (name, verdict) in [
            ("read", "allowed"),
            ("ptrace", "allowed"),
            ("personality", "allowed with some arguments"),
            ("clone", "allowed with some arguments; with any given CAP_SYS_ADMIN"),
            ("chroot", "allowed with CAP_SYS_CHROOT"),
            ("clone3", "allowed with CAP_SYS_ADMIN"),
            ("mount", "allowed with CAP_SYS_ADMIN"),
            ("keyctl", "denied"),
            ("userfaultfd", "denied"),
            ("nonsense", "denied"),
        ] {
            assert_eq!(docker_default(name).to_string(), verdict, "{name}");
        }
    }
}
