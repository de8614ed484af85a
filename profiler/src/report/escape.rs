//! The one way by which text that others control reaches a terminal or a log.
//!
//! Names, paths and arguments of a workload are hostile. Terminals act on control characters, and characters of
//! direction or of no width make a line read as what it is not. Escaping twice is the same as once.

use std::borrow::Cow;

use crate::model::text::acts;

/// One line of text: every character that could act is shown as `\n`, `\x1b` or `\u{202e}`.
#[must_use]
pub fn line(text: &str) -> Cow<'_, str> {
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            c if !acts(c) => escaped.push(c),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            c if u32::from(c) < 0x100 => escaped.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => escaped.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
        }
    }
    Cow::Owned(escaped)
}

/// At most `max` characters of one line, with `…` for the rest.
#[must_use]
pub fn short(text: &str, max: usize) -> String {
    let escaped = line(text);
    if escaped.chars().count() <= max {
        return escaped.into_owned();
    }
    escaped.chars().take(max.saturating_sub(1)).chain(['…']).collect()
}

/// A JSON document that means the same and in which no character acts. Line ends and tabs are kept.
///
/// JSON itself escapes what comes before the blank. Whatever else acts can stand within strings only, where `\u`
/// is read.
#[must_use]
pub fn json(document: &str) -> String {
    let mut escaped = String::with_capacity(document.len());
    for c in document.chars() {
        if c < ' ' || !acts(c) {
            escaped.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            escaped.push_str(&format!("\\u{unit:04x}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ordinary_text_is_left_alone() {
        for text in ["nginx: worker", "C:\\x", "größe", "日本", "a'b\"c`"] {
            assert!(matches!(line(text), Cow::Borrowed(same) if same == text));
        }
    }

    #[test]
    fn what_acts_is_shown() {
        for (text, shown) in [
            ("a\x1b[31mb", "a\\x1b[31mb"),
            ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
            ("\u{9b}2J", "\\x9b2J"),
            ("\x7f\0", "\\x7f\\x00"),
            ("user\u{202e}toor", "user\\u{202e}toor"),
            ("a\u{2066}b\u{2069}", "a\\u{2066}b\\u{2069}"),
            ("a\u{200b}b", "a\\u{200b}b"),
        ] {
            assert_eq!(line(text), shown);
        }
    }

    #[test]
    fn json_has_escapes_of_its_own() {
        assert_eq!(json("[\"\u{202e}\u{9b}\u{e0001}\"]\n"), "[\"\\u202e\\u009b\\udb40\\udc01\"]\n");
    }

    #[test]
    fn long_text_is_cut_at_a_character() {
        assert_eq!(short("größer", 6), "größer");
        assert_eq!(short("größer!", 6), "größe…");
        assert_eq!(short("\x1b\x1b", 6), "\\x1b\\…");
    }

    proptest! {
        #[test]
        fn nothing_that_acts_comes_out(text in any::<String>()) {
            let escaped = line(&text);
            prop_assert!(!escaped.chars().any(char::is_control), "{escaped:?}");
            prop_assert!(!escaped.contains(acts), "{escaped:?}");
            prop_assert_eq!(line(&escaped), escaped.clone(), "twice is once");
        }

        #[test]
        fn json_keeps_its_meaning(text in any::<String>()) {
            let document = serde_json::to_string_pretty(&[&text]).expect("a string");
            let escaped = json(&document);
            prop_assert!(!escaped.contains(|c| acts(c) && c != '\n'), "{escaped:?}");
            let [read]: [String; 1] = serde_json::from_str(&escaped).expect("still JSON");
            prop_assert_eq!(read, text);
        }

        #[test]
        fn visible_text_survives(text in "[ -~äöü]*") {
            prop_assert_eq!(line(&text), text.as_str());
        }

        #[test]
        fn the_bound_holds(text in any::<String>(), max in 1_usize..40) {
            prop_assert!(short(&text, max).chars().count() <= max);
        }
    }
}
