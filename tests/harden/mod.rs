//! What is learnt of a container beside calls and capabilities, and what is made of it.

mod evidence;
mod project;
mod prove;
mod user;

use crate::harness::test::Test;

/// The tests of this group.
pub fn tests() -> Vec<Test> {
    [evidence::tests(), prove::tests(), user::tests()].into_iter().flatten().collect()
}
