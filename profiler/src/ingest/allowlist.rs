//! Reads the file in which a reviewer accepts differences.

use crate::{
    ingest::error::IngestError,
    model::{
        arch::Abi,
        capability,
        diff::Allowlist,
        harden::{read_only, settings},
        syscall,
    },
};

const WHAT: &str = "allow file";

/// Reads an allow file, YAML or the JSON that is part of it.
///
/// # Errors
/// When the text is no YAML, has unknown or doubled keys, lacks a reason or a date, or names an entry of no form that a
/// diff has.
pub fn parse(text: &str) -> Result<Allowlist, IngestError> {
    let list: Allowlist = serde_saphyr::from_str(text)
        .map_err(|source| IngestError::AllowFile { source: Box::new(source) })?;
    for allowed in &list.allow {
        if allowed.reason.trim().is_empty() {
            let value = allowed.entry.clone();
            return Err(IngestError::Value { what: WHAT, field: "empty reason of", value });
        }
        let (head, tail) = allowed.entry.split_once('/').unwrap_or((&allowed.entry, ""));
        let is_form = match head {
            "syscall" => names_call(tail),
            "capability" => capability::is_canonical(tail),
            "architecture" => !tail.is_empty(),
            "harden" => names_setting(tail),
            "policy" | "default" | "flags" | "listener" | "no-new-privileges" | "capabilities" => {
                tail.is_empty()
            }
            _ => false,
        };
        if !is_form {
            let value = allowed.entry.clone();
            return Err(IngestError::AcceptsNothing { entry: value });
        }
    }
    Ok(list)
}

/// Whether it is a setting beyond calls as a diff names it.
fn names_setting(text: &str) -> bool {
    settings::NAMES.contains(&text)
        || text.strip_prefix(settings::WRITABLE).is_some_and(read_only::is_plain)
}

/// Whether `ABI/NAME` or `NAME` is a call as a diff names it. There are no patterns.
fn names_call(text: &str) -> bool {
    let is_named = |abi, name| syscall::parse(abi, name).is_some();
    match text.split_once('/') {
        Some((abi, name)) => Abi::ALL.into_iter().any(|a| a.name() == abi && is_named(a, name)),
        None => Abi::ALL.into_iter().any(|abi| is_named(abi, text)),
    }
}
