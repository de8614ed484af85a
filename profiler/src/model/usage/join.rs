//! Joining what several containers of one run used: unions and maxima, so that neither order nor repetition matters.

use std::collections::{BTreeMap, BTreeSet};

use super::{Change, Image, Mount, Resources, Root, Socket, Usage, User};

impl Usage {
    /// What either of them used. Commutative, associative and idempotent.
    #[must_use]
    pub fn joined(self, other: Usage) -> Usage {
        Usage {
            looks: self.looks.max(other.looks),
            longest_gap_ms: self.longest_gap_ms.max(other.longest_gap_ms),
            root: self.root.joined(other.root),
            image: self.image.zip(other.image).map(|(one, other)| one.joined(other)),
            occupied: &self.occupied | &other.occupied,
            mounts: mounts(self.mounts.into_iter().chain(other.mounts)),
            users: users(self.users.into_iter().chain(other.users)),
            sockets: sockets(self.sockets.into_iter().chain(other.sockets)),
            unprivileged_port_start: self
                .unprivileged_port_start
                .max(other.unprivileged_port_start),
            resources: self.resources.joined(&other.resources),
        }
    }

    /// The same, each thing said once.
    #[must_use]
    pub fn canonical(self) -> Usage {
        self.clone().joined(self)
    }
}

impl Root {
    /// What is not known of one is not known of both; a root that was written to says more than one that could not be.
    fn joined(self, other: Root) -> Root {
        match (self, other) {
            (Root::Unknown { reason: a }, Root::Unknown { reason: b }) => {
                Root::Unknown { reason: a.min(b) }
            }
            (unknown @ Root::Unknown { .. }, _) | (_, unknown @ Root::Unknown { .. }) => unknown,
            (Root::ReadOnly {}, Root::ReadOnly {}) => Root::ReadOnly {},
            (Root::Layer { changes: a, more: n }, Root::Layer { changes: b, more: m }) => {
                Root::Layer { changes: changes(a.into_iter().chain(b)), more: n.max(m) }
            }
            (Root::ReadOnly {}, Root::Layer { changes: one, more })
            | (Root::Layer { changes: one, more }, Root::ReadOnly {}) => {
                Root::Layer { changes: changes(one.into_iter()), more }
            }
        }
    }
}

impl Image {
    fn joined(self, other: Image) -> Image {
        Image {
            originals: &self.originals | &other.originals,
            restricted: &self.restricted | &other.restricted,
            more: self.more.max(other.more),
        }
    }
}

impl Resources {
    fn joined(&self, other: &Resources) -> Resources {
        Resources {
            memory_bytes: self.memory_bytes.max(other.memory_bytes),
            anonymous_bytes: self.anonymous_bytes.max(other.anonymous_bytes),
            pids: self.pids.max(other.pids),
            open_files: self.open_files.max(other.open_files),
            cpu_us: self.cpu_us.max(other.cpu_us),
            cpu_millis: self.cpu_millis.max(other.cpu_millis),
        }
    }
}

/// One for each path, what happened to it, what it is and whose.
fn changes(all: impl Iterator<Item = Change>) -> BTreeSet<Change> {
    let mut by_key: BTreeMap<_, Change> = BTreeMap::new();
    for change in all {
        let key = (change.path.clone(), change.how, change.file, change.uid, change.gid);
        let known = by_key.entry(key).or_insert_with(|| change.clone());
        known.mode |= change.mode;
        known.bytes = known.bytes.max(change.bytes);
        known.executed |= change.executed;
    }
    by_key.into_values().collect()
}

fn mounts(all: impl Iterator<Item = Mount>) -> BTreeSet<Mount> {
    let mut by_key: BTreeMap<_, Mount> = BTreeMap::new();
    for mount in all {
        let key = (mount.path.clone(), mount.filesystem.clone());
        let known = by_key.entry(key).or_insert_with(|| mount.clone());
        known.bytes = known.bytes.max(mount.bytes);
        known.read_only &= mount.read_only;
        known.volume |= mount.volume;
        known.owners.extend(mount.owners);
    }
    by_key.into_values().collect()
}

fn users(all: impl Iterator<Item = User>) -> BTreeSet<User> {
    let mut by_key: BTreeMap<_, User> = BTreeMap::new();
    for user in all {
        let key = (user.uid, user.gid, user.groups.clone());
        let known = by_key.entry(key).or_insert_with(|| user.clone());
        known.first |= user.first;
        known.programs.extend(user.programs);
    }
    by_key.into_values().collect()
}

/// That nobody was found to hold a socket means nothing where somebody was.
fn sockets(all: impl Iterator<Item = Socket>) -> BTreeSet<Socket> {
    let mut joined: BTreeSet<Socket> = all.collect();
    let held: BTreeSet<Socket> = joined
        .iter()
        .filter(|socket| socket.program.is_some())
        .map(|socket| Socket { program: None, ..socket.clone() })
        .collect();
    joined.retain(|socket| !held.contains(socket));
    joined
}
