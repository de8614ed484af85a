//! What the ELF files of a root file system could ask of the kernel: an upper bound on a program's calls, read from its
//! machine code and that of the libraries it loads. Nothing is executed.
//!
//! `elf` and `code` read one file, `body` and `values` find the constants behind its calls, `loader` finds what a program loads,
//! and `bound` joins them; `errors` and `callees` tell what runs on error paths only. What the method cannot see is named in docs/bound.md and in the result.

mod body;
pub mod bound;
mod callees;
pub mod code;
pub mod elf;
mod errors;
pub mod loader;
pub mod reach;
pub mod rootfs;
mod unwind;
mod values;
