//! How much a cgroup took, from its controllers' files: of version 2 where they are there, and else of version 1.

use std::path::{Path, PathBuf};

use super::{mounts, read};
use crate::kernel::cgroup::below;

/// Where a container is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counters {
    /// Its cgroup of version 2.
    unified: PathBuf,
    memory: Option<PathBuf>,
    pids: Option<PathBuf>,
    cpu: Option<PathBuf>,
}

/// What they say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// The peak of memory, or, on kernels that keep none, what is taken now; bytes.
    pub memory: Option<u64>,
    /// Anonymous and shared memory, bytes.
    pub anonymous: Option<u64>,
    /// The peak of processes and threads, or how many there are now.
    pub pids: Option<u64>,
    /// Processor time so far, microseconds.
    pub cpu_us: Option<u64>,
}

impl Counters {
    /// Those of a cgroup of version 2, `unified`, and of the cgroups of version 1 that a process of it is in.
    #[must_use]
    pub fn of(root: &Path, unified: &Path, pid: u32) -> Counters {
        let table = mounts::table(&root.join("proc/self")).unwrap_or_default();
        let lines = read(&root.join(format!("proc/{pid}/cgroup"))).unwrap_or_default();
        let lines = String::from_utf8_lossy(&lines).into_owned();
        let dir = |controller: &str| {
            // `4:memory:/docker/ID`
            let path = lines.lines().find_map(|line| {
                let mut parts = line.splitn(3, ':').skip(1);
                let is_it = parts.next()?.split(',').any(|name| name == controller);
                is_it.then(|| parts.next()).flatten()
            })?;
            let is_it = |mounted: &&mounts::Mounted| {
                mounted.filesystem == "cgroup"
                    && mounted
                        .options
                        .split(|byte| *byte == b',')
                        .any(|word| word == controller.as_bytes())
            };
            let mounted = table.iter().rfind(is_it)?;
            let inner = Path::new(path).strip_prefix(&mounted.root).ok()?;
            // that of a process with no cgroup of its own is everybody's
            (!inner.as_os_str().is_empty()).then(|| below(root, &mounted.point).join(inner))
        };
        Counters {
            unified: unified.to_owned(),
            memory: dir("memory"),
            pids: dir("pids"),
            cpu: dir("cpuacct"),
        }
    }

    /// Reads them; what is not counted here is absent.
    #[must_use]
    pub fn read(&self) -> Counted {
        let v2 = |name: &str| number(&self.unified.join(name));
        let v1 = |dir: &Option<PathBuf>, name: &str| number(&dir.as_ref()?.join(name));
        let keyed = |dir: &Path, name: &str, keys: [&str; 2]| -> Option<u64> {
            let lines = read(&dir.join(name)).ok()?;
            let lines = String::from_utf8_lossy(&lines).into_owned();
            let value = |key: &str| -> Option<u64> {
                lines.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok())
            };
            Some(value(keys[0])?.saturating_add(value(keys[1]).unwrap_or(0)))
        };
        let of_memory = |keys| keyed(self.memory.as_deref()?, "memory.stat", keys);
        Counted {
            memory: v2("memory.peak").or_else(|| v1(&self.memory, "memory.max_usage_in_bytes")),
            anonymous: keyed(&self.unified, "memory.stat", ["anon ", "shmem "])
                .or_else(|| of_memory(["total_rss ", "total_shmem "]))
                .or_else(|| of_memory(["rss ", "shmem "])),
            pids: v2("pids.peak")
                .or_else(|| v2("pids.current"))
                .or_else(|| v1(&self.pids, "pids.peak"))
                .or_else(|| v1(&self.pids, "pids.current")),
            cpu_us: keyed(&self.unified, "cpu.stat", ["usage_usec ", "no such key "])
                .or_else(|| v1(&self.cpu, "cpuacct.usage").map(|ns| ns / 1_000)),
        }
    }
}

fn number(path: &Path) -> Option<u64> {
    String::from_utf8_lossy(&read(path).ok()?).trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, files: &[(&str, &str)]) {
        for (path, text) in files {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("creates");
            std::fs::write(path, text).expect("writes");
        }
    }

    #[test]
    fn version_two_is_asked_first() {
        let dir = tempfile::tempdir().expect("a directory");
        let cgroup = dir.path().join("sys/fs/cgroup/docker/x");
        write(
            dir.path(),
            &[
                ("proc/self/mountinfo", "34 24 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"),
                ("proc/7/cgroup", "0::/docker/x\n"),
                ("sys/fs/cgroup/docker/x/memory.peak", "1000\n"),
                ("sys/fs/cgroup/docker/x/memory.current", "900\n"),
                ("sys/fs/cgroup/docker/x/memory.stat", "anon 300\nfile 9\nshmem 20\n"),
                ("sys/fs/cgroup/docker/x/pids.current", "3\n"),
                ("sys/fs/cgroup/docker/x/cpu.stat", "usage_usec 77\nuser_usec 5\n"),
            ],
        );
        let counted = Counters::of(dir.path(), &cgroup, 7).read();
        let expected =
            Counted { memory: Some(1000), anonymous: Some(320), pids: Some(3), cpu_us: Some(77) };
        assert_eq!(counted, expected);
    }

    #[test]
    fn version_one_counts_where_two_does_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let v1 = |name: &str| format!("3 1 0:2 / /cg/{name} rw - cgroup cgroup rw,{name}\n");
        let table: String = ["memory", "pids", "cpuacct"].map(v1).concat();
        write(
            dir.path(),
            &[
                ("proc/self/mountinfo", &table),
                ("proc/7/cgroup", "4:memory:/d/x\n3:pids:/d/x\n2:cpu,cpuacct:/d/x\n0::/d/x\n"),
                ("proc/8/cgroup", "4:memory:/\n"),
                ("cg/memory/d/x/memory.max_usage_in_bytes", "4096\n"),
                (
                    "cg/memory/d/x/memory.stat",
                    "cache 5\nrss 1\nshmem 1\ntotal_rss 7\ntotal_shmem 2\n",
                ),
                ("cg/memory/memory.max_usage_in_bytes", "9999999\n"),
                ("cg/pids/d/x/pids.peak", "300\n"),
                ("cg/cpuacct/d/x/cpuacct.usage", "5000000\n"),
            ],
        );
        let unified = dir.path().join("cg/unified/d/x");
        let counted = Counters::of(dir.path(), &unified, 7).read();
        let expected =
            Counted { memory: Some(4096), anonymous: Some(9), pids: Some(300), cpu_us: Some(5000) };
        assert_eq!(counted, expected);
        assert_eq!(Counters::of(dir.path(), &unified, 8).read(), Counted::default());
    }
}
