//! The program that the matrix runs, whose calls are known: one part starts the container, another joins it.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};

use crate::harness::{
    pair::{Options, Sandbox},
    program,
};

/// What the first process asks for, before it pauses, and what the one that joins asks for. None of them does anything
/// with arguments of -1, each has an answer that no filter gives, and no runtime makes them.
const START: [&str; 4] = ["275", "285", "286", "288"];
const JOIN: [&str; 3] = ["276", "277", "289"];
/// `write`, which reports the answers, `pause` and `exit_group`.
const OTHERS: [&str; 3] = ["1", "34", "231"];

/// Every x86_64 call that the two make.
pub fn calls() -> BTreeSet<u32> {
    [&START[..], &JOIN, &OTHERS].concat().iter().filter_map(|number| number.parse().ok()).collect()
}

/// Starts the one, joins the other, ends it; the lines that the one printed, and the status of the other. ctr loses
/// what a short process prints that joins.
///
/// # Errors
/// When one does not come to its end.
pub fn run(container: &mut Sandbox<'_>, options: &Options) -> Result<Vec<String>> {
    let mut first = container.start(options, &[&["/bin/calls", "-s"][..], &START].concat())?;
    program::until("the program's lines", Duration::from_secs(60), || {
        first.has_ended() || first.stdout().lines().count() == START.len()
    })
    .with_context(|| first.stderr())?;
    if first.has_ended() {
        bail!("it ended by itself\n{}", first.wait(Duration::from_secs(10))?.text());
    }
    let joined = container.join(&[&["/bin/calls", "-q", "-r"][..], &JOIN].concat())?;
    ensure!((1..=124).contains(&joined.status), "{}", joined.text());
    container.kill()?;
    let first = first.wait(Duration::from_secs(30))?.expect(137)?;
    // the terminal of script(1) may echo a NUL before anything else
    let line = |line: &str| line.trim_start_matches("^@").trim_end().to_owned();
    let mut told: Vec<String> = first.stdout.lines().map(line).collect();
    told.push(format!("joined: {}", joined.status));
    Ok(told)
}
