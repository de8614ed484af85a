//! The OCI runtimes that engines are told of: Debian 12's and Debian 13's runc and crun.
//!
//! crun is called through a script. It puts `nomemlock.c` before it, without which it needs CAP_SYS_RESOURCE, and takes
//! limits out of what it is given: where cgroup v1 has the controllers, cgroup2 has none, and crun fails where runc passes
//! over them.

use std::os::unix::fs::PermissionsExt as _;

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Value, json};

use super::trixie::Trixie;
use crate::{apt, sh::cmd};

const PACKAGES: [&str; 6] = ["runc", "crun", "jq", "patchelf", "gcc", "libc6-dev"];
const SHIM: &str = include_str!("nomemlock.c");

/// Without the first line and the last. A bundle is named when a container is created.
const SCRIPT: &str = r#"
previous=
for word in "$@"; do
    if [ "$previous" = --bundle ]; then
        config=$word/config.json
        jq -c '.linux.resources |= {devices: (.devices // [])}' "$config" > "$config.new"
        mv "$config.new" "$config"
    fi
    previous=$word
done
"#;

/// A runtime.
pub struct Runtime {
    /// What engines call it: `runc`, `crun`, `runc-trixie`, `crun-trixie`.
    pub name: &'static str,
    /// What they execute.
    pub path: Utf8PathBuf,
}

/// Makes sure of all of them below `home`.
///
/// # Errors
/// When one cannot be had.
pub fn ensure(home: &Utf8Path) -> Result<Vec<Runtime>> {
    apt::ensure(&PACKAGES)?;
    let trixie = Trixie::ensure(home)?;
    let dir = home.join("runtimes");
    fs_err::create_dir_all(&dir)?;
    let shim = shim(&dir)?;
    let through_shim = |name: &'static str, program: &Utf8Path| -> Result<Runtime> {
        let path = dir.join(name);
        let last = format!("LD_PRELOAD={shim} exec {program} \"$@\"\n");
        fs_err::write(&path, format!("#!/bin/sh{SCRIPT}{last}"))?;
        fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        Ok(Runtime { name, path })
    };
    Ok(vec![
        Runtime { name: "runc", path: "/usr/sbin/runc".into() },
        through_shim("crun", Utf8Path::new("/usr/bin/crun"))?,
        Runtime { name: "runc-trixie", path: trixie.runtime("runc") },
        through_shim("crun-trixie", &trixie.runtime("crun"))?,
    ])
}

/// As dockerd's `runtimes`. Its own `runc` cannot be named there.
pub fn for_docker(runtimes: &[Runtime]) -> Value {
    let named = runtimes.iter().filter(|runtime| runtime.name != "runc");
    named.map(|runtime| (runtime.name.to_owned(), json!({ "path": runtime.path }))).collect()
}

/// As variables for a shell: `RUNC`, `CRUN`, `RUNC_TRIXIE`, `CRUN_TRIXIE`.
pub fn environment(runtimes: &[Runtime]) -> impl Iterator<Item = (String, String)> {
    runtimes
        .iter()
        .map(|runtime| (runtime.name.to_uppercase().replace('-', "_"), runtime.path.to_string()))
}

/// The library to preload, compiled when its source has changed.
fn shim(dir: &Utf8Path) -> Result<Utf8PathBuf> {
    let (source, library) = (dir.join("nomemlock.c"), dir.join("nomemlock.so"));
    if !library.exists() || fs_err::read_to_string(&source).ok().as_deref() != Some(SHIM) {
        fs_err::write(&source, SHIM)?;
        cmd("gcc")
            .args(["-shared", "-fPIC", "-O2", "-o", library.as_str(), source.as_str()])
            .run()?;
    }
    Ok(library)
}
