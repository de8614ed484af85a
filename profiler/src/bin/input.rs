//! Files that are named on the command line, read with a bound.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use profiler::{
    ingest::{self, policy::Policy},
    model::{baseline::Upstream, effective::Engine, profile::Profile, seccomp::SeccompFile},
    render,
};

use crate::beside;

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
    /// Who reads it, where that is known: an engine's default.
    pub engine: Option<Engine>,
}

/// Reads `profile.json`, a result directory (its `profile.json`), or a seccomp file of any kind; or takes an engine's default
/// by its name. What is deployed beside a `profile.json` must be what that gives.
pub fn policy(path: &Path) -> Result<PolicyInput> {
    let named = Upstream::ALL.into_iter().find(|upstream| path == Path::new(upstream.name()));
    if let Some(upstream) = named {
        return Ok(PolicyInput {
            path: path.to_owned(),
            text: String::new(),
            file: upstream.file().clone(),
            profile: None,
            engine: Some(upstream.engine()),
        });
    }
    let path = if path.is_dir() { path.join("profile.json") } else { path.to_owned() };
    let text = text(&path, "name a `profile.json`, a result directory or a seccomp file")?;
    let bad = || format!("cannot use `{}`", path.display());
    let (file, profile) = match ingest::policy::parse(&text).with_context(bad)? {
        Policy::Seccomp(file) => (*file, None),
        Policy::Profile(profile) => {
            let file = ingest::seccomp::parse(&render::seccomp::render(&profile));
            if path.file_name().is_some_and(|name| name == "profile.json") {
                beside::hold(&profile, &path.display().to_string(), |name| {
                    beside::on_disk(&path, name)
                })?;
            }
            (file.with_context(bad)?, Some(*profile))
        }
    };
    Ok(PolicyInput { path, text, file, profile, engine: None })
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
