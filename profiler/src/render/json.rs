//! JSON that reads well in `git diff`: structure is indented, and each fact is on one line.
//!
//! Owns the layout of `recording.json`, `profile.json` and `minimise.json`. Keys keep the order of the model's fields.
//! Characters that a terminal or an editor would act on are written as escapes, because names in
//! these files come from the workload.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

use crate::model::{merge, minimise::State, profile::Profile, recording::Recording, text::acts};

/// `recording.json`, in canonical order.
#[must_use]
pub fn recording(recording: &Recording) -> String {
    merged(&merge::canonical(recording.clone()))
}

/// The same for one that is in canonical order, as [`merge::Merger`] leaves it.
#[must_use]
pub fn merged(recording: &Recording) -> String {
    layout(recording, Lines::Facts)
}

/// `profile.json`.
#[must_use]
pub fn profile(profile: &Profile) -> String {
    layout(profile, Lines::Facts)
}

/// `minimise.json`.
#[must_use]
pub fn minimise(state: &State) -> String {
    layout(state, Lines::Facts)
}

/// What gets a line of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lines {
    /// Every element of an outermost list; what is inside of it follows on the same line.
    Facts,
    /// Every key and every element; but in outermost lists, what comes after the first `plain` elements has a line
    /// each.
    Rules {
        /// How many.
        plain: usize,
    },
}

/// Writes `value` as JSON, with a line feed at the end.
pub(super) fn layout<T: Serialize>(value: &T, lines: Lines) -> String {
    let mut bytes = Vec::new();
    let layout = Layout { lines, stack: Vec::new() };
    let mut serializer = Serializer::with_formatter(&mut bytes, layout);
    value
        .serialize(&mut serializer)
        .expect("the model's maps have string keys, and a Vec takes all");
    bytes.push(b'\n');
    String::from_utf8(bytes).expect("serde_json writes UTF-8")
}

struct Layout {
    lines: Lines,
    /// The open lists and objects, outermost first.
    stack: Vec<Level>,
}

struct Level {
    /// Its entries are on the line that it began on.
    inline: bool,
    is_list: bool,
    entries: usize,
}

impl Layout {
    fn open<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        bracket: &[u8],
        is_list: bool,
    ) -> io::Result<()> {
        let inline = match (self.lines, self.stack.iter().find(|level| level.is_list)) {
            (_, None) => false,
            (Lines::Facts, Some(_)) => true,
            (Lines::Rules { plain }, Some(list)) => list.entries > plain,
        };
        self.stack.push(Level { inline, is_list, entries: 0 });
        writer.write_all(bracket)
    }

    fn close<W: ?Sized + Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        if let Some(level) = self.stack.pop()
            && level.entries > 0
            && !level.inline
        {
            self.line(writer)?;
        }
        writer.write_all(bracket)
    }

    fn entry<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        let inline = match self.stack.last_mut() {
            Some(level) => {
                level.entries += 1;
                level.inline
            }
            None => true,
        };
        match (first, inline) {
            (true, true) => Ok(()),
            (false, true) => writer.write_all(b", "),
            (true, false) => self.line(writer),
            (false, false) => {
                writer.write_all(b",")?;
                self.line(writer)
            }
        }
    }

    fn line<W: ?Sized + Write>(&self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b"\n")?;
        self.stack.iter().try_for_each(|_| writer.write_all(b"  "))
    }
}

impl Formatter for Layout {
    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"[", true)
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.entry(writer, first)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"{", false)
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"}")
    }

    fn begin_object_key<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.entry(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }

    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut plain = 0;
        for (at, character) in fragment.char_indices().filter(|&(_, c)| acts(c)) {
            writer.write_all(fragment.get(plain..at).unwrap_or_default().as_bytes())?;
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            plain = at + character.len_utf8();
        }
        writer.write_all(fragment.get(plain..).unwrap_or_default().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn facts_are_on_lines_of_their_own() {
        let value = json!({"a": {"b": [{"c": [1, {}]}, []]}, "e": [], "o": {}});
        let expected = "{\n  \"a\": {\n    \"b\": [\n      {\"c\": [1, {}]},\n      []\n    ]\n  },\n  \
                        \"e\": [],\n  \"o\": {}\n}\n";
        assert_eq!(layout(&value, Lines::Facts), expected);
    }

    #[test]
    fn hostile_text_is_escaped_and_comes_back() {
        let text = "\u{1b}[2J\u{9b}31m\u{202e}x\u{7f}\u{2028}\"\\ ü\u{e0041}\n";
        let written = layout(&[text], Lines::Rules { plain: 1 });
        assert!(written.trim_end().lines().count() == 3, "{written}");
        assert!(!written.chars().any(|c| acts(c) && c != '\n'), "{written}");
        assert!(written.contains('ü'));
        let read: Value = serde_json::from_str(&written).expect("JSON");
        assert_eq!(read, json!([text]));
    }
}
