//! YAML, by a serialiser that quotes whatever could be read as something else than text.

use serde::Serialize;

/// Writes `value` as YAML, with a line feed at the end.
pub(super) fn write<T: Serialize>(value: &T) -> String {
    let mut text =
        serde_saphyr::to_string(value).expect("these files are maps of strings and lists");
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}
