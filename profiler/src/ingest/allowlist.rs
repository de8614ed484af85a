//! Reads the file in which a reviewer accepts differences.

use crate::{ingest::error::IngestError, model::diff::Allowlist};

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
            "syscall" | "architecture" | "capability" => !tail.is_empty(),
            "default" | "flags" | "listener" | "no-new-privileges" | "capabilities" => {
                tail.is_empty()
            }
            _ => false,
        };
        if !is_form {
            let value = allowed.entry.clone();
            return Err(IngestError::Value { what: WHAT, field: "entry", value });
        }
    }
    Ok(list)
}
