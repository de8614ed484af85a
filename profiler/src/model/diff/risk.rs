//! How risky it is to let a call or a capability through, as Docker's default profile judges it.
//!
//! Owns the three classes and their reasons. The judgement is that of the profile which most containers run
//! under: what it refuses to everyone was refused for a reason.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::LazyLock,
};

use serde::Serialize;

use crate::model::{
    arch::Abi,
    baseline, capability,
    effective::{Context, Effective, Engine, Outcome, decide},
    seccomp::KernelVersion,
    syscall,
};

/// A class of risk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Risk {
    /// Most containers have it.
    Low,
    /// Worth a look.
    Medium,
    /// Known attack surface.
    High,
}

impl Risk {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Risk::Low => "low",
            Risk::Medium => "medium",
            Risk::High => "high",
        }
    }
}

impl fmt::Display for Risk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Docker's default profile on a new kernel for a container without capabilities, by the machine's own ABI.
static DEFAULTS: LazyLock<BTreeMap<Abi, Effective>> = LazyLock::new(|| {
    let kernel = KernelVersion { major: u32::MAX, minor: 0 };
    let of = |native| {
        let capabilities = BTreeSet::new();
        let context = Context { native, capabilities, kernel, engine: Engine::Docker };
        (native, decide(baseline::docker_default_file(), &context))
    };
    [Abi::X86_64, Abi::Aarch64, Abi::Riscv64].map(of).into()
});

/// The risk of a call, and why.
pub(super) fn of_call(abi: Abi, nr: u32) -> (Risk, String) {
    let Some((name, default)) = syscall::name(abi, nr).zip(DEFAULTS.get(&native(abi))) else {
        return (Risk::High, "no table names it: it may do anything".into());
    };
    let decision = default.decision(abi, nr);
    if decision.otherwise.may_pass() {
        return (Risk::Low, "Docker's default profile allows it".into());
    }
    if decision.outcomes().any(Outcome::may_pass) {
        return (
            Risk::Medium,
            "Docker's default profile allows it with some arguments only".into(),
        );
    }
    let rules = &baseline::docker_default_file().syscalls;
    let mut rules = rules.iter().filter(|rule| rule.all_names().any(|known| known == name));
    if let Some(capability) = rules.find_map(|rule| rule.includes.caps.first()) {
        return (Risk::High, format!("Docker's default profile allows it with {capability} only"));
    }
    if default.largest.get(&abi).is_some_and(|&largest| nr > largest) {
        return (Risk::Medium, "newer than Docker's default profile".into());
    }
    (Risk::High, "Docker's default profile refuses it".into())
}

/// The risk of a capability, by name without `CAP_`, and why.
pub(super) fn of_capability(name: &str) -> (Risk, String) {
    if name == "SYS_ADMIN" {
        return (Risk::High, "it is close to being root on the host".into());
    }
    if capability::DOCKER_DEFAULT.contains(&name) {
        return (Risk::Medium, "Docker grants it unless told otherwise".into());
    }
    (Risk::High, "Docker grants it only when told to".into())
}

/// A machine's own ABI under which the default profile admits `abi`.
const fn native(abi: Abi) -> Abi {
    match abi {
        Abi::Ia32 | Abi::X32 => Abi::X86_64,
        Abi::Arm => Abi::Aarch64,
        abi => abi,
    }
}
