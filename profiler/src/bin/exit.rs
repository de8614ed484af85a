//! Exit codes: public, documented in docs/exit-codes.md. A failing command's own status is passed through.

/// The answer is no: findings, a difference, a profile that does not hold, too little coverage, a host that cannot record.
pub const NO: u8 = 1;

/// The answer is no: policies differ in what fails.
pub const DIFFERS: u8 = 1;

/// Usage or environment.
pub const USAGE: u8 = 2;

/// Evidence is incomplete: a target never ran, or something that happened was not recorded.
pub const INCOMPLETE: u8 = 3;

/// A command that is the target could not be executed; as shells report it.
pub const CANNOT_EXECUTE: u8 = 126;

/// What the codes mean, for `--help`.
pub const HELP: &str = "\
Exit status:
  0    done
  1    the answer is no: findings, a difference, a profile that does not hold, a host that cannot record
  2    usage or environment: nothing was done
  3    evidence incomplete: a target never ran, or something that happened was not recorded
  126  record: the command could not be executed
  else record: the command's own status when it failed, 128 + signal";
