//! The capabilities in a rendering that adds some back, compose.yaml or kubernetes.yaml: taken out and put in.
//!
//! Owns the one part of these files that two branches both grow. It works on the text that `render` wrote, so
//! that everything else in it, which a user may have edited, stays as it is.

use std::collections::BTreeSet;

/// The keys of the lists, and of those that they follow.
const KEYS: [(&str, &str); 2] = [("cap_drop:", "cap_add:"), ("drop:", "add:")];

/// The text without the list of added capabilities, and that list. `None` when they are not dropped first, or in more places
/// than one.
#[must_use]
pub fn split(text: &str) -> Option<(String, BTreeSet<String>)> {
    let (_, add) = key_of(text)?;
    let (mut rest, mut names) = (String::new(), BTreeSet::new());
    let mut in_list = false;
    for line in text.lines() {
        let item = line.trim_start().strip_prefix("- ");
        match item {
            Some(name) if in_list => {
                names.insert(name.to_owned());
                continue;
            }
            _ => in_list = line.trim() == add,
        }
        if !in_list {
            rest.push_str(line);
            rest.push('\n');
        }
    }
    Some((rest, names))
}

/// The text with a list of added capabilities after those that are dropped. `None` when none are dropped.
#[must_use]
pub fn join(text: &str, names: &BTreeSet<String>) -> Option<String> {
    let (drop, add) = key_of(text)?;
    let mut out = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        out.push_str(line);
        out.push('\n');
        if line.trim() != drop {
            continue;
        }
        let mut item_indent = "";
        while let Some(item) = lines.next_if(|next| next.trim_start().starts_with("- ")) {
            item_indent = item.get(..item.len() - item.trim_start().len()).unwrap_or_default();
            out.push_str(item);
            out.push('\n');
        }
        if !names.is_empty() {
            let indent = line.get(..line.len() - line.trim_start().len()).unwrap_or_default();
            out.push_str(&format!("{indent}{add}\n"));
            names.iter().for_each(|name| out.push_str(&format!("{item_indent}- {name}\n")));
        }
    }
    Some(out)
}

fn key_of(text: &str) -> Option<(&'static str, &'static str)> {
    let places = |key: &str| text.lines().filter(|line| line.trim() == key).count();
    KEYS.into_iter().find(|(drop, _)| places(drop) == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_out_goes_back_in() {
        for text in [
            "# drop\na:\n  b:\n    cap_drop:\n      - ALL\n    cap_add:\n      - CHOWN\n      - SETUID\n",
            "a:\n  - b:\n      drop:\n        - ALL\n      add:\n        - KILL\n    after: x\n",
            "a:\n    cap_drop:\n      - ALL\n",
        ] {
            let (rest, names) = split(text).expect("capabilities are dropped");
            assert!(!rest.contains("add:"), "{rest}");
            assert_eq!(join(&rest, &names).as_deref(), Some(text));
        }
        assert_eq!(split("a:\n  b: c\n"), None);
        let two = "a:\n  cap_drop:\n    - ALL\nb:\n  cap_drop:\n    - ALL\n";
        assert_eq!(split(two), None, "whose the capabilities are would be lost");
    }

    #[test]
    fn a_list_is_made_where_there_was_none() {
        let names = BTreeSet::from(["B".to_owned(), "A".to_owned()]);
        let joined =
            join("x:\n  cap_drop:\n    - ALL\n", &names).expect("capabilities are dropped");
        assert_eq!(joined, "x:\n  cap_drop:\n    - ALL\n  cap_add:\n    - A\n    - B\n");
    }
}
