//! From measurements to a table of ratios. Pure.

use std::fmt::Write as _;

/// How much of the time of an untraced call the floor has to add to be told from noise.
const MEASURABLE: f64 = 0.02;

/// The measurements of one set-up, in nanoseconds per call.
pub struct Row {
    call: &'static str,
    name: &'static str,
    ns: Vec<f64>,
}

impl Row {
    /// Without measurements yet.
    pub fn new(call: &'static str, name: &'static str) -> Self {
        Row { call, name, ns: Vec::new() }
    }

    /// With a single one.
    pub fn of(call: &'static str, name: &'static str, ns: f64) -> Self {
        Row { call, name, ns: vec![ns] }
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

/// A Markdown table. The first row of each series is untraced, the second the floor; the last column is what was added to a
/// call, as a ratio to what the floor adds; none where that is lost in what the call itself takes.
pub fn markdown(series: &[Vec<Row>]) -> String {
    let mut text = String::from(
        "| call | set-up | ns per call | added | of the floor's |\n|---|---|---:|---:|---:|\n",
    );
    for rows in series {
        let untraced = rows[0].least();
        let floor = rows[1].least() - untraced;
        for row in rows {
            let ns = row.least();
            let added = ns - untraced;
            let ratio = match floor > untraced * MEASURABLE {
                true => format!("{:.2}", added / floor),
                false => "-".to_owned(),
            };
            let _ =
                writeln!(text, "| {} | {} | {ns:.0} | {added:.0} | {ratio} |", row.call, row.name);
        }
    }
    text
}
