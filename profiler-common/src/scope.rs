//! Which cgroups are observed, and which evidence slot each writes to.

use crate::suspended::Suspended;

/// Index of a target, and of a set of evidence. Several cgroups (a container and its children) are one target.
/// It writes to the evidence of its own index, or, under a test label, to another that no target has.
pub type Slot = u32;

/// Value of `EVIDENCE`, by target: the slot that its evidence goes to, and in the upper half how often that
/// slot was used before.
pub type Stamp = u32;

/// A slot, and how often it was used before.
#[must_use]
pub const fn stamp(slot: Slot, uses: u16) -> Stamp {
    slot | (uses as u32) << 16
}

/// The slot of a stamp.
#[must_use]
pub const fn slot_of(stamp: Stamp) -> Slot {
    stamp & 0xffff
}

/// Buckets of the direct-mapped scope table; a power of two.
pub const BUCKETS: u32 = 16_384;

/// In a bucket's word: the hash must be asked too, because several cgroups fall into the bucket.
pub const CROWDED: u64 = 1 << 31;

/// The word of the direct-mapped table for a cgroup: low half of its id, and its slot.
///
/// The low half of a cgroup id is its inode number, unique among the cgroups that exist
/// (<https://elixir.bootlin.com/linux/v6.12/source/fs/kernfs/dir.c#L637>).
#[must_use]
pub const fn bucket_word(cgroup_id: u64, slot: Slot) -> u64 {
    ((cgroup_id & 0xffff_ffff) << 32) | (slot as u64 & 0xffff)
}

/// Length of the name kept of a cgroup: `docker-<64 hex>.scope` fits.
pub const NAME_LEN: usize = 96;

/// Room for the path of a wanted cgroup, NUL-terminated: the longest key that a hash map takes.
pub const PATH_LEN: usize = 512;

/// How a cgroup came into scope.
pub mod kind {
    /// User space asked for it.
    pub const CHOSEN: u32 = 0;
    /// Created while candidates are adopted, with a name as long as a container id; or at a wanted path.
    pub const CANDIDATE: u32 = 1;
    /// Created inside a cgroup that is in scope.
    pub const CHILD: u32 = 2;
    /// A candidate whose cgroup was removed: nothing more will happen in it.
    pub const ENDED: u32 = 3;
    /// Created by the workload of a target, outside of the target's cgroup. What others create in it, or move to it, is theirs.
    pub const MADE: u32 = 4;
}

/// Value of `SCOPES`, keyed by cgroup id.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Scope {
    /// Where its evidence goes.
    pub slot: Slot,
    /// One of [`kind`].
    pub kind: u32,
    /// Last component of its path, NUL-terminated; empty for chosen and wanted ones.
    pub name: [u8; NAME_LEN],
}

/// What is known of the target that a slot serves. Value of `SLOTS`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Target {
    /// `cred.user_ns` of the entry point; 0 until it was executed.
    pub user_ns: u64,
    /// `nsproxy.mnt_ns` of whoever moved the first process in: the runtime's; 0 until then.
    pub mnt_ns: u64,
    /// Cgroups that were created inside its cgroup, or elsewhere by its workload.
    pub inner_cgroups: u64,
    /// Processes that left its cgroup.
    pub left: u64,
    /// One of [`slot_kind`].
    pub kind: u32,
    /// 1 when a process that another one had moved in executed under a filter or in a mount namespace of its
    /// own: the target has a runtime.
    pub runtime: u32,
    /// 1 when its workload called setns(2), under whatever label.
    pub calls_setns: u32,
    /// Zero.
    pub reserved: u32,
}

/// Values of [`Target::kind`].
pub mod slot_kind {
    /// The entry point is executed in another mount namespace than the runtime's.
    pub const CONTAINER: u32 = 0;
    /// The first successful execve after joining is the entry point's.
    pub const COMMAND: u32 = 1;
    /// As `CONTAINER`, but its entry point was executed before.
    pub const RUNNING: u32 = 2;
    /// As `CONTAINER` if a runtime shows; else all that happens in it is the target's.
    pub const CGROUP: u32 = 3;
    /// As `CGROUP`, but processes were in it before.
    pub const RUNNING_CGROUP: u32 = 4;
}

/// Single entry of `CONTROL`, written by user space while programs run.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Control {
    /// New cgroups with a container id in their name are adopted.
    pub adopt: u32,
    /// `sys_exit` is attached and outcomes of capability checks are wanted; a generation number.
    pub outcomes: u32,
    /// `sys_exit` is attached and denied calls are wanted; a generation number.
    pub denials: u32,
    /// Programs have twins, which are attached after them: see [`Twins`].
    pub twins: u32,
}

/// Two programs of one tracepoint that do the same, attached one after the other: where programs of tracepoints can be preempted, one that
/// is suspended on a processor is not run there for another task, and then the other sees what there was to see.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Twins {
    /// The two as files of the process that loads them, from user space.
    pub fds: [u32; 2],
    /// Their `bpf_prog.active`, a per-CPU counter: not 0 while a program runs, or is suspended.
    pub active: [u64; 2],
    /// How often a task in scope ran on a processor where others were suspended in both.
    pub both: u64,
}

/// How many pairs there are.
pub const PAIRS: u32 = 3;

/// Single entry of `LOOKUP`: who wants the addresses in [`Twins`] to be found.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Lookup {
    /// A thread of the process that has the files; they are found when a processor goes on with another. 0 for none.
    pub tid: u32,
    /// The file of the program that finds them.
    pub fd: u32,
    /// Where the entry of `HERE` is before a processor's offset is added; 0 until the finding program has seen by its own counter, and those of
    /// programs that are not attached, that this is how they are read.
    pub anywhere: u64,
}

/// Single entry of `HERE`, of each processor.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Here {
    /// Its own address.
    pub address: u64,
    /// In the order of `TWINS`.
    pub suspended: [Suspended; PAIRS as usize],
}

/// Value of `JOINED`, keyed by tgid: a process that came from outside and has not yet executed the
/// entry point.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Joined {
    /// `task_struct.seccomp.filter` when it joined; another value now means that a filter was loaded.
    pub filter: u64,
    /// `nsproxy.mnt_ns` of whoever moved it here: the runtime's mount namespace.
    pub mnt_ns: u64,
}

/// Counters of entries that found their table full: indexes of `LOSSES`.
pub mod loss {
    /// Syscall numbers outside the dense table.
    pub const SYSCALLS: u32 = 0;
    /// Kinds of capability check.
    pub const CAPABILITIES: u32 = 1;
    /// Kinds of denial.
    pub const DENIALS: u32 = 2;
    /// Who did something, and in which test.
    pub const ATTRIBUTION: u32 = 3;
    /// Cgroups.
    pub const SCOPES: u32 = 4;
    /// Threads: runtime processes or pending outcomes.
    pub const THREADS: u32 = 5;
    /// User stacks.
    pub const STACKS: u32 = 6;
    /// Combinations of arguments; any counts as seen of the call.
    pub const ARGUMENTS: u32 = 7;
    /// Files that root executed.
    pub const FILES: u32 = 8;
    /// Counts of calls.
    pub const COUNTS: u32 = 9;
    /// How many there are.
    pub const COUNT: u32 = 10;
}

const _: () = assert!(size_of::<Scope>() == 104 && size_of::<Joined>() == 16);
const _: () = assert!(size_of::<Target>() == 48 && size_of::<Twins>() == 32);
const _: () = assert!(size_of::<Lookup>() == 16 && size_of::<Here>() == 56);
const _: () = assert!(size_of::<Control>() == 16 && BUCKETS.is_power_of_two());

#[cfg(feature = "user")]
mod pod {
    #![expect(unsafe_code, reason = "aya::Pod is an unsafe trait")]

    // SAFETY: `repr(C)`, no padding (sizes asserted), any bit pattern is a value.
    unsafe impl aya::Pod for super::Scope {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Control {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Joined {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Target {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Twins {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Lookup {}
}
