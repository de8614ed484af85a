//! The engines' default profiles, as the things to compare with.
//!
//! Owns the pinned copies of them under `profiles/upstream/` and answers what Docker's would allow. It decides
//! nothing: the number is for the summary, `53 calls against 292 in Docker's default`.

use std::{collections::BTreeSet, sync::LazyLock};

use crate::model::{
    arch::Abi,
    capability,
    effective::{Context, Engine, decide},
    seccomp::{KernelVersion, SeccompFile},
};

/// Where the pinned profile comes from, for people.
pub const DOCKER_DEFAULT_SOURCE: &str = "Docker 20.10.24";

/// An engine whose default profile is pinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upstream {
    /// Docker 20.10.24.
    Docker,
    /// containers/common 0.50.1, of podman 4.3.
    Podman,
    /// containerd 1.6.20.
    Containerd,
}

impl Upstream {
    /// All of them.
    pub const ALL: [Upstream; 3] = [Upstream::Docker, Upstream::Podman, Upstream::Containerd];

    /// The name by which it can be compared with.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Upstream::Docker => "docker-default",
            Upstream::Podman => "podman-default",
            Upstream::Containerd => "containerd-default",
        }
    }

    /// The pinned profile.
    #[must_use]
    pub fn file(self) -> &'static SeccompFile {
        match self {
            Upstream::Docker => &DOCKER_DEFAULT,
            Upstream::Podman => &PODMAN_DEFAULT,
            Upstream::Containerd => &CONTAINERD_DEFAULT,
        }
    }

    /// Who reads it. containerd's is a program whose conditions are written in Docker's format.
    #[must_use]
    pub const fn engine(self) -> Engine {
        match self {
            Upstream::Docker | Upstream::Containerd => Engine::Docker,
            Upstream::Podman => Engine::Podman,
        }
    }
}

static DOCKER_DEFAULT: LazyLock<SeccompFile> =
    LazyLock::new(|| parse(include_str!("../../../profiles/upstream/docker-default.json")));
static PODMAN_DEFAULT: LazyLock<SeccompFile> =
    LazyLock::new(|| parse(include_str!("../../../profiles/upstream/podman-default.json")));
static CONTAINERD_DEFAULT: LazyLock<SeccompFile> =
    LazyLock::new(|| parse(include_str!("../../../profiles/upstream/containerd-default.json")));

fn parse(text: &str) -> SeccompFile {
    serde_json::from_str(text).expect("the embedded default profiles parse, a test says so")
}

/// Docker's pinned profile.
#[must_use]
pub fn docker_default_file() -> &'static SeccompFile {
    Upstream::Docker.file()
}

/// The calls that Docker's default profile lets pass for a container with Docker's fourteen capabilities.
///
/// Calls of the native ABI only: the profile's 350 names include 60 that exist on 32-bit ABIs alone.
#[must_use]
pub fn docker_default(native: Abi, kernel: KernelVersion) -> BTreeSet<&'static str> {
    allowed(native, &capability::DOCKER_DEFAULT, kernel)
}

fn allowed(native: Abi, capabilities: &[&str], kernel: KernelVersion) -> BTreeSet<&'static str> {
    let capabilities = capabilities.iter().filter_map(|name| capability::number(name)).collect();
    let context = Context { native, capabilities, kernel, engine: Engine::Docker };
    decide(&DOCKER_DEFAULT, &context).passing(native)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: KernelVersion = KernelVersion { major: 6, minor: 18 };

    #[test]
    fn conditions_are_applied() {
        let default = docker_default(Abi::X86_64, KERNEL);
        for name in ["read", "ptrace", "personality", "clone", "chroot", "arch_prctl", "modify_ldt"]
        {
            assert!(default.contains(name), "{name}");
        }
        for name in ["clone3", "mount", "bpf", "reboot", "unshare", "syslog", "set_mempolicy"] {
            assert!(!default.contains(name), "{name}");
        }
        let old = docker_default(Abi::X86_64, KernelVersion { major: 4, minor: 7 });
        assert!(!old.contains("ptrace"));
        let arm = docker_default(Abi::Aarch64, KERNEL);
        assert!(!arm.contains("arch_prctl") && arm.contains("read"));
        let admin = allowed(Abi::X86_64, &["SYS_ADMIN", "SYSLOG"], KERNEL);
        assert!(admin.contains("clone3") && admin.contains("mount") && admin.contains("syslog"));
        assert!(docker_default_file().denies());
    }

    #[test]
    fn the_files_are_those_that_their_source_note_names() {
        use sha2::{Digest as _, Sha256};
        let note = include_str!("../../../profiles/upstream/SOURCE.md");
        for (upstream, bytes) in [
            (
                Upstream::Docker,
                include_bytes!("../../../profiles/upstream/docker-default.json").as_slice(),
            ),
            (Upstream::Podman, include_bytes!("../../../profiles/upstream/podman-default.json")),
            (
                Upstream::Containerd,
                include_bytes!("../../../profiles/upstream/containerd-default.json"),
            ),
        ] {
            let digest = Sha256::digest(bytes);
            let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            assert!(note.contains(&hex), "{hex}");
            assert!(upstream.file().denies());
        }
    }

    #[test]
    fn the_count_is_the_one_that_the_summary_names() {
        assert_eq!(docker_default(Abi::X86_64, KERNEL).len(), 292);
    }
}
