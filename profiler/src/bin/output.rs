//! A result on its way out: the files of a target's directory, then its summary.

use std::path::Path;

use anyhow::Result;
use profiler::{
    model::{policy, recording::Recording},
    render::bundle,
    session::store,
};

use crate::tell;

/// Derives the profile of a recording, writes all files into `dir`, and prints the summary.
pub fn write(recording: &Recording, dir: &Path, options: &policy::Options) -> Result<()> {
    let profile = policy::derive(recording, options);
    let files = bundle::bundle(recording, &profile, &dir.to_string_lossy());
    store::write(dir, &files)?;
    store::remove_stale(dir, &files, &bundle::NAMES)?;
    tell::summary(recording, &profile, dir, &files);
    Ok(())
}
