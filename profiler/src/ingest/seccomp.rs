//! Reads seccomp files, OCI's and Docker's.

use crate::{ingest::error::IngestError, model::seccomp::SeccompFile};

const WHAT: &str = "seccomp profile";

/// Reads a seccomp file. What it means is in [`crate::model::seccomp`].
///
/// # Errors
/// When the text is not JSON, has unknown keys or actions, or lists both `architectures` and `archMap`,
/// which Docker refuses.
pub fn parse(text: &str) -> Result<SeccompFile, IngestError> {
    let file: SeccompFile = serde_json::from_str(text).map_err(|source| {
        if source.is_data() {
            IngestError::Schema { what: WHAT, source }
        } else {
            IngestError::Syntax { what: WHAT, source }
        }
    })?;
    if !file.architectures.is_empty() && !file.arch_map.is_empty() {
        let value = "architectures and archMap".to_owned();
        return Err(IngestError::Value { what: WHAT, field: "combination", value });
    }
    Ok(file)
}
