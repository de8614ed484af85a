//! `cargo xtask vm`: the kernel half of the suite, on Debian's kernels in an emulated machine.
//!
//! `arch` says what is emulated, `kernels` fetches them, `cross` builds for aarch64, `initramfs` packs recorder, suite and what they need, `guest` boots and reads the serial
//! console, `docs` writes what was found. Nothing is installed as a kernel, and the machine needs no virtualisation.

mod arch;
mod cross;
mod docs;
mod guest;
mod initramfs;
mod kernels;
mod verb;

pub use verb::{Args, run};
