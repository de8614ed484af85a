//! Which characters of text that others control must not be written as they are.
//!
//! Owns the set. Each format has its own escapes for them: JSON, YAML, a terminal, a shell.

/// Characters that do something instead of showing something.
#[must_use]
pub fn acts(c: char) -> bool {
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
            | '\u{fffe}' | '\u{ffff}'       // no characters: XML and some readers refuse them
            | '\u{1d173}'..='\u{1d17a}'     // musical format characters
            | '\u{e0000}'..='\u{e0fff}'     // tags, more variation selectors
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shows_something_does_not_act() {
        assert!(!"aZ ~é日😀\u{301}\u{fffd}".contains(acts));
        for c in ['\0', '\n', '\x1b', '\u{9b}', '\u{202e}', '\u{fe0f}', '\u{ffff}', '\u{e0fff}'] {
            assert!(acts(c), "{c:?}");
        }
    }
}
