//! Arguments of calls: what they are called and what their values mean, what is watched while recording, and conditions on them.
//!
//! seccomp sees the six registers of a call and nothing that they point to. A condition compares some bits of one register
//! with a value, so a 32-bit argument is compared in its lower half only, whatever the upper one holds.

pub mod call;
pub mod constants;
mod masked;
pub mod meaning;
pub mod names;
mod watched;

pub use masked::Masked;
pub use watched::{Argument, BOUND, Rule, WATCHED, Watched, watched, watched_number};
