//! Tables of measurements in a Markdown file: found, replaced, compared. Pure.

use std::fmt;

/// How much worse a ratio may be: measurements of one machine differ by less.
const TOLERANCE: f64 = 1.2;

/// A ratio that two tables have, of the row that the first two cells name.
#[derive(Debug, PartialEq)]
pub struct Compared {
    row: String,
    before: f64,
    after: f64,
}

impl Compared {
    /// Whether the cost has grown by more than a fifth.
    pub fn is_worse(&self) -> bool {
        self.after > self.before * TOLERANCE
    }
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.is_worse() { " WORSE" } else { "" };
        write!(f, "  {}: {:.2}, was {:.2}{verdict}", self.row, self.after, self.before)
    }
}

/// The table that stands below the line `<!-- cargo xtask bench NAME -->`, up to the next empty line.
pub fn find<'a>(docs: &'a str, name: &str) -> Option<&'a str> {
    let mark = format!("<!-- cargo xtask bench {name} -->\n\n");
    let start = docs.find(&mark)? + mark.len();
    let rest = &docs[start..];
    Some(&rest[..rest.find("\n\n").map_or(rest.len(), |end| end + 1)])
}

/// `docs` with another table in the place of `before`, which is a part of it.
pub fn put(docs: &str, before: &str, after: &str) -> String {
    docs.replacen(before, after, 1)
}

/// The ratios, the last cell, of the rows that both tables have. What the floor adds is the measure of all others, and no ratio of
/// the recorder's; nor are other tools', which name themselves.
pub fn compare(before: &str, after: &str) -> Vec<Compared> {
    let old: Vec<_> = ratios(before).collect();
    let is_ours = |row: &str| row.contains("recorded") || row.contains("bystander");
    let of = |row: &str| old.iter().find(|(name, _)| name == row).map(|(_, ratio)| *ratio);
    ratios(after)
        .filter(|(row, _)| is_ours(row))
        .filter_map(|(row, after)| Some(Compared { before: of(&row)?, row, after }))
        .collect()
}

/// Each row's first two cells and its last, where that is a number.
fn ratios(table: &str) -> impl Iterator<Item = (String, f64)> {
    table.lines().filter_map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let ratio = cells.last()?.parse().ok()?;
        Some((format!("{}, {}", cells.first()?, cells.get(1)?), ratio))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "\
| call | set-up | ns per call | added | of the floor's |
|---|---|---:|---:|---:|
| getppid | untraced | 100 | 0 | 0.00 |
| getppid | floor: empty program on sys_enter | 150 | 50 | 1.00 |
| getppid | recorded | 160 | 60 | 1.20 |
| getppid | bystander | 155 | 55 | 1.10 |
| getppid | strace -f -c | 9000 | 8900 | 178.00 |
";

    #[test]
    fn a_table_is_found_by_its_mark_and_replaced() {
        let docs = format!("# T\n\n<!-- cargo xtask bench syscall -->\n\n{OLD}\nText.\n");
        assert_eq!(find(&docs, "syscall"), Some(OLD));
        assert_eq!(find(&docs, "merge"), None);
        let new = put(&docs, OLD, "| a |\n");
        assert_eq!(new, "# T\n\n<!-- cargo xtask bench syscall -->\n\n| a |\n\nText.\n");
        let at_the_end = format!("<!-- cargo xtask bench merge -->\n\n{OLD}");
        assert_eq!(find(&at_the_end, "merge"), Some(OLD));
    }

    #[test]
    fn a_ratio_that_grew_by_more_than_a_fifth_is_worse() {
        let new =
            OLD.replace("| 60 | 1.20 |", "| 73 | 1.46 |").replace("| 55 | 1.10 |", "| 65 | 1.30 |");
        let compared = compare(OLD, &new);
        let worse: Vec<_> = compared.iter().map(|row| (row.row.as_str(), row.is_worse())).collect();
        assert_eq!(worse, [("getppid, recorded", true), ("getppid, bystander", false)]);
        assert_eq!(compared[0].to_string(), "  getppid, recorded: 1.46, was 1.20 WORSE");
        assert!(compare(OLD, OLD).iter().all(|row| !row.is_worse()));
    }
}
