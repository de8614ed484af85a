//! One container, over all its starts, as it is looked at.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    rc::Rc,
    time::{Duration, Instant},
};

use super::{Started, milliseconds};
use crate::{
    kernel::{
        cgroup::CgroupSetup,
        usage::{
            image::Image,
            layer::{Around, Layer},
            lower::{Overlay, is_of_host, lowers_of_root},
            mounts::{self, Mounted},
            resources::Counters,
            sockets::{self, Holders, InUse, MAX_SOCKETS},
            users::{Ids, Process, Users, executables, started_at},
        },
    },
    model::{
        harden::read_only::SCRATCH,
        usage::{How, Mount, Resources, Root, Socket, Usage},
    },
    target::cgroup::{self, Cgroup},
};

const ROOT: &str = "/";
const PROC: &str = "/proc";

/// How many processes are looked at, and of how many of them descriptors.
const MAX_PROCESSES: usize = 512;
const MAX_HOLDERS: usize = 128;

/// How many paths of executables are remembered, and processes whose mappings were read.
const MAX_EXECUTED: usize = 4_096;
const MAX_MAPPED: usize = 4_096;

/// The tables of sockets are read when something changed, and not more often than this; and when nothing seems to have, after this.
const CHANGED: Duration = Duration::from_secs(1);
const UNCHANGED: Duration = Duration::from_secs(10);

/// At how many looks they are read in any case.
const FIRST: u64 = 3;

/// How many owners of a mount are kept.
const MAX_OWNERS: usize = 8;

/// Processor time is compared over this time at the least.
const BUSY: Duration = Duration::from_millis(500);

/// The images of the containers that are looked at, each once.
#[derive(Clone, Default)]
pub struct Images(Rc<RefCell<Vec<Rc<RefCell<Image>>>>>);

impl Images {
    /// That of these layers.
    fn of(&self, lowers: Vec<PathBuf>) -> Rc<RefCell<Image>> {
        let mut images = self.0.borrow_mut();
        if let Some(known) = images.iter().find(|image| image.borrow().is_of(&lowers)) {
            return Rc::clone(known);
        }
        let image = Rc::new(RefCell::new(Image::new(Path::new(ROOT), lowers)));
        images.push(Rc::clone(&image));
        image
    }

    /// Whether there is nothing left to walk over.
    pub fn are_walked(&self) -> bool {
        self.0.borrow().iter().all(|image| image.borrow().is_walked())
    }

    /// Walks on over one that was not read to its end, for about so long. False when there is none.
    pub fn walk(&self, time: Duration) -> bool {
        let images = self.0.borrow();
        let Some(image) = images.iter().find(|image| !image.borrow().is_walked()) else {
            return false;
        };
        // one that is being removed counts as not read
        image.borrow_mut().walk(time).is_ok()
    }
}

/// What a look came to.
pub enum Looked {
    /// Its entry point does not run yet, or nothing can be read any more.
    NotYet,
    /// It is the so-many-th.
    Times(u64),
}

/// What is known of a container.
pub struct Watch {
    started: Started,
    cgroup: Option<Cgroup>,
    /// What its first process said of it; anew at each start.
    opened: Option<Opened>,
    /// The layer outlives a start.
    root: Result<Layer, Root>,
    /// So does the image.
    image: Option<Rc<RefCell<Image>>>,
    /// Those of all containers.
    images: Images,
    ids: Ids,
    /// Where something is mounted.
    points: BTreeSet<PathBuf>,
    /// Scratch directories in which the image has files.
    occupied: BTreeSet<String>,
    looks: u64,
    looked: Instant,
    longest_gap: Duration,
    mounts: BTreeMap<(String, String), Mount>,
    users: Users,
    sockets: BTreeSet<Socket>,
    /// When their tables were read last, and what was in use then.
    tables: Option<(Instant, InUse)>,
    /// Seen once, on a port that the kernel may have chosen for a client.
    passing: BTreeSet<Socket>,
    executed: BTreeSet<PathBuf>,
    mapped: BTreeSet<u32>,
    resources: Resources,
    /// Processor time at the first look, when it ran before; and what was used since.
    cpu_before: u64,
    cpu_at: Option<(Instant, u64)>,
}

/// A container that is in its own root.
struct Opened {
    /// The process that runs its entry point; `None` while the runtime has not executed that.
    first: Option<u32>,
    table: Vec<Mounted>,
    counters: Counters,
    /// It has a network namespace of its own, or shares one that is not the host's.
    has_network: bool,
}

impl Watch {
    /// Nothing is known yet.
    pub fn new(setup: &CgroupSetup, started: Started, images: Images) -> Watch {
        Watch {
            cgroup: find(setup, started.cgroup),
            started,
            opened: None,
            root: Err(Root::Unknown { reason: "it ended before it could be looked at".to_owned() }),
            image: None,
            images,
            ids: Ids::default(),
            points: BTreeSet::new(),
            occupied: BTreeSet::new(),
            looks: 0,
            looked: Instant::now(),
            longest_gap: Duration::ZERO,
            mounts: BTreeMap::new(),
            users: Users::default(),
            sockets: BTreeSet::new(),
            tables: None,
            passing: BTreeSet::new(),
            executed: BTreeSet::new(),
            mapped: BTreeSet::new(),
            resources: Resources::default(),
            cpu_before: 0,
            cpu_at: None,
        }
    }

    /// It was started once more.
    pub fn again(&mut self, setup: &CgroupSetup, started: Started) {
        self.cgroup = find(setup, started.cgroup);
        self.started = started;
        self.opened = None;
        self.mapped.clear();
        (self.cpu_before, self.cpu_at) = (0, None);
        self.looked = Instant::now();
        if self.cgroup.is_none() {
            // it ended at once; what it wrote is where it was before
            self.look_at_layer();
        }
    }

    /// Whether this is the start that it knows, told once more.
    pub fn is_same_start(&self, started: &Started) -> bool {
        self.cgroup.as_ref().is_some_and(|cgroup| cgroup.id == started.cgroup)
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.started.id
    }

    /// The directory of its cgroup, if it is there.
    pub fn cgroup(&self) -> Option<&Path> {
        self.cgroup.as_ref().map(|cgroup| cgroup.dir.as_path())
    }

    /// Looks; `last` says that there will be no other chance.
    pub fn look(&mut self, last: bool) -> Looked {
        let Some(cgroup) = self.cgroup.clone() else { return Looked::NotYet };
        let pids = cgroup::processes(&cgroup);
        let processes: Vec<Process> = pids
            .iter()
            .take(MAX_PROCESSES)
            .filter_map(|pid| Process::read(Path::new(PROC), *pid))
            .collect();
        if self.opened.as_ref().is_none_or(|opened| opened.first.is_none()) {
            self.open(&cgroup, &pids, &processes);
        }
        let runs = self.opened.as_ref().is_some_and(|opened| opened.first.is_some());
        let opened = self.opened.take_if(|_| runs || last);
        let Some(opened) = opened else {
            if last {
                self.note_gap();
            } else if processes.is_empty() && self.looks == 0 {
                // nothing of its own ran yet
                self.looked = Instant::now();
            }
            return Looked::NotYet;
        };
        self.look_at_processes(&opened, &processes, last);
        self.look_at_resources(&opened);
        let seen = self.look_at_layer();
        self.note_mounts(&opened);
        self.ask_image();
        self.opened = Some(opened);
        self.note_gap();
        if seen {
            self.looks += 1;
            self.looked = Instant::now();
        }
        Looked::Times(self.looks)
    }

    /// Whether there is nothing of the root that could not be read.
    fn look_at_layer(&mut self) -> bool {
        let around =
            Around { mount_points: &self.points, executed: &self.executed, ids: &self.ids };
        match &mut self.root {
            Ok(layer) => layer.look(&around).is_ok(),
            Err(_) => true,
        }
    }

    /// Asks whose it is in the image what was changed, and what is mounted over.
    fn ask_image(&mut self) {
        let Some(image) = &self.image else { return };
        let changes = match &self.root {
            Ok(layer) => layer.changes().0,
            Err(_) => BTreeSet::new(),
        };
        let mounted = self.mounts.keys().map(|(path, _)| Path::new(path));
        let changed = changes.iter().map(|change| match change.how {
            // its own name is in no image
            How::Created => Path::new(&change.path).parent().unwrap_or(Path::new("/")),
            _ => Path::new(&change.path),
        });
        if let Err(error) = image.borrow_mut().ask(mounted.chain(changed)) {
            // it is being removed: what is known of it stands
            tracing::debug!("the image of {} cannot be asked: {error}", self.started.id);
        }
    }

    fn note_gap(&mut self) {
        self.longest_gap = self.longest_gap.max(self.looked.elapsed());
    }

    /// Finds its first process, or, before that, the runtime's that is in the container's root already: one may live for a moment only.
    fn open(&mut self, cgroup: &Cgroup, pids: &[u32], processes: &[Process]) {
        let oldest = processes
            .iter()
            .filter_map(|one| Some((started_at(Path::new(PROC), one.pid)?, one.pid)))
            .min();
        let first = oldest.map(|(_, pid)| pid);
        if first.is_none() && self.opened.is_some() {
            return;
        }
        // the path's end makes it the root itself, not the link
        let root_of = |of: &str| std::fs::metadata(Path::new(PROC).join(of).join("root/")).ok();
        let Some(own) = root_of("self") else { return };
        let in_root = first.map(|pid| vec![pid]).unwrap_or_else(|| pids.to_vec());
        let found = in_root.into_iter().take(MAX_PROCESSES).find_map(|pid| {
            let root = root_of(&pid.to_string())?;
            ((root.dev(), root.ino()) != (own.dev(), own.ino())).then_some((pid, root))
        });
        let Some((pid, root)) = found else { return };
        let process = Path::new(PROC).join(pid.to_string());
        let Ok(table) = mounts::table(&process) else { return };
        self.ids = Ids::of(&process);
        let host = mounts::table(&Path::new(PROC).join("self")).unwrap_or_default();
        let is_of_host = is_of_host(&table, &host);
        let lowers = lowers_of_root(&table).filter(|_| is_of_host);
        self.image = lowers.map(|lowers| self.images.of(lowers));
        let layer = Overlay::of_root(&table).and_then(|overlay| {
            if !is_of_host {
                let reason = "its root is mounted in a namespace of its own".to_owned();
                return Err(Root::Unknown { reason });
            }
            Layer::open(Path::new(ROOT), overlay, Some(root.ino()))
                .map_err(|reason| Root::Unknown { reason })
        });
        match (&self.root, layer) {
            // of another start, and the same: it remembers more
            (Ok(_), Ok(layer)) if self.is_same(&layer) => {}
            (_, layer) => self.root = layer,
        }
        if let Ok(layer) = &self.root {
            self.occupied.extend(layer.occupied(SCRATCH.map(|(path, _)| path)));
        }
        let network = |of: &str| std::fs::read_link(Path::new(PROC).join(of).join("ns/net")).ok();
        let counters = Counters::of(Path::new(ROOT), &cgroup.dir, pid);
        if self.started.ran_before {
            self.cpu_before = counters.read().cpu_us.unwrap_or(0);
        }
        self.points = table.iter().map(|mounted| mounted.point.clone()).collect();
        self.opened = Some(Opened {
            first,
            counters,
            has_network: network(&pid.to_string()) != network("self"),
            table,
        });
    }

    fn is_same(&self, layer: &Layer) -> bool {
        self.root.as_ref().is_ok_and(|known| known.is_of(layer))
    }

    fn look_at_processes(&mut self, opened: &Opened, processes: &[Process], last: bool) {
        let mut holders = Holders::new();
        holders.complete = processes.len() < MAX_HOLDERS;
        for (place, process) in processes.iter().enumerate() {
            let dir = Path::new(PROC).join(process.pid.to_string());
            self.users.add(process, Some(process.pid) == opened.first, &self.ids);
            let mut executed: Vec<PathBuf> = process.exe.iter().cloned().collect();
            if self.mapped.len() >= MAX_MAPPED {
                self.mapped.clear();
            }
            // what is mapped later is seen when the process is looked at anew, a while later
            if self.mapped.insert(process.pid) || self.looks.is_multiple_of(4) {
                executed.extend(executables(&dir));
            }
            let room = MAX_EXECUTED.saturating_sub(self.executed.len());
            self.executed.extend(executed.into_iter().take(room));
            if place < MAX_HOLDERS {
                self.resources.open_files =
                    self.resources.open_files.max(sockets::descriptors(&dir));
                holders.add(Path::new(PROC), process);
            }
        }
        holders.complete |= !opened.has_network;
        // any of them has the same network, but one that went into another
        if let Some(process) = processes.first() {
            self.look_at_sockets(&Path::new(PROC).join(process.pid.to_string()), &holders, last);
        }
    }

    fn look_at_sockets(&mut self, process: &Path, holders: &Holders, last: bool) {
        let in_use = InUse::of(process);
        let is_due = self.looks < FIRST
            || last
            || self.tables.is_none_or(|(at, before)| {
                at.elapsed() >= if in_use == before { UNCHANGED } else { CHANGED }
            });
        if !is_due {
            return;
        }
        self.tables = Some((Instant::now(), in_use));
        for (socket, passing) in sockets::of(process, in_use, holders) {
            if self.sockets.len() >= MAX_SOCKETS {
                break;
            }
            if passing && !self.passing.contains(&socket) {
                if self.passing.len() < MAX_SOCKETS {
                    self.passing.insert(socket);
                }
            } else {
                self.sockets.insert(socket);
            }
        }
    }

    fn look_at_resources(&mut self, opened: &Opened) {
        let counted = opened.counters.read();
        let most = &mut self.resources;
        most.memory_bytes = most.memory_bytes.max(counted.memory);
        most.anonymous_bytes = most.anonymous_bytes.max(counted.anonymous);
        most.pids = most.pids.max(counted.pids);
        let Some(used) = counted.cpu_us else { return };
        most.cpu_us = most.cpu_us.max(Some(used.saturating_sub(self.cpu_before)));
        let now = Instant::now();
        match self.cpu_at {
            None => self.cpu_at = Some((now, used)),
            Some((at, before)) if now.duration_since(at) >= BUSY => {
                let time = u64::try_from(now.duration_since(at).as_micros()).unwrap_or(u64::MAX);
                let busy = used.saturating_sub(before).saturating_mul(1_000) / time.max(1);
                most.cpu_millis = most.cpu_millis.max(Some(busy));
                self.cpu_at = Some((now, used));
            }
            Some(_) => {}
        }
    }

    fn note_mounts(&mut self, opened: &Opened) {
        let first = opened.first.map(|pid| pid.to_string()).unwrap_or_default();
        let root = Path::new(PROC).join(first).join("root");
        for mount in mounts::of_engine(&opened.table, &root, &self.ids) {
            let key = (mount.path.clone(), mount.filesystem.clone());
            if self.mounts.len() < mounts::MAX_MOUNTS || self.mounts.contains_key(&key) {
                let known = self.mounts.entry(key).or_default();
                let bytes = known.bytes.max(mount.bytes);
                // what root gave away at its start was root's before
                let mut owners = std::mem::take(&mut known.owners);
                let room = MAX_OWNERS.saturating_sub(owners.len());
                owners.extend(mount.owners.iter().take(room).cloned());
                *known = Mount { bytes, owners, ..mount };
            }
        }
    }

    /// What was seen so far.
    pub fn usage(&self) -> Usage {
        let root = match &self.root {
            Ok(layer) if layer.is_known() => {
                let (changes, more) = layer.changes();
                Root::Layer { changes, more }
            }
            Ok(_) => Root::Unknown { reason: "its layer could not be read to the end".to_owned() },
            Err(root) => root.clone(),
        };
        Usage {
            looks: self.looks,
            longest_gap_ms: milliseconds(self.longest_gap),
            root,
            occupied: self.occupied.clone(),
            image: self.image.as_ref().map(|image| image.borrow().told(&self.ids)),
            mounts: self.mounts.values().cloned().collect(),
            users: self.users.all(),
            sockets: self.sockets.clone(),
            unprivileged_port_start: self.started.port_start,
            resources: self.resources.clone(),
        }
    }
}

/// The cgroup with an id.
fn find(setup: &CgroupSetup, id: u64) -> Option<Cgroup> {
    let tree = cgroup::at(setup, setup.v2_tree.clone()).ok()?;
    cgroup::with_descendants(&tree).ok()?.into_iter().find(|one| one.id == id)
}
