//! Reading the kernel's structs by injected offsets. Nothing else knows a struct's layout.

use core::mem::MaybeUninit;

use aya_ebpf::{
    EbpfContext, Global,
    helpers::{
        bpf_probe_read_kernel, bpf_probe_read_user,
        generated::{
            bpf_get_current_comm, bpf_get_current_task, bpf_get_current_task_btf, bpf_task_pt_regs,
        },
    },
};
use profiler_common::{
    evidence::{ARGUMENTS, FileId, X32_BIT, abi},
    for_each_global,
};

macro_rules! define {
    ($($name:ident)*) => {
        $(
            #[unsafe(no_mangle)]
            pub static $name: Global<i32> = Global::new(-1);
        )*
    };
}

for_each_global!(define);

/// `TS_COMPAT` of x86's `thread_info.status`
/// (<https://elixir.bootlin.com/linux/v6.12/source/arch/x86/include/asm/thread_info.h#L198>).
const TS_COMPAT: u32 = 0x2;

/// Address of a kernel object; 0 is null.
pub type Address = u64;

/// Whether the kernel hands out the current task and its registers as typed pointers, which plain loads may follow.
/// Linux 5.10 does not. The verifier knows the injected constant and drops the other branch, unknown helpers and all.
#[inline(always)]
fn is_typed() -> bool {
    TASK_HELPERS.load() == 1
}

/// Whether this is a kernel of aarch64; else it is one of x86_64, whose registers have no such field. The verifier knows
/// the constant here, too.
#[inline(always)]
pub fn is_aarch64() -> bool {
    REGS_SYSCALLNO.load() >= 0
}

/// The current `task_struct`.
#[inline(always)]
pub fn current() -> Address {
    // SAFETY: the helpers have no preconditions.
    unsafe {
        if is_typed() { bpf_get_current_task_btf() as Address } else { bpf_get_current_task() }
    }
}

/// Reads a value at `base + offset`. `None` when the offset is absent, the base null, or the read faults.
#[inline(always)]
pub fn read<T>(base: Address, offset: &Global<i32>) -> Option<T> {
    let offset = offset.load();
    if base == 0 || offset < 0 {
        return None;
    }
    read_at(base + offset as u64)
}

#[inline(always)]
fn read_at<T>(address: Address) -> Option<T> {
    // SAFETY: bpf_probe_read_kernel takes any address and fails on a bad one.
    unsafe { bpf_probe_read_kernel(address as *const T) }.ok()
}

/// Reads four bytes anywhere; 0 when that fails.
#[inline(always)]
pub fn word_at(address: Address) -> u32 {
    read_at(address).unwrap_or(0)
}

/// What is behind an open file of a task: for one of an eBPF program, the program.
#[inline(always)]
pub fn file_data(task: Address, fd: u32) -> Option<Address> {
    let table: Address = read(read(task, &TASK_FILES)?, &FILES_FDT)?;
    let files: Address = read(table, &FDTABLE_FD)?;
    read(read_at(files + 8 * u64::from(fd))?, &FILE_PRIVATE_DATA)
}

/// Whether the current task, which ends, is the last one of its process. A leader may end before its threads.
#[inline(always)]
pub fn is_last_thread() -> bool {
    // the count is lowered before the tracepoint, in every version since 5.10
    // (https://elixir.bootlin.com/linux/v6.12/source/kernel/exit.c#L905)
    let signal = read::<Address>(current(), &TASK_SIGNAL).unwrap_or(0);
    read::<u32>(signal, &SIGNAL_LIVE) == Some(0)
}

/// The registers that the current task entered the kernel with.
#[inline(always)]
pub fn current_regs() -> Address {
    if is_typed() {
        // SAFETY: the argument is the current task.
        return unsafe { bpf_task_pt_regs(current() as *mut _) as Address };
    }
    read(current(), &TASK_STACK).map_or(0, |stack: Address| stack + REGS_ON_STACK.load() as u64)
}

/// A word of a `struct pt_regs` that the kernel handed out.
#[inline(always)]
fn register(regs: Address, offset: usize) -> u64 {
    if is_typed() {
        // SAFETY: the offset is within the struct that the verifier has typed.
        unsafe { (regs as *const u8).add(offset).cast::<u64>().read_volatile() }
    } else {
        read_at(regs + offset as u64).unwrap_or(0)
    }
}

/// The number that a call was made with.
#[inline(always)]
pub fn number(regs: Address) -> i64 {
    /// Offset in x86_64's `struct pt_regs`, which is user-space ABI (`ptrace(2)`).
    const ORIG_AX: usize = 120;
    if !is_aarch64() {
        return register(regs, ORIG_AX) as i64;
    }
    let syscallno = if is_typed() {
        let at = regs + REGS_SYSCALLNO.load() as u64;
        // SAFETY: the verifier has typed the struct, and the offset comes from this kernel's BTF.
        unsafe { (at as *const i32).read_volatile() }
    } else {
        read(regs, &REGS_SYSCALLNO).unwrap_or(-1)
    };
    i64::from(syscallno)
}

/// The number of the call that a filter ended the current task for. On the way to its end aarch64 forgets it
/// (<https://elixir.bootlin.com/linux/v6.12/source/arch/arm64/kernel/signal.c>, `forget_syscall`), but not the register that it was given in.
#[inline(always)]
pub fn last_number(regs: Address) -> i64 {
    let nr = number(regs);
    if is_aarch64() && nr == -1 { i64::from(given_number(regs)) } else { nr }
}

/// The register in which aarch64 is given a call's number. The kernel leaves it as it is, but for a program that it executes: all
/// of its registers are 0.
#[inline(always)]
pub fn given_number(regs: Address) -> i32 {
    const NATIVE: usize = 8 * 8; // x8
    const COMPAT: usize = 7 * 8; // r7
    register(regs, if is_mode32(regs) { COMPAT } else { NATIVE }) as i32
}

/// Whether an aarch64 kernel was entered by a 32-bit program.
#[inline(always)]
fn is_mode32(regs: Address) -> bool {
    /// Offset in arm64's `struct user_pt_regs`, which is user-space ABI, and `PSR_MODE32_BIT` of the field
    /// (<https://elixir.bootlin.com/linux/v6.12/source/arch/arm64/include/uapi/asm/ptrace.h#L36>).
    const PSTATE: usize = 264;
    const MODE32: u64 = 0x10;
    register(regs, PSTATE) & MODE32 != 0
}

/// Where a native call returns to, if the function that makes it has no frame.
#[inline(always)]
pub fn caller(regs: Address) -> Address {
    /// Offset in x86_64's `struct pt_regs`, as with [`number`].
    const SP: usize = 152;
    /// Offset of x30, in which arm64 keeps the address.
    const LINK: usize = 30 * 8;
    if is_aarch64() {
        return register(regs, LINK);
    }
    read_user(register(regs, SP)).unwrap_or(0)
}

/// Where the stack of the current program begins: another place after each execve. 0 when unknown.
#[inline(always)]
pub fn program() -> Address {
    read::<Address>(current(), &TASK_MM).and_then(|mm| read(mm, &MM_START_STACK)).unwrap_or(0)
}

/// An argument of a call.
#[inline(always)]
pub fn argument(regs: Address, abi: u8, index: usize) -> u64 {
    /// Offsets in x86_64's `struct pt_regs`, as with [`number`].
    const NATIVE: [usize; ARGUMENTS] = [112, 104, 96, 56, 72, 64]; // di, si, dx, r10, r8, r9
    const COMPAT: [usize; ARGUMENTS] = [40, 88, 96, 104, 112, 32]; // bx, cx, dx, si, di, bp
    let offset = if is_aarch64() {
        // arm64's begin with x0 to x30; the first holds the result when the call returns
        if index == 0 { REGS_ORIG_X0.load() as usize } else { 8 * index }
    } else if abi == abi::COMPAT {
        COMPAT[index]
    } else {
        NATIVE[index]
    };
    register(regs, offset)
}

/// An argument of the function that a kprobe is at the beginning of.
#[inline(always)]
pub fn parameter(ctx: &impl EbpfContext, index: usize) -> Option<u64> {
    /// Offsets in x86_64's `struct pt_regs`: di, si, dx, cx.
    const X86_64: [usize; 4] = [112, 104, 96, 88];
    let offset = if is_aarch64() { 8 * index } else { X86_64[index] };
    read_at(ctx.as_ptr() as u64 + offset as u64)
}

/// The result of the function that a return probe is at the end of.
#[inline(always)]
pub fn result(ctx: &impl EbpfContext) -> Option<u64> {
    /// Offset in x86_64's `struct pt_regs`.
    const AX: u64 = 80;
    read_at(ctx.as_ptr() as u64 + if is_aarch64() { 0 } else { AX })
}

/// Number space and number of a call, by the number that it was made with.
#[inline(always)]
pub fn call_of(task: Address, regs: Address, nr: i64) -> (u8, u32) {
    let nr = nr as u32;
    if is_compat(task, regs) {
        (abi::COMPAT, nr)
    } else if nr & X32_BIT != 0 && (nr as i32) > 0 && !is_aarch64() {
        (abi::X32, nr & !X32_BIT)
    } else {
        (abi::NATIVE, nr)
    }
}

/// Whether the current syscall came through a 32-bit entry.
///
/// The two offsets that x86 kernels have had (5.10: 8, since 5.11: 16) are plain loads; the verifier
/// knows the injected constant and drops the other branches. arm64 kernels have none, but the mode is in the registers.
#[inline(always)]
fn is_compat(task: Address, regs: Address) -> bool {
    let offset = if is_typed() { TASK_STATUS.load() } else { i32::MAX };
    let task = task as *const u8;
    // SAFETY: `task` is the current task_struct, and the offset comes from this kernel's BTF.
    let status = match offset {
        16 => unsafe { task.add(16).cast::<u32>().read_volatile() },
        8 => unsafe { task.add(8).cast::<u32>().read_volatile() },
        _ if is_aarch64() => return is_mode32(regs),
        _ => read(task as Address, &TASK_STATUS).unwrap_or(0),
    };
    status & TS_COMPAT != 0
}

/// Id of the cgroup, if it belongs to the unified hierarchy.
#[inline(always)]
pub fn unified_cgroup_id(cgroup: Address) -> Option<u64> {
    let root: Address = read(cgroup, &CGROUP_ROOT)?;
    // cgroup_init gives cgrp_dfl_root the first hierarchy id, 0
    let hierarchy: i32 = read(root, &CGROUP_ROOT_HIERARCHY_ID)?;
    if hierarchy == 0 { cgroup_id(cgroup) } else { None }
}

/// Id of a cgroup of any hierarchy.
#[inline(always)]
pub fn cgroup_id(cgroup: Address) -> Option<u64> {
    read(read(cgroup, &CGROUP_KN)?, &KERNFS_NODE_ID)
}

/// The cgroup's parent.
#[inline(always)]
pub fn cgroup_parent(cgroup: Address) -> Option<Address> {
    let css: Address = read(cgroup, &CGROUP_PARENT_CSS)?;
    // the parent's css is embedded in the parent
    (css != 0).then(|| css - CGROUP_SELF.load() as u64)
}

/// Id of the current task's cgroup in the unified hierarchy.
///
/// As `bpf_get_current_cgroup_id`, in plain loads: the verifier knows the injected offsets, types each
/// pointer, and lets a load that faults give 0. Measured, the helper takes three times as long.
#[inline(always)]
pub fn current_cgroup_id(task: Address) -> u64 {
    let cgroups: Address = load(task, &TASK_CGROUPS);
    let cgroup: Address = load(cgroups, &CSS_SET_DFL_CGRP);
    let node: Address = load(cgroup, &CGROUP_KN);
    load(node, &KERNFS_NODE_ID)
}

/// The name of a task, and how many programs it and its ancestors executed, in plain loads.
#[inline(always)]
pub fn thread(task: Address) -> [u64; 3] {
    if !is_typed() {
        let [first, second] = read(task, &TASK_COMM).unwrap_or_default();
        return [0, first, second];
    }
    let [first, second] = comm(task);
    [load(task, &TASK_SELF_EXEC_ID), first, second]
}

/// The same of the first thread of a task's process.
#[inline(always)]
pub fn process(task: Address) -> [u64; 3] {
    if is_typed() { thread(load(task, &TASK_GROUP_LEADER)) } else { [0; 3] }
}

/// The name of a thread, as two words: the verifier lets an array of bytes be read so.
#[inline(always)]
fn comm(task: Address) -> [u64; 2] {
    let name = task + TASK_COMM.load() as u64;
    [word(name), word(name + 8)]
}

/// The name of the current thread, as two words. An array of bytes would be cleared by a function, in a loop.
#[inline(always)]
pub fn name() -> [u64; 2] {
    let mut name = MaybeUninit::<[u64; 2]>::uninit();
    // SAFETY: the buffer is as long as is said, and the helper fills all of it, also when it fails.
    unsafe {
        bpf_get_current_comm(name.as_mut_ptr().cast(), size_of_val(&name) as u32);
        name.assume_init()
    }
}

/// Inode number of the current executable; 0 when unknown.
#[inline(always)]
pub fn exe_inode() -> u64 {
    exe().and_then(|inode| read(inode, &INODE_NUMBER)).unwrap_or(0)
}

/// The inode of the current executable.
#[inline(always)]
fn exe() -> Option<Address> {
    let mm: Address = read(current(), &TASK_MM)?;
    read(read(mm, &MM_EXE_FILE)?, &FILE_INODE)
}

/// The current executable.
#[inline(always)]
pub fn exe_file() -> Option<FileId> {
    /// Whether the time was asked for is in the bits above it
    /// (<https://elixir.bootlin.com/linux/v6.13/source/include/linux/fs.h>, `I_CTIME_QUERIED`).
    const NANOSECONDS: u64 = (1 << 30) - 1;
    let inode = exe()?;
    let device = read(read(inode, &INODE_SB)?, &SUPER_DEV)?;
    let changed = read(inode, &INODE_CTIME).or_else(|| read(inode, &INODE_CTIME_6_6));
    let [seconds, nanoseconds] = match changed {
        Some(changed) => changed,
        None => {
            let nanoseconds: u32 = read(inode, &INODE_CTIME_NSEC)?;
            [read::<u64>(inode, &INODE_CTIME_SEC)?, u64::from(nanoseconds)]
        }
    };
    let changed_ns = seconds.wrapping_mul(1_000_000_000).wrapping_add(nanoseconds & NANOSECONDS);
    Some(FileId { inode: read(inode, &INODE_NUMBER)?, changed_ns, device, reserved: 0 })
}

/// The process id of the current task's parent; 0 when unknown.
#[inline(always)]
pub fn parent() -> u32 {
    let parent = read::<Address>(current(), &TASK_REAL_PARENT);
    parent.and_then(|parent| read(parent, &TASK_TGID)).unwrap_or(0)
}

/// A plain load from a pointer that the verifier has typed, where it does.
#[inline(always)]
fn load(base: Address, offset: &Global<i32>) -> u64 {
    if !is_typed() {
        return read(base, offset).unwrap_or(0);
    }
    word(base + offset.load() as u64)
}

#[inline(always)]
fn word(address: Address) -> u64 {
    // SAFETY: the kernel turns a load that faults into 0.
    unsafe { (address as *const u64).read_volatile() }
}

/// Id of a task's cgroup in the unified hierarchy.
#[inline(always)]
pub fn task_cgroup_id(task: Address) -> Option<u64> {
    cgroup_id(read(read(task, &TASK_CGROUPS)?, &CSS_SET_DFL_CGRP)?)
}

/// The newest seccomp filter of a task; 0 when it has none.
#[inline(always)]
pub fn seccomp_filter(task: Address) -> Address {
    read(task, &TASK_SECCOMP_FILTER).unwrap_or(0)
}

/// Whether a filter has ended the task: `SECCOMP_MODE_DEAD`
/// (<https://elixir.bootlin.com/linux/v6.12/source/kernel/seccomp.c#L33>).
#[inline(always)]
pub fn is_killed_by_seccomp(task: Address) -> bool {
    const DEAD: u32 = 3;
    read(task, &TASK_SECCOMP_MODE) == Some(DEAD)
}

/// Whether no filter answers the task's calls. The mode outlives the filter, which an ending task has given back.
#[inline(always)]
pub fn has_no_filter(task: Address) -> bool {
    read(task, &TASK_SECCOMP_MODE) == Some(0_u32)
}

/// Whether a task has executed no program since it was forked: `PF_FORKNOEXEC`
/// (<https://elixir.bootlin.com/linux/v6.12/source/include/linux/sched.h#L1694>).
#[inline(always)]
pub fn executed_nothing(task: Address) -> bool {
    const FORKNOEXEC: u32 = 0x40;
    read::<u32>(task, &TASK_FLAGS).is_none_or(|flags| flags & FORKNOEXEC != 0)
}

/// The user namespace of a task's own credentials.
#[inline(always)]
pub fn user_namespace(task: Address) -> Address {
    read(task, &TASK_REAL_CRED).and_then(|cred: Address| read(cred, &CRED_USER_NS)).unwrap_or(0)
}

/// One range of a user namespace's ids, as `struct uid_gid_extent`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Extent {
    first: u32,
    lower_first: u32,
    count: u32,
}

/// The kernel's id of a user namespace's root.
#[inline(always)]
pub fn root_uid(user_ns: Address) -> u32 {
    match read::<Extent>(user_ns, &USER_NS_UID_MAP) {
        Some(Extent { first: 0, lower_first, .. }) => lower_first,
        _ => 0,
    }
}

/// No user or group has this id.
pub const NO_ID: u32 = u32::MAX;

/// The kernel's id of a user's (else a group's) id in a user namespace, by the first two extents of the namespace's map.
/// [`NO_ID`] also when the map is a longer one. Word by word, and without `Option`: verifiers before 6.3 refuse a copy of what was
/// never written.
#[inline(never)]
pub fn kernel_id(user_ns: Address, id: u32, is_user: bool) -> u32 {
    /// As many are kept in the struct itself (`UID_GID_MAP_MAX_BASE_EXTENTS`).
    const KEPT: u32 = 5;
    let (map, extents) = if is_user {
        (&USER_NS_UID_MAP, &USER_NS_UID_EXTENTS)
    } else {
        (&USER_NS_GID_MAP, &USER_NS_GID_EXTENTS)
    };
    let count = read::<u32>(user_ns, extents).unwrap_or(0);
    if count == 0 || count > KEPT {
        return NO_ID;
    }
    // `struct uid_gid_extent`: first, lower_first, count
    let word = |at: u64| read::<u32>(user_ns + 4 * at, map).unwrap_or(0);
    let offset = id.wrapping_sub(word(0));
    if offset < word(2) {
        return word(1).wrapping_add(offset);
    }
    let offset = id.wrapping_sub(word(3));
    if count > 1 && offset < word(5) { word(4).wrapping_add(offset) } else { NO_ID }
}

/// Reads a value of the current process.
#[inline(always)]
pub fn read_user<T>(address: Address) -> Option<T> {
    // SAFETY: the helper takes any address and fails on a bad one.
    unsafe { bpf_probe_read_user(address as *const T) }.ok()
}

/// A task's mount namespace; 0 for one that is exiting.
#[inline(always)]
pub fn mount_namespace(task: Address) -> Address {
    read(task, &TASK_NSPROXY).and_then(|proxy: Address| read(proxy, &NSPROXY_MNT_NS)).unwrap_or(0)
}
