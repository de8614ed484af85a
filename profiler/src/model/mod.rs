//! The pure core: what was seen, what is allowed, and how one follows from the other. No I/O here.

pub mod arch;
pub mod baseline;
pub mod capability;
pub mod check;
pub mod diff;
pub mod effective;
pub mod errno;
pub mod error_number;
pub mod explain;
pub mod facts;
pub mod floor;
pub mod lint;
pub mod merge;
pub mod near;
pub mod needs;
pub mod notes;
pub mod policy;
pub mod profile;
pub mod purpose;
pub mod recording;
pub mod seccomp;
pub mod shell;
pub mod symbol;
pub mod syscall;
mod tables;
pub mod text;
pub mod union;
