//! The capabilities of files that root executed. A thread reads them when the kernel tells of an execution, while the process
//! may still live; else it looks for the file where the execution was asked for, by its path.
//!
//! The workload chooses files and paths. So nothing is opened but as a name (`O_PATH`), and what is found by a path counts only if it is the
//! file that the kernel saw. A path is followed from a process's root and never leaves it, over absolute links and `..` neither; a
//! relative one is taken for one below where the process's working directory is in its root. A file system may hang whoever looks:
//! who waits for the thread waits for a bounded time, and another thread holds roots and lets go of them.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ffi::{CStr, OsStr},
    fs, io, iter,
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use aya::{
    Ebpf,
    maps::{HashMap, Map, MapData, MapError, RingBuf},
};
use procfs::process::Process;
use profiler_common::{
    evidence::{Executed, ExecutedKey, Execution, FileId},
    scope::{Joined, Slot},
};
use rustix::{
    fs::{FileType, MemfdFlags, Mode, OFlags, ResolveFlags, StatVfsMountFlags},
    io::Errno,
};

use super::{
    error::ObserveError,
    slots::{hash, map_error},
    worker::{Job, PATIENCE, Worker, keep, lock},
};
use crate::kernel::shed::FILES;

/// How long a thread rests when the kernel does not wake it, in milliseconds.
const REST_MS: u64 = 20;

/// The same, while a container is about to start.
const SHORT_REST_MS: u64 = 5;

/// How many roots are held at once, and for how long after their process has ended.
const MAX_HELD: usize = 64;
const HOLD: Duration = Duration::from_millis(100);

/// How many files are known at the most.
const MAX_FILES: usize = 65_536;

/// How many processes of each target are remembered, to look through their eyes.
const MAX_PROCESSES: usize = 8;

/// What is known of files, and the thread that reads them.
pub struct Files {
    known: Arc<Mutex<BTreeMap<FileId, u64>>>,
    /// `super_block.s_dev` of files that have no name anywhere.
    nameless: Option<u32>,
    reader: Worker,
    _holder: Worker,
}

/// A file that root executed in a slot.
pub struct ByRoot {
    /// Which, where and in which phase.
    pub key: ExecutedKey,
    /// How often, and by whom first.
    pub executed: Executed,
    /// The capabilities without which its execve fails, a bit each; `None` when the file could not be read.
    pub needs: Option<u64>,
}

impl Files {
    /// Takes the kernel's messages, and starts to look.
    pub fn start(ebpf: &mut Ebpf) -> Result<Self, ObserveError> {
        let missing = || map_error("EXECUTIONS")(MapError::KeyNotFound);
        let ring = RingBuf::try_from(ebpf.take_map("EXECUTIONS").ok_or_else(missing)?)
            .map_err(map_error("EXECUTIONS"))?;
        let (known, held) = (Arc::default(), Arc::default());
        let holder = Holder { joined: joined(ebpf)?, held: Arc::clone(&held), is_soon: false };
        let reader = Reader { ring, known: Arc::clone(&known), processes: BTreeMap::new(), held };
        Ok(Files {
            known,
            nameless: nameless().ok(),
            reader: Worker::start(PATIENCE, reader),
            _holder: Worker::start(PATIENCE, holder),
        })
    }

    /// What root executed in slots, sorted. Waits for the thread, but not for ever.
    pub fn executed(&self, ebpf: &mut Ebpf, slots: &[Slot]) -> Result<Vec<ByRoot>, ObserveError> {
        let map = hash::<ExecutedKey, Executed>(ebpf, "EXECUTED")?;
        let mut all: Vec<(ExecutedKey, Executed)> = map
            .iter()
            .filter_map(Result::ok)
            .filter(|(key, _)| slots.contains(&key.slot))
            .collect();
        all.sort_by_key(|(key, _)| *key);
        if !all.is_empty() {
            self.reader.turn();
        }
        let known = lock(&self.known);
        let by_root = all.into_iter().map(|(key, executed)| {
            // that execve succeeded, so bits beyond what root was permitted mean nothing to this kernel
            let needs = known.get(&key.file).map(|set| set & executed.permitted);
            let needs = needs.or_else(|| (self.nameless == Some(key.file.device)).then_some(0));
            ByRoot { key, executed, needs }
        });
        Ok(by_root.collect())
    }
}

/// A handle of one's own of the processes that have joined, and not executed the entry point yet.
fn joined(ebpf: &mut Ebpf) -> Result<HashMap<MapData, u32, Joined>, ObserveError> {
    let error = map_error("JOINED");
    let map = ebpf.map("JOINED").ok_or_else(|| error(MapError::KeyNotFound))?;
    let Map::HashMap(map) = map else { return Err(error(MapError::KeyNotFound)) };
    let fd = map.fd().as_fd().try_clone_to_owned().map_err(ObserveError::Descriptor)?;
    MapData::from_fd(fd)
        .and_then(|map| HashMap::try_from(Map::HashMap(map)))
        .map_err(map_error("JOINED"))
}

/// The roots of processes that a runtime made: what these and their children execute may live for less than a millisecond, and be the last
/// of its container.
type Roots = Arc<Mutex<BTreeMap<u32, Held>>>;

/// A process's root, and the namespace without which nothing stays mounted in it.
struct Held {
    root: Arc<OwnedFd>,
    _namespace: OwnedFd,
    /// `/proc/PID`.
    process: OwnedFd,
    since: Instant,
    /// When it was last seen alive.
    at: Instant,
}

impl Held {
    /// `None` when the process is gone, or not for the recorder to see.
    fn of(pid: u32) -> Option<Self> {
        let namespace = format!("/proc/{pid}/ns/mnt");
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        Some(Held {
            process: dir(pid, "")?,
            root: Arc::new(dir(pid, "root")?),
            _namespace: rustix::fs::open(namespace, flags, Mode::empty()).ok()?,
            since: Instant::now(),
            at: Instant::now(),
        })
    }

    /// Whether the process has a root still; one that has ended has none.
    fn lives(&self) -> bool {
        rustix::fs::readlinkat(&self.process, "root", Vec::new()).is_ok()
    }
}

/// Takes hold of the roots of runtimes' processes. Between creating a container and starting it they wait in its root. Nothing of it
/// asks a file system.
struct Holder {
    joined: HashMap<MapData, u32, Joined>,
    held: Roots,
    /// Somebody executes an entry point soon.
    is_soon: bool,
}

impl Job for Holder {
    fn begin(&mut self) {
        be_quick();
        keep(FILES);
    }

    fn work(&mut self) {
        let mut held = lock(&self.held);
        self.is_soon = false;
        for pid in self.joined.keys().flatten().take(MAX_HELD) {
            self.is_soon = true;
            // each time anew: it may have changed its root meanwhile
            let Some(new) = Held::of(pid) else { continue };
            held.insert(pid, new);
            if held.len() > MAX_HELD
                && let Some(oldest) = held.iter().min_by_key(|(_, held)| held.since)
            {
                let oldest = *oldest.0;
                held.remove(&oldest);
            }
        }
        for held in held.values_mut().filter(|held| held.lives()) {
            held.at = Instant::now();
        }
        // not for long: a file system that is held cannot be removed
        held.retain(|_, held| held.at.elapsed() < HOLD);
    }

    fn rest(&mut self) {
        thread::sleep(Duration::from_millis(if self.is_soon { SHORT_REST_MS } else { REST_MS }));
    }
}

/// When looking at one file takes longer, somebody made it so: from then on the thread runs as others do.
const LONG: Duration = Duration::from_millis(5);

/// Lets the thread run before others, on a busy machine too: a process may be gone soon.
fn be_quick() {
    // not being let is no reason to stop
    let _ = rustix::process::setpriority_process(None, -20);
    schedule(libc::SCHED_RR, 1);
}

/// Sets the calling thread's policy. Not being let is no reason to stop.
fn schedule(policy: libc::c_int, sched_priority: libc::c_int) {
    let parameters = libc::sched_param { sched_priority };
    #[expect(unsafe_code, reason = "rustix has no scheduling policies")]
    // SAFETY: the calling thread, and a structure that lives as long as the call.
    unsafe {
        libc::sched_setscheduler(0, policy | libc::SCHED_RESET_ON_FORK, &raw const parameters);
    }
}

/// Looks at what was executed.
struct Reader {
    ring: RingBuf<MapData>,
    known: Arc<Mutex<BTreeMap<FileId, u64>>>,
    /// Processes of each target, the last one first.
    processes: BTreeMap<Slot, VecDeque<u32>>,
    held: Roots,
}

impl Job for Reader {
    fn begin(&mut self) {
        be_quick();
        keep(FILES);
    }

    fn work(&mut self) {
        while let Some(execution) = self.next() {
            let begun = Instant::now();
            let set = self.read(&execution);
            if begun.elapsed() > LONG {
                schedule(libc::SCHED_OTHER, 0);
            }
            if let Some(set) = set {
                let mut known = lock(&self.known);
                // a file may get capabilities without looking different: file systems once forgot to say
                if known.len() < MAX_FILES || known.contains_key(&execution.file) {
                    *known.entry(execution.file).or_default() |= set;
                }
            }
            let processes = self.processes.entry(execution.target).or_default();
            if !processes.contains(&execution.tgid) {
                processes.truncate(MAX_PROCESSES - 1);
                processes.push_front(execution.tgid);
            }
        }
    }

    fn rest(&mut self) {
        let news = self.ring.as_raw_fd();
        let mut poll = libc::pollfd { fd: news, events: libc::POLLIN, revents: 0 };
        #[expect(unsafe_code, reason = "rustix has it behind a feature that nothing else needs")]
        // SAFETY: one descriptor, which lives as long as the call.
        unsafe {
            libc::poll(&raw mut poll, 1, REST_MS as libc::c_int);
        }
    }
}

impl Reader {
    /// The next message. Its room is the kernel's again when this returns.
    fn next(&mut self) -> Option<Execution> {
        let message = self.ring.next()?;
        let bytes: &[u8; size_of::<Execution>()] = (*message).try_into().ok()?;
        #[expect(unsafe_code, reason = "a message is bytes")]
        // SAFETY: any bytes are an `Execution`, and there are as many.
        let execution = unsafe { bytes.as_ptr().cast::<Execution>().read_unaligned() };
        Some(execution)
    }

    /// The capabilities without which the file cannot be executed. `None` when it is not found any more.
    fn read(&self, execution: &Execution) -> Option<u64> {
        let of_process = needs(Path::new(&format!("/proc/{}/exe", execution.tgid)));
        if executes(execution.tgid, execution.program) {
            return of_process;
        }
        let path = CStr::from_bytes_until_nul(&execution.path).ok()?;
        let path = Path::new(OsStr::from_bytes(path.to_bytes()));
        let others = self.processes.get(&execution.target).into_iter().flatten().copied();
        // a command's files are the recorder's, too
        let first = [execution.tgid, execution.parent, std::process::id()];
        let processes: BTreeSet<u32> = first.into_iter().chain(others).collect();
        let of_processes =
            processes.into_iter().filter_map(|pid| open(&dir(pid, "root")?, &in_root(pid, path)?));
        // only when it comes to them: who hangs elsewhere keeps none
        let held = || lock(&self.held).values().map(|held| Arc::clone(&held.root)).collect();
        let of_held = iter::once_with::<Vec<Arc<OwnedFd>>, _>(held)
            .flatten()
            .filter_map(|root| open(&root, path));
        of_processes.chain(of_held).find_map(|file| {
            let name = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
            if is(&file, &execution.file) { needs(&name) } else { None }
        })
    }
}

/// Whether a process executes the program whose stack begins here.
fn executes(pid: u32, program: u64) -> bool {
    let stat = i32::try_from(pid).ok().and_then(|pid| Process::new(pid).ok()?.stat().ok());
    program != 0 && stat.is_some_and(|stat| stat.startstack == program)
}

/// The device of files that were never below any root: those of memfd_create. They are on a mount of the kernel's own, where a
/// file's capabilities count for nothing
/// (<https://elixir.bootlin.com/linux/v6.12/source/fs/namespace.c>, `mnt_may_suid`).
fn nameless() -> io::Result<u32> {
    let device =
        rustix::fs::fstat(rustix::fs::memfd_create("profiler", MemfdFlags::CLOEXEC)?)?.st_dev;
    // as the kernel packs it, not as it tells it
    Ok(rustix::fs::major(device) << 20 | rustix::fs::minor(device))
}

/// A process's `root` or `cwd`, or its own directory, as a name.
fn dir(pid: u32, which: &str) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(format!("/proc/{pid}/{which}"), flags, Mode::empty()).ok()
}

/// The path in a process's root that a path from its working directory is. `None` when that is not below its root.
fn in_root(pid: u32, path: &Path) -> Option<PathBuf> {
    if path.is_absolute() {
        return Some(path.to_owned());
    }
    let link = |which: &str| fs::read_link(format!("/proc/{pid}/{which}")).ok();
    let below = link("cwd")?.strip_prefix(link("root")?).ok()?.join(path);
    Some(below)
}

/// The file that a path leads to in a root, which it does not leave.
fn open(root: &OwnedFd, path: &Path) -> Option<OwnedFd> {
    let how = ResolveFlags::NO_MAGICLINKS | ResolveFlags::IN_ROOT;
    rustix::fs::openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), how).ok()
}

/// Whether this is the file that the kernel saw, and as it was then.
fn is(file: &OwnedFd, id: &FileId) -> bool {
    let Ok(stat) = rustix::fs::fstat(file) else { return false };
    // what stat says is the file system's choice; the kernel's own number is in fdinfo, since 5.14
    let own = fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).ok();
    let own = own.as_deref().and_then(|info| {
        info.lines().find_map(|line| line.strip_prefix("ino:")?.trim().parse::<u64>().ok())
    });
    let changed = i128::from(stat.st_ctime) * 1_000_000_000 + i128::from(stat.st_ctime_nsec);
    FileType::from_raw_mode(stat.st_mode).is_file()
        && own.unwrap_or(stat.st_ino) == id.inode
        && changed == i128::from(id.changed_ns)
}

/// The capabilities without which a file cannot be executed. `None` when it cannot be told.
fn needs(path: &Path) -> Option<u64> {
    let mut bytes = [0; 64];
    let len = match rustix::fs::getxattr(path, "security.capability", &mut bytes) {
        Ok(len) => len,
        Err(Errno::NODATA | Errno::OPNOTSUPP) => return Some(0),
        Err(_) => return None,
    };
    // there they count for nothing
    let is_nosuid = rustix::fs::statvfs(path).ok()?.f_flag.contains(StatVfsMountFlags::NOSUID);
    Some(if is_nosuid { 0 } else { forced(&bytes[..len]) })
}

/// The permitted set of a file's capabilities (`struct vfs_cap_data`) if it has the effective bit; else 0.
///
/// What is malformed is 0: the kernel executes no such file. In which user namespace a set of the third revision counts is not looked
/// at.
fn forced(bytes: &[u8]) -> u64 {
    const EFFECTIVE: u32 = 1;
    let word = |index: usize| {
        let bytes = bytes.get(index * 4..index * 4 + 4).and_then(|bytes| bytes.try_into().ok());
        u64::from(bytes.map_or(0, u32::from_le_bytes))
    };
    let magic = word(0) as u32;
    if magic & EFFECTIVE == 0 {
        return 0;
    }
    match (magic >> 24, bytes.len()) {
        (1, 12) => word(1),
        (2, 20) | (3, 24) => word(1) | word(3) << 32,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CAP_NET_RAW is 13, CAP_BPF 39; between them, inheritable ones.
    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn only_what_a_file_forces_is_a_need() {
        assert_eq!(forced(&words(&[0x0100_0001, 1 << 13, 7])), 1 << 13);
        assert_eq!(forced(&words(&[0x0200_0001, 1 << 13, 7, 1 << 7, 7])), 1 << 13 | 1 << 39);
        assert_eq!(forced(&words(&[0x0300_0001, 1 << 13, 7, 1 << 7, 7, 1000])), 1 << 13 | 1 << 39);
        // no effective bit
        assert_eq!(forced(&words(&[0x0200_0000, 1 << 13, 7, 1 << 7, 7])), 0);
        // of another length, or revision
        assert_eq!(forced(&words(&[0x0200_0001, 1 << 13, 7])), 0);
        assert_eq!(forced(&words(&[0x0400_0001, 1 << 13, 7, 1 << 7, 7])), 0);
        assert_eq!(forced(&[]), 0);
    }

    #[test]
    fn a_file_is_known_again_until_it_changes() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("file");
        fs::write(&path, "1").expect("writes");
        let root = super::dir(std::process::id(), "root").expect("a root");
        let file = open(&root, &path).expect("opens");
        let stat = rustix::fs::fstat(&file).expect("stat");
        let changed_ns = stat.st_ctime as u64 * 1_000_000_000 + stat.st_ctime_nsec as u64;
        let id = FileId { inode: stat.st_ino, changed_ns, device: 0, reserved: 0 };
        assert!(is(&file, &id) && needs(&path) == Some(0));
        assert!(!is(&file, &FileId { changed_ns: changed_ns - 1, ..id }));
        assert!(!is(&file, &FileId { inode: id.inode + 1, ..id }));
        assert!(!is(&open(&root, dir.path()).expect("opens"), &id));
        // no way through a process's descriptors
        assert!(open(&root, Path::new("/proc/self/exe")).is_none());
    }

    #[test]
    fn no_path_leads_out_of_a_root() {
        let dir = tempfile::tempdir().expect("a directory");
        let (inside, outside) = (dir.path().join("root"), dir.path().join("file"));
        fs::create_dir(&inside).expect("creates");
        fs::write(&outside, "1").expect("writes");
        std::os::unix::fs::symlink(&outside, inside.join("link")).expect("links");
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(&inside, flags, Mode::empty()).expect("a root");
        for path in [Path::new("link"), Path::new("/link"), Path::new("../file"), &outside] {
            assert!(open(&root, path).is_none(), "{}", path.display());
        }
        // an absolute link begins at that root
        let below = inside.join(outside.strip_prefix("/").expect("absolute"));
        fs::create_dir_all(below.parent().expect("a parent")).expect("creates");
        fs::write(&below, "2").expect("writes");
        let found =
            rustix::fs::fstat(open(&root, Path::new("link")).expect("opens")).expect("stat");
        let wanted = rustix::fs::stat(&below).expect("stat");
        assert_eq!((found.st_dev, found.st_ino), (wanted.st_dev, wanted.st_ino));
    }

    #[test]
    fn a_relative_path_is_one_below_the_working_directory() {
        let own = std::process::id();
        let here = std::env::current_dir().expect("a directory");
        let root = super::dir(own, "root").expect("a root");
        let path = in_root(own, Path::new("Cargo.toml")).expect("a path");
        let found = rustix::fs::fstat(open(&root, &path).expect("opens")).expect("stat");
        let wanted = rustix::fs::stat(here.join("Cargo.toml")).expect("stat");
        assert_eq!((found.st_dev, found.st_ino), (wanted.st_dev, wanted.st_ino));
        assert_eq!(in_root(own, Path::new("/a")).as_deref(), Some(Path::new("/a")));
    }

    #[test]
    fn files_of_memfd_create_are_nobody_elses() {
        let device = nameless().expect("a device");
        assert_eq!(device, nameless().expect("a device"));
        let file = tempfile::tempfile().expect("a file");
        let other = rustix::fs::fstat(&file).expect("stat").st_dev;
        assert_ne!(device, rustix::fs::major(other) << 20 | rustix::fs::minor(other));
    }
}
