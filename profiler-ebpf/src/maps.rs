//! Every map, with its bound. A full map counts a loss; it never stops what it observes.

use core::{borrow::Borrow, intrinsics};

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, PerCpuArray, PerCpuHashMap, Queue, RingBuf},
};
use profiler_common::{
    entries::{Entries, Filter, FilterKey},
    evidence::{
        ArgumentsKey, CallKey, Check, CheckKey, Denial, DenialKey, Executed, ExecutedKey, MakerKey,
        Makers, PENDING_CHECKS, Seen, Sighting, Stack, Watch, watch,
    },
    scope::{
        BUCKETS, Control, Here, Joined, Lookup, PAIRS, PATH_LEN, Scope, Slot, Stamp, Target, Twins,
        loss,
    },
};

/// Elements are allocated when they are needed.
const ON_DEMAND: u32 = 1; // BPF_F_NO_PREALLOC

/// Bucket words written by user space alone: see `profiler_common::scope::bucket_word`.
#[map]
pub static BUCKETS_CHOSEN: Array<u64> = Array::with_max_entries(BUCKETS, 0);

/// Written by the kernel side alone: non-zero when `SCOPES` must be asked for this bucket.
#[map]
pub static BUCKETS_ADOPTED: Array<u64> = Array::with_max_entries(BUCKETS, 0);

/// Cgroup id to scope: the truth behind the two tables above.
#[map]
pub static SCOPES: HashMap<u64, Scope> = HashMap::with_max_entries(16_384, ON_DEMAND);

/// Paths of cgroups that are adopted when they are created, as the kernel writes them, to their slots.
#[map]
pub static WANTED: HashMap<[u8; PATH_LEN], Slot> = HashMap::with_max_entries(64, ON_DEMAND);

/// Single entry: the path of the cgroup that is being created. Used under cgroup_mutex only.
#[map]
pub static PATH: Array<[u8; PATH_LEN]> = Array::with_max_entries(1, 0);

/// The slot of each process in scope, by tgid.
#[map]
pub static MEMBERS: HashMap<u32, Slot> = HashMap::with_max_entries(32_768, ON_DEMAND);

/// Slots that a new candidate may take; zeroed and filled by user space.
#[map]
pub static FREE_SLOTS: Queue<Slot> = Queue::with_max_entries(256, 0);

/// The target of each slot.
#[map]
pub static SLOTS: Array<Target> = Array::with_max_entries(256, 0);

/// Where the evidence of each target goes now. Only user space writes it.
#[map]
pub static EVIDENCE: Array<Stamp> = Array::with_max_entries(256, 0);

/// The workload's calls by the machine's own ABI, per slot.
#[map]
pub static SEEN: Array<Seen> = Array::with_max_entries(256, 0);

/// Calls by another ABI, and the runtime's, of the numbers that have a cell in `SEEN`.
#[map]
pub static BESIDE: HashMap<CallKey, Makers> = HashMap::with_max_entries(32_768, ON_DEMAND);

/// Calls of any other number.
#[map]
pub static SPARSE: HashMap<CallKey, Makers> = HashMap::with_max_entries(4096, ON_DEMAND);

/// Which calls' arguments are kept. Written by user space, before anything is in scope.
#[map]
pub static WATCHED: Array<Watch> = Array::with_max_entries(watch::PLACES, 0);

/// With which arguments watched calls were made, and by whom last.
#[map]
pub static ARGUMENTS: HashMap<ArgumentsKey, Makers> = HashMap::with_max_entries(32_768, ON_DEMAND);

/// Of `ARGUMENTS`, what threads of this processor were seen to do last, at places that are told by a hash: asking a hash map costs more than
/// all the rest.
#[map]
pub static RECENT: PerCpuArray<Made> = PerCpuArray::with_max_entries(RECENT_PLACES, 0);

/// How many places there are: a power of two.
pub const RECENT_PLACES: u32 = 128;

/// A call with its arguments, and which thread made it, as words: of the slot's use, the call, the values, and the maker's.
pub type Made = [u64; 6];

/// Who did what.
#[map]
pub static MAKERS: HashMap<MakerKey, Sighting> = HashMap::with_max_entries(32_768, ON_DEMAND);

/// An all-zero `Sighting` to insert: old kernels count the stacks of caller and callee together.
#[map]
pub static SIGHTING_ZERO: PerCpuArray<Sighting> = PerCpuArray::with_max_entries(1, 0);

/// Where a call was made first. User space makes it small when nobody wants to know.
#[map]
pub static STACKS: HashMap<CallKey, Stack> = HashMap::with_max_entries(4096, ON_DEMAND);

/// An all-zero `Stack` to insert: too large for the stacks of old kernels.
#[map]
pub static STACK_ZERO: PerCpuArray<Stack> = PerCpuArray::with_max_entries(1, 0);

/// How often each call was made, on each CPU: a word that all of them write would go from one to the other. Allocated at once, as
/// old kernels cannot allocate such entries later; user space makes it small when nobody wants to know.
#[map]
pub static COUNTS: PerCpuHashMap<CallKey, u64> = PerCpuHashMap::with_max_entries(8192, 0);

/// Capability checks.
#[map]
pub static CHECKS: HashMap<CheckKey, Check> = HashMap::with_max_entries(8192, ON_DEMAND);

/// An all-zero `Check` to insert: old kernels count the stacks of caller and callee together, up to 512 bytes.
#[map]
pub static CHECK_ZERO: PerCpuArray<Check> = PerCpuArray::with_max_entries(1, 0);

/// Files that root executed.
#[map]
pub static EXECUTED: HashMap<ExecutedKey, Executed> = HashMap::with_max_entries(4096, ON_DEMAND);

/// An all-zero `Executed` to insert.
#[map]
pub static EXECUTED_ZERO: PerCpuArray<Executed> = PerCpuArray::with_max_entries(1, 0);

/// Those of them that user space should look at now, in bytes.
#[map]
pub static EXECUTIONS: RingBuf = RingBuf::with_byte_size(128 << 10, 0);

/// Checks that the kernel has not answered, by tid. Only with kprobes, which see question and answer apart.
#[map]
pub static ASKED: HashMap<u32, CheckKey> = HashMap::with_max_entries(8192, ON_DEMAND);

/// Denied calls.
#[map]
pub static DENIALS: HashMap<DenialKey, Denial> = HashMap::with_max_entries(4096, ON_DEMAND);

/// Processes that joined and have not executed the entry point, by tgid.
#[map]
pub static JOINED: HashMap<u32, Joined> = HashMap::with_max_entries(8192, ON_DEMAND);

/// Single entry: how many processes `JOINED` holds, so that an empty one costs no look-up.
#[map]
pub static JOINED_COUNT: Array<u64> = Array::with_max_entries(1, 0);

/// Who came into each target.
#[map]
pub static ENTRIES: Array<Entries> = Array::with_max_entries(256, 0);

/// The filters of those. User space makes it small when nobody wants to know, and else takes them out at every tick.
#[map]
pub static FILTERS: HashMap<FilterKey, Filter> = HashMap::with_max_entries(64, ON_DEMAND);

/// An all-zero `Filter` to insert: too large for the stack.
#[map]
pub static FILTER_ZERO: Array<Filter> = Array::with_max_entries(1, 0);

/// What user space wants just now.
#[map]
pub static CONTROL: Array<Control> = Array::with_max_entries(1, 0);

/// Losses, by `profiler_common::scope::loss`.
#[map]
pub static LOSSES: Array<u64> = Array::with_max_entries(loss::COUNT, 0);

/// Checks whose syscall has not returned.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Pending {
    /// `Control::outcomes` when they were noted.
    pub generation: u32,
    /// How many of `keys` are set.
    pub len: u32,
    /// Distinct checks.
    pub keys: [CheckKey; PENDING_CHECKS],
}

/// Pending checks by tid.
#[map]
pub static PENDING: HashMap<u32, Pending> = HashMap::with_max_entries(8192, ON_DEMAND);

/// An all-zero `Pending` to insert: too large for the stack.
#[map]
pub static PENDING_ZERO: PerCpuArray<Pending> = PerCpuArray::with_max_entries(1, 0);

/// Whether a thread is between entry and exit, by the lower bits of its tid: see `outcome`. The upper half of each word is the tid.
#[map]
pub static INSIDE: Array<u64> = Array::with_max_entries(INSIDE_PLACES, 0);

/// The check that a thread was seen to be asked last, by the lower bits of its tid; user space makes it small where programs have no
/// twins. Any other thread may write over it.
#[map]
pub static CHECKED: Array<Checked> = Array::with_max_entries(CHECKED_PLACES, 0);

/// What is left for the twin of `cap_capable`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Checked {
    /// Thread, capability and verdict; 0 when the twin has taken it.
    pub what: u64,
    /// Where on the stack the arguments were, which tells who asked.
    pub context: u64,
    /// The same of the twin.
    pub twin: u64,
}

/// How many threads have a place of their own there: a power of two.
pub const CHECKED_PLACES: u32 = 4096;

/// Programs that are attached twice.
#[map]
pub static TWINS: Array<Twins> = Array::with_max_entries(PAIRS, 0);

/// Single entry: what is known of a processor.
#[map]
pub static HERE: PerCpuArray<Here> = PerCpuArray::with_max_entries(1, 0);

/// Single entry: who wants to know of twins.
#[map]
pub static LOOKUP: Array<Lookup> = Array::with_max_entries(1, 0);

/// How many threads have a place of their own, as long as no two share these bits: a power of two.
pub const INSIDE_PLACES: u32 = 32_768;

/// Which thread a place belongs to.
#[map]
pub static INSIDE_OWNERS: HashMap<u32, u32> = HashMap::with_max_entries(INSIDE_PLACES, ON_DEMAND);

/// The same as in `INSIDE`, of threads whose place another one has, by tid.
#[map]
pub static INSIDE_SHARED: HashMap<u32, u32> = HashMap::with_max_entries(32_768, ON_DEMAND);

/// Counts an entry that found its table full.
pub fn lost(what: u32) {
    if let Some(count) = LOSSES.get_ptr_mut(what) {
        add(count, 1);
    }
}

/// The entry of a key, which is made if need be. A full map counts as a loss of `what`.
#[inline(always)]
pub fn get_or_insert<K, V>(
    map: &HashMap<K, V>,
    key: &K,
    new: impl Borrow<V>,
    what: u32,
) -> Option<*mut V> {
    let entry = entry(map, key, new);
    if entry.is_none() {
        lost(what);
    }
    entry
}

/// The same; `None` when the map is full.
#[inline(always)]
pub fn entry<K, V>(map: &HashMap<K, V>, key: &K, new: impl Borrow<V>) -> Option<*mut V> {
    const NOEXIST: u64 = 1;
    const EEXIST: i32 = -17;
    if let Some(value) = map.get_ptr_mut(key) {
        return Some(value);
    }
    match map.insert(key, new, NOEXIST) {
        Ok(()) | Err(EEXIST) => map.get_ptr_mut(key),
        Err(_) => None,
    }
}

/// Atomic addition that compiles to BPF_XADD, which every supported kernel has.
#[inline(always)]
pub fn add(cell: *mut u64, n: u64) {
    // SAFETY: `cell` points into a live map value, aligned to eight bytes. `AtomicU64` has no
    // `fetch_add` on this target, which lacks compare-and-swap.
    unsafe {
        intrinsics::atomic_xadd::<u64, u64, { intrinsics::AtomicOrdering::Relaxed }>(cell, n)
    };
}

/// Current control word.
#[inline(always)]
pub fn control() -> Control {
    CONTROL.get(0).copied().unwrap_or_default()
}
