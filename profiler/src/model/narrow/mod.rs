//! Conditions on arguments: which a policy has, and how a filter says them.
//!
//! What was recorded is `arguments`' and `recording`'s; here it becomes combinations that a call is allowed with, and those become
//! rules that a seccomp file can hold.

mod cube;
mod evidence;
mod file;
mod join;
mod shape;
mod words;

pub use cube::{Cube, all_but, disjoint, rest};
pub use evidence::{Narrowed, is_plain, narrow};
pub use file::{Named, by_name, cubes, goes_round, is_well_formed};
pub use join::{MOST_COMBINATIONS, MOST_WITH_BUT, is_bounded, join};
pub use shape::{carried, passes_of_runtimes, stands_in, substitute};
pub use words::{conditions, words};
