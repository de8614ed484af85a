//! What recording costs per call, and merging. Run by `cargo xtask bench`, never as a test.
//!
//! For the first, one process calls getppid(2) in a loop, or a call whose arguments are recorded, on one CPU, and says how
//! long a call took. Each round
//! measures every set-up once, so that what drifts drifts for all. The least of the rounds counts.

mod attached;
mod caller;
mod merge;
mod others;
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
        ["syscall"] => syscall(),
        ["merge"] => {
            print!("{}", merge::table()?);
            Ok(())
        }
        [caller::WORD, calls, call] => caller::serve(calls.parse()?, call),
        _ => bail!("usage: bench syscall|merge"),
    }
}

/// What is measured of a call whose arguments are recorded; the names are those of the table.
const WATCHED: [(SetUp, &str); 3] = [
    (SetUp::Untraced, "fcntl, untraced"),
    (SetUp::Floor, "fcntl, floor"),
    (SetUp::Recorded, "fcntl, recorded with its arguments"),
];

/// Measures every set-up and prints the table.
fn syscall() -> Result<()> {
    let mut rows: Vec<Row> = SetUp::ALL.iter().map(|set_up| Row::new(set_up.name())).collect();
    let mut watched = WATCHED.map(|(_, name)| Row::new(name));
    for round in 0..ROUNDS {
        eprintln!("round {} of {ROUNDS}", round + 1);
        for (set_up, row) in SetUp::ALL.iter().zip(&mut rows) {
            row.push(set_up.measure(CALLS, Call::Plain)?);
        }
        for ((set_up, _), row) in WATCHED.iter().zip(&mut watched) {
            row.push(set_up.measure(CALLS, Call::Watched)?);
        }
    }
    let mut compared = Vec::new();
    for other in others::ALL {
        match other.measure()? {
            Some(ns) => compared.push(Row::of(other.name, ns)),
            None => eprintln!("{}: not installed, or it did not start; left out", other.name),
        }
    }
    print!("{}", table::markdown(&rows, &compared, &watched));
    Ok(())
}
