//! YAML text: a small tree of maps, lists and strings, written in block style.
//!
//! Owns quoting. A string is plain only when no reader of YAML 1.1 or 1.2 could take it for something
//! else; all others are double-quoted, with every character escaped that would act on a terminal or an editor.
//! Names come from the workload, so this is the one place where they could break out.

use std::fmt::Write as _;

use serde_json::Value;

use crate::model::text::acts;

/// What is longer is no key before a colon (YAML 1.2.2, 7.4.2), but one after a question mark.
const MAX_KEY: usize = 1000;

/// A YAML value.
pub(super) enum Yaml {
    Bool(bool),
    Number(u64),
    Text(String),
    List(Vec<Yaml>),
    /// Keys in the order in which they are written.
    Map(Vec<(String, Yaml)>),
}

impl Yaml {
    pub(super) fn text(text: &str) -> Yaml {
        Yaml::Text(text.to_owned())
    }

    pub(super) fn texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> Yaml {
        Yaml::List(texts.into_iter().map(Yaml::text).collect())
    }

    pub(super) fn map<'a>(entries: impl IntoIterator<Item = (&'a str, Yaml)>) -> Yaml {
        Yaml::Map(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    /// What a reader makes of it.
    pub(super) fn value(&self) -> Value {
        match self {
            Yaml::Bool(value) => (*value).into(),
            Yaml::Number(value) => (*value).into(),
            Yaml::Text(text) => text.as_str().into(),
            Yaml::List(elements) => elements.iter().map(Yaml::value).collect(),
            Yaml::Map(entries) => {
                let entries = entries.iter().map(|(key, value)| (key.clone(), value.value()));
                Value::Object(entries.collect())
            }
        }
    }

    /// The document, with a line feed at the end.
    pub(super) fn document(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, 0);
        out.trim_start_matches('\n').to_owned() + "\n"
    }

    /// Appends the value, after the `key:` or `-` that it belongs to.
    fn write(&self, out: &mut String, depth: usize) {
        let indent = "  ".repeat(depth);
        match self {
            Yaml::Bool(value) => {
                let _ = write!(out, " {value}");
            }
            Yaml::Number(value) => {
                let _ = write!(out, " {value}");
            }
            Yaml::Text(text) => {
                let _ = write!(out, " {}", scalar(text));
            }
            Yaml::List(elements) if elements.is_empty() => out.push_str(" []"),
            Yaml::Map(entries) if entries.is_empty() => out.push_str(" {}"),
            Yaml::List(elements) => {
                for element in elements {
                    let _ = write!(out, "\n{indent}-");
                    match element {
                        // The first key stands on the dash's line.
                        Yaml::Map(entries) if !entries.is_empty() => {
                            let mut nested = String::new();
                            element.write(&mut nested, depth + 1);
                            let _ = write!(out, " {}", nested.trim_start());
                        }
                        _ => element.write(out, depth + 1),
                    }
                }
            }
            Yaml::Map(entries) => {
                for (key, value) in entries {
                    let key = scalar(key);
                    let _ = match key.chars().count() {
                        0..=MAX_KEY => write!(out, "\n{indent}{key}:"),
                        _ => write!(out, "\n{indent}? {key}\n{indent}:"),
                    };
                    value.write(out, depth + 1);
                }
            }
        }
    }
}

/// A string as a YAML scalar, on one line.
fn scalar(text: &str) -> String {
    if is_plain(text) {
        return text.to_owned();
    }
    let mut out = String::from('"');
    for character in text.chars() {
        let _ = match (character, u32::from(character)) {
            ('"' | '\\', _) => write!(out, "\\{character}"),
            (c, 0..=0xff) if acts(c) => write!(out, "\\x{:02x}", u32::from(c)),
            (c, 0..=0xffff) if acts(c) => write!(out, "\\u{:04x}", u32::from(c)),
            (c, _) if acts(c) => write!(out, "\\U{:08x}", u32::from(c)),
            (c, _) => {
                out.push(c);
                Ok(())
            }
        };
    }
    out.push('"');
    out
}

/// Letters first, so no number, date or indicator; then nothing that ends or begins anything.
fn is_plain(text: &str) -> bool {
    const WORDS: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    let rest = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.split(':').all(|part| !part.is_empty() && part.chars().all(rest))
        && !WORDS.contains(&text.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structure_is_block_style() {
        let value = Yaml::map([
            ("a", Yaml::texts(["x", "1"])),
            ("b", Yaml::List(vec![Yaml::map([("c", Yaml::Bool(true)), ("d", Yaml::map([]))])])),
        ]);
        assert_eq!(value.document(), "a:\n  - x\n  - \"1\"\nb:\n  - c: true\n    d: {}\n");
    }

    #[test]
    fn long_keys_are_read_back() {
        let long = "x: ".repeat(2000);
        let value = Yaml::map([(long.as_str(), Yaml::map([("a", Yaml::Number(1))]))]);
        let document = Yaml::map([("top", value)]).document();
        let read: serde_json::Value = serde_saphyr::from_str(&document).expect("YAML");
        assert_eq!(read["top"][&long]["a"], 1);
    }

    #[test]
    fn only_what_is_surely_a_string_is_plain() {
        for plain in ["backend", "app_1", "seccomp:./seccomp.json", "no-new-privileges:true", "e5"]
        {
            assert_eq!(scalar(plain), plain);
        }
        for quoted in
            ["", "No", "1", "0x1", ".inf", "-a", "a: b", "a:", ":a", "a b", "a#", "ü", "2024-01-01"]
        {
            assert!(scalar(quoted).starts_with('"'), "{quoted}");
        }
    }
}
