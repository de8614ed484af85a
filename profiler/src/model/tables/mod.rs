//! Generated: the syscalls of each ABI, the names of their arguments, the constants of these. `cargo xtask codegen` writes
//! them from kernel headers.

pub(super) mod aarch64;
pub(super) mod arm;
pub(super) mod constants;
pub(super) mod ia32;
pub(super) mod prototypes;
pub(super) mod riscv64;
pub(super) mod x32;
pub(super) mod x86_64;
