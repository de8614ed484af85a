//! Commands for people to paste: quoted for a shell, safe on a terminal.

use std::borrow::Cow;

use crate::model::text::acts;

/// One word of a shell's command line.
///
/// What has characters that act on a terminal is written as `$'...'`, which bash, zsh, ksh and POSIX 2024 read.
#[must_use]
pub fn quote(word: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,".contains(c);
    if !word.is_empty() && !word.starts_with('=') && word.chars().all(plain) {
        return Cow::Borrowed(word);
    }
    if !word.contains(acts) {
        return Cow::Owned(format!("'{}'", word.replace('\'', r"'\''")));
    }
    let mut quoted = String::from("$'");
    for c in word.chars() {
        match c {
            '\\' | '\'' => quoted.extend(['\\', c]),
            _ if !acts(c) => quoted.push(c),
            // Three octal digits end by themselves; hexadecimal ones run into what follows.
            _ => quoted
                .extend(c.encode_utf8(&mut [0; 4]).bytes().map(|byte| format!("\\{byte:03o}"))),
        }
    }
    quoted.push('\'');
    Cow::Owned(quoted)
}

/// A whole command line.
#[must_use]
pub fn join<I, S>(words: I) -> String
where
    I: IntoIterator<Item = S>,
    S: AsRef<str>,
{
    let quoted: Vec<String> =
        words.into_iter().map(|word| quote(word.as_ref()).into_owned()).collect();
    quoted.join(" ")
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_what_needs_it_is_quoted() {
        for (word, quoted) in [
            ("make", "make"),
            ("seccomp=profiles/a/seccomp.json", "seccomp=profiles/a/seccomp.json"),
            ("", "''"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            ("$(id)", "'$(id)'"),
            ("~", "'~'"),
            ("a\nb", r"$'a\012b'"),
            ("\u{1b}'\\", r"$'\033\'\\'"),
        ] {
            assert_eq!(quote(word), quoted);
        }
        assert_eq!(join(["sh", "-c", "a && b"]), "sh -c 'a && b'");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn bash_reads_back_what_was_quoted(word in "[^\0]{0,12}") {
            let output = Command::new("bash")
                .env("LC_ALL", "C.UTF-8")
                .args(["-c", &format!("printf %s {}", quote(&word))])
                .output()
                .expect("bash runs");
            prop_assert_eq!(String::from_utf8_lossy(&output.stdout), word.as_str());
        }

        #[test]
        fn a_quoted_word_does_nothing_on_a_terminal(word in any::<String>()) {
            let quoted = quote(&word);
            prop_assert!(!quoted.contains(acts), "{quoted:?}");
        }
    }
}
