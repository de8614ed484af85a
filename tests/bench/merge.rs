//! What merging costs: many recordings of one target, read and joined as `profiler merge` does.

use std::{
    fmt::Write as _,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use profiler::{ingest, model::recording::Recording, render};

/// How many recordings.
const SIZES: [usize; 3] = [100, 1_000, 10_000];

/// A container's recording of two runs, with what a server asks for.
const MODEL: &str = include_str!("../../profiler/tests/data/backend.json");

/// Measures each size in a process of its own and gives the table.
pub fn table() -> Result<String> {
    let dir = tempfile::tempdir()?;
    let dir =
        Utf8Path::from_path(dir.path()).context("the temporary directory's path is not UTF-8")?;
    let largest = SIZES.into_iter().max().unwrap_or(0);
    for number in 0..largest {
        fs_err::write(file(dir, number), render::json::recording(&recording(number)?))?;
    }
    let mut table = String::from(
        "| recordings | seconds | peak memory, MB | result, MB |\n|---:|---:|---:|---:|\n",
    );
    for size in SIZES {
        let (seconds, peak_mb, text) = measure(dir, size)?;
        let merged = ingest::recording::parse(&text)?;
        ensure!(merged.runs.len() == 2 * size, "every run is in the result");
        let mb = text.len() as f64 / 1e6;
        let _ = writeln!(table, "| {size} | {seconds:.2} | {peak_mb:.0} | {mb:.0} |");
    }
    Ok(table)
}

/// Joins the first `size` files with the program itself: seconds, megabytes at the most, and the result.
fn measure(dir: &Utf8Path, size: usize) -> Result<(f64, f64, String)> {
    let out = dir.join("merged.json");
    let program = std::env::current_exe()?.with_file_name("profiler");
    let began = Instant::now();
    let mut child = Command::new(program)
        .arg("merge")
        .args((0..size).map(|number| file(dir, number)))
        .args(["-o", out.as_str()])
        .spawn()?;
    let mut peak_kb = 0.0_f64;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        let status =
            fs_err::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        if let Some(kb) = peak.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse().ok()) {
            peak_kb = kb;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let seconds = began.elapsed().as_secs_f64();
    ensure!(status.success(), "merging {size} failed");
    Ok((seconds, peak_kb / 1024.0, fs_err::read_to_string(out)?))
}

fn file(dir: &Utf8Path, number: usize) -> Utf8PathBuf {
    dir.join(format!("{number}.json"))
}

/// The model in two runs of its own.
fn recording(number: usize) -> Result<Recording> {
    let text = MODEL
        .replace("00000000000000aa", &format!("{:016x}", 2 * number))
        .replace("00000000000000bb", &format!("{:016x}", 2 * number + 1));
    Ok(ingest::recording::parse(&text)?)
}
