//! What every call and every capability does, and what it risks: reviewed data, complete for all known numbers.
//!
//! Owns the descriptions, the classes of risk and their reasons. Whether something is allowed is not asked here.
//! Sources: the Linux man-pages 6.03 and, for calls newer than those, the kernel's documentation and sources of the
//! version that the tables were generated from.

mod asked_first;
mod capability;
mod docker;
mod files;
mod kernel;
mod memory;
mod network;
mod process;
mod risk;
mod syscall;

pub use asked_first::{ASKED_FIRST, AskedFirst, asked_first};
pub use capability::{CapabilityFacts, capabilities, capability};
pub use docker::{DockerDefault, docker_default};
pub use risk::{Risk, of_call, of_capability};
use syscall::Family;
pub use syscall::{SyscallFacts, syscall, syscalls};
