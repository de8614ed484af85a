//! That a filter is in force: by what the kernel side noted of every process that entered, and looked up on the threads that
//! run under it, all the time.
//!
//! A thread of its own lists the processes of the target's cgroup every few milliseconds. Each is looked at when it is
//! new, and again at every tick: all its threads must be filtered. A filter is inherited and cannot be taken off, so what it
//! decides is compared where somebody enters from outside: the entry point, and processes that join. The runtime's own
//! processes are there, too, and not filtered yet: those that have executed nothing since they were forked, and those that
//! are in their parent's mount namespace still. They are there for a moment only; what stays is none of them.

use std::{
    collections::{HashMap, HashSet},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use fs_err as fs;

use super::policy::Policy;
use crate::{
    kernel::filters,
    model::{bpf::Program, capability, in_force::Difference},
    observe::evidence::Entries,
    session::{error::SessionError, recorder::TICK},
    target::cgroup::{Cgroup, processes},
};

/// How often the list of processes is read.
const POLL: Duration = Duration::from_millis(10);

/// How long a process may be the runtime's: it starts the entry point, or what joins, and is done.
const RUNTIMES: Duration = Duration::from_secs(5);

/// Entries whose filter is compared; each is stopped for a moment.
const COMPARED: usize = 16;

/// Flags of a task, `include/linux/sched.h`.
const EXITING: u64 = 0x4;
const FORKED_ONLY: u64 = 0x40;

/// `Seccomp:` of a thread that has a filter.
const FILTERED: &str = "2";

/// How it is known which filter is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// The kernel gave it out, and it decides as the policy does.
    Kernel,
    /// The kernel does not give it out, or the command ended at once; profiler loaded it itself.
    Loaded,
}

/// What was wrong. Names are hostile text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// A process has no filter.
    Unfiltered {
        /// Its name.
        program: String,
    },
    /// Nothing runs under the profile: a process has another filter.
    Another {
        /// Its name, or the container's.
        program: String,
        /// Calls that it decides in another way.
        differences: Vec<Difference>,
    },
    /// It could have capabilities that the policy does not give.
    Capabilities {
        /// Its name.
        program: String,
        /// Those, by name.
        names: Vec<String>,
    },
    /// It may gain privileges, and should not.
    NewPrivileges {
        /// Its name.
        program: String,
    },
    /// The container was removed while the tests ran.
    Gone {
        /// Its name.
        program: String,
    },
}

/// What was seen so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InForce {
    /// By what it is known that the filter is the right one; `None` while it is not.
    pub evidence: Option<Evidence>,
    /// From when the target was there to when its filter was first found to be the right one.
    pub after: Option<Duration>,
    /// How many processes were seen.
    pub processes: u64,
    /// How often the state of a thread was read.
    pub looks: u64,
    /// What was wrong, one of each kind.
    pub faults: Vec<Fault>,
    /// How many came in from outside and executed their first program there, and were seen to by the kernel side.
    pub entered: u64,
    /// Of how many of them the filter was read at that moment.
    pub read: u64,
    /// Why the kernel did not give a filter out.
    pub unread: Option<String>,
    /// Names of processes that outlive the command.
    pub left: Vec<String>,
}

impl InForce {
    /// Takes over what the kernel side noted of every process that entered: none of them was too short-lived for it.
    pub(super) fn learn(&mut self, entries: &Entries, policy: &Policy, name: &str) {
        self.entered = entries.entered;
        self.read = entries.filters.values().sum();
        if let Some(program) = &entries.first_unfiltered {
            self.fault(Fault::Unfiltered { program: program.clone() });
        }
        for code in entries.filters.keys() {
            match Program::parse(code).map(|program| policy.differences(&[program])) {
                Ok(Some(differences)) if !differences.is_empty() => {
                    self.fault(Fault::Another { program: name.to_owned(), differences });
                }
                Ok(_) => self.evidence = Some(Evidence::Kernel),
                Err(error) => {
                    self.read -= entries.filters[code];
                    self.unread = Some(error.to_string());
                }
            }
        }
    }

    fn fault(&mut self, fault: Fault) {
        let kind = std::mem::discriminant(&fault);
        if self.faults.iter().all(|known| std::mem::discriminant(known) != kind) {
            self.faults.push(fault);
        }
    }
}

/// Whose processes are looked at.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Where they are.
    pub cgroup: Cgroup,
    /// They are started by this program, which executes the command when it has loaded the filter.
    pub is_command: bool,
}

/// The thread that looks.
pub struct Watch {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    policy: Arc<Policy>,
    subject: Mutex<Option<(Subject, Instant)>>,
    found: Mutex<InForce>,
    ended: AtomicBool,
}

impl Watch {
    /// Starts it; it has nobody to look at yet.
    ///
    /// # Errors
    /// When there is no thread left.
    pub fn start(policy: Arc<Policy>) -> Result<Watch, SessionError> {
        let shared = Arc::new(Shared {
            policy,
            subject: Mutex::default(),
            found: Mutex::default(),
            ended: AtomicBool::new(false),
        });
        let of_thread = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("watch".to_owned())
            .spawn(move || of_thread.run())
            .map_err(|source| SessionError::Spawn { program: "watch".to_owned(), source })?;
        Ok(Watch { shared, thread: Some(thread) })
    }

    /// From now on it looks at these, whether their cgroup is there yet or not.
    pub fn follow(&self, subject: Subject) {
        *lock(&self.shared.subject) = Some((subject, Instant::now()));
    }

    /// What was seen so far.
    pub fn found(&self) -> InForce {
        lock(&self.shared.found).clone()
    }

    /// Notes processes that outlive the command.
    pub(super) fn left(&self, pids: &[u32]) {
        let processes = pids.iter().filter_map(|pid| Process::read(*pid));
        lock(&self.shared.found).left = processes.map(|process| process.name).collect();
    }

    /// Ends it.
    pub fn end(mut self) -> InForce {
        self.join();
        self.found()
    }

    fn join(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // it panicked: what it found until then stays
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.join();
    }
}

/// A panic elsewhere leaves nothing half done here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a look at a process came to.
#[derive(PartialEq, Eq)]
enum Look {
    /// It is the target's, and all is said.
    Done,
    /// It is the runtime's still, or gone.
    Again,
    /// It does not stop now: at the next tick again.
    Later,
}

impl Shared {
    fn run(&self) {
        let mut known = HashSet::new();
        let mut compared = HashSet::new();
        let mut later = HashSet::new();
        let mut first_seen = HashMap::new();
        let mut last_tick = Instant::now();
        while !self.ended.load(Ordering::Relaxed) {
            if let Some((subject, since)) = lock(&self.subject).clone() {
                let pids: HashSet<u32> = processes(&subject.cgroup).into_iter().collect();
                let is_tick = last_tick.elapsed() >= TICK;
                if is_tick {
                    last_tick = Instant::now();
                }
                known.retain(|pid| pids.contains(pid));
                compared.retain(|pid| pids.contains(pid));
                first_seen.retain(|pid, _| pids.contains(pid));
                if is_tick {
                    later.clear();
                }
                for pid in &pids {
                    let is_new = !known.contains(pid);
                    if !is_tick && (!is_new || later.contains(pid)) {
                        continue;
                    }
                    let seen: &mut Instant = first_seen.entry(*pid).or_insert_with(Instant::now);
                    let stays = seen.elapsed() >= RUNTIMES;
                    let looked = self.look(*pid, &subject, &pids, since, stays, &mut compared);
                    if looked == Look::Later {
                        later.insert(*pid);
                    }
                    if looked == Look::Done && is_new {
                        known.insert(*pid);
                        lock(&self.found).processes += 1;
                    }
                }
            }
            thread::sleep(POLL);
        }
    }

    fn look(
        &self,
        pid: u32,
        subject: &Subject,
        pids: &HashSet<u32>,
        since: Instant,
        stays: bool,
        compared: &mut HashSet<u32>,
    ) -> Look {
        // In this order: who has executed the entry point was filtered before.
        let Some(process) = Process::read(pid) else { return Look::Again };
        let comes_from_outside = !pids.contains(&process.parent);
        let seems_runtimes = process.forked_only
            || comes_from_outside
                && if subject.is_command {
                    process.is_this_program()
                } else {
                    process.is_outside()
                };
        let is_runtimes = seems_runtimes && !stays;
        let threads = threads(pid);
        let Some(main) = threads.first() else { return Look::Again };
        let mut found = lock(&self.found);
        found.looks += threads.len() as u64;
        if threads.iter().any(|thread| thread.seccomp != FILTERED) {
            if !is_runtimes {
                found.fault(Fault::Unfiltered { program: process.name });
                return Look::Done;
            }
            return Look::Again;
        }
        if !comes_from_outside {
            return Look::Done;
        }
        if is_runtimes {
            return Look::Again;
        }
        if compared.contains(&pid) || compared.len() >= COMPARED {
            return Look::Done;
        }
        if let Some(given) = &self.policy.capabilities {
            let beyond = (0..64).filter(|number| main.bounding >> number & 1 == 1);
            let beyond = beyond.filter(|number| !given.contains(number));
            let names: Vec<String> =
                beyond.map(|number| capability::display(number).into_owned()).collect();
            if !names.is_empty() {
                found.fault(Fault::Capabilities { program: process.name.clone(), names });
            }
        }
        if self.policy.no_new_privileges == Some(true) && !main.no_new_privileges {
            found.fault(Fault::NewPrivileges { program: process.name.clone() });
        }
        drop(found);
        let loaded = filters::of_thread(pid.cast_signed());
        let mut found = lock(&self.found);
        match loaded.map(|programs| self.policy.differences(&programs)) {
            Ok(Some(differences)) if differences.is_empty() => {
                found.evidence = Some(Evidence::Kernel);
                found.after.get_or_insert_with(|| since.elapsed());
            }
            Ok(Some(differences)) => {
                found.fault(Fault::Another { program: process.name, differences });
            }
            Ok(None) => found.fault(Fault::Unfiltered { program: process.name }),
            Err(error) if error.is_of_thread() => return Look::Later,
            Err(error) => found.unread = Some(told(&error)),
        }
        compared.insert(pid);
        Look::Done
    }
}

fn told(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// A process, from `/proc/PID/stat`.
struct Process {
    dir: PathBuf,
    /// Hostile text.
    name: String,
    parent: u32,
    forked_only: bool,
}

impl Process {
    /// `None` when it is gone, or going.
    fn read(pid: u32) -> Option<Process> {
        let dir = Path::new("/proc").join(pid.to_string());
        let stat = fs::read(dir.join("stat")).ok()?;
        let stat = String::from_utf8_lossy(&stat);
        let (before, after) = stat.rsplit_once(')')?;
        let name = before.split_once('(')?.1.to_owned();
        let fields: Vec<&str> = after.split_whitespace().collect();
        let (state, parent, flags) = (*fields.first()?, fields.get(1)?, fields.get(6)?);
        let flags: u64 = flags.parse().ok()?;
        if matches!(state, "Z" | "X") || flags & EXITING != 0 {
            return None;
        }
        Some(Process {
            dir,
            name,
            parent: parent.parse().ok()?,
            forked_only: flags & FORKED_ONLY != 0,
        })
    }

    /// Whether it is in its parent's mount namespace still. One that cannot be read is not said to be.
    fn is_outside(&self) -> bool {
        let of_parent = Path::new("/proc").join(self.parent.to_string()).join("ns/mnt");
        let (own, of_parent) = (fs::read_link(self.dir.join("ns/mnt")), fs::read_link(of_parent));
        matches!((own, of_parent), (Ok(own), Ok(of_parent)) if own == of_parent)
    }

    fn is_this_program(&self) -> bool {
        let file = |path: &Path| fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
        let own = file(Path::new("/proc/self/exe"));
        own.is_some() && own == file(&self.dir.join("exe"))
    }
}

/// A thread, from its `status`.
struct Thread {
    seccomp: String,
    bounding: u64,
    no_new_privileges: bool,
}

/// The threads of a process, its first one first. Those that end meanwhile are left out.
fn threads(pid: u32) -> Vec<Thread> {
    let dir = Path::new("/proc").join(pid.to_string()).join("task");
    let listed = fs::read_dir(&dir).into_iter().flatten().flatten();
    let mut tids: Vec<u32> =
        listed.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    tids.sort_by_key(|tid| (*tid != pid, *tid));
    let read = |tid: u32| {
        let status = fs::read(dir.join(tid.to_string()).join("status")).ok()?;
        let status = String::from_utf8_lossy(&status);
        // after the name, which is hostile and has no line ends
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.map(str::trim)
        };
        if field("State").is_some_and(|state| state.starts_with(['Z', 'X'])) {
            return None;
        }
        Some(Thread {
            seccomp: field("Seccomp")?.to_owned(),
            bounding: u64::from_str_radix(field("CapBnd")?, 16).ok()?,
            no_new_privileges: field("NoNewPrivs") == Some("1"),
        })
    };
    tids.into_iter().filter_map(read).collect()
}
