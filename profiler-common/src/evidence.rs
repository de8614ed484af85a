//! What is kept of syscalls, capability checks and denials.

/// Numbers below this may be calls that kernels have. What the workload makes of them by the machine's own ABI has a cell; all else
/// is in hashes.
pub const DENSE_SYSCALLS: usize = 480;

/// Indexes of the phase dimension.
pub mod phase {
    /// The runtime, before the filter is loaded.
    pub const SETUP: u8 = 0;
    /// The runtime, filter loaded, before the entry point's execve.
    pub const HANDOVER: u8 = 1;
    /// The entry point and all that follows.
    pub const WORKLOAD: u8 = 2;
}

/// Number spaces as the kernel tells them apart.
pub mod abi {
    /// The machine's own.
    pub const NATIVE: u8 = 0;
    /// 32-bit compat: ia32 or arm.
    pub const COMPAT: u8 = 1;
    /// x32: native with bit 30 set, which is removed from the number.
    pub const X32: u8 = 2;
}

/// Bit 30 of a native number marks an x32 call.
pub const X32_BIT: u32 = 0x4000_0000;

/// The calls of the workload seen in one slot: a word each, so that setting one never races with another.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Seen {
    /// By number, not 0 when seen.
    pub calls: [Makers; DENSE_SYSCALLS],
}

/// Marks of the programs that did something last, 16 bits each, none below [`FIRST_MARK`]; or [`FULL`]. 0: nobody did.
///
/// Of a call whose arguments are watched it is less than [`FIRST_MARK`]: how many combinations `ARGUMENTS` holds. Once it
/// holds marks as well, any others may have been seen.
pub type Makers = u64;

/// Marks are not below this.
pub const FIRST_MARK: Makers = 1 << 10;

/// In place of marks: too many programs take turns, no more of them are told apart.
pub const FULL: Makers = u64::MAX;

/// Identifies a call in a slot. Key of `BESIDE` and `SPARSE`, whose values are [`Makers`].
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallKey {
    /// Evidence slot.
    pub slot: u32,
    /// Number, without the x32 bit.
    pub nr: u32,
    /// One of [`abi`].
    pub abi: u8,
    /// One of [`phase`].
    pub phase: u8,
    /// Zero.
    pub reserved: u16,
}

/// Length of a thread name.
pub const COMM_LEN: usize = 16;
/// Length kept of an executable's file name.
pub const EXE_LEN: usize = 64;

/// Who did what in a slot. Key of `MAKERS`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MakerKey {
    /// The call.
    pub call: CallKey,
    /// 0 for the call itself; else [`CheckKey::about`] or [`DenialKey::about`].
    pub about: u32,
    /// Hash of the executable, or of the executable and the thread's name.
    pub maker: u32,
}

/// When a program did something first. Value of `MAKERS`: an entry for the executable with its first
/// thread name, and one for each further name.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Sighting {
    /// `bpf_ktime_get_ns`, CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// How often it was looked up, and how many further names there are. Of the executable's entry only.
    pub visits: u32,
    /// See above.
    pub names: u32,
    /// Thread name, NUL-padded.
    pub comm: [u8; COMM_LEN],
    /// File name of the executable, NUL-terminated; empty when unknown.
    pub exe: [u8; EXE_LEN],
}

/// Kernel return addresses kept of a capability check: the program itself and its trampoline, the tracepoint's iterator where there are two
/// programs, then `cap_capable`, `security_capable`, the wrapper, and who asked.
pub const CALLERS: usize = 8;

/// Flag bits of [`CheckKey::flags`].
pub mod check {
    /// The kernel said no.
    pub const DENIED: u8 = 1;
    /// Asked for the initial user namespace.
    pub const HOST_NS: u8 = 1 << 1;
    /// Asked for the target's own user namespace.
    pub const OWN_NS: u8 = 1 << 2;
    /// Made with credentials other than the thread's own.
    pub const OVERRIDDEN: u8 = 1 << 3;
    /// The call would have done the very same without the capability: the kernel asked before it looked at other ways.
    pub const MOOT: u8 = 1 << 4;
    /// The kernel's own argument says that a denial is audited.
    pub const AUDITED: u8 = 1 << 5;
    /// It says that none is. Neither flag: the argument was not seen.
    pub const NOAUDIT: u8 = 1 << 6;
    /// No check was made: the call itself depends on the capabilities whose bits are in `callers[0]`.
    pub const IMPLIED: u8 = 1 << 7;
    /// Of an implied need: capset(2) wrote back the whole permitted set.
    pub const RETAINED: u8 = MOOT;
}

/// A kind of capability check in a slot. Key of `CHECKS`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CheckKey {
    /// A [`crate::scope::Stamp`]: a check that waits for its outcome outlives its slot.
    pub slot: u32,
    /// Number of the enclosing syscall, without the x32 bit.
    pub nr: u32,
    /// Its number space.
    pub abi: u8,
    /// One of [`phase`].
    pub phase: u8,
    /// Capability number; 0 with [`check::IMPLIED`].
    pub capability: u8,
    /// Bits of [`check`].
    pub flags: u8,
    /// Zero.
    pub reserved: u32,
    /// Innermost first; 0 where the stack ended.
    pub callers: [u64; CALLERS],
}

impl CheckKey {
    /// The enclosing call, in its slot.
    #[must_use]
    pub const fn call(&self) -> CallKey {
        let slot = crate::scope::slot_of(self.slot);
        CallKey { slot, nr: self.nr, abi: self.abi, phase: self.phase, reserved: 0 }
    }

    /// What tells it from other checks of the same call, as a hash; never 0.
    #[must_use]
    #[inline(always)]
    pub const fn about(&self) -> u32 {
        let mut hash = (self.capability as u64) << 8 | self.flags as u64;
        let mut i = 0;
        while i < CALLERS {
            hash = mixed(hash, self.callers[i]);
            i += 1;
        }
        (hash >> 32) as u32 | 1
    }
}

/// Value of `CHECKS`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Check {
    /// How many checks.
    pub count: u64,
    /// How many of the enclosing syscalls succeeded, of those whose end was observed.
    pub succeeded: u64,
    /// How many failed.
    pub failed: u64,
    /// How many were not seen to end, or have not ended yet.
    pub unsettled: u64,
    /// Who made them last.
    pub makers: Makers,
}

/// How many different checks of one syscall wait for its outcome.
pub const PENDING_CHECKS: usize = 6;

/// A kind of denial in a slot. Key of `DENIALS`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DenialKey {
    /// The call.
    pub call: CallKey,
    /// Positive errno, 0 when success was claimed, or [`KILLED`].
    pub errno: i32,
}

/// In place of an errno: the filter ended the thread or its process.
pub const KILLED: i32 = i32::MAX;

impl DenialKey {
    /// What tells it from the call itself; never 0.
    #[must_use]
    #[inline(always)]
    pub const fn about(&self) -> u32 {
        self.errno as u32 | 1 << 31
    }
}

/// Value of `DENIALS`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Denial {
    /// How often.
    pub count: u64,
    /// Who was denied last.
    pub makers: Makers,
    /// Of the first one, as they were in the registers.
    pub arguments: [u64; ARGUMENTS],
}

/// An executable as the kernel knows it. Its capabilities are the same as long as this is.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileId {
    /// `inode.i_ino`.
    pub inode: u64,
    /// `inode.i_ctime`, in nanoseconds since the epoch.
    pub changed_ns: u64,
    /// `super_block.s_dev`.
    pub device: u32,
    /// Zero.
    pub reserved: u32,
}

/// A file that root executed in a slot. Key of `EXECUTED`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExecutedKey {
    /// The file.
    pub file: FileId,
    /// Evidence slot.
    pub slot: u32,
    /// One of [`phase`].
    pub phase: u8,
    /// Of [`check`], what says whose user namespace it was.
    pub flags: u8,
    /// Zero.
    pub reserved: u16,
}

/// Value of `EXECUTED`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Executed {
    /// How often.
    pub count: u64,
    /// What root was permitted then.
    pub permitted: u64,
    /// By whom first; its counters are not used.
    pub first: Sighting,
}

/// Length kept of the path by which a file was executed.
pub const EXEC_PATH_LEN: usize = 256;

/// An execution whose file user space has to look at. Record of `EXECUTIONS`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Execution {
    /// The file.
    pub file: FileId,
    /// `mm_struct.start_stack`, which tells one program of a process from the next.
    pub program: u64,
    /// The target.
    pub target: u32,
    /// The process.
    pub tgid: u32,
    /// Its parent.
    pub parent: u32,
    /// Zero.
    pub reserved: u32,
    /// As it was given to execve or in a script's first line, NUL-terminated.
    pub path: [u8; EXEC_PATH_LEN],
}

/// How many arguments a syscall has at the most.
pub const ARGUMENTS: usize = 6;

/// How many combinations of arguments are kept of a call in a slot.
pub const COMBINATIONS: Makers = 32;

/// One combination of arguments. Key of `ARGUMENTS`, whose value is [`Makers`].
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ArgumentsKey {
    /// The call.
    pub call: CallKey,
    /// The bits that are watched of each; 0 where none are.
    pub values: [u32; ARGUMENTS],
}

impl ArgumentsKey {
    /// What tells it from others of the same call, as a hash; never 0.
    #[must_use]
    #[inline(always)]
    pub const fn about(&self) -> u32 {
        let mut hash = 0;
        let mut i = 0;
        while i < ARGUMENTS {
            hash = mixed(hash, self.values[i] as u64);
            i += 1;
        }
        (hash >> 32) as u32 | 1
    }
}

#[inline(always)]
const fn mixed(hash: u64, word: u64) -> u64 {
    (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
}

/// What is watched of a call. Value of `WATCHED`, by [`watch::place`].
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Watch {
    /// The second argument is kept only where the first is one of these, as bits below 64; 0: always.
    pub of: u64,
    /// The bits that are kept of each argument.
    pub masks: [u32; ARGUMENTS],
    /// One of [`watch`].
    pub kind: u32,
    /// Zero.
    pub reserved: u32,
}

/// Values of [`Watch::kind`].
pub mod watch {
    use super::CallKey;

    /// Nothing.
    pub const NONE: u32 = 0;
    /// What is in the registers.
    pub const REGISTERS: u32 = 1;
    /// As `REGISTERS`, but of the first argument the flags of the `struct clone_args` that it points to, with [`BEYOND`].
    pub const POINTED: u32 = 2;

    /// No flag of clone3(2): it was asked for what clone(2) has no way to say.
    pub const BEYOND: u64 = 1;

    /// Numbers below this can be watched.
    pub const NUMBERS: u32 = 1024;
    /// How many places there are, for three number spaces.
    pub const PLACES: u32 = 3 * NUMBERS;

    /// Where a call is found.
    #[must_use]
    #[inline(always)]
    pub const fn place(call: &CallKey) -> Option<u32> {
        if call.nr < NUMBERS { Some(call.abi as u32 * NUMBERS + call.nr) } else { None }
    }
}

/// How many addresses are kept of a user stack.
pub const FRAMES: usize = 16;

/// The user stack of the first thread that made a call. Value of `STACKS`, keyed by [`CallKey`].
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Stack {
    /// `mm_struct.start_stack`, which tells one program of a process from the next.
    pub program: u64,
    /// The word at the stack pointer: the caller's address, where the function that makes the call has no frame.
    pub top: u64,
    /// The process.
    pub tgid: u32,
    /// How many addresses there are; 0 while they are written, and when they could not be read.
    pub len: u32,
    /// Innermost first.
    pub addresses: [u64; FRAMES],
}

const _: () = assert!(size_of::<Stack>() == 152);
const _: () = assert!(size_of::<FileId>() == 24 && size_of::<ExecutedKey>() == 32);
const _: () = assert!(size_of::<Executed>() == 112 && size_of::<Execution>() == 304);
const _: () = assert!(size_of::<Seen>() == 3840 && size_of::<CallKey>() == 12);
const _: () = assert!(size_of::<Sighting>() == 96 && size_of::<CheckKey>() == 80);
const _: () = assert!(size_of::<Check>() == 40 && size_of::<DenialKey>() == 16);
const _: () = assert!(size_of::<Denial>() == 64 && size_of::<MakerKey>() == 20);
const _: () = assert!(size_of::<ArgumentsKey>() == 36 && size_of::<Watch>() == 40);

#[cfg(feature = "user")]
mod pod {
    #![expect(unsafe_code, reason = "aya::Pod is an unsafe trait")]

    // SAFETY: `repr(C)`, no padding (sizes asserted), any bit pattern is a value.
    unsafe impl aya::Pod for super::Seen {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::CallKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::MakerKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::ArgumentsKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Watch {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Sighting {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Stack {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::ExecutedKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Executed {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Execution {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::CheckKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Check {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::DenialKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Denial {}
}
