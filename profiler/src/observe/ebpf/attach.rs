//! What is attached, in order: one table, with what each point is needed for and the ways to attach there.

use profiler_common::globals::opts;

use super::twins::{TWICE, Twins};
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
    /// Attached only where programs have twins.
    WithTwins,
}

/// A way to attach. Tracepoints tell most and are bound to change least, so they come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// `tp_btf`, a tracepoint with typed arguments.
    Tracepoint,
    /// `fexit`, the end of a function, with its arguments.
    Fexit,
    /// A kprobe and a kretprobe: its beginning and its end.
    Kprobe,
}

impl Way {
    /// As it is typed and shown.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Way::Tracepoint => "tracepoint",
            Way::Fexit => "fexit",
            Way::Kprobe => "kprobe",
        }
    }

    /// The object's programs for the point of that name, in the order in which they are attached and detached.
    pub fn programs(self, point: &str, twins: Option<Twins>) -> Vec<String> {
        match (self, twins) {
            (Way::Tracepoint, Some(twins)) if TWICE.contains(&point) => twins.of(point),
            (Way::Tracepoint, _) => vec![point.to_owned()],
            (Way::Fexit, _) => vec![format!("{point}_fexit")],
            (Way::Kprobe, _) => vec![format!("{point}_kprobe"), format!("{point}_kretprobe")],
        }
    }

    /// Why a kernel of these types does not have it; nothing when only attaching can tell.
    pub fn lacks(self, point: &str, btf: &Btf<'_>) -> Option<String> {
        match self {
            Way::Tracepoint if !btf.has_tracepoint(point) => Some("not in this kernel".to_owned()),
            // the verifier knows it by its types, and the answer comes after four arguments
            Way::Fexit if btf.parameters(point).is_none_or(|names| names.len() != CAPABLE) => {
                Some(format!("this kernel has no function `{point}` of {CAPABLE} arguments"))
            }
            // without it a stack cannot be followed through a return probe, and nobody knows who asked: before 5.15
            Way::Kprobe if !RETURN_FIXUPS.iter().any(|name| btf.parameters(name).is_some()) => {
                Some("on this kernel a return probe hides the callers".to_owned())
            }
            _ => None,
        }
    }
}

/// Functions by which the kernel's unwinder finds the address that a return probe has replaced; one or the other
/// (<https://elixir.bootlin.com/linux/v5.15/source/arch/x86/include/asm/unwind.h#L109>,
/// <https://elixir.bootlin.com/linux/v6.1/source/arch/x86/include/asm/unwind.h#L109>).
const RETURN_FIXUPS: [&str; 2] = ["kretprobe_find_ret_addr", "rethook_find_ret_addr"];

/// How many arguments `cap_capable` has, in every kernel that has BTF.
const CAPABLE: usize = 4;

/// One attach point: a tracepoint, or the function of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttachPoint {
    /// Tracepoint and function.
    pub name: &'static str,
    /// What it is for.
    pub need: Need,
    /// In words.
    pub purpose: &'static str,
    /// The first that works is taken.
    pub ways: &'static [Way],
}

const TRACEPOINT: &[Way] = &[Way::Tracepoint];

/// Order matters: who comes from outside is known before any call is recorded, and calls come last.
pub const POINTS: &[AttachPoint] = &[
    AttachPoint {
        name: "sched_switch",
        need: Need::WithTwins,
        purpose: "since Linux 7.0: sees when a call may have been passed by",
        ways: TRACEPOINT,
    },
    AttachPoint {
        name: "sched_process_exit",
        need: Need::Always,
        purpose: "forgets ended threads",
        ways: TRACEPOINT,
    },
    AttachPoint {
        name: "sched_process_exec",
        need: Need::Always,
        purpose: "sees the entry point start",
        ways: TRACEPOINT,
    },
    AttachPoint {
        name: "sched_process_fork",
        need: Need::Always,
        purpose: "follows the runtime's children",
        ways: TRACEPOINT,
    },
    AttachPoint {
        name: "cgroup_attach_task",
        need: Need::Always,
        purpose: "sees processes join from outside",
        ways: TRACEPOINT,
    },
    AttachPoint {
        name: "cgroup_rmdir",
        need: Need::Always,
        purpose: "forgets removed cgroups",
        ways: TRACEPOINT,
    },
    AttachPoint {
        name: "cgroup_mkdir",
        need: Need::Always,
        purpose: "catches containers before their first call",
        ways: TRACEPOINT,
    },
    AttachPoint {
        name: "cap_capable",
        need: Need::Capabilities,
        purpose: "sees capability checks",
        ways: &[Way::Tracepoint, Way::Fexit, Way::Kprobe],
    },
    AttachPoint {
        name: "sys_exit",
        need: Need::WhileWanted,
        purpose: "sees how calls end, and denied ones",
        ways: TRACEPOINT,
    },
    AttachPoint { name: "sys_enter", need: Need::Always, purpose: "sees calls", ways: TRACEPOINT },
];

/// How a point was attached, and what was tried before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attached {
    /// The way that worked.
    pub by: Option<Way>,
    /// Those that did not, with the reasons.
    pub refused: Vec<(Way, String)>,
}

impl Attached {
    /// What was tried in vain: `tracepoint: not in this kernel; fexit: not permitted`. Empty when the first way worked.
    pub fn refusals(&self) -> String {
        let of = |(way, reason): &(Way, String)| format!("{}: {reason}", way.name());
        self.refused.iter().map(of).collect::<Vec<_>>().join("; ")
    }
}

/// The first point that a recording cannot do without and these types lack.
pub fn missing(btf: &Btf<'_>) -> Option<&'static AttachPoint> {
    POINTS
        .iter()
        .filter(|point| point.need != Need::Capabilities)
        .find(|point| point.ways.iter().all(|way| way.lacks(point.name, btf).is_some()))
}

/// Whether the kernel has the helpers that hand out the current task and its registers as typed pointers.
pub fn has_task_helpers(btf: &Btf<'_>) -> bool {
    ["BPF_FUNC_get_current_task_btf", "BPF_FUNC_task_pt_regs"]
        .into_iter()
        .all(|helper| btf.has_constant("bpf_func_id", helper))
}

/// Where a task's registers begin on its kernel stack, at whose end they are: `task_pt_regs`. Stacks have 16 KiB, on aarch64 a page
/// where that is more (<https://elixir.bootlin.com/linux/v5.10/source/arch/x86/include/asm/page_64_types.h#L15>,
/// <https://elixir.bootlin.com/linux/v5.10/source/arch/arm64/include/asm/memory.h#L119>).
pub fn regs_on_stack(btf: &Btf<'_>, page_bytes: u64) -> i32 {
    const STACK_BYTES: u64 = 16 << 10;
    let regs_bytes = u64::from(btf.size("pt_regs").unwrap_or(0));
    STACK_BYTES.max(page_bytes).saturating_sub(regs_bytes) as i32
}

/// What the last argument of `cap_capable` means: one of [`opts`], or 0 for not known. Its name tells; distributions have
/// ported the change of 5.1 back.
pub fn capable_opts(btf: &Btf<'_>) -> i32 {
    match btf.parameters("cap_capable").as_deref() {
        Some([_, _, _, "opts"]) => opts::BITS,
        Some([_, _, _, "audit"]) => opts::AUDIT,
        _ => 0,
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// The BTF of a kernel with these tracepoints, functions (with their parameters) and helpers.
    pub fn blob(tracepoints: &[&str], functions: &[(&str, &[&str])], helpers: &[&str]) -> Vec<u8> {
        let mut strings = vec![0];
        let mut types: Vec<u32> = vec![];
        let mut count = 0;
        let mut string = |text: &str| {
            let at = strings.len() as u32;
            strings.extend_from_slice(text.as_bytes());
            strings.push(0);
            at
        };
        for name in tracepoints {
            types.extend([string(&format!("btf_trace_{name}")), 8 << 24, 0]);
            count += 1;
        }
        for (name, parameters) in functions {
            types.extend([0, 13 << 24 | parameters.len() as u32, 0]);
            types.extend(parameters.iter().flat_map(|parameter| [string(parameter), 0]));
            types.extend([string(name), 12 << 24, count + 1]);
            count += 2;
        }
        types.extend([string("bpf_func_id"), 6 << 24 | helpers.len() as u32, 4]);
        types.extend(helpers.iter().flat_map(|helper| [string(&format!("BPF_FUNC_{helper}")), 0]));
        let len = types.len() as u32 * 4;
        let mut blob = 0xeb9f_u16.to_ne_bytes().to_vec();
        blob.extend([1, 0]);
        for word in [24, 0, len, len, strings.len() as u32].into_iter().chain(types) {
            blob.extend(word.to_ne_bytes());
        }
        blob.extend(strings);
        blob
    }

    fn with<T>(blob: &[u8], ask: impl FnOnce(&Btf<'_>) -> T) -> T {
        ask(&Btf::parse(blob).expect("the test's own BTF parses"))
    }

    const NEW: (&str, &[&str]) = ("cap_capable", &["cred", "target_ns", "cap", "opts"]);

    #[test]
    fn a_tracepoint_is_there_or_is_not() {
        for point in POINTS {
            let above =
                with(&blob(&[point.name], &[], &[]), |btf| Way::Tracepoint.lacks(point.name, btf));
            let below = with(&blob(&[], &[], &[]), |btf| Way::Tracepoint.lacks(point.name, btf));
            assert_eq!((above, below.is_some()), (None, true), "{}", point.name);
        }
    }

    #[test]
    fn a_function_is_traced_only_with_the_arguments_that_are_read() {
        let lacks = |functions: &[(&str, &[&str])]| {
            with(&blob(&[], functions, &[]), |btf| Way::Fexit.lacks("cap_capable", btf))
        };
        assert_eq!(lacks(&[NEW]), None);
        let none: [(&str, &[&str]); 0] = [];
        let other: [(&str, &[&str]); 1] = [("cap_capable", &["cred", "cap"])];
        let elsewhere: [(&str, &[&str]); 1] = [("capable", NEW.1)];
        for other in [&none[..], &other, &elsewhere] {
            let reason = lacks(other).expect("nothing to attach to");
            assert!(reason.contains("`cap_capable`"), "{reason}");
        }
    }

    #[test]
    fn a_return_probe_must_not_hide_the_callers() {
        let lacks = |functions: &[(&str, &[&str])]| {
            with(&blob(&[], functions, &[]), |btf| Way::Kprobe.lacks("cap_capable", btf))
        };
        for fixup in RETURN_FIXUPS {
            assert_eq!(lacks(&[NEW, (fixup, &["tsk"])]), None);
        }
        assert!(lacks(&[NEW]).is_some());
    }

    #[test]
    fn every_point_but_capability_checks_is_needed() {
        let all: Vec<&str> = POINTS.iter().map(|point| point.name).collect();
        assert_eq!(with(&blob(&all, &[], &[]), missing), None);
        for point in POINTS {
            let others: Vec<&str> =
                all.iter().copied().filter(|name| *name != point.name).collect();
            let missing = with(&blob(&others, &[], &[]), missing);
            let expected = (point.need != Need::Capabilities).then_some(point.name);
            assert_eq!(missing.map(|point| point.name), expected);
        }
    }

    #[test]
    fn the_last_argument_is_read_by_its_name() {
        let of = |name: &'static str| {
            let parameters = ["cred", "targ_ns", "cap", name];
            with(&blob(&[], &[("cap_capable", &parameters)], &[]), capable_opts)
        };
        assert_eq!((of("opts"), of("audit"), of("flags")), (opts::BITS, opts::AUDIT, 0));
        assert_eq!(with(&blob(&[], &[], &[]), capable_opts), 0);
    }

    #[test]
    fn typed_tasks_take_both_helpers() {
        let of = |helpers: &[&str]| with(&blob(&[], &[], helpers), has_task_helpers);
        assert!(of(&["get_current_task", "get_current_task_btf", "task_pt_regs"]));
        assert!(!of(&["get_current_task", "get_current_task_btf"]));
        assert!(!of(&["get_current_task"]));
    }

    #[test]
    fn what_was_refused_is_told_in_order() {
        let refused = vec![
            (Way::Tracepoint, "not in this kernel".to_owned()),
            (Way::Fexit, "not permitted".to_owned()),
        ];
        let attached = Attached { by: Some(Way::Kprobe), refused };
        assert_eq!(attached.refusals(), "tracepoint: not in this kernel; fexit: not permitted");
    }
}
