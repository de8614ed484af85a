//! `profiler coverage`: how complete the evidence is.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Result, bail};
use clap::Args;
use profiler::{
    model::{
        coverage::{self, Coverage},
        recording::Recording,
    },
    report::{self, coverage::Document},
};

use crate::{args::Format, exit, merge, surface::FilesArgs, tell};

/// How often each entry was seen, what that says of those that were not seen, and which rest on one run or test. A sample is a
/// run, or a test that `profiler mark` named.
///
/// With --rootfs, --image or --container also what the files of the programs could do, by their machine code; without a
/// RECORDING that alone.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  profiler coverage shard-*/recording.json
  profiler coverage --min-coverage 99 all.json
  profiler coverage --image localhost/nginx:1 profiles/backend
  profiler coverage --rootfs / --program /usr/sbin/nginx

Exit status: 0 done; 1 less than --min-coverage; 2 usage or environment.")]
pub struct CoverageArgs {
    /// Recordings of one target, or result directories that hold one; several are merged
    #[arg(required_unless_present = "files", value_name = "RECORDING")]
    pub recordings: Vec<PathBuf>,

    #[command(flatten)]
    pub files: FilesArgs,

    #[command(flatten)]
    pub least: LeastArgs,

    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct LeastArgs {
    /// Fail unless the runs cover this much of a further run, with 95 % confidence: below 100; one run covers nothing
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub min_coverage: Option<f64>,
}

impl LeastArgs {
    /// The exit status for evidence of this coverage; says so when it is too little.
    pub fn status(&self, coverage: &Coverage) -> ExitCode {
        match self.min_coverage {
            Some(least) if !coverage.reaches(least / 100.0) => {
                let have = coverage.by_run.as_ref();
                let have = have.map_or("one run gives no estimate".to_owned(), |estimate| {
                    format!("it is {}", report::coverage::percent(estimate.sample_coverage_low))
                });
                tell::note(&format!("coverage is less than {least} %: {have}"));
                exit::NO.into()
            }
            _ => ExitCode::SUCCESS,
        }
    }
}

/// Joins the recordings, estimates, and prints.
pub fn run(args: &CoverageArgs) -> Result<ExitCode> {
    let mut out = anstream::stdout();
    if args.recordings.is_empty() {
        if args.least.min_coverage.is_some() {
            bail!(
                "--min-coverage is about recordings\nhint: profiler coverage --min-coverage 99 all.json"
            );
        }
        let surface = args.files.surface(None)?;
        match args.format {
            Format::Human => report::surface::human(&surface, &mut out)?,
            Format::Json => report::surface::json(&surface, &mut out)?,
        }
        return Ok(ExitCode::SUCCESS);
    }
    let recording: Recording = merge::join(&args.recordings, false)?;
    let coverage = coverage::coverage(&recording);
    let surface = args.files.is_given().then(|| args.files.surface(Some(&recording)));
    let surface = surface.transpose()?;
    let document =
        Document { target: &recording.target, coverage: &coverage, surface: surface.as_ref() };
    match args.format {
        Format::Human => report::coverage::human(&document, &mut out)?,
        Format::Json => report::coverage::json(&document, &mut out)?,
    }
    Ok(args.least.status(&coverage))
}

fn percent(text: &str) -> Result<f64, String> {
    let value: Option<f64> = text.trim_end_matches('%').trim_end().parse().ok();
    value.filter(|value| (0.0..100.0).contains(value)).ok_or_else(|| {
        format!("`{text}` is no percentage below 100: no number of runs covers everything")
    })
}
