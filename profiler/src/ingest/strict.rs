//! Reading versioned JSON without losing anything.
//!
//! Owns the order of checks: syntax, then version, then schema, then that everything in the text came
//! through. serde refuses unknown keys in structs, but not beside the tag of a unit variant, nor does it
//! see a key given twice in a map; comparing what was read with what it would be written as finds both.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

use super::error::IngestError;

/// Reads `text` as a `T` whose schema version is at most `known`.
pub(super) fn parse_versioned<T: DeserializeOwned + Serialize>(
    what: &'static str,
    known: u32,
    text: &str,
) -> Result<T, IngestError> {
    if let Some(parsed) = parse_own(known, text) {
        return Ok(parsed);
    }
    let value = parse_value(what, text)?;
    let found = value.get("schema_version").and_then(Value::as_u64);
    if let Some(found) = found.filter(|found| *found > u64::from(known)) {
        return Err(IngestError::Newer { what, found, known });
    }
    if let Some(is) = other_kind(what, &value) {
        return Err(IngestError::OtherKind { what, is });
    }
    if found.ok_or(IngestError::NoVersion { what })? == 0 {
        return Err(IngestError::NoSuchVersion { what, found: 0 });
    }
    // From the text, not the value: the error then says where.
    let parsed: T =
        serde_json::from_str(text).map_err(|source| IngestError::Schema { what, source })?;
    let written =
        serde_json::to_value(&parsed).map_err(|source| IngestError::Schema { what, source })?;
    match lost_key(&value, &written) {
        Some(key) => Err(IngestError::UnknownKey { what, key }),
        None => Ok(parsed),
    }
}

/// Kinds of files, each with keys that no other has together.
const KINDS: [(&str, [&str; 2]); 3] = [
    ("recording", ["runs", "denials"]),
    ("profile", ["made_for", "syscalls"]),
    ("seccomp file", ["defaultAction", "syscalls"]),
];

/// What a document is that has the keys of another kind.
fn other_kind(what: &str, value: &Value) -> Option<&'static str> {
    let has = |keys: &[&str; 2]| keys.iter().all(|key| value.get(key).is_some());
    let is = KINDS.iter().find(|(_, keys)| has(keys))?.0;
    let is_kind = KINDS.iter().any(|(kind, _)| *kind == what);
    (is_kind && is != what).then_some(is)
}

/// The short way for a file as profiler writes it, of this version: written again it is the same but for white space, so nothing
/// was lost and no key is there twice. `None` says nothing about a file.
fn parse_own<T: DeserializeOwned + Serialize>(known: u32, text: &str) -> Option<T> {
    let parsed: T = serde_json::from_str(text).ok()?;
    let written = serde_json::to_string(&parsed).ok()?;
    let is_known = written.starts_with(&format!("{{\"schema_version\":{known},"));
    (is_known && is_same_but_for_space(text, &written)).then_some(parsed)
}

/// Whether `text` is `compact` with white space between tokens.
fn is_same_but_for_space(text: &str, compact: &str) -> bool {
    let mut rest = compact.bytes();
    let (mut in_string, mut escaped) = (false, false);
    for byte in text.bytes() {
        if !in_string && byte.is_ascii_whitespace() {
            continue;
        }
        if rest.next() != Some(byte) {
            return false;
        }
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ => {}
        }
    }
    rest.next().is_none()
}

/// Reads `text` as JSON in which no object has a key twice.
pub(super) fn parse_value(what: &'static str, text: &str) -> Result<Value, IngestError> {
    match serde_json::from_str(text) {
        Ok(NoDuplicates(value)) => Ok(value),
        Err(source) if source.is_data() => Err(IngestError::Schema { what, source }),
        Err(source) => Err(IngestError::Syntax { what, source }),
    }
}

/// The path of the first key of `read` that `written` has not. Empty values may be left out on writing.
fn lost_key(read: &Value, written: &Value) -> Option<String> {
    let below = |key: &str, read: &Value, written: &Value| {
        lost_key(read, written).map(|rest| format!("{key}.{rest}"))
    };
    match (read, written) {
        (Value::Object(read), Value::Object(written)) => {
            read.iter().find_map(|(key, value)| match written.get(key) {
                Some(written) => below(key, value, written),
                None if is_empty(value) => None,
                None => Some(key.clone()),
            })
        }
        (Value::Array(read), Value::Array(written)) => {
            let mut pairs = read.iter().zip(written).enumerate();
            pairs.find_map(|(index, (read, written))| below(&index.to_string(), read, written))
        }
        _ => None,
    }
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}

/// A JSON value in which no object has a key twice.
struct NoDuplicates(Value);

impl<'de> Deserialize<'de> for NoDuplicates {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NoDuplicatesVisitor).map(NoDuplicates)
    }
}

struct NoDuplicatesVisitor;

impl<'de> Visitor<'de> for NoDuplicatesVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(NoDuplicates(element)) = elements.next_element()? {
            array.push(element);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((key, NoDuplicates(value))) = entries.next_entry::<String, _>()? {
            if object.contains_key(&key) {
                let message = format!("key `{}` is given twice", key.escape_debug());
                return Err(serde::de::Error::custom(message));
            }
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_white_space_between_tokens_may_differ() {
        let compact = r#"{"a":[1,"x \\\" y"]}"#;
        for same in [compact, "{\n \"a\" : [1,\t\"x \\\\\\\" y\"]\n}\n"] {
            assert!(is_same_but_for_space(same, compact), "{same}");
        }
        for other in [
            r#"{"a":[1,"x\\\" y"]}"#,
            r#"{"a":[1,"x \\\" y"]}}"#,
            r#"{"a":[1,"x \\\" y"]"#,
            r#"{"a":[1,"x  \\\" y"]}"#,
            "",
        ] {
            assert!(!is_same_but_for_space(other, compact), "{other}");
        }
    }
}
