//! Exit codes: public, documented in the README. A failing command's own status is passed through.

/// The answer is no: policies differ in what fails.
pub const DIFFERS: u8 = 1;

/// Usage or environment.
pub const USAGE: u8 = 2;

/// Evidence is incomplete: a target never ran, or something that happened was not recorded.
pub const INCOMPLETE: u8 = 3;

/// A command that is the target could not be executed; as shells report it.
pub const CANNOT_EXECUTE: u8 = 126;
