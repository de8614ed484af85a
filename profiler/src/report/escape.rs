//! The one way by which text that others control reaches a terminal or a log.
//!
//! Names, paths and arguments of a workload are hostile. Terminals act on control characters, and characters of
//! direction or of no width make a line read as what it is not. Escaping twice is the same as once.

use std::{borrow::Cow, fmt::Write};

/// One line of text: every character that could act is shown as `\n`, `\x1b` or `\u{202e}`.
#[must_use]
pub fn line(text: &str) -> Cow<'_, str> {
    escape(text, |_| false)
}

/// The same for text of several lines, whose line ends are kept: messages with a hint.
#[must_use]
pub fn lines(text: &str) -> Cow<'_, str> {
    escape(text, |c| c == '\n')
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

fn escape(text: &str, keep: impl Fn(char) -> bool) -> Cow<'_, str> {
    let acts = |c: char| acts(c) && !keep(c);
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
            // Writing to a string cannot fail.
            c if u32::from(c) < 0x100 => drop(write!(escaped, "\\x{:02x}", u32::from(c))),
            c => drop(write!(escaped, "\\u{{{:x}}}", u32::from(c))),
        }
    }
    Cow::Owned(escaped)
}

/// Characters that do something instead of showing something.
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}'                        // soft hyphen
            | '\u{61c}'                     // Arabic letter mark
            | '\u{180e}'                    // Mongolian vowel separator
            | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' // Hangul fillers: blank letters
            | '\u{200b}'..='\u{200f}'       // no width, direction marks
            | '\u{2028}'..='\u{202e}'       // line and paragraph ends, embeddings and overrides
            | '\u{2060}'..='\u{206f}'       // invisible operators, isolates
            | '\u{fe00}'..='\u{fe0f}'       // variation selectors
            | '\u{feff}'                    // byte order mark
            | '\u{fff9}'..='\u{fffb}'       // interlinear annotation
            | '\u{1d173}'..='\u{1d17a}'     // musical format characters
            | '\u{e0000}'..='\u{e0fff}'     // tags, more variation selectors
        )
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
    fn line_ends_are_kept_only_where_wanted() {
        assert_eq!(lines("a\n\x1bb"), "a\n\\x1bb");
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
        fn visible_text_survives(text in "[ -~äöü]*") {
            prop_assert_eq!(line(&text), text.as_str());
        }

        #[test]
        fn the_bound_holds(text in any::<String>(), max in 1_usize..40) {
            prop_assert!(short(&text, max).chars().count() <= max);
        }
    }
}
