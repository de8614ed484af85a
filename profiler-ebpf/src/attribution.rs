//! Who did something: every executable, each with the names of its threads. A side channel: it may lose
//! entries, and counts them.
//!
//! Each thing that is recorded has a word of [`Makers`]: the marks of those who did it last. Whoever finds its mark there
//! has been noted and passes by; so the look-up in `MAKERS` is paid when a program does something for the
//! first time, or when more than four take turns.

use aya_ebpf::helpers::{
    bpf_get_current_comm, bpf_probe_read_kernel_str_bytes, generated::bpf_ktime_get_ns,
};
use profiler_common::{
    evidence::{CallKey, EXE_LEN, FULL, MakerKey, Makers, Sighting},
    scope::loss,
};

use crate::{
    kernel::{self, Address},
    maps::{MAKERS, lost},
};

/// How many names are kept of the threads of one executable that do one thing.
const NAMES: u32 = 16;

/// After so many look-ups the threads of an executable are not told apart any more: they take turns.
const VISITS_THREADS: u32 = 256;

/// After so many, executables are not: more of them take turns than a word has marks.
const VISITS_PROGRAMS: u32 = 4096;

/// A mark in each place of a word.
const EACH: u64 = 0x0001_0001_0001_0001;

/// The current thread's program, hashed.
#[derive(Clone, Copy)]
pub struct Maker {
    exe: u64,
    thread: u64,
}

/// The program of the current thread: executable and thread name.
#[inline(always)]
pub fn maker() -> Maker {
    let exe = kernel::exe_inode().wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let [first, second] = kernel::comm();
    let thread = exe
        .wrapping_add(first.wrapping_mul(0xc2b2_ae3d_27d4_eb4f))
        .wrapping_add(second.wrapping_mul(0x1656_67b1_9e37_79f9));
    Maker { exe, thread }
}

impl Maker {
    /// Whether it was noted, as far as marks tell: 16 bits, so that one in 65,536 programs passes for another.
    #[inline(always)]
    pub fn is_among(&self, makers: Makers) -> bool {
        has(makers, mark(self.thread)) || has(makers, mark(self.exe)) || makers == FULL
    }
}

/// The upper bits of a hash; never 0.
#[inline(always)]
fn mark(hash: u64) -> u64 {
    (hash >> 48).max(1)
}

/// Whether one of the four places holds a mark.
#[inline(always)]
fn has(makers: Makers, mark: u64) -> bool {
    let differs = makers ^ mark.wrapping_mul(EACH);
    differs.wrapping_sub(EACH) & !differs & (EACH << 15) != 0
}

/// Notes who did something that its word does not show yet. Whatever is lost, the word is not 0 after it.
#[inline(never)]
pub fn note(makers: *mut Makers, call: &CallKey, about: u32, maker: &Maker) {
    let exe = MakerKey { call: *call, about, maker: (maker.exe >> 32) as u32 };
    let thread = MakerKey { maker: (maker.thread >> 32) as u32, ..exe };
    let Some(first) = MAKERS.get_ptr_mut(&exe) else {
        let is_kept = insert(&exe, &sighting());
        // a full table is asked once for each executable
        return put(makers, mark(if is_kept { maker.thread } else { maker.exe }));
    };
    // SAFETY: `first` points to a live map value; counters that lose an increment do no harm.
    let first = unsafe { &mut *first };
    first.visits += 1;
    if first.visits > VISITS_PROGRAMS {
        lost(loss::ATTRIBUTION);
        // SAFETY: `makers` points into a live map value; an aligned word does not tear.
        return unsafe { makers.write_volatile(FULL) };
    }
    let mut sees_threads = first.visits <= VISITS_THREADS;
    if sees_threads && first.comm != comm() && MAKERS.get_ptr(&thread).is_none() {
        sees_threads = first.names < NAMES && insert(&thread, &sighting());
        first.names += 1;
        if first.names == NAMES + 1 {
            lost(loss::ATTRIBUTION);
        }
    }
    put(makers, mark(if sees_threads { maker.thread } else { maker.exe }));
}

fn insert(key: &MakerKey, sighting: &Sighting) -> bool {
    const NOEXIST: u64 = 1;
    const EEXIST: i32 = -17;
    match MAKERS.insert(key, sighting, NOEXIST) {
        Ok(()) => true,
        Err(error) if error == EEXIST => true,
        Err(_) => {
            lost(loss::ATTRIBUTION);
            false
        }
    }
}

/// Writes a mark into a free place, or over an older one.
#[inline(always)]
fn put(makers: *mut Makers, mark: u64) {
    // SAFETY: `makers` points into a live map value, and the place is within the word; two bytes do not tear.
    unsafe {
        let word = makers.read_volatile();
        let place = if word & 0xffff == 0 {
            0
        } else if word & 0xffff_0000 == 0 {
            1
        } else if word & 0xffff_0000_0000 == 0 {
            2
        } else if word >> 48 == 0 {
            3
        } else {
            mark as usize & 3
        };
        makers.cast::<u16>().add(place).write_volatile(mark as u16);
    }
}

/// The current program, now.
#[inline(always)]
fn sighting() -> Sighting {
    let mut exe = [0; EXE_LEN];
    if let Some(name) = exe_name() {
        // SAFETY: the helper takes any address and writes at most the buffer.
        let _ = unsafe { bpf_probe_read_kernel_str_bytes(name as *const u8, &mut exe) };
    }
    // SAFETY: the helper has no preconditions.
    Sighting { at_ns: unsafe { bpf_ktime_get_ns() }, visits: 0, names: 0, comm: comm(), exe }
}

#[inline(always)]
fn comm() -> [u8; 16] {
    bpf_get_current_comm().unwrap_or_default()
}

/// Address of the file name of the current executable.
#[inline(always)]
fn exe_name() -> Option<Address> {
    let mm: Address = kernel::read(kernel::current(), &kernel::TASK_MM)?;
    let file: Address = kernel::read(mm, &kernel::MM_EXE_FILE)?;
    let dentry: Address = kernel::read(file, &kernel::FILE_DENTRY)?;
    kernel::read(dentry, &kernel::DENTRY_NAME)
}
