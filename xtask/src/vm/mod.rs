//! `cargo xtask vm`: the kernel half of the suite, on Debian's kernels in an emulated machine.
//!
//! `kernels` fetches them, `initramfs` packs recorder, suite and what they need, `guest` boots and reads the serial
//! console, `docs` writes what was found. Nothing is installed as a kernel, and the machine needs no virtualisation.

mod docs;
mod guest;
mod initramfs;
mod kernels;
mod verb;

pub use verb::{Args, run};
