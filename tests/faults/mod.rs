//! Load and faults: nothing is missing at full speed, nothing grows without bound, nothing is left behind or lost when something
//! goes wrong.

mod bounds;
mod disk;
mod held;
mod kill;
mod speed;
mod storm;
mod world;

use crate::harness::{machine::Need, test::Test};

const NEEDS: [Need; 2] = [Need::Bpf, Need::Tool("gcc", "gcc")];

/// The tests of this group.
pub fn tests() -> Vec<Test> {
    [bounds::tests(), disk::tests(), kill::tests(), speed::tests(), storm::tests(), world::tests()]
        .into_iter()
        .flatten()
        .collect()
}
