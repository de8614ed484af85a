//! How a filter is loaded, as it is typed.

use std::collections::BTreeSet;

use clap::{Args, ValueEnum};
use profiler::model::{
    arch::Abi,
    capability,
    effective::{Context, Engine},
    profile::Profile,
    seccomp::{KernelVersion, SeccompFile},
};

#[derive(Debug, Args)]
pub struct ContextArgs {
    /// Who loads the filter (default: Docker, which knows every key but podman's own)
    #[arg(long, value_enum)]
    pub engine: Option<EngineName>,

    /// The machine that it is loaded on: x86_64, aarch64, ... (default: by the file)
    #[arg(long, value_name = "ARCH", value_parser = abi)]
    pub arch: Option<Abi>,

    /// The kernel that it is loaded on: 6.1 (default: the newest)
    #[arg(long, value_name = "VERSION", value_parser = kernel)]
    pub kernel: Option<KernelVersion>,

    /// A capability that the container has (repeatable; default: the profile's, else Docker's fourteen)
    #[arg(long = "cap", value_name = "CAP", value_parser = cap)]
    pub caps: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EngineName {
    Docker,
    Podman,
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

    /// One for each machine that the file is for.
    pub fn all(&self, file: &SeccompFile, profile: Option<&Profile>) -> Vec<Context> {
        let capabilities: BTreeSet<u8> = match (self.caps.as_slice(), profile) {
            ([], Some(profile)) => {
                let required = profile.capabilities.required.iter();
                required.filter_map(|rule| capability::number(&rule.name)).collect()
            }
            ([], None) => capability::DOCKER_DEFAULT
                .iter()
                .filter_map(|name| capability::number(name))
                .collect(),
            (given, _) => given.iter().copied().collect(),
        };
        let natives = self.arch.map_or_else(|| natives(file), |abi| vec![abi]);
        let context = |native| Context {
            native,
            capabilities: capabilities.clone(),
            kernel: self.kernel.unwrap_or(KernelVersion { major: u32::MAX, minor: 0 }),
            engine: self.engine().unwrap_or(Engine::Docker),
        };
        natives.into_iter().map(context).collect()
    }

    /// The one that questions are answered for: this machine's, where the file is for it.
    pub fn one(&self, file: &SeccompFile, profile: Option<&Profile>) -> Option<Context> {
        let mut all = self.all(file, profile);
        let here = all.iter().position(|context| Some(context.native) == own()).unwrap_or(0);
        (here < all.len()).then(|| all.swap_remove(here))
    }
}

/// The machines that a file is for: its 64-bit architectures, else what it lists, else this machine.
fn natives(file: &SeccompFile) -> Vec<Abi> {
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

fn abi(text: &str) -> Result<Abi, String> {
    Abi::ALL.into_iter().find(|abi| abi.name() == text).ok_or_else(|| {
        let names: Vec<&str> = Abi::ALL.iter().map(|abi| abi.name()).collect();
        format!("`{text}` is none of {}", names.join(", "))
    })
}

fn kernel(text: &str) -> Result<KernelVersion, String> {
    KernelVersion::of_release(text).ok_or_else(|| format!("`{text}` is no version like `6.1`"))
}

fn cap(text: &str) -> Result<u8, String> {
    capability::number(text).ok_or_else(|| format!("no capability is named `{text}`"))
}
