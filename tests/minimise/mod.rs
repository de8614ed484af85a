//! Leave-one-out under enforcement: what is planted goes, what is needed and what is flaky stays, and no run is made twice.

mod container;
mod find;
mod planted;
mod resume;

use crate::harness::{machine::Need, test::Test};

/// Without an engine.
const NEEDS: [Need; 2] = [Need::Bpf, Need::Tool("gcc", "gcc")];

/// The tests of this group.
pub fn tests() -> Vec<Test> {
    [find::tests(), resume::tests(), container::tests()].into_iter().flatten().collect()
}
