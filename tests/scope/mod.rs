//! Cgroups by their path: from the first call, with a runtime and without, and what is not a target's own.

mod alone;
mod bundle;
mod nested;
pub mod tree;
mod waited;

use crate::harness::{machine::Need, test::Test};

const NEEDS: [Need; 2] = [Need::Bpf, Need::Tool("gcc", "gcc")];

/// The tests of this group.
pub fn tests() -> Vec<Test> {
    [waited::tests(), alone::tests(), nested::tests()].into_iter().flatten().collect()
}
