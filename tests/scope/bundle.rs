//! Containers of an OCI runtime without an engine: a bundle whose cgroup the test chooses.

use anyhow::Result;
use serde_json::{Value, json};

use crate::harness::machine::{Machine, Scratch};

/// A bundle, and the directory that the runtime keeps its state in.
pub struct Bundle {
    scratch: Scratch,
}

impl Bundle {
    /// A bundle that makes `calls` under the permissive filter in the cgroup of this path.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn new(machine: &Machine, cgroup: &str, calls: &[&str]) -> Result<Self> {
        let scratch = machine.scratch()?;
        let root = scratch.join("rootfs");
        for dir in ["bin", "proc", "dev", "sys"] {
            fs_err::create_dir_all(root.join(dir))?;
        }
        fs_err::copy(machine.fixture("calls")?, root.join("bin/calls"))?;
        let filter: Value = serde_json::from_str(&fs_err::read_to_string(machine.permissive())?)?;
        let args: Vec<&str> = ["/bin/calls", "-q"].iter().chain(calls).copied().collect();
        let namespaces = ["pid", "ipc", "uts", "mount"].map(|kind| json!({"type": kind}));
        let config = json!({
            "ociVersion": "1.0.2",
            "process": {"args": args, "cwd": "/", "user": {"uid": 0, "gid": 0}, "capabilities": {}},
            "root": {"path": "rootfs"},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
            "linux": {"cgroupsPath": cgroup, "namespaces": namespaces, "seccomp": filter},
        });
        fs_err::write(scratch.join("config.json"), config.to_string())?;
        Ok(Self { scratch })
    }

    /// The shell command that runs it by `runc`.
    pub fn run(&self) -> String {
        let dir = self.scratch.path();
        let id = dir.file_name().unwrap_or("profiler-test");
        format!("runc --root {dir}/state run --bundle {dir} {id}")
    }
}
