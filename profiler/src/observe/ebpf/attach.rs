//! What is attached, in order: one table, with what each point is needed for.

use crate::kernel::btf::Btf;

/// How much a recording depends on a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// No recording without it.
    Always,
    /// Without it the recording lacks capability checks, and says so.
    Capabilities,
    /// Attached only while outcomes or denials are wanted.
    WhileWanted,
}

/// One attach point: the program of that name in the object, and the tracepoint of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttachPoint {
    /// Program and tracepoint.
    pub name: &'static str,
    /// What it is for.
    pub need: Need,
    /// In words.
    pub purpose: &'static str,
}

/// Order matters: who comes from outside is known before any call is recorded, and calls come last.
pub const POINTS: &[AttachPoint] = &[
    AttachPoint {
        name: "sched_process_exit",
        need: Need::Always,
        purpose: "forgets ended threads",
    },
    AttachPoint {
        name: "sched_process_exec",
        need: Need::Always,
        purpose: "sees the entry point start",
    },
    AttachPoint {
        name: "sched_process_fork",
        need: Need::Always,
        purpose: "follows the runtime's children",
    },
    AttachPoint {
        name: "cgroup_attach_task",
        need: Need::Always,
        purpose: "sees processes join from outside",
    },
    AttachPoint { name: "cgroup_rmdir", need: Need::Always, purpose: "forgets removed cgroups" },
    AttachPoint {
        name: "cgroup_mkdir",
        need: Need::Always,
        purpose: "catches containers before their first call",
    },
    AttachPoint {
        name: "cap_capable",
        need: Need::Capabilities,
        purpose: "sees capability checks",
    },
    AttachPoint {
        name: "sys_exit",
        need: Need::WhileWanted,
        purpose: "sees how calls end, and denied ones",
    },
    AttachPoint { name: "sys_enter", need: Need::Always, purpose: "sees calls" },
];

/// Every point, and whether this kernel has it.
#[must_use]
pub fn attach_points(btf: &Btf<'_>) -> Vec<(AttachPoint, bool)> {
    POINTS.iter().map(|point| (*point, btf.has_tracepoint(point.name))).collect()
}
