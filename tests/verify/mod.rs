//! `profiler verify`: runs under enforcement, on real containers and on commands.

mod command;
mod copies;
mod ended;
mod podman;
pub mod runs;
mod servers;
mod targets;

use crate::harness::test::Test;

/// The tests of this group.
pub fn tests() -> Vec<Test> {
    let groups = [
        command::tests(),
        ended::tests(),
        targets::tests(),
        copies::tests(),
        podman::tests(),
        servers::tests(),
    ];
    groups.into_iter().flatten().collect()
}
