//! Whether a server works as it did: the same processes with the same users, none replaced, nothing refused in the log.
//! Traffic alone proves little: children that die and are replaced answer, too.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};

use crate::{
    enforce::servers::{Root, Server},
    harness::docker::Container,
};

/// The processes of a container, and which of them is its first.
#[derive(Debug, Clone)]
pub struct Processes {
    first: u64,
    /// Name, user and group by process id on the host.
    by_pid: BTreeMap<u64, (String, u32, u32)>,
}

impl Processes {
    /// Those that run now.
    pub fn of(container: &Container<'_>) -> Result<Self> {
        let listed = container.top("-eo pid,uid,gid,comm")?;
        let first = container.inspect()?["State"]["Pid"].as_u64().context("no first process")?;
        let mut by_pid = BTreeMap::new();
        for line in listed.lines().skip(1) {
            let mut fields = line.split_whitespace();
            let mut number = || fields.next()?.parse::<u32>().ok();
            let (pid, uid, gid) = (number().map(u64::from), number(), number());
            let name = fields.collect::<Vec<_>>().join(" ");
            let known = pid
                .zip(uid)
                .zip(gid)
                .with_context(|| format!("strange line of docker top: {line}"))?;
            let ((pid, uid), gid) = known;
            by_pid.insert(pid, (name, uid, gid));
        }
        Ok(Self { first, by_pid })
    }

    /// Fails when one that runs in `self` does not run in `later`.
    pub fn expect_alive(&self, later: &Self) -> Result<()> {
        let gone: Vec<_> =
            self.by_pid.keys().filter(|pid| !later.by_pid.contains_key(pid)).collect();
        ensure!(gone.is_empty(), "processes were replaced: {gone:?} of {self:?}, now {later:?}");
        Ok(())
    }

    /// Fails unless everyone who should has given up root.
    pub fn expect_unprivileged(&self, server: &Server) -> Result<()> {
        for (pid, (name, uid, gid)) in &self.by_pid {
            let may = server.root == Root::Master && *pid == self.first;
            ensure!(
                may || (*uid != 0 && *gid != 0),
                "{name} ({pid}) is still user {uid}, group {gid}: {self:?}"
            );
        }
        ensure!(server.root != Root::Master || self.by_pid.len() > 1, "no workers: {self:?}");
        ensure!(!self.by_pid.is_empty(), "no processes");
        Ok(())
    }

    /// Who runs as whom, without numbers that differ from run to run.
    pub fn roles(&self) -> BTreeSet<(String, u32, u32)> {
        self.by_pid.values().cloned().collect()
    }
}

/// Fails when the log has refusals that `before`, the log of an unfiltered run, has not.
pub fn expect_clean(log: &str, before: &str) -> Result<()> {
    const REFUSALS: [&str; 4] = [
        "operation not permitted",
        "permission denied",
        "function not implemented",
        "bad system call",
    ];
    let refusals = |log: &str| {
        let lower = log.to_lowercase();
        let lines =
            lower.lines().filter(|line| REFUSALS.iter().any(|refusal| line.contains(refusal)));
        lines.count()
    };
    ensure!(refusals(log) <= refusals(before), "the log tells of refusals:\n{log}");
    Ok(())
}
