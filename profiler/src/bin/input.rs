//! Files that are named on the command line, read with a bound.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use profiler::{
    ingest::{self, policy::Policy},
    model::{profile::Profile, seccomp::SeccompFile},
    render,
};

/// The largest file that is read. A recording of a big service has 200 KiB.
const MAX_BYTES: u64 = 64 << 20;

/// A policy as a filter, with the reasons where the file has them.
pub struct PolicyInput {
    /// The file that was read.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
    /// The filter; of a profile, the one that is rendered from it.
    pub file: SeccompFile,
    /// The profile.
    pub profile: Option<Profile>,
}

/// Reads `profile.json`, a result directory (its `profile.json`), or a seccomp file of any kind.
pub fn policy(path: &Path) -> Result<PolicyInput> {
    let path = if path.is_dir() { path.join("profile.json") } else { path.to_owned() };
    let text = text(&path, "name a `profile.json`, a result directory or a seccomp file")?;
    let bad = || format!("cannot use `{}`", path.display());
    let (file, profile) = match ingest::policy::parse(&text).with_context(bad)? {
        Policy::Seccomp(file) => (*file, None),
        Policy::Profile(profile) => {
            let file = ingest::seccomp::parse(&render::seccomp::render(&profile));
            (file.with_context(bad)?, Some(*profile))
        }
    };
    Ok(PolicyInput { path, text, file, profile })
}

/// A whole file, at most [`MAX_BYTES`] of it. `hint` says what to name instead of one that cannot be read.
pub fn text(path: &Path, hint: &str) -> Result<String> {
    let failed = || format!("cannot read `{}`\nhint: {hint}", path.display());
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        .with_context(failed)?;
    fits(path, bytes.len() as u64, hint)?;
    String::from_utf8(bytes).with_context(failed)
}

/// Refuses a file of more than [`MAX_BYTES`].
pub fn fits(path: &Path, bytes: u64, hint: &str) -> Result<()> {
    if bytes > MAX_BYTES {
        bail!("`{}` is larger than {} MiB\nhint: {hint}", path.display(), MAX_BYTES >> 20);
    }
    Ok(())
}
