//! What becomes of a signal that is sent to a process, by what `/proc` says of the process.
//!
//! Reads only; sends nothing.

use std::{fs, path::Path};

/// SIGKILL and SIGSTOP: nothing keeps them off.
const ALWAYS_DELIVERED: [u32; 2] = [9, 19];

/// Whether the kernel throws a signal away when it is sent to `pid` now, so that the process never notices. False where it
/// cannot be told.
///
/// It does so when the process ignores the signal, or is the first of its PID namespace and has no handler for it: the
/// default action does not count there. What a thread has blocked is kept: `sig_ignored`, `sig_task_ignored` in
/// <https://github.com/torvalds/linux/blob/v6.12/kernel/signal.c>.
#[must_use]
pub fn is_thrown_away(root: &Path, pid: i32, signal: u32) -> bool {
    let dir = root.join("proc").join(pid.to_string());
    if ALWAYS_DELIVERED.contains(&signal) || !(1..=64).contains(&signal) {
        return false;
    }
    let has = |set: u64| set >> (signal - 1) & 1 == 1;
    let Some(process) = Status::read(&dir) else { return false };
    let (Some(caught), Some(ignored)) = (process.set("SigCgt"), process.set("SigIgn")) else {
        return false;
    };
    let threads: Option<Vec<u64>> = fs::read_dir(dir.join("task")).ok().and_then(|threads| {
        threads.map(|thread| Status::read(&thread.ok()?.path())?.set("SigBlk")).collect()
    });
    let is_blocked = threads.is_none_or(|blocked| blocked.into_iter().any(has));
    !is_blocked && (has(ignored) || process.is_first() && !has(caught))
}

/// The text of a `status` file. The program's name in it is hostile, and has no line ends.
struct Status(String);

impl Status {
    fn read(dir: &Path) -> Option<Status> {
        let text = fs::read(dir.join("status")).ok()?;
        Some(Status(String::from_utf8_lossy(&text).into_owned()))
    }

    fn field(&self, name: &str) -> Option<&str> {
        let line = self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(str::trim)
    }

    fn set(&self, name: &str) -> Option<u64> {
        u64::from_str_radix(self.field(name)?, 16).ok()
    }

    /// Whether it has the number 1 in its own PID namespace, the innermost.
    fn is_first(&self) -> bool {
        self.field("NSpid").and_then(|pids| pids.split_whitespace().last()) == Some("1")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Process 7, with these sets and namespaces, and threads that block these.
    fn process(pids: &str, [caught, ignored]: [u64; 2], blocked: &[u64]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a directory");
        let put = |dir: &str, blocked: u64| {
            let dir = root.path().join(dir);
            fs::create_dir_all(&dir).expect("a directory");
            let text = format!(
                "Name:\tSigIgn: ffff\nNSpid:\t{pids}\nSigBlk:\t{blocked:016x}\nSigIgn:\t{ignored:016x}\nSigCgt:\t{caught:016x}\n"
            );
            fs::write(dir.join("status"), text).expect("a file");
        };
        put("proc/7", 0);
        for (index, blocked) in blocked.iter().enumerate() {
            put(&format!("proc/7/task/{}", 7 + index), *blocked);
        }
        root
    }

    #[test]
    fn only_what_nobody_can_notice_is_thrown_away() {
        const TERM: u64 = 1 << 14;
        for (pids, sets, blocked, expected, why) in [
            ("7\t1", [0, 0], [0, 0], true, "the first of its namespace has no default actions"),
            ("7", [0, 0], [0, 0], false, "another ends by it"),
            ("7\t2", [0, 0], [0, 0], false, "so does the second"),
            ("7\t1\t12", [0, 0], [0, 0], false, "its own namespace counts"),
            ("7\t1", [TERM, 0], [0, 0], false, "it has a handler"),
            ("7\t1", [!TERM, 0], [!TERM, 0], true, "handlers of others do not count"),
            ("7\t1", [0, 0], [0, TERM], false, "a thread waits for it (sigwait, signalfd)"),
            ("7", [0, TERM], [0, 0], true, "it is ignored"),
        ] {
            let root = process(pids, sets, &blocked);
            let root = root.path();
            assert_eq!(is_thrown_away(root, 7, 15), expected, "{why}");
            for signal in [0, 9, 19, 65] {
                assert!(!is_thrown_away(root, 7, signal), "{signal}: {why}");
            }
            assert!(!is_thrown_away(root, 8, 15), "there is no such process");
        }
        let threadless = process("7\t1", [0, 0], &[]);
        assert!(!is_thrown_away(threadless.path(), 7, 15), "what blocks it cannot be read");
    }
}
