//! Telling a real capability check from a probe, by the kernel functions that asked.
//!
//! The tracepoint does not carry `cap_capable`'s `opts`, so the wrapper's name stands for it
//! (<https://elixir.bootlin.com/linux/v6.12/source/kernel/capability.c>).

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

/// Functions between `cap_capable` and the wrapper.
const PLUMBING: &[&str] = &["cap_capable", "security_capable", "ns_capable_common"];

/// Memory accounting: every mmap, brk and exec asks for CAP_SYS_ADMIN to use the last reserve.
const MEMORY: &[&str] =
    &["cap_vm_enough_memory", "security_vm_enough_memory_mm", "__vm_enough_memory"];

/// capset(2) asks for CAP_SETPCAP to learn which rule holds for the inheritable set
/// (`cap_inh_is_capped`); setting nothing beyond the permitted set goes on without.
const CAPSET: &[&str] = &["cap_capset", "security_capset", "cap_inh_is_capped"];

/// How a check was made, and by which function, given the functions on the stack, innermost first;
/// what is inside `cap_capable` (the eBPF program) is passed over. An unknown caller counts as a
/// real check.
pub fn classify<'a>(callers: &[&'a str]) -> (AuditClass, &'a str) {
    let callers: Vec<&str> = callers.iter().map(|name| base(name)).collect();
    let start = callers.iter().position(|name| *name == "cap_capable").unwrap_or(0);
    let mut rest =
        callers[start..].iter().copied().skip_while(|name| PLUMBING.contains(name)).peekable();
    let mut class = AuditClass::Audited;
    match rest.peek() {
        Some(name) if MEMORY.contains(name) => class = AuditClass::Memory,
        Some(name) if NOAUDIT.contains(name) || CAPSET.contains(name) => {
            class = AuditClass::Noaudit
        }
        _ => {}
    }
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
        assert_eq!(classify(&callers).0, AuditClass::Memory);
        let callers = [
            "_einittext",
            "bpf_trace_run5",
            "cap_capable",
            "security_vm_enough_memory_mm",
            "dup_mmap",
        ];
        assert_eq!(classify(&callers), (AuditClass::Memory, "security_vm_enough_memory_mm"));
    }

    #[test]
    fn wrappers_tell_the_audit_class_and_are_not_the_asker() {
        let callers = ["cap_capable", "security_capable", "ns_capable", "inet_bind_sk", "x"];
        assert_eq!(classify(&callers), (AuditClass::Audited, "inet_bind_sk"));
        let callers =
            ["cap_capable", "security_capable", "ns_capable_noaudit", "ptrace_may_access"];
        assert_eq!(classify(&callers), (AuditClass::Noaudit, "ptrace_may_access"));
        let callers =
            ["security_capable", "capable_wrt_inode_uidgid.constprop.0", "chown_ok.isra.0"];
        assert_eq!(classify(&callers), (AuditClass::Audited, "chown_ok"));
    }

    #[test]
    fn an_unknown_caller_is_a_real_check() {
        assert_eq!(
            classify(&["cap_capable", "cap_mmap_addr"]),
            (AuditClass::Audited, "cap_mmap_addr")
        );
        assert_eq!(classify(&[]), (AuditClass::Audited, ""));
    }
}
