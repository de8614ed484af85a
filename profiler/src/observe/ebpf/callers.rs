//! Telling a real capability check from a probe, by the kernel functions that asked.
//!
//! The tracepoint does not carry `cap_capable`'s `opts`, so the wrapper's name stands for it
//! (<https://elixir.bootlin.com/linux/v6.12/source/kernel/capability.c>). Where it was seen, it decides.

use crate::model::recording::AuditClass;

/// Wrappers that pass `CAP_OPT_NOAUDIT`: nothing follows from a denial by itself.
const NOAUDIT: &[&str] = &[
    "ns_capable_noaudit",
    "has_capability_noaudit",
    "has_ns_capability_noaudit",
    "ptracer_capable",
];

/// Wrappers whose denial is audited.
const AUDITED: &[&str] = &[
    "capable",
    "ns_capable",
    "ns_capable_setid",
    "file_ns_capable",
    "capable_wrt_inode_uidgid",
    "has_capability",
    "has_ns_capability",
    "sk_ns_capable",
    "sk_capable",
    "sk_net_capable",
    "netlink_capable",
    "netlink_ns_capable",
    "netlink_net_capable",
];

/// Functions that pass `CAP_OPT_NOAUDIT` to `security_capable` themselves
/// (<https://elixir.bootlin.com/linux/v6.12/source/kernel/ksyms_common.c#L25>).
const NOAUDIT_ASKERS: &[&str] = &["kallsyms_show_value"];

/// Functions between `cap_capable` and the wrapper.
const PLUMBING: &[&str] = &["cap_capable", "security_capable", "ns_capable_common"];

/// Memory accounting: every mmap, brk and exec asks for CAP_SYS_ADMIN to use the last reserve.
const MEMORY: &[&str] =
    &["cap_vm_enough_memory", "security_vm_enough_memory_mm", "__vm_enough_memory"];

/// capset(2) asks for CAP_SETPCAP to learn which rule holds for the inheritable set
/// (`cap_inh_is_capped`); setting nothing beyond the permitted set goes on without.
const CAPSET: &[&str] = &["cap_capset", "security_capset", "cap_inh_is_capped"];

/// How a check was made, and by which function, given the functions on the stack, innermost first; what is before the
/// first function that is known here (the eBPF program and its trampoline) is passed over. `audited` is what the kernel's own argument
/// says; without it an unknown caller counts as a real check.
pub fn classify<'a>(callers: &[&'a str], audited: Option<bool>) -> (AuditClass, &'a str) {
    let callers: Vec<&str> = callers.iter().map(|name| base(name)).collect();
    let start = callers.iter().position(|name| *name == "cap_capable").or_else(|| {
        // at the end of a function its own frame is gone
        let known = [PLUMBING, MEMORY, CAPSET, AUDITED, NOAUDIT];
        callers.iter().position(|name| known.iter().any(|names| names.contains(name)))
    });
    let mut rest = callers[start.unwrap_or(0)..]
        .iter()
        .copied()
        .skip_while(|name| PLUMBING.contains(name))
        .peekable();
    let wrapper = rest.peek().copied().unwrap_or_default();
    let class = match audited {
        _ if MEMORY.contains(&wrapper) => AuditClass::Memory,
        _ if CAPSET.contains(&wrapper) => AuditClass::Noaudit,
        Some(true) => AuditClass::Audited,
        Some(false) => AuditClass::Noaudit,
        None if NOAUDIT.contains(&wrapper) || NOAUDIT_ASKERS.contains(&wrapper) => {
            AuditClass::Noaudit
        }
        None => AuditClass::Audited,
    };
    let asked_by =
        rest.find(|name| !AUDITED.contains(name) && !NOAUDIT.contains(name)).unwrap_or_default();
    (class, asked_by)
}

/// A symbol without the compiler's suffix, `foo` of `foo.isra.0`.
fn base(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_accounting_is_no_need() {
        let callers =
            ["cap_capable", "cap_vm_enough_memory", "security_vm_enough_memory_mm", "mmap_region"];
        assert_eq!(classify(&callers, None).0, AuditClass::Memory);
        let callers = [
            "_einittext",
            "bpf_trace_run5",
            "cap_capable",
            "security_vm_enough_memory_mm",
            "dup_mmap",
        ];
        assert_eq!(classify(&callers, None), (AuditClass::Memory, "security_vm_enough_memory_mm"));
    }

    #[test]
    fn wrappers_tell_the_audit_class_and_are_not_the_asker() {
        let callers = ["cap_capable", "security_capable", "ns_capable", "inet_bind_sk", "x"];
        assert_eq!(classify(&callers, None), (AuditClass::Audited, "inet_bind_sk"));
        let callers =
            ["cap_capable", "security_capable", "ns_capable_noaudit", "ptrace_may_access"];
        assert_eq!(classify(&callers, None), (AuditClass::Noaudit, "ptrace_may_access"));
        let callers =
            ["security_capable", "capable_wrt_inode_uidgid.constprop.0", "chown_ok.isra.0"];
        assert_eq!(classify(&callers, None), (AuditClass::Audited, "chown_ok"));
    }

    #[test]
    fn an_unknown_caller_is_a_real_check() {
        assert_eq!(
            classify(&["cap_capable", "cap_mmap_addr"], None),
            (AuditClass::Audited, "cap_mmap_addr")
        );
        assert_eq!(classify(&[], None), (AuditClass::Audited, ""));
    }

    #[test]
    fn a_stack_without_cap_capable_begins_with_what_is_known() {
        let stack = ["odd", "bpf_trampoline_64", "security_vm_enough_memory_mm", "do_brk_flags"];
        assert_eq!(classify(&stack, None).0, AuditClass::Memory);
        let stack = ["odd", "bpf_trampoline_64", "security_capable", "capable", "can_nice", "x"];
        assert_eq!(classify(&stack, None), (AuditClass::Audited, "can_nice"));
    }

    #[test]
    fn who_asks_without_a_wrapper_is_known_by_name() {
        let callers = ["cap_capable", "security_capable", "kallsyms_show_value", "kallsyms_open"];
        assert_eq!(classify(&callers, None), (AuditClass::Noaudit, "kallsyms_show_value"));
    }

    #[test]
    fn the_kernels_own_argument_decides_between_real_and_probe_only() {
        let unknown = ["security_capable", "new_in_the_kernel"];
        assert_eq!(classify(&unknown, Some(false)).0, AuditClass::Noaudit);
        assert_eq!(classify(&unknown, Some(true)).0, AuditClass::Audited);
        let capable = ["security_capable", "ns_capable_common", "capable", "x"];
        assert_eq!(classify(&capable, Some(false)), (AuditClass::Noaudit, "x"));
        // these are told from others by their callers alone
        for told in [Some(true), Some(false)] {
            assert_eq!(classify(&["cap_vm_enough_memory"], told).0, AuditClass::Memory);
            assert_eq!(classify(&["cap_capset"], told).0, AuditClass::Noaudit);
        }
    }
}
