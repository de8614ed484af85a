//! How a filter is loaded, as it is typed.

use std::collections::BTreeSet;

use clap::{Args, ValueEnum};
use profiler::model::{
    arch::Abi,
    capability,
    effective::{Context, Engine},
    seccomp::{KernelVersion, SeccompFile},
};

use crate::input::PolicyInput;

/// The kernel that a filter is loaded on when nobody says: newer than any `minKernel`.
const NEWEST: KernelVersion = KernelVersion { major: u32::MAX, minor: 0 };
/// The oldest that a gate thinks of.
const OLDEST: KernelVersion = KernelVersion { major: 4, minor: 0 };

#[derive(Debug, Default, Args)]
pub struct ContextArgs {
    /// Who loads the filter (default: Docker, which knows every key but podman's own; `diff` goes by the file's keys)
    #[arg(long, value_enum)]
    pub engine: Option<EngineName>,

    /// The machine that it is loaded on: x86_64, aarch64, ... (default: by the file)
    #[arg(long, value_name = "ARCH", value_parser = abi)]
    pub arch: Option<Abi>,

    /// The kernel that it is loaded on: 6.1 (default: the newest)
    #[arg(long, value_name = "VERSION", value_parser = kernel)]
    pub kernel: Option<KernelVersion>,

    /// A capability that the container has, `docker` for its fourteen, `all` or `none` (repeatable; default: the profile's, else
    /// Docker's fourteen)
    #[arg(long = "cap", alias = "capabilities", value_name = "CAP", value_delimiter = ',', value_parser = caps)]
    pub caps: Vec<BTreeSet<u8>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EngineName {
    Docker,
    Podman,
    #[value(alias = "oci")]
    Containerd,
    #[value(name = "cri-o")]
    Crio,
}

impl ContextArgs {
    /// The engine, when one was named.
    pub fn engine(&self) -> Option<Engine> {
        self.engine.map(|engine| match engine {
            EngineName::Docker => Engine::Docker,
            EngineName::Podman => Engine::Podman,
            EngineName::Containerd | EngineName::Crio => Engine::Oci,
        })
    }

    /// For one machine, with these capabilities where none were named.
    pub fn of(&self, native: Abi, capabilities: BTreeSet<u8>) -> Context {
        let given = (!self.caps.is_empty()).then(|| self.caps.iter().flatten().copied().collect());
        Context {
            native,
            capabilities: given.unwrap_or(capabilities),
            kernel: self.kernel.unwrap_or(NEWEST),
            engine: self.engine().unwrap_or(Engine::Docker),
        }
    }

    /// One for each machine that the policy is for.
    pub fn all(&self, policy: &PolicyInput) -> Vec<Context> {
        let capabilities = match &policy.profile {
            Some(profile) => {
                let required = profile.capabilities.required.iter();
                required.filter_map(|rule| capability::number(&rule.name)).collect()
            }
            None => dockers(),
        };
        let natives = self.arch.map_or_else(|| natives(&policy.file), |abi| vec![abi]);
        let engine = self.engine().or(policy.engine).unwrap_or(Engine::Docker);
        let context = |native| Context { engine, ..self.of(native, capabilities.clone()) };
        natives.into_iter().map(context).collect()
    }

    /// The one that questions are answered for: this machine's, where the policy is for it.
    pub fn one(&self, policy: &PolicyInput) -> Option<Context> {
        let mut all = self.all(policy);
        let here = all.iter().position(|context| Some(context.native) == own()).unwrap_or(0);
        (here < all.len()).then(|| all.swap_remove(here))
    }

    /// Those in which a gate looks for growth, each in words: with no, Docker's and all capabilities, on an old and on the
    /// newest kernel. What was named stays as it was named.
    pub fn gates(&self, native: Abi) -> Vec<(Context, String)> {
        let holders = [
            ("no capability", BTreeSet::new()),
            ("Docker's fourteen capabilities", dockers()),
            ("all capabilities", every()),
        ];
        let mut contexts: Vec<(Context, String)> = Vec::new();
        for (holder, capabilities) in holders {
            for (age, kernel) in [("kernel 4.0", OLDEST), ("the newest kernel", NEWEST)] {
                let context = self.of(native, capabilities.clone());
                let context = Context { kernel: self.kernel.unwrap_or(kernel), ..context };
                let holder = if self.caps.is_empty() { holder } else { "the given capabilities" };
                let age = if self.kernel.is_none() { age } else { "the given kernel" };
                if contexts.iter().all(|(known, _)| *known != context) {
                    contexts.push((context, format!("with {holder} on {age}")));
                }
            }
        }
        contexts
    }
}

/// The capabilities that Docker grants.
pub fn dockers() -> BTreeSet<u8> {
    capability::DOCKER_DEFAULT.iter().filter_map(|name| capability::number(name)).collect()
}

fn every() -> BTreeSet<u8> {
    (0..).take(capability::NAMES.len()).collect()
}

/// The machines that a file is for: its 64-bit architectures, else what it lists, else this machine.
pub fn natives(file: &SeccompFile) -> Vec<Abi> {
    let mapped = file.arch_map.iter().map(|map| &map.architecture);
    let named: Vec<&String> = file.architectures.iter().chain(mapped).collect();
    let listed = |of: &[Abi]| -> Vec<Abi> {
        let is_named = |abi: &Abi| named.iter().any(|name| *name == abi.scmp_arch());
        of.iter().copied().filter(is_named).collect()
    };
    let mut natives = listed(&[Abi::X86_64, Abi::Aarch64, Abi::Riscv64]);
    if natives.is_empty() {
        natives = listed(&[Abi::Ia32, Abi::Arm]);
    }
    if natives.is_empty() {
        natives.push(own().unwrap_or(Abi::X86_64));
    }
    natives
}

fn own() -> Option<Abi> {
    profiler::model::policy::native_abi(std::env::consts::ARCH)
}

pub fn abi(text: &str) -> Result<Abi, String> {
    Abi::ALL.into_iter().find(|abi| abi.name() == text).ok_or_else(|| {
        let names: Vec<&str> = Abi::ALL.iter().map(|abi| abi.name()).collect();
        format!("`{text}` is none of {}", names.join(", "))
    })
}

fn kernel(text: &str) -> Result<KernelVersion, String> {
    KernelVersion::of_release(text).ok_or_else(|| format!("`{text}` is no version like `6.1`"))
}

fn caps(text: &str) -> Result<BTreeSet<u8>, String> {
    match text {
        "none" => Ok(BTreeSet::new()),
        "docker" => Ok(dockers()),
        "all" => Ok(every()),
        _ => capability::number(text)
            .map(|number| BTreeSet::from([number]))
            .ok_or_else(|| format!("no capability is named `{text}`")),
    }
}
