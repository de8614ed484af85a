//! Docker's default profile, as the thing to compare with.
//!
//! Owns the pinned copy of it under `profiles/upstream/` and answers what it would allow. It decides nothing:
//! the number is for the summary, `53 calls against 292 in Docker's default`.

use std::{collections::BTreeSet, sync::LazyLock};

use crate::model::{
    arch::Abi,
    capability,
    effective::{Context, Engine, decide},
    seccomp::{KernelVersion, SeccompFile},
};

/// Where the pinned profile comes from, for people.
pub const DOCKER_DEFAULT_SOURCE: &str = "Docker 20.10.24";

static DOCKER_DEFAULT: LazyLock<SeccompFile> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../../profiles/upstream/docker-default.json"))
        .expect("the embedded default profile parses, a test says so")
});

/// The pinned profile.
#[must_use]
pub fn docker_default_file() -> &'static SeccompFile {
    &DOCKER_DEFAULT
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
    fn the_file_is_the_one_that_its_source_note_names() {
        use sha2::{Digest as _, Sha256};
        let note = include_str!("../../../profiles/upstream/SOURCE.md");
        let digest =
            Sha256::digest(include_bytes!("../../../profiles/upstream/docker-default.json"));
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(note.contains(&hex), "{hex}");
    }

    #[test]
    fn the_count_is_the_one_that_the_summary_names() {
        assert_eq!(docker_default(Abi::X86_64, KERNEL).len(), 292);
    }
}
