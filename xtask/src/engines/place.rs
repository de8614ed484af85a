//! Where an engine's processes stand among the cgroups.
//!
//! Debian 12's crun refuses a machine with cgroup v1 controllers, and podman moves every process of what it takes for
//! the root cgroup. Both get a pure cgroup2 of their own: a cgroup and a mount namespace whose `/sys/fs/cgroup` begins at
//! a directory of ours in the machine's cgroup2. The namespaces live as long as a daemon in them; nothing outside the
//! directory is touched.

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};
use sha2::{Digest as _, Sha256};

use super::cgroups;

/// Becomes its arguments after the first, in new namespaces; the first is the directory that their root is. Podman
/// expects the processes that are no containers in `init`.
const LAUNCHER: &str = r#"
set -e
mkdir -p "$1/init"
echo $$ > "$1/cgroup.procs"
shift
exec unshare --cgroup --mount --propagation private sh -c '
    set -e
    umount --recursive --lazy /sys/fs/cgroup
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    echo $$ > /sys/fs/cgroup/init/cgroup.procs
    exec "$@"' sh "$@"
"#;

/// Becomes its arguments after the first, in the namespaces of the process whose pid the file named first holds. That
/// puts it in no cgroup: it goes to where its like are.
pub const ENTER: &str = r#"
process=$(cat "$1") && shift
exec nsenter --target "$process" --mount --cgroup --wd="$PWD" sh -c '
    echo $$ > /sys/fs/cgroup/init/cgroup.procs && exec "$@"' sh "$@"
"#;

/// Where an engine's processes stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Among the machine's own cgroups, as they are mounted.
    Machine,
    /// At the root of a pure cgroup2, which is this directory of the machine's.
    Own(Utf8PathBuf),
    /// In the namespaces of the process with this pid file, which was started at such a root.
    Beside(Utf8PathBuf),
}

impl Place {
    /// A cgroup2 for the engine in `dir`, named so that checkouts do not share it.
    ///
    /// # Errors
    /// When the machine has no cgroup2.
    pub fn own(dir: &Utf8Path) -> Result<Self> {
        let digest = Sha256::digest(dir.as_str());
        let name = dir.file_name().unwrap_or("engine");
        let name = format!("{name}-{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2]);
        Ok(Self::Own(cgroups::unified()?.join(name)))
    }

    /// Words to put before a command, so that it runs there. They replace themselves by it.
    pub fn launcher(&self) -> Vec<&str> {
        match self {
            Self::Machine => Vec::new(),
            Self::Own(dir) => vec!["sh", "-c", LAUNCHER, "sh", dir.as_str()],
            Self::Beside(pid_file) => vec!["sh", "-c", ENTER, "sh", pid_file.as_str()],
        }
    }

    /// The path, in the machine's cgroup2, of what the engine takes for the root: empty or `/NAME`.
    pub fn prefix(&self) -> String {
        match self {
            Self::Machine | Self::Beside(_) => String::new(),
            Self::Own(dir) => format!("/{}", dir.file_name().unwrap_or_default()),
        }
    }

    /// Ends whatever is still in a place of our own and removes it.
    ///
    /// # Errors
    /// When a process survives.
    pub fn clear(&self) -> Result<()> {
        match self {
            Self::Machine | Self::Beside(_) => Ok(()),
            Self::Own(dir) => cgroups::end_tree(dir),
        }
    }
}
