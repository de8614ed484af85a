//! All checks over one file.

use crate::model::{
    effective::{self, Context, Effective, Engine},
    floor::RuntimeUse,
    lint::{Finding, calls, capabilities, keys, libseccomp::Version, names, rules},
    profile::Profile,
    seccomp::SeccompFile,
};

/// What is looked at, and how it is loaded.
#[derive(Debug)]
pub struct Subject<'a> {
    /// The filter.
    pub file: &'a SeccompFile,
    /// The policy that the filter was rendered from.
    pub profile: Option<&'a Profile>,
    /// Who loads it; `None` for anyone.
    pub engine: Option<Engine>,
    /// The libseccomp of the runtime.
    pub libseccomp: Version,
    /// The runtimes that must start under it; `None`: those of the profile, or all that were measured.
    pub runtimes: Option<Vec<RuntimeUse>>,
    pub(super) contexts: Vec<Context>,
    pub(super) effective: Vec<Effective>,
}

impl<'a> Subject<'a> {
    /// `contexts`: the machines and containers that it is loaded for.
    #[must_use]
    pub fn new(
        file: &'a SeccompFile,
        profile: Option<&'a Profile>,
        engine: Option<Engine>,
        contexts: Vec<Context>,
    ) -> Self {
        let effective = contexts.iter().map(|context| effective::decide(file, context)).collect();
        Subject {
            file,
            profile,
            engine,
            libseccomp: super::libseccomp::ASSUMED,
            runtimes: None,
            contexts,
            effective,
        }
    }
}

/// What is wrong with it: by place, then by identifier.
#[must_use]
pub fn lint(subject: &Subject<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    names::check(subject, &mut found);
    keys::check(subject, &mut found);
    rules::check(subject, &mut found);
    calls::check(subject, &mut found);
    capabilities::check(subject, &mut found);
    // Rules by number: 10 after 9.
    let place = |finding: &Finding| {
        let number = finding.pointer.split('/').nth(2).and_then(|part| part.parse::<usize>().ok());
        (number, finding.pointer.clone(), finding.lint)
    };
    found.sort_by_key(place);
    found.dedup();
    found
}
