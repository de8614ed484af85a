//! docker compose v2 as a file under `target/engines`: Debian 13's package, extracted and never
//! installed. It needs nothing newer than Debian 12's libc.

use anyhow::{Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};

use crate::{
    apt,
    sh::{cmd, say},
};

const RELEASE: &str = "trixie";
const PACKAGE: &str = "docker-compose";
const PLUGIN: &str = "docker-compose";

/// Makes sure of the plugin below `home` and returns its path.
///
/// # Errors
/// When the package cannot be had or does not hold the plugin.
pub fn ensure_plugin(home: &Utf8Path) -> Result<Utf8PathBuf> {
    let dir = home.join("compose");
    let plugin = dir.join("usr/libexec/docker/cli-plugins").join(PLUGIN);
    if !plugin.exists() {
        say("engines: fetching docker compose");
        apt::extract_from(RELEASE, &[PACKAGE], &dir)?;
        ensure!(
            cmd(&plugin).arg("version").succeeds(),
            "package `{PACKAGE}` of {RELEASE} has no working `{plugin}`"
        );
    }
    Ok(plugin)
}
