//! Programs that are attached twice.
//!
//! A tracepoint's program does not run while it runs already on the same processor. Since Linux 7.0 it can be preempted
//! (<https://git.kernel.org/linus/a46023d5616e>), so that happens whenever another task runs in the meantime. There a second program, which does
//! the same, sees what the first was left out of. Both are left out only while others are suspended in both on one processor, and a program on
//! `sched_switch` notices that: it asks the counters by which the kernel itself decides.

use std::{
    os::fd::{AsFd as _, AsRawFd as _},
    thread,
    time::Duration,
};

use aya::Ebpf;
use profiler_common::scope::{Lookup, PAIRS, Twins as Pair};
use rustix::thread::gettid;

use super::{
    error::ObserveError,
    slots::{array, map_error},
};
use crate::kernel::version::{KernelVersion, Uname};

/// The tracepoints whose programs have twins, in the order of the map.
pub const TWICE: [&str; PAIRS as usize] = ["sys_enter", "sys_exit", "cap_capable"];

/// The first kernel whose tracepoints can be preempted.
const PREEMPTIBLE: KernelVersion = KernelVersion { major: 7, minor: 0, patch: 0 };

/// How often, and for how long, another thread gets the processor until the counters are found.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(1);

/// Whether programs of tracepoints can be preempted. No field or function that could be probed tells; a kernel to which it was
/// ported back shows by its count of misses.
pub fn are_needed(names: &Uname) -> bool {
    names.release.parse().is_ok_and(|version: KernelVersion| version >= PREEMPTIBLE)
}

/// Which programs of these tracepoints are attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Twins {
    /// Both.
    Both,
    /// The second alone: as if the kernel left out the first each time.
    Second,
}

impl Twins {
    /// Their programs of a tracepoint, in the order in which they are attached.
    pub fn of(self, point: &str) -> Vec<String> {
        let second = twin(point);
        match self {
            Twins::Both => vec![point.to_owned(), second],
            Twins::Second => vec![second],
        }
    }
}

/// The second program of a tracepoint.
pub fn twin(point: &str) -> String {
    format!("{point}_twin")
}

/// Has the kernel side find the counters of those that are loaded; `watching` is the program on `sched_switch`, which is attached. Whether it
/// has, and reads its own right.
///
/// # Errors
/// When the maps cannot be read or written.
pub fn find(ebpf: &mut Ebpf, watching: &str) -> Result<bool, ObserveError> {
    let fd = |ebpf: &Ebpf, name: &str| {
        let fd = ebpf.program(name)?.fd().ok()?.as_fd().as_raw_fd();
        u32::try_from(fd).ok()
    };
    let mut wanted = Vec::new();
    for (pair, point) in (0..).zip(TWICE) {
        if let (Some(first), Some(second)) = (fd(ebpf, point), fd(ebpf, &twin(point))) {
            let twins = Pair { fds: [first, second], ..Pair::default() };
            array(ebpf, "TWINS")?.set(pair, twins, 0).map_err(map_error("TWINS"))?;
            wanted.push(pair);
        }
    }
    let tid = gettid().as_raw_nonzero().get().unsigned_abs();
    let mut found = Lookup { tid, fd: fd(ebpf, watching).unwrap_or(0), anywhere: 0 };
    let mut lookup = array::<Lookup>(ebpf, "LOOKUP")?;
    lookup.set(0, found, 0).map_err(map_error("LOOKUP"))?;
    for _ in 0..TRIES {
        thread::sleep(PAUSE);
        found = lookup.get(&0, 0).map_err(map_error("LOOKUP"))?;
        if found.tid == 0 {
            break;
        }
    }
    if found.tid != 0 {
        lookup.set(0, Lookup::default(), 0).map_err(map_error("LOOKUP"))?;
        return Ok(false);
    }
    let twins = array::<Pair>(ebpf, "TWINS")?;
    let mut is_found = found.anywhere != 0;
    for pair in wanted {
        is_found &= !twins.get(&pair, 0).map_err(map_error("TWINS"))?.active.contains(&0);
    }
    Ok(is_found)
}

/// How often a task in scope ran where others were suspended in both of a pair, in the order of [`TWICE`].
///
/// # Errors
/// When the map cannot be read.
pub fn both_suspended(ebpf: &mut Ebpf) -> Result<[u64; PAIRS as usize], ObserveError> {
    let twins = array::<Pair>(ebpf, "TWINS")?;
    let mut counts = [0; PAIRS as usize];
    for (pair, count) in (0..).zip(&mut counts) {
        *count = twins.get(&pair, 0).map_err(map_error("TWINS"))?.both;
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use profiler_common::suspended::{Suspended, Unseen};
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// A processor with two programs, and threads that call. A call runs the first program, then the second, and each may be suspended.
    #[derive(Default)]
    struct Processor {
        /// The thread that runs, a number from 1.
        runs: u32,
        /// Who is in the programs.
        within: [Option<u32>; 2],
    }

    impl Processor {
        /// The thread that runs goes on. Whether it makes a call that neither sees.
        fn go_on(&mut self) -> bool {
            let own = Some(self.runs);
            if self.within[1] == own {
                self.within[1] = None;
                return false;
            }
            let was_in_first = self.within[0] == own;
            let is_first_free = self.within[0].is_none();
            if was_in_first {
                self.within[0] = None;
            } else if is_first_free {
                self.within[0] = own;
                return false;
            }
            let is_second_free = self.within[1].is_none();
            if is_second_free {
                self.within[1] = own;
            }
            !was_in_first && !is_second_free
        }

        fn is_blind_for(&self, thread: u32) -> bool {
            self.within.iter().all(|one| one.is_some_and(|other| other != thread))
        }
    }

    proptest! {
        #[test]
        fn it_is_known_when_neither_sees(events in vec((1..6_u32, 0..8_u32), 0..200)) {
            let mut processor = Processor { runs: 1, ..Processor::default() };
            let mut suspended = Suspended::default();
            let mut was_blind = false;
            for (next, steps) in events {
                let active = processor.within.map(|one| one.is_some());
                let told = suspended.switch(active, processor.runs, next);
                let is_blind = processor.is_blind_for(next);
                prop_assert_eq!(told, Unseen { previous: was_blind, next: is_blind });
                was_blind = is_blind;
                processor.runs = next;
                for _ in 0..steps {
                    prop_assert!(!processor.go_on() || is_blind, "a call that nobody was told of");
                }
            }
        }
    }

    #[test]
    fn kernels_are_told_by_their_version() {
        let names = |release: &str| Uname { release: release.into(), machine: "x86_64".into() };
        assert!(!are_needed(&names("6.18.44")) && !are_needed(&names("what")));
        assert!(are_needed(&names("7.0.0-1-amd64")) && are_needed(&names("7.3.4+deb13")));
    }
}
