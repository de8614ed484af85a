//! Generated syscall tables, one file an ABI; `cargo xtask codegen` writes them from kernel headers.

pub(super) mod aarch64;
pub(super) mod arm;
pub(super) mod ia32;
pub(super) mod riscv64;
pub(super) mod x32;
pub(super) mod x86_64;
