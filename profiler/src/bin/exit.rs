//! Exit codes: public, documented in the README. A failing command's own status is passed through.

/// Usage or environment.
pub const USAGE: u8 = 2;

/// Evidence is incomplete: a target never ran, or something that happened was not recorded.
pub const INCOMPLETE: u8 = 3;

/// A command that is the target could not be executed; as shells report it.
pub const CANNOT_EXECUTE: u8 = 126;
