//! Every runtime below every engine: the same program, the same calls found, and a profile that starts it again.

mod exact;
mod minimal;
mod oracle;
mod program;

use crate::harness::{pair::Pair, test::Test};

/// Each runtime below most engines, and each engine with most runtimes. Debian 12's crun refuses a machine with cgroup v1 and docker 26's configurations: these are
/// tested for that in `exact`.
const PAIRS: [Pair; 13] = [
    pair("runc", "docker"),
    pair("runc", "docker-cgroup2"),
    pair("crun", "docker-cgroup2"),
    pair("runc", "docker26"),
    pair("runc-trixie", "docker26"),
    pair("crun-trixie", "docker26"),
    pair("runc", "podman"),
    pair("runc", "podman-cgroup2"),
    pair("crun", "podman-cgroup2"),
    pair("runc-trixie", "podman-cgroup2"),
    pair("crun-trixie", "podman-cgroup2"),
    pair("runc", "containerd"),
    pair("crun", "containerd-cgroup2"),
];

const fn pair(runtime: &'static str, engine: &'static str) -> Pair {
    Pair { runtime, engine }
}

/// The tests of this group.
pub fn tests() -> Vec<Test> {
    [exact::tests(), minimal::tests(), oracle::tests()].into_iter().flatten().collect()
}
