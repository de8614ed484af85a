//! The pure core: what was seen, what is allowed, and how one follows from the other. No I/O here.

pub mod arch;
pub mod capability;
pub mod recording;
pub mod syscall;
mod tables;
