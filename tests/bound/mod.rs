//! The static bound holds every call that is seen: of Debian's programs by strace, of the servers by the recorder.

mod errors;
mod programs;
mod quick;

pub use programs::holds;

use crate::harness::test::Test;

/// The tests of this group.
pub fn tests() -> Vec<Test> {
    [errors::tests(), programs::tests(), quick::tests()].into_iter().flatten().collect()
}
