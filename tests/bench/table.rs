//! From measurements to a table of ratios. Pure.

use std::fmt::Write as _;

/// The measurements of one set-up, in nanoseconds per call.
pub struct Row {
    name: &'static str,
    ns: Vec<f64>,
}

impl Row {
    /// Without measurements yet.
    pub fn new(name: &'static str) -> Self {
        Row { name, ns: Vec::new() }
    }

    /// With a single one.
    pub fn of(name: &'static str, ns: f64) -> Self {
        Row { name, ns: vec![ns] }
    }

    /// Adds one.
    pub fn push(&mut self, ns: f64) {
        self.ns.push(ns);
    }

    /// The least of them: whatever else the machine does only adds.
    fn least(&self) -> f64 {
        self.ns.iter().copied().fold(f64::INFINITY, f64::min)
    }
}

/// A Markdown table: `rows` and the `others` that make the same call, and `watched`, which makes another. The first row of each call is
/// untraced, the second the floor; the last column is what was added to a call, as a ratio to what the floor adds.
pub fn markdown(rows: &[Row], others: &[Row], watched: &[Row]) -> String {
    let mut text =
        String::from("| set-up | ns per call | added | of the floor's |\n|---|---:|---:|---:|\n");
    for (of, more) in [(rows, others), (watched, &[])] {
        let untraced = of[0].least();
        let floor = of[1].least() - untraced;
        for row in of.iter().chain(more) {
            let ns = row.least();
            let added = ns - untraced;
            let _ =
                writeln!(text, "| {} | {ns:.0} | {added:.0} | {:.2} |", row.name, added / floor);
        }
    }
    text
}
