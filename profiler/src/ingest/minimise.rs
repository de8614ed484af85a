//! Reads `minimise.json`, the runs of a search.

use crate::{
    ingest::{error::IngestError, strict},
    model::minimise::{SCHEMA_VERSION, State},
};

/// Reads the runs of a search.
///
/// # Errors
/// When the text is not JSON, is of a newer schema, has unknown or doubled keys, or names an entry that cannot be.
pub fn parse(text: &str) -> Result<State, IngestError> {
    strict::parse_versioned("state of a search", SCHEMA_VERSION, text)
}
