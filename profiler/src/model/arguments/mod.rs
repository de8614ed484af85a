//! Syscall arguments: what they are called, what their values mean, and how both are written and read.

pub mod call;
pub mod constants;
pub mod meaning;
pub mod names;
