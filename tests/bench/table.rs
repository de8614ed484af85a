//! From measurements to a table of ratios. Pure.

use std::fmt::Write as _;

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

/// A Markdown table. The first row of each series is untraced, the second the floor. The last column is what was added to a call, as a ratio to what the floor adds
/// to the first series' call: that is the same for every call, and lost in noise where the call itself takes long.
pub fn markdown(series: &[Vec<Row>]) -> String {
    let mut text = String::from(
        "| call | set-up | ns per call | added | of the floor's |\n|---|---|---:|---:|---:|\n",
    );
    let floor = series[0][1].least() - series[0][0].least();
    for rows in series {
        let untraced = rows[0].least();
        for row in rows {
            let ns = row.least();
            let added = ns - untraced;
            let ratio = added / floor;
            let (call, name) = (row.call, row.name);
            let _ = writeln!(text, "| {call} | {name} | {ns:.0} | {added:.0} | {ratio:.2} |");
        }
    }
    text
}
