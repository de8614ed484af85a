//! The emitted files at work: five servers serve the same traffic under them, and what was not recorded is refused.

mod compose;
mod denied;
mod hold;
mod judge;
mod servers;
mod traffic;

pub use hold::flags;
pub use traffic::connect;

use crate::harness::test::Test;

/// The tests of this group.
pub fn tests() -> Vec<Test> {
    [hold::tests(), denied::tests(), compose::tests()].into_iter().flatten().collect()
}
