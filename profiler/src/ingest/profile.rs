//! Reads `profile.json`.

use crate::{
    ingest::{error::IngestError, strict},
    model::{
        capability,
        harden::Harden,
        narrow,
        profile::{Profile, SCHEMA_VERSION},
        syscall,
    },
};

const WHAT: &str = "profile";

/// Reads a profile.
///
/// # Errors
/// When the text is not JSON, is of a newer schema, has unknown or doubled keys, or names a syscall or
/// capability that does not exist: a misspelt name would otherwise be a rule that quietly does nothing.
pub fn parse(text: &str) -> Result<Profile, IngestError> {
    let profile: Profile = strict::parse_versioned(WHAT, SCHEMA_VERSION, text)?;
    check_names(&profile)?;
    if !profile.harden.as_ref().is_none_or(Harden::is_well_formed) {
        let value = "a path or a number".to_owned();
        return Err(IngestError::Value { what: WHAT, field: "advice", value });
    }
    Ok(profile)
}

fn check_names(profile: &Profile) -> Result<(), IngestError> {
    let lists = &profile.capabilities;
    let lists = [&lists.required, &lists.probed, &lists.denied, &lists.runtime];
    let capabilities = || lists.into_iter().flatten();

    let rules = profile.syscalls.iter().map(|rule| (rule.abi, &rule.name));
    let denied = profile.denied.iter().map(|call| (call.abi, &call.name));
    let reasons = capabilities().flat_map(|rule| &rule.reasons);
    let mut calls = rules.chain(denied).chain(reasons.map(|reason| (reason.abi, &reason.syscall)));
    if let Some((_, name)) = calls.find(|(abi, name)| syscall::parse(*abi, name).is_none()) {
        return Err(IngestError::Value { what: WHAT, field: "syscall", value: name.clone() });
    }
    let combinations = || {
        let rules = profile.syscalls.iter();
        rules.filter_map(|rule| Some((&rule.name, rule.arguments.as_ref()?)))
    };
    let is_bad = |(name, all): &(&String, &Vec<_>)| {
        !all.iter().all(|combination| narrow::is_well_formed(name, combination))
    };
    if let Some((name, _)) = combinations().find(is_bad) {
        let value = name.clone();
        return Err(IngestError::Value { what: WHAT, field: "arguments of", value });
    }
    if let Some((name, _)) = combinations().find(|(_, all)| !narrow::is_bounded(all)) {
        return Err(IngestError::Combinations { call: name.clone() });
    }
    if let Some(rule) = capabilities().find(|rule| !capability::is_canonical(&rule.name)) {
        let value = rule.name.clone();
        return Err(IngestError::Value { what: WHAT, field: "capability", value });
    }
    Ok(())
}
