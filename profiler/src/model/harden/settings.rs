//! The settings that advice comes to where it is followed, so that two can be compared.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::{
    Harden,
    network::{Network, Port},
    read_only::{STICKY, Tmpfs},
    resources::processors,
    user::Ids,
};

/// The name of the setting of [`Setting::ReadOnly`].
pub const READ_ONLY: &str = "read-only";

/// Before the path in the name of a [`Setting::Writable`].
pub const WRITABLE: &str = "writable";

/// The names of all settings but of directories that stay writable, whose are [`WRITABLE`] and a path.
pub const NAMES: [&str; 9] = [
    READ_ONLY,
    "user",
    KUBERNETES_USER,
    KUBERNETES_PORT,
    "network",
    "memory",
    "processes",
    "open-files",
    "cpus",
];

/// The name of a [`Setting::Exception`]: Kubernetes leaves the user as it is.
pub const KUBERNETES_USER: &str = "kubernetes-user";

/// The same: what Docker lets anybody do, Kubernetes lets who has a capability.
pub const KUBERNETES_PORT: &str = "kubernetes-port";

/// What a container is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setting {
    /// The root cannot be written to.
    ReadOnly,
    /// A directory of a read-only root that can: made in memory, or a volume.
    Writable(Option<Tmpfs>),
    /// Its first process is this user, in these supplementary groups. The last: it was so while recording, and compose is told nothing.
    User(Ids, BTreeSet<u32>, bool),
    /// What is not as the others say.
    Exception(&'static str),
    /// It is reached at the first, and reaches the second.
    Network([BTreeSet<Port>; 2]),
    /// It has no more, of the unit.
    Limit(u64, Unit),
}

/// What a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// MiB.
    Mib,
    /// Things.
    One,
    /// Thousandths.
    Milli,
}

impl Setting {
    /// Whether it is a user who may have more than one that an image names: root, or one in root's or further groups.
    #[must_use]
    pub fn is_privileged(&self) -> bool {
        match self {
            Setting::User(ids, groups, _) => ids.uid == 0 || ids.gid == 0 || !groups.is_empty(),
            _ => false,
        }
    }

    /// Whether it lets a container do something that `other`, of the same name, does not.
    #[must_use]
    pub fn exceeds(&self, other: &Setting) -> bool {
        match (self, other) {
            (Setting::Writable(Some(one)), Setting::Writable(Some(other))) => {
                one.size_mib > other.size_mib
                    || one.exec && !other.exec
                    || one.mode & !other.mode & !STICKY != 0
                    || other.keeps_files() && !one.keeps_files()
                    || (one.uid, one.gid) != (other.uid, other.gid)
            }
            // a volume lasts, has no bound and executes
            (Setting::Writable(one), Setting::Writable(_)) => one.is_none(),
            (Setting::Network(one), Setting::Network(other)) => {
                one.iter().zip(other).any(|(one, other)| !one.is_subset(other))
            }
            (Setting::Limit(one, _), Setting::Limit(other, _)) => one > other,
            (Setting::User(one, groups, already), Setting::User(other, others, was)) => {
                one != other || !groups.is_subset(others) || *already && !was
            }
            _ => false,
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Setting::ReadOnly => f.write_str("read-only"),
            Setting::Writable(Some(tmpfs)) => write!(f, "tmpfs {}", tmpfs.options()),
            Setting::Writable(None) => f.write_str("volume"),
            Setting::User(ids, groups, already) => {
                write!(f, "{ids}")?;
                if !groups.is_empty() {
                    write!(f, ", groups {}", list(groups))?;
                }
                f.write_str(if *already { ", as it was recorded" } else { "" })
            }
            Setting::Exception(what) => f.write_str(what),
            Setting::Network([listens, connects]) => {
                write!(f, "reached at {}, reaches {}", list(listens), list(connects))
            }
            Setting::Limit(most, Unit::Mib) => write!(f, "{most} MiB"),
            Setting::Limit(most, Unit::One) => write!(f, "{most}"),
            Setting::Limit(most, Unit::Milli) => f.write_str(&processors(*most)),
        }
    }
}

fn list<T: fmt::Display>(items: &BTreeSet<T>) -> String {
    if items.is_empty() {
        return "nothing".to_owned();
    }
    items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

/// By name, what is set, and why. Reasons may quote hostile text.
pub(super) fn of(harden: &Harden) -> BTreeMap<String, (Setting, BTreeSet<String>)> {
    let mut settings = BTreeMap::new();
    if let Some(advice) = harden.read_only.as_ref().filter(|advice| advice.is_advised()) {
        settings.insert(READ_ONLY.to_owned(), (Setting::ReadOnly, BTreeSet::new()));
        for place in &advice.places {
            let name = format!("{WRITABLE}{}", place.path);
            settings.insert(name, (Setting::Writable(place.tmpfs), place.why.clone()));
        }
    }
    if let Some(advice) = &harden.user
        && let Some(ids) = advice.applied()
    {
        let user = Setting::User(ids, advice.groups.clone(), advice.already);
        settings.insert("user".to_owned(), (user, advice.why.clone()));
        if harden.user_in_kubernetes().is_none() {
            let why = "where a volume is its own, or a port needs no capability, is not known";
            let open = Setting::Exception("as the image says");
            settings.insert(KUBERNETES_USER.to_owned(), (open, [why.to_owned()].into()));
        }
    }
    if harden.binds_low() {
        let added = Setting::Exception("NET_BIND_SERVICE is added");
        settings.insert(KUBERNETES_PORT.to_owned(), (added, BTreeSet::new()));
    }
    if let Some(Network { listens, connects, .. }) =
        harden.network.as_ref().filter(|advice| advice.is_advised())
    {
        let network = Setting::Network([listens.clone(), connects.clone()]);
        settings.insert("network".to_owned(), (network, BTreeSet::new()));
    }
    let limits = harden.resources.iter().flat_map(|limits| {
        [
            ("memory", limits.memory_mib, Unit::Mib),
            ("processes", limits.pids, Unit::One),
            ("open-files", limits.open_files, Unit::One),
            ("cpus", limits.cpu_millis, Unit::Milli),
        ]
    });
    for (name, most, unit) in limits {
        if let Some(most) = most {
            settings.insert(name.to_owned(), (Setting::Limit(most, unit), BTreeSet::new()));
        }
    }
    settings
}
