//! Names that do nothing.

use crate::model::{
    capability, errno, facts,
    lint::{
        Finding, Lint, Severity, Subject,
        finding::some_of,
        libseccomp::{Known, known},
    },
    near::near,
    syscall,
};

/// Unknown names that others are suggested for: looking for them takes time.
const SUGGESTED: usize = 100;

pub(super) fn check(subject: &Subject<'_>, found: &mut Vec<Finding>) {
    let mut suggested = 0;
    for (index, rule) in subject.file.syscalls.iter().enumerate() {
        let pointer = || {
            format!("/syscalls/{index}/{}", if rule.names.is_empty() { "name" } else { "names" })
        };
        for name in rule.all_names().filter(|name| known(name) == Known::Nowhere) {
            suggested += 1;
            found.push(unknown(name, pointer(), suggested <= SUGGESTED));
        }
        let ignored: Vec<&str> =
            rule.all_names().filter(|name| is_ignored(name, subject)).collect();
        if ignored.is_empty() {
            continue;
        }
        let passes = rule.action.passes();
        let default_passes = subject.file.default_action.passes();
        let (severity, effect) = match (passes, default_passes) {
            (true, false) => (Severity::Warning, "denied all the same"),
            (false, true) => (Severity::Error, "allowed all the same"),
            // The default or runc's ENOSYS answers in its place, which is as near as a file can get.
            _ => continue,
        };
        let verb = if ignored.len() == 1 { "is" } else { "are" };
        let message = format!(
            "libseccomp {} does not know {}, which {verb} {effect}",
            subject.libseccomp,
            some_of(&ignored),
        );
        found.push(Finding::new(Lint::IgnoredName, severity, pointer(), message));
    }
}

fn is_ignored(name: &str, subject: &Subject<'_>) -> bool {
    match known(name) {
        Known::Since(version) => version > subject.libseccomp,
        Known::NotYet => true,
        Known::Elsewhere | Known::Nowhere => false,
    }
}

fn unknown(name: &str, pointer: String, suggest: bool) -> Finding {
    let shown: String = name.chars().take(64).collect();
    let hint = if syscall::is_unnamed(name) {
        "; a file cannot name a number".to_owned()
    } else if capability::number(name).is_some() {
        "; it is a capability".to_owned()
    } else if !suggest {
        String::new()
    } else {
        match near(name, facts::syscalls().map(|facts| facts.name)).as_slice() {
            [] => String::new(),
            names => format!("; is {} meant?", some_of(names)),
        }
    };
    let message = format!("no call is named `{shown}`, and engines ignore it{hint}");
    Finding::new(Lint::UnknownName, Severity::Error, pointer, message)
}

/// Calls that callers do without on ENOSYS, of the ABIs of all contexts.
pub(super) fn with_fallback(subject: &Subject<'_>) -> Vec<&'static str> {
    let abis: std::collections::BTreeSet<_> =
        subject.effective.iter().flat_map(|effective| effective.abis.iter().copied()).collect();
    let abis: Vec<_> = abis.into_iter().collect();
    errno::fallback_names(&abis, &Default::default()).into_iter().collect()
}
