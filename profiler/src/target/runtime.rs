//! OCI runtimes by their own word: `PROGRAM --version`. Nothing else is run.

use std::{
    ffi::OsStr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::process::Command;

/// How long a program may take to tell its version.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Where runtimes are that no PATH of an ordinary user names.
const SYSTEM_DIRS: [&str; 3] = ["/usr/sbin", "/usr/local/sbin", "/sbin"];

/// A runtime that tells what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeVersion {
    /// `runc`, `crun`.
    pub program: String,
    /// `1.1.5`.
    pub version: String,
}

/// What the runtime at this path, or of this name, says that it is.
pub async fn ask(path_or_name: &str) -> Option<RuntimeVersion> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(SYSTEM_DIRS.map(PathBuf::from));
    let program = match path_or_name {
        path if path.starts_with('/') => PathBuf::from(path),
        name if name.contains('/') => return None,
        name => find_program(name, Some(&std::env::join_paths(dirs).ok()?))?,
    };
    parse(&version_line(&program).await?)
}

/// Reads `crun version 1.8.1` and the like.
#[must_use]
pub fn parse(text: &str) -> Option<RuntimeVersion> {
    let (program, version) = text.lines().next()?.split_once(" version ")?;
    Some(RuntimeVersion { program: program.trim().to_owned(), version: plain_version(version) })
}

/// `1.1.5` of `1.1.5+ds1`, `crun version 1.8.1\ncommit: ...` and the like: packaging is no version.
#[must_use]
pub fn plain_version(text: &str) -> String {
    let first = text.lines().next().unwrap_or_default();
    let version = first.rsplit_once("version ").map_or(first, |(_, version)| version);
    version.trim().split(['+', '~', ' ']).next().unwrap_or_default().to_owned()
}

/// The first executable file of that name in `path`.
#[must_use]
pub fn find_program(name: &str, path: Option<&OsStr>) -> Option<PathBuf> {
    std::env::split_paths(path?).filter(|dir| dir.is_absolute()).map(|dir| dir.join(name)).find(
        |file| {
            std::fs::metadata(file)
                .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
        },
    )
}

/// The first line of `PROGRAM --version`.
pub async fn version_line(program: &Path) -> Option<String> {
    let output = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(TIMEOUT, output).await.ok()?.ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().next()?.trim();
    (output.status.success() && !line.is_empty()).then(|| line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_is_what_it_says_not_what_it_is_called() {
        let dir = tempfile::tempdir().expect("temp dir");
        let wrapper = dir.path().join("crun-wrapped");
        let script = "#!/bin/sh\necho 'crun version 1.8.1'\necho 'commit: f8a0'\n";
        std::fs::write(&wrapper, script).expect("write");
        std::fs::set_permissions(&wrapper, PermissionsExt::from_mode(0o755)).expect("chmod");
        let block_on = |path: &str| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("runtime").block_on(ask(path))
        };
        let told = block_on(wrapper.to_str().expect("UTF-8")).expect("an answer");
        assert_eq!((told.program.as_str(), told.version.as_str()), ("crun", "1.8.1"));
        assert_eq!(block_on("/nonexistent/runc"), None);
        assert_eq!(block_on("no-such-runtime"), None);
    }

    #[test]
    fn versions_lose_their_packaging_and_keep_their_candidates() {
        for (text, expected) in [
            ("1.1.5+ds1", "1.1.5"),
            ("1.2.0-rc.3", "1.2.0-rc.3"),
            ("runc version 1.1.12\ncommit: v1.1.12-0-g51d5e94", "1.1.12"),
            ("", ""),
        ] {
            assert_eq!(plain_version(text), expected);
        }
    }
}
