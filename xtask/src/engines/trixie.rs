//! Programs of Debian 13, extracted below `target/engines/trixie` and never installed: docker 26 with its containerd, and
//! newer runtimes.
//!
//! dockerd and containerd run with Debian 12's libc as they are. The runtimes want a newer one, so they get theirs
//! written into them as interpreter and library path; no wrapper would survive that a runtime executes itself again.

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};

use crate::{
    apt,
    sh::{cmd, say},
};

const RELEASE: &str = "trixie";
const PACKAGES: [&str; 6] = ["docker.io", "containerd", "runc", "crun", "libc6", "libseccomp2"];
/// The runtimes, as the packages have them, and what they are called here.
const RUNTIMES: [(&str, &str); 2] = [("usr/sbin/runc", "runc"), ("usr/bin/crun", "crun")];

/// The programs, all there.
pub struct Trixie {
    dir: Utf8PathBuf,
}

impl Trixie {
    /// Makes sure of the programs below `home`.
    ///
    /// # Errors
    /// When a package cannot be had or a runtime does not run here.
    pub fn ensure(home: &Utf8Path) -> Result<Self> {
        let trixie = Self { dir: home.join(RELEASE) };
        if trixie.dir.exists() {
            return Ok(trixie);
        }
        say("engines: fetching docker 26 and newer runtimes");
        // Renamed when it is whole: what was interrupted is begun anew.
        let part = home.join(format!("{RELEASE}.part"));
        if part.exists() {
            fs_err::remove_dir_all(&part)?;
        }
        apt::extract_from(RELEASE, &PACKAGES, &part)?;
        fs_err::create_dir_all(part.join("runtimes"))?;
        for (from, name) in RUNTIMES {
            let program = part.join("runtimes").join(name);
            // Moved, so that docker 26 uses Debian 12's unless it is told otherwise.
            fs_err::rename(part.join(from), &program)?;
            trixie.bind(&part, &program)?;
        }
        fs_err::rename(&part, &trixie.dir)?;
        for (_, name) in RUNTIMES {
            cmd(trixie.runtime(name)).arg("--version").run().with_context(|| {
                format!(
                    "the {name} of {RELEASE} does not run here\nhint: rm -r {}, then try again",
                    trixie.dir
                )
            })?;
        }
        Ok(trixie)
    }

    /// Where dockerd, containerd and its shim are.
    pub fn programs(&self) -> Vec<Utf8PathBuf> {
        vec![self.dir.join("usr/sbin"), self.dir.join("usr/bin")]
    }

    /// `runc` or `crun`.
    pub fn runtime(&self, name: &str) -> Utf8PathBuf {
        self.dir.join("runtimes").join(name)
    }

    /// Makes `program` load the libc that came with it, from where it will be.
    fn bind(&self, part: &Utf8Path, program: &Utf8Path) -> Result<()> {
        let triplet = format!("{}-linux-gnu", std::env::consts::ARCH);
        let libraries = Utf8Path::new("usr/lib").join(triplet);
        let loader = part
            .join(&libraries)
            .read_dir_utf8()?
            .filter_map(Result::ok)
            .find(|entry| entry.file_name().starts_with("ld-linux"))
            .context("libc6 has no loader")?;
        let libraries = self.dir.join(libraries);
        cmd("patchelf")
            .args(["--set-interpreter", libraries.join(loader.file_name()).as_str()])
            .args(["--force-rpath", "--set-rpath", libraries.as_str(), program.as_str()])
            .run()
    }
}
