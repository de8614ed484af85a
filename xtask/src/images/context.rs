//! Build contexts: the hash that says whether an image is out of date, and the build arguments
//! that this machine needs.

use std::os::unix::fs::PermissionsExt as _;

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};
use sha2::{Digest as _, Sha256};

use super::archive;
use crate::sh::cmd;

/// Settings of this machine that a build needs to reach package indexes. They are handed over as
/// build arguments and stand in no file of the repository.
const PASSED_ON: [&str; 10] = [
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_TRUSTED_HOST",
    "PIP_DEFAULT_TIMEOUT",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// The hash of a context's files (path, executable bit, content) and of the base's recipe.
///
/// # Errors
/// When a file cannot be read.
pub fn recipe(context: &Utf8Path, base: &str) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(base);
    for path in files(context)? {
        let content = fs_err::read(&path)?;
        let executable = fs_err::metadata(&path)?.permissions().mode() & 0o111 != 0;
        let name = path.strip_prefix(context)?;
        hash.update(format!("\0{name}\0{executable}\0{}\0", content.len()));
        hash.update(content);
    }
    Ok(archive::hex(&hash.finalize()))
}

/// Every file below `dir`, sorted.
fn files(dir: &Utf8Path) -> Result<Vec<Utf8PathBuf>> {
    let mut found = Vec::new();
    for entry in fs_err::read_dir(dir)? {
        let path = Utf8PathBuf::try_from(entry?.path())?;
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Those of [`PASSED_ON`] that are set, in the environment or in pip's own configuration.
pub fn build_arguments() -> Vec<(String, String)> {
    let configured = cmd("python3").args(["-m", "pip", "config", "list"]).stdout();
    let configured = pip_settings(&configured.unwrap_or_default());
    PASSED_ON
        .iter()
        .filter_map(|name| {
            let set = std::env::var(name).ok().filter(|value| !value.is_empty());
            let value = set.or_else(|| {
                configured.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
            })?;
            Some(((*name).to_owned(), value))
        })
        .collect()
}

/// The global settings that `pip config list` prints, as pip's environment variables.
fn pip_settings(list: &str) -> Vec<(String, String)> {
    list.lines()
        .filter_map(|line| {
            let (key, value) = line.strip_prefix("global.")?.split_once('=')?;
            let name = format!("PIP_{}", key.to_uppercase().replace('-', "_"));
            Some((name, value.trim_matches(['\'', '"']).to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pip_settings_become_environment_names() {
        let list = "global.index-url='https://i.invalid/simple'\n:env:.timeout='1'\nnonsense\n";
        let expected = ("PIP_INDEX_URL".to_owned(), "https://i.invalid/simple".to_owned());
        assert_eq!(pip_settings(list), [expected]);
    }

    #[test]
    fn a_recipe_changes_with_content_mode_name_and_base() -> Result<()> {
        let dir = std::env::temp_dir().join(format!("profiler-context-{}", std::process::id()));
        let dir = Utf8PathBuf::try_from(dir)?;
        fs_err::create_dir_all(dir.join("sub"))?;
        let file = dir.join("sub/a");
        fs_err::write(&file, "one")?;
        fs_err::set_permissions(&file, std::fs::Permissions::from_mode(0o644))?;
        let mut seen = vec![recipe(&dir, "base")?];
        assert_eq!(recipe(&dir, "base")?, seen[0], "the same twice");
        seen.push(recipe(&dir, "other base")?);
        fs_err::write(&file, "two")?;
        seen.push(recipe(&dir, "base")?);
        fs_err::set_permissions(&file, std::fs::Permissions::from_mode(0o755))?;
        seen.push(recipe(&dir, "base")?);
        fs_err::rename(&file, dir.join("sub/b"))?;
        seen.push(recipe(&dir, "base")?);
        fs_err::remove_dir_all(&dir)?;
        let count = seen.len();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), count);
        Ok(())
    }
}
