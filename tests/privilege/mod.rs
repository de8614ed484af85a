//! What the recorder may do itself: no more than it needs, less once it records, and what follows when it may less.

mod filter;
mod given_up;
mod links;
mod without_root;

use crate::harness::{machine::Need, test::Test};

const NEEDS: [Need; 2] = [Need::Bpf, Need::Tool("gcc", "gcc")];

/// The tests of this group.
pub fn tests() -> Vec<Test> {
    [filter::tests(), given_up::tests(), links::tests(), without_root::tests()]
        .into_iter()
        .flatten()
        .collect()
}
