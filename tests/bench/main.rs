//! What recording costs: per call, of a server's throughput, in memory; and merging. Run by `cargo xtask bench`, never as a test.
//!
//! For the first, one process calls getppid(2) in a loop, or another one, on one CPU, and says how long a call took.
//! Each round measures every set-up once, so that what drifts drifts for all. The least of the rounds counts.

mod attached;
mod below;
mod beside;
mod caller;
mod filters;
mod footprint;
mod merge;
mod others;
mod recorder;
mod servers;
mod table;

use anyhow::{Result, bail};

use crate::{attached::SetUp, caller::Call, table::Row};

/// Rounds; the least of them counts.
const ROUNDS: usize = 15;

/// Calls in a measurement.
const CALLS: u64 = 200_000;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["syscall"] => show(&syscall()?),
        ["below"] => show(&below::tables()?),
        ["footprint"] => show(&footprint::table()?),
        ["merge"] => show(&merge::table()?),
        ["servers"] => show(&servers::table()?),
        [caller::WORD, calls, call] => caller::serve(calls.parse()?, call),
        _ => bail!("usage: bench syscall|below|footprint|servers|merge"),
    }
}

/// Which set-ups are measured with a call: the first is untraced, the second the floor.
const SERIES: [(Call, &[SetUp]); 4] = [
    (Call::Plain, &SetUp::ALL),
    (Call::Watched, &[SetUp::Untraced, SetUp::Floor, SetUp::Recorded, SetUp::Bystander]),
    (
        Call::Checked,
        &[
            SetUp::Untraced,
            SetUp::Floor,
            SetUp::Recorded,
            SetUp::RecordedTwice,
            SetUp::RecordedOutcomes,
            SetUp::Bystander,
        ],
    ),
    (Call::First, &[SetUp::Untraced, SetUp::Floor, SetUp::Recorded]),
];

fn show(table: &str) -> Result<()> {
    print!("{table}");
    Ok(())
}

/// Measures every set-up and gives the table.
fn syscall() -> Result<String> {
    let mut series = SERIES.map(|(call, set_ups)| {
        set_ups.iter().map(|set_up| Row::new(call.name(), set_up.name())).collect::<Vec<_>>()
    });
    for round in 0..ROUNDS {
        eprintln!("round {} of {ROUNDS}", round + 1);
        for ((call, set_ups), rows) in SERIES.iter().zip(&mut series) {
            for (set_up, row) in set_ups.iter().zip(rows) {
                row.push(set_up.measure(CALLS, *call)?);
            }
        }
    }
    for other in others::ALL {
        match other.measure()? {
            Some(ns) => series[0].push(Row::of(Call::Plain.name(), other.name, ns)),
            None => eprintln!("{}: not installed, or it did not start; left out", other.name),
        }
    }
    Ok(table::markdown(&series))
}
