//! Syscall ABIs: the number spaces that the kernel and a seccomp filter tell apart.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One syscall number space. A number means nothing without it.
///
/// Names are those of the kernel's headers; [`Abi::scmp_arch`] gives libseccomp's.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Abi {
    /// 64-bit x86.
    #[serde(rename = "x86_64")]
    X86_64,
    /// 32-bit x86, by `int 0x80` or the compat entry of a 64-bit kernel.
    Ia32,
    /// 32-bit pointers in long mode: x86_64 numbers with bit 30 set.
    X32,
    /// 64-bit ARM.
    Aarch64,
    /// 32-bit ARM EABI, native or compat.
    Arm,
    /// 64-bit RISC-V.
    Riscv64,
}

impl Abi {
    /// Every ABI that has a table.
    pub const ALL: [Abi; 6] =
        [Abi::X86_64, Abi::Ia32, Abi::X32, Abi::Aarch64, Abi::Arm, Abi::Riscv64];

    /// The name used in files and on the terminal.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Abi::X86_64 => "x86_64",
            Abi::Ia32 => "ia32",
            Abi::X32 => "x32",
            Abi::Aarch64 => "aarch64",
            Abi::Arm => "arm",
            Abi::Riscv64 => "riscv64",
        }
    }

    /// The constant of the OCI runtime specification's `linux.seccomp.architectures`.
    #[must_use]
    pub const fn scmp_arch(self) -> &'static str {
        match self {
            Abi::X86_64 => "SCMP_ARCH_X86_64",
            Abi::Ia32 => "SCMP_ARCH_X86",
            Abi::X32 => "SCMP_ARCH_X32",
            Abi::Aarch64 => "SCMP_ARCH_AARCH64",
            Abi::Arm => "SCMP_ARCH_ARM",
            Abi::Riscv64 => "SCMP_ARCH_RISCV64",
        }
    }
}

impl fmt::Display for Abi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
