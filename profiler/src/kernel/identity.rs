//! Who a process is, so that another one can tell later whether it still lives.
//!
//! A bare number is given to the next process once its owner is gone, and means another one in another PID namespace or after a restart
//! of the machine.

use std::{fmt, fs, io, os::unix::fs::MetadataExt as _, path::Path, str::FromStr};

use procfs::{FromRead as _, process::Stat};

/// A process of one start of the machine. As text, four words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pid: u32,
    /// When it began, in clock ticks since the machine started.
    started: u64,
    /// The inode of the PID namespace in which `pid` counts.
    pid_namespace: u64,
    /// The id of the machine's start.
    boot: String,
}

/// Whether a process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It does.
    Runs,
    /// It has ended; what its parent has not waited for yet has, too.
    Ended,
    /// From this PID namespace that cannot be told.
    Unknown,
}

impl Identity {
    /// This process, as `proc` (`/proc`) shows it.
    ///
    /// # Errors
    /// When a file there cannot be read, or is malformed.
    pub fn own(proc: &Path) -> io::Result<Self> {
        let own = proc.join("self");
        let stat = Stat::from_file(own.join("stat")).map_err(io::Error::other)?;
        let boot = fs::read_to_string(proc.join("sys/kernel/random/boot_id"))?;
        Ok(Identity {
            pid: u32::try_from(stat.pid).map_err(io::Error::other)?,
            started: stat.starttime,
            pid_namespace: fs::metadata(own.join("ns/pid"))?.ino(),
            boot: boot.trim().to_owned(),
        })
    }

    /// Whether that process lives, for one that is `own` and looks below `proc`.
    #[must_use]
    pub fn life(&self, own: &Identity, proc: &Path) -> Life {
        if self.boot != own.boot {
            return Life::Ended;
        }
        if self.pid_namespace != own.pid_namespace {
            return Life::Unknown;
        }
        match Stat::from_file(proc.join(self.pid.to_string()).join("stat")) {
            Ok(stat) if stat.starttime == self.started && !matches!(stat.state, 'Z' | 'X') => {
                Life::Runs
            }
            Ok(_) | Err(procfs::ProcError::NotFound(_)) => Life::Ended,
            Err(_) => Life::Unknown,
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Identity { pid, started, pid_namespace, boot } = self;
        write!(f, "{pid} {started} {pid_namespace} {boot}")
    }
}

/// No identity.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed;

impl FromStr for Identity {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let words: Vec<&str> = text.split(' ').collect();
        let &[pid, started, pid_namespace, boot] = words.as_slice() else { return Err(Malformed) };
        Ok(Identity {
            pid: pid.parse().map_err(|_| Malformed)?,
            started: started.parse().map_err(|_| Malformed)?,
            pid_namespace: pid_namespace.parse().map_err(|_| Malformed)?,
            boot: boot.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROC: &str = "/proc";

    #[test]
    fn text_says_it_all() {
        let own = Identity::own(Path::new(PROC)).expect("an identity");
        assert_eq!(own.to_string().parse(), Ok(own));
        for text in ["", "1", "1 2 3", "1 2 3 boot more", "x 2 3 boot", "-1 2 3 boot"] {
            assert_eq!(text.parse::<Identity>(), Err(Malformed), "{text}");
        }
    }

    #[test]
    fn a_number_alone_is_nobody() {
        let proc = Path::new(PROC);
        let own = Identity::own(proc).expect("an identity");
        let life = |other: &Identity| other.life(&own, proc);
        assert_eq!(life(&own), Life::Runs);
        // the number was given to somebody else since, or the machine was started again
        assert_eq!(life(&Identity { started: own.started + 1, ..own.clone() }), Life::Ended);
        assert_eq!(life(&Identity { boot: "another".to_owned(), ..own.clone() }), Life::Ended);
        // beyond what any machine gives
        assert_eq!(life(&Identity { pid: 1 << 22, ..own.clone() }), Life::Ended);
        let elsewhere = Identity { pid_namespace: own.pid_namespace + 1, ..own.clone() };
        assert_eq!(life(&elsewhere), Life::Unknown);
    }

    #[test]
    fn who_waits_to_be_waited_for_has_ended() {
        let proc = Path::new(PROC);
        let own = Identity::own(proc).expect("an identity");
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("cat");
        let stat = proc.join(child.id().to_string()).join("stat");
        let started = Stat::from_file(&stat).expect("stat").starttime;
        let it = Identity { pid: child.id(), started, ..own.clone() };
        assert_eq!(it.life(&own, proc), Life::Runs);
        drop(child.stdin.take());
        while it.life(&own, proc) == Life::Runs {
            std::thread::yield_now();
        }
        assert_eq!(Stat::from_file(&stat).expect("stat").state, 'Z');
        assert_eq!(it.life(&own, proc), Life::Ended);
        child.wait().expect("waits");
    }
}
