//! Names that resemble a misspelt one.

/// The few of `names` that are nearest to `word`, nearest first: at most two edits away, or a third of its length.
#[must_use]
pub fn near<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    // A long word resembles nothing; the bound keeps hostile ones cheap.
    if word.is_empty() || word.len() > 64 {
        return Vec::new();
    }
    let most = (word.chars().count() / 3).clamp(1, 2);
    let mut found: Vec<(usize, &str)> = names
        .map(|name| (distance(word, name), name))
        .filter(|&(distance, _)| distance <= most)
        .collect();
    found.sort_unstable();
    found.dedup();
    found.into_iter().map(|(_, name)| name).take(3).collect()
}

/// Insertions, removals, replacements and swaps of neighbours that turn `a` into `b`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    let mut previous = None;
    for (row, x) in a.chars().enumerate() {
        let mut line = Vec::with_capacity(last.len());
        line.push(row + 1);
        for (column, &y) in b.iter().enumerate() {
            let replaced = last[column] + usize::from(x != y);
            let mut best = replaced.min(last[column + 1] + 1).min(line[column] + 1);
            if column > 0 && previous == Some(y) && b[column - 1] == x {
                best = best.min(before_last[column - 1] + 1);
            }
            line.push(best);
        }
        previous = Some(x);
        before_last = std::mem::replace(&mut last, line);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found_and_other_words_are_not() {
        let names = ["read", "readv", "pread64", "openat", "openat2", "clone", "clone3", "ptrace"];
        for (word, expected) in [
            ("opnat", vec!["openat", "openat2"][..1].to_vec()),
            ("raed", vec!["read"]),
            ("clone4", vec!["clone", "clone3"]),
            ("ptrac", vec!["ptrace"]),
            ("completely_else", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(near(word, names.into_iter()), expected, "{word}");
        }
        assert!(near(&"x".repeat(100_000), names.into_iter()).is_empty());
    }
}
