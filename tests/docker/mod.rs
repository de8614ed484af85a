//! Recording containers of a real engine: from the first call, through restarts, with all that joins, in the right phase.

mod denials;
mod filter;
mod late;
mod lifecycle;
mod phases;
mod stack;

use crate::harness::{machine::Need, test::Test};

const NEEDS: [Need; 3] = [Need::Bpf, Need::Engine, Need::Tool("gcc", "gcc")];

/// The tests of this group.
pub fn tests() -> Vec<Test> {
    [
        lifecycle::tests(),
        late::tests(),
        denials::tests(),
        filter::tests(),
        phases::tests(),
        stack::tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
