//! Text to model, strictly: unknown keys are refused, and a newer schema is told apart from a broken file.

pub mod allowlist;
mod compose;
pub mod error;
pub mod layout;
pub mod minimise;
pub mod place;
pub mod policy;
pub mod profile;
pub mod recording;
pub mod scan;
pub mod seccomp;
pub mod stack;
mod strict;
