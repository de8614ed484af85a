//! Capabilities that nothing can use.

use crate::model::{
    facts,
    lint::{Finding, Lint, Severity, Subject},
    syscall,
};

pub(super) fn check(subject: &Subject<'_>, found: &mut Vec<Finding>) {
    let Some(profile) = subject.profile else { return };
    for (index, rule) in profile.capabilities.required.iter().enumerate() {
        let Some(calls) = facts::capability(&rule.name).and_then(|facts| facts.calls) else {
            continue;
        };
        // An unnamed call may use anything.
        let unnamed = profile.syscalls.iter().any(|rule| syscall::is_unnamed(&rule.name));
        let usable =
            unnamed || profile.syscalls.iter().any(|rule| calls.contains(&rule.name.as_str()));
        if !usable {
            let message = format!("CAP_{} is required, and no allowed call can use it", rule.name);
            let pointer = format!("/capabilities/required/{index}");
            found.push(Finding::new(
                Lint::CapabilityWithoutEffect,
                Severity::Warning,
                pointer,
                message,
            ));
        }
    }
}
