//! Reads `recording.json`.

use crate::{
    ingest::{error::IngestError, strict},
    model::recording::{Recording, SCHEMA_VERSION},
};

const WHAT: &str = "recording";

/// Reads a recording. Its facts may be in any order; [`crate::model::merge::canonical`] sorts them.
///
/// # Errors
/// When the text is not JSON, is of a newer schema, has unknown or doubled keys, names a run that it does not
/// describe, or a value of an argument that no register can have under its mask.
pub fn parse(text: &str) -> Result<Recording, IngestError> {
    let recording: Recording = strict::parse_versioned(WHAT, SCHEMA_VERSION, text)?;
    let mut values = recording.arguments.iter().flat_map(|fact| &fact.values);
    if let Some(wrong) = values.find(|it| it.index > 5 || it.value & !it.mask != 0) {
        let value = format!("{wrong:x?}");
        return Err(IngestError::Value { what: WHAT, field: "argument", value });
    }
    let syscalls = recording.syscalls.iter().flat_map(|fact| fact.seen.keys());
    let capabilities = recording.capabilities.iter().flat_map(|fact| fact.seen.keys());
    let denials = recording.denials.iter().flat_map(|fact| fact.seen.keys());
    let arguments = recording.arguments.iter().flat_map(|fact| fact.seen.keys());
    let mut named = syscalls.chain(capabilities).chain(denials).chain(arguments);
    match named.find(|id| !recording.runs.contains_key(*id)) {
        Some(id) => Err(IngestError::Value { what: WHAT, field: "run id", value: id.clone() }),
        None => Ok(recording),
    }
}
