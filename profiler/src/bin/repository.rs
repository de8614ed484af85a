//! Reading a git repository, through git itself. Writes nothing.

use std::{ffi::OsStr, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};
use profiler::model::shell;

use crate::input;

/// A commit, as it was named.
pub struct Commit {
    name: String,
    id: String,
}

/// A file of a commit.
pub struct Blob {
    /// From the top of the repository.
    pub path: String,
    /// A symbolic link: what it points at is not in it.
    pub is_link: bool,
    id: String,
    bytes: u64,
}

/// What git writes when it is asked, or what it says when it fails.
pub fn git<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Result<Result<Vec<u8>, String>> {
    let output = Command::new("git")
        .args(args)
        .env("LC_ALL", "C")
        .env("GIT_OPTIONAL_LOCKS", "0")
        .output()
        .context("cannot run `git`\nhint: install git, or compare files: profiler diff OLD NEW")?;
    if output.status.success() {
        return Ok(Ok(output.stdout));
    }
    Ok(Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// The top of the repository that the working directory is in.
pub fn top() -> Result<String> {
    match git(["rev-parse", "--show-toplevel"])? {
        Ok(path) => Ok(String::from_utf8(path)
            .context("the repository's path is not UTF-8")?
            .trim_end_matches('\n')
            .into()),
        Err(said) => {
            bail!("not in the working tree of a git repository: {said}\nhint: change into it first")
        }
    }
}

impl Commit {
    /// The commit that `name` names.
    pub fn named(name: &str) -> Result<Commit> {
        top()?;
        let wanted = format!("{name}^{{commit}}");
        match git(["rev-parse", "--verify", "--quiet", "--end-of-options", &wanted])? {
            Ok(id) => {
                Ok(Commit { name: name.into(), id: String::from_utf8_lossy(&id).trim().into() })
            }
            Err(_) => bail!(
                "`{name}` names no commit\nhint: git log --all --oneline; in a shallow clone of CI: git fetch origin {}",
                shell::quote(name)
            ),
        }
    }

    /// As it was named.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The regular files and links at or below a path, which is relative to the working directory.
    pub fn files(&self, path: &str) -> Result<Vec<Blob>> {
        self.list("--full-name", path)
    }

    /// The file or link of this path from the top of the repository.
    pub fn file(&self, path: &str) -> Result<Option<Blob>> {
        Ok(self.list("--full-tree", path)?.into_iter().find(|blob| blob.path == path))
    }

    fn list(&self, from: &str, path: &str) -> Result<Vec<Blob>> {
        let listed = git([
            "--literal-pathspecs",
            "ls-tree",
            "-r",
            "-z",
            "--long",
            from,
            &self.id,
            "--",
            path,
        ])?;
        let listed = match listed {
            Ok(listed) => listed,
            Err(said) => bail!(
                "cannot list `{path}` in `{}`: {said}\nhint: git ls-tree {}",
                self.name,
                self.id
            ),
        };
        let mut blobs = Vec::new();
        for entry in listed.split(|&byte| byte == 0).filter(|entry| !entry.is_empty()) {
            // mode, type, id, size, tab, path
            let entry = String::from_utf8_lossy(entry);
            let Some((head, path)) = entry.split_once('\t') else { continue };
            let words: Vec<&str> = head.split_whitespace().collect();
            if let [mode @ ("100644" | "100755" | "120000"), "blob", id, size] = words.as_slice() {
                let is_link = *mode == "120000";
                let bytes = size.parse().unwrap_or(u64::MAX);
                blobs.push(Blob { path: path.into(), is_link, id: (*id).into(), bytes });
            }
        }
        Ok(blobs)
    }

    /// The text of a file.
    pub fn text(&self, blob: &Blob) -> Result<String> {
        input::fits(Path::new(&blob.path), blob.bytes, "is this the right file?")?;
        match git(["cat-file", "blob", &blob.id])? {
            Ok(bytes) => String::from_utf8(bytes).with_context(|| {
                format!(
                    "`{}` in `{}` is not UTF-8\nhint: is this the right file?",
                    blob.path, self.name
                )
            }),
            Err(said) => {
                bail!("cannot read `{}` in `{}`: {said}\nhint: git fsck", blob.path, self.name)
            }
        }
    }
}
