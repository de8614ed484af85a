//! Where the rules of a JSON seccomp file stand in its text, and the text with rules taken out or added.
//!
//! Everything else of the text stays as it is, byte by byte: unknown keys, comments for people, the layout. What the
//! rules mean is no business of this module.

use std::{collections::BTreeMap, ops::Range};

use serde_json::value::RawValue;

use crate::model::lint::Edit;

/// The places of the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout<'a> {
    text: &'a str,
    /// The `syscalls` list, brackets included.
    list: Range<usize>,
    /// Its elements.
    rules: Vec<Range<usize>>,
    /// Where each line but the first begins.
    lines: Vec<usize>,
    /// JSON pointer from the document to the profile: `/linux/seccomp`.
    pub prefix: &'static str,
}

type Object<'a> = BTreeMap<String, &'a RawValue>;

impl<'a> Layout<'a> {
    /// `None` when the text is not JSON, or has no list of rules.
    #[must_use]
    pub fn of(text: &'a str) -> Option<Layout<'a>> {
        let object = |text: &'a str| serde_json::from_str::<Object<'a>>(text).ok();
        let root = object(text)?;
        let (prefix, profile) = if root.contains_key("ociVersion") {
            let linux = object(root.get("linux")?.get())?;
            ("/linux/seccomp", object(linux.get("seccomp")?.get())?)
        } else if root.contains_key("apiVersion") {
            ("/spec", object(root.get("spec")?.get())?)
        } else {
            ("", root)
        };
        let list = profile.get("syscalls")?.get();
        let rules: Vec<&'a RawValue> = serde_json::from_str(list).ok()?;
        // What was read borrows from the text, so that an address tells the place.
        let place = |part: &str| {
            let start = (part.as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
            (start + part.len() <= text.len()).then_some(start..start + part.len())
        };
        let rules = rules.into_iter().map(|rule| place(rule.get())).collect::<Option<_>>()?;
        let lines = text.match_indices('\n').map(|(at, _)| at + 1).collect();
        Some(Layout { text, list: place(list)?, rules, lines, prefix })
    }

    /// The line, from 1, on which the rule with this index begins.
    #[must_use]
    pub fn line_of_rule(&self, index: usize) -> Option<usize> {
        let start = self.rules.get(index)?.start;
        Some(1 + self.lines.partition_point(|&line| line <= start))
    }

    /// The text with all edits made.
    #[must_use]
    pub fn edited(&self, edits: &[Edit]) -> String {
        let slice = |range: Range<usize>| self.text.get(range).unwrap_or_default();
        let kept: Vec<usize> = (0..self.rules.len())
            .filter(|index| !edits.contains(&Edit::RemoveRule(*index)))
            .collect();
        let before = |index: usize| {
            let start = match index.checked_sub(1) {
                Some(previous) => self.rules[previous].end,
                None => self.list.start + 1,
            };
            slice(start..self.rules[index].start)
        };
        // What stands between two rules of this file; else a line each.
        let between = if self.rules.len() > 1 { before(1) } else { ",\n" };
        let mut rules = String::new();
        for (position, &index) in kept.iter().enumerate() {
            match (position, index) {
                (0, _) => rules.push_str(before(0)),
                (_, 0) => {}
                _ => rules.push_str(before(index)),
            }
            rules.push_str(slice(self.rules[index].clone()));
        }
        let mut empty = kept.is_empty();
        for edit in edits {
            let Edit::AppendRule { names, action, errno_ret } = edit else { continue };
            if empty {
                rules.push_str(self.rules.first().map_or("", |_| before(0)));
            } else {
                rules.push_str(between);
            }
            empty = false;
            let names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
            rules.push_str(&format!(
                "{{\"names\": [{}], \"action\": \"{action}\"",
                names.join(", ")
            ));
            if let Some(errno) = errno_ret {
                rules.push_str(&format!(", \"errnoRet\": {errno}"));
            }
            rules.push('}');
        }
        let end = self.rules.last().map_or(self.list.start + 1, |last| last.end);
        format!("{}{rules}{}", slice(0..self.list.start + 1), slice(end..self.text.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "{\n  \"x\": 1,\n  \"syscalls\": [\n    {\"a\": [1]},\n    {\"b\": 2},\n    {\"c\": 3}\n  ],\n  \"z\": {}\n}\n";

    fn append(name: &'static str) -> Edit {
        Edit::AppendRule { names: vec![name], action: "SCMP_ACT_ERRNO", errno_ret: Some(38) }
    }

    #[test]
    fn rules_are_found_where_they_stand() {
        let layout = Layout::of(FILE).expect("JSON");
        assert_eq!(
            (0..4).map(|i| layout.line_of_rule(i)).collect::<Vec<_>>(),
            [Some(4), Some(5), Some(6), None]
        );
        for none in ["", "{}", "[]", "apiVersion: x", "{\"syscalls\": null}", "{\"syscalls\": {}}"]
        {
            assert_eq!(Layout::of(none), None, "{none}");
        }
        let nested = format!("{{\"ociVersion\": \"1\", \"linux\": {{\"seccomp\": {FILE}}}}}");
        let layout = Layout::of(&nested).expect("JSON");
        assert_eq!((layout.prefix, layout.line_of_rule(0)), ("/linux/seccomp", Some(4)));
    }

    #[test]
    fn all_else_stays_as_it_is() {
        let layout = Layout::of(FILE).expect("JSON");
        assert_eq!(layout.edited(&[]), FILE);
        let without = |lines: &[&str]| {
            lines.iter().fold(FILE.to_owned(), |text, line| text.replace(line, ""))
        };
        assert_eq!(layout.edited(&[Edit::RemoveRule(1)]), without(&["\n    {\"b\": 2},"]));
        assert_eq!(layout.edited(&[Edit::RemoveRule(0)]), without(&["\n    {\"a\": [1]},"]));
        assert_eq!(layout.edited(&[Edit::RemoveRule(2)]), without(&[",\n    {\"c\": 3}"]));
        assert_eq!(
            layout.edited(&[append("x")]),
            FILE.replace(
                "{\"c\": 3}",
                "{\"c\": 3},\n    {\"names\": [\"x\"], \"action\": \"SCMP_ACT_ERRNO\", \"errnoRet\": 38}"
            )
        );
    }

    #[test]
    fn whatever_goes_the_rest_is_json() {
        for text in [FILE, "{\"syscalls\":[]}", "{\"syscalls\": [ {} ]}", "{\"syscalls\":[{},{}]}"]
        {
            let layout = Layout::of(text).expect("JSON");
            for mask in 0..8_u32 {
                let mut edits: Vec<Edit> =
                    (0..3).filter(|bit| mask & (1 << bit) != 0).map(Edit::RemoveRule).collect();
                for _ in 0..2 {
                    let gone =
                        (0..layout.rules.len()).filter(|i| edits.contains(&Edit::RemoveRule(*i)));
                    let added = edits.iter().filter(|edit| matches!(edit, Edit::AppendRule { .. }));
                    let expected = layout.rules.len() - gone.count() + added.count();
                    let edited = layout.edited(&edits);
                    let value: serde_json::Value = serde_json::from_str(&edited).expect("JSON");
                    assert_eq!(
                        value["syscalls"].as_array().map(Vec::len),
                        Some(expected),
                        "{edited}"
                    );
                    edits.push(append("y"));
                }
            }
        }
    }
}
