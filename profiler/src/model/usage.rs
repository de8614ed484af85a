//! What a container used of its machine during a run, beside calls and capabilities: what it wrote to, who its processes were, where
//! it listened, how much it took.
//!
//! Facts, joined towards the larger when a run has several containers. What follows from them is [`crate::model::harden`]'s.

mod join;

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::recording::{Program, is_zero};

/// What was seen of one run's containers. All of it was read from outside, from the kernel's own records of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// How often it was looked at. What lives shorter than the time between two looks can be missing where the kernel keeps no record.
    pub looks: u64,
    /// The longest time between two looks, or between the last one and the end, in milliseconds.
    pub longest_gap_ms: u64,
    /// The root file system.
    pub root: Root,
    /// Whose the files of the image are; absent when that could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,
    /// Directories that are for scratch in most images and in which this one has files.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub occupied: BTreeSet<String>,
    /// What else the engine mounted for the container, sorted by path: volumes, bind mounts, tmpfs. Not what every container has.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub mounts: BTreeSet<Mount>,
    /// Who its processes were.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub users: BTreeSet<User>,
    /// Where it listened, and whom it was connected to.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub sockets: BTreeSet<Socket>,
    /// The lowest port that needs no capability to be bound (`net.ipv4.ip_unprivileged_port_start`); absent when it was not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unprivileged_port_start: Option<u16>,
    /// How much it took.
    pub resources: Resources,
}

/// The root file system of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Root {
    /// It was mounted read-only already.
    ReadOnly {},
    /// An overlay: the kernel copies up what is opened for writing, changed or renamed, and the directory of what is created or
    /// removed, so its upper layer tells of every change, also of one that was undone.
    Layer {
        /// What the upper layer holds, sorted by path.
        changes: BTreeSet<Change>,
        /// How many more there were than are kept.
        #[serde(default, skip_serializing_if = "is_zero")]
        more: u64,
    },
    /// No such record can be read; why, for people.
    Unknown {
        /// Why.
        reason: String,
    },
}

impl Default for Root {
    fn default() -> Root {
        Root::Unknown { reason: "it was not looked at".to_owned() }
    }
}

/// Something in the writable layer. Directories of image layers that were copied up only because something below them was, are left out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Absolute, as the container sees it. Hostile text; bytes that are not UTF-8 are `\xNN`.
    pub path: String,
    /// What happened to it.
    pub how: How,
    /// What it is.
    pub file: FileKind,
    /// Its permission bits, with set-user-id, set-group-id and sticky.
    pub mode: u32,
    /// Its owner, in the container's user namespace where that is known.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// The largest size seen, in bytes; of a directory the largest sum of what was in it.
    pub bytes: u64,
    /// It was executed, or mapped executable by a process that was looked at; or it is a regular file that is not in the image as it
    /// is, with a permission to execute it and the first bytes of a program or a script, which may have run between two looks.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub executed: bool,
}

/// What happened to a path of the root.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// It is not in the image.
    Created,
    /// It is in the image, and was opened for writing, or its owner, mode, times or attributes were changed.
    Changed,
    /// It is in the image, and was removed or renamed.
    Removed,
    /// A directory of the image in which something was created, removed or renamed that is not there any more.
    Visited,
}

/// What kind of file.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum FileKind {
    /// A directory.
    Directory,
    /// A regular file.
    Regular,
    /// A symbolic link, a socket, a FIFO or a device.
    Other,
}

/// Whose the files of an image are, as far as it matters to who may use it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// What the image itself has at the paths that were changed, where something is mounted, and in the directories above.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub originals: BTreeSet<Owned>,
    /// Files that not everybody can read, or execute though somebody can. Where a directory around one keeps others out, the file is there with that one's owner and bits, too.
    /// Programs that are set-user-ID or set-group-ID are left out.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub restricted: BTreeSet<Owned>,
    /// How many more there are than are kept, and directories that were not read, at the least.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: u64,
}

/// Whose a file or directory is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Owned {
    /// Absolute, as the container sees it. Hostile text; bytes that are not UTF-8 are `\xNN`.
    pub path: String,
    /// Its owner, in the container's user namespace.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its permission bits, with set-user-id, set-group-id and sticky.
    pub mode: u32,
    /// It is a directory. Of a restricted file: owner and bits are those of a directory around it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub directory: bool,
}

/// A mount other than the root that the engine made for the container.
#[derive(
    Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// Where, as the container sees it. Hostile text.
    pub path: String,
    /// The file system's type, `ext4`, `tmpfs`.
    pub filesystem: String,
    /// It cannot be written to.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// It is a volume that the engine keeps: a new one is filled with what the image has there, owners included.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub volume: bool,
    /// Whose it was at the looks; of a tmpfs as its options say. Empty when that could not be asked.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub owners: BTreeSet<Owned>,
    /// Largest use in bytes, of a tmpfs only: of others it is not the container's alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// Who a process was.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// Effective user id, in the container's user namespace.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
    /// Supplementary groups.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub groups: BTreeSet<u32>,
    /// It was the container's first process.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub first: bool,
    /// Which programs ran so.
    pub programs: BTreeSet<Program>,
}

/// A socket of the container's network namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Socket {
    /// What it does.
    pub role: Role,
    /// Which protocol.
    pub protocol: Protocol,
    /// The address that it is bound to, or, connected, the peer's.
    pub address: std::net::IpAddr,
    /// The port: its own, or, connected, the peer's.
    pub port: u16,
    /// Which program holds it; absent when no process was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<Program>,
}

/// What a socket does.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Waits for connections, or, of UDP, is bound and not connected.
    Listening,
    /// Connected by the container itself.
    Connected,
}

/// Which protocol.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// How much a container took. What the kernel does not count on this machine is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Peak of memory in bytes, page cache included (`memory.peak`, `memory.max_usage_in_bytes`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Peak of memory that cannot be given back, in bytes: anonymous and shared memory at a look (`memory.stat`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anonymous_bytes: Option<u64>,
    /// Peak of processes and threads (`pids.peak`, or the largest at a look).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u64>,
    /// Most descriptors that a process had open at a look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_files: Option<u64>,
    /// Processor time in microseconds over the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_us: Option<u64>,
    /// Most processors kept busy between two looks at least half a second apart, in thousandths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_millis: Option<u64>,
}
