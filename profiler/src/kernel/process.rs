//! How the kernel confines a process, by what it says in `/proc/PID`.

use std::path::Path;

/// What `status` and `uid_map` of a process say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confined {
    /// Its effective uid, as the reader sees it.
    pub uid: u32,
    /// The bounding set, by bits.
    pub bounding: u64,
    /// no_new_privs.
    pub no_new_privileges: bool,
    /// `Seccomp:`: 0 none, 1 strict, 2 a filter.
    pub seccomp_mode: u32,
    /// The uid that is 0 in its user namespace, as the reader sees it; `None` when none is, or the map cannot be read.
    pub root_uid: Option<u32>,
}

/// Reads it below `proc`; `None` when there is no such process, or no whole answer.
#[must_use]
pub fn confined(proc: &Path, pid: i32) -> Option<Confined> {
    let dir = proc.join(pid.to_string());
    let status = std::fs::read(dir.join("status")).ok()?;
    let status = String::from_utf8_lossy(&status);
    // The name before them is hostile and has no line ends.
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(str::trim)
    };
    let map = std::fs::read_to_string(dir.join("uid_map")).unwrap_or_default();
    let root = map.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next()? == "0").then(|| words.next()?.parse().ok()).flatten()
    });
    Some(Confined {
        uid: field("Uid")?.split_ascii_whitespace().nth(1)?.parse().ok()?,
        bounding: u64::from_str_radix(field("CapBnd")?, 16).ok()?,
        no_new_privileges: field("NoNewPrivs")? == "1",
        seccomp_mode: field("Seccomp")?.parse().ok()?,
        root_uid: root,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_whatever_the_name_says() {
        let dir = tempfile::tempdir().expect("a directory");
        let own = dir.path().join("7");
        std::fs::create_dir(&own).expect("creates");
        let status = "Name:\tNoNewPrivs: 1\nUid:\t1000\t100000\t0\t0\nCapBnd:\t00000000a80425fb\nNoNewPrivs:\t0\nSeccomp:\t2\nSeccomp_filters:\t1\n";
        std::fs::write(own.join("status"), status).expect("writes");
        std::fs::write(own.join("uid_map"), "         0     100000      65536\n").expect("writes");
        let expected = Confined {
            uid: 100_000,
            bounding: 0xa804_25fb,
            no_new_privileges: false,
            seccomp_mode: 2,
            root_uid: Some(100_000),
        };
        assert_eq!(confined(dir.path(), 7), Some(expected));
        assert_eq!(confined(dir.path(), 8), None);
        std::fs::write(own.join("status"), "Name:\tx\n").expect("writes");
        assert_eq!(confined(dir.path(), 7), None);
    }
}
