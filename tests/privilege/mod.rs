//! What the recorder may do itself: no more than it needs, less once it records, and what follows when it may less.

mod links;

use crate::harness::test::Test;

/// The tests of this group.
pub fn tests() -> Vec<Test> {
    links::tests()
}
