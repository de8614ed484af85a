//! Who did something: every executable, each with the names of its threads. A side channel: it may lose
//! entries, and counts them.
//!
//! Each thing that is recorded has a word of [`Makers`]: the marks of those who did it last. Whoever finds its mark there
//! has been noted and passes by; so the look-up in `MAKERS` is paid when a program does something for the
//! first time, or when more than four take turns.

use aya_ebpf::helpers::{bpf_probe_read_kernel_str_bytes, generated::bpf_ktime_get_ns};
use profiler_common::{
    evidence::{COMM_LEN, CallKey, FIRST_MARK, FULL, MakerKey, Makers, Sighting},
    scope::loss,
};

use crate::{
    apart,
    kernel::{self, Address},
    maps::{MAKERS, SIGHTING_ZERO, lost},
};

/// How many names are kept of the threads of one executable that do one thing.
const NAMES: u32 = 16;

/// After so many look-ups the threads of an executable are not told apart any more: they take turns.
const VISITS_THREADS: u32 = 256;

/// After so many, executables are not: more of them take turns than a word has marks.
const VISITS_PROGRAMS: u32 = 4096;

/// A mark in each place of a word.
const EACH: u64 = 0x0001_0001_0001_0001;

/// The current thread as marks know it: without what only a chain of slow loads tells, the executable's inode.
///
/// A thread is told by its name and by how many execves led to its program; a program by the name of its first thread. Two
/// in which both are the same, or that share a mark of 16 bits, pass for one.
#[derive(Clone, Copy)]
pub struct Maker {
    task: Address,
    thread: u64,
}

/// The current task as a maker.
#[inline(always)]
pub fn maker(task: Address) -> Maker {
    Maker { task, thread: hash(kernel::thread(task)) }
}

/// The current task as a maker, by what [`apart`] hands on of it.
#[inline(always)]
pub fn thread(thread: u64) -> Maker {
    Maker { task: kernel::current(), thread }
}

impl Maker {
    /// What [`thread`] takes.
    #[inline(always)]
    pub fn packed(&self) -> u64 {
        self.thread
    }

    /// Whether it was noted, as far as marks tell.
    #[inline(always)]
    pub fn is_among(&self, makers: Makers) -> bool {
        has(makers, mark(self.thread))
            || makers >= FIRST_MARK && has(makers, self.program())
            || makers == FULL
    }

    /// The mark of its program, whatever the thread.
    #[inline(always)]
    fn program(&self) -> u64 {
        mark(!hash(kernel::process(self.task)))
    }
}

#[inline(always)]
fn hash([execs, first, second]: [u64; 3]) -> u64 {
    execs
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(first.wrapping_mul(0xc2b2_ae3d_27d4_eb4f))
        .wrapping_add(second.wrapping_mul(0x1656_67b1_9e37_79f9))
}

/// The upper bits of a hash.
#[inline(always)]
fn mark(hash: u64) -> u64 {
    (hash >> 48).max(FIRST_MARK)
}

/// Notes the current program for something other than a call, if its word does not show it yet.
#[inline(always)]
pub fn see(makers: *mut Makers, call: &CallKey, about: u32) {
    let maker = maker(kernel::current());
    // SAFETY: `makers` points into a live map value; an aligned word does not tear.
    if !maker.is_among(unsafe { makers.read_volatile() }) {
        note(makers, call, about, &maker);
    }
}

/// Whether one of the four places holds a mark.
#[inline(always)]
fn has(makers: Makers, mark: u64) -> bool {
    let differs = makers ^ mark.wrapping_mul(EACH);
    differs.wrapping_sub(EACH) & !differs & (EACH << 15) != 0
}

/// Notes who did something that its word does not show yet. Whatever is lost, the word is not 0 after it.
#[inline(always)]
pub fn note(makers: *mut Makers, call: &CallKey, about: u32, maker: &Maker) {
    let (place, how) = apart::packed(call);
    let mark = sighted(place, how | u64::from(about) << 32, maker.thread);
    if mark == FULL {
        // SAFETY: `makers` points into a live map value; an aligned word does not tear.
        unsafe { makers.write_volatile(FULL) };
    } else {
        put(makers, mark);
    }
}

/// Notes that the current program does something, of a call and what tells it from others of that call. The mark for its word, or
/// [`FULL`].
#[unsafe(export_name = "attribution_sighted")]
#[inline(never)]
extern "C" fn sighted(place: u64, how: u64, thread: u64) -> u64 {
    let maker = self::thread(thread);
    let inode = kernel::exe_inode().wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let about = (how >> 32) as u32;
    let mut key = MakerKey { call: apart::call(place, how), about, maker: (inode >> 32) as u32 };
    let Some(first) = MAKERS.get_ptr_mut(&key) else {
        // a full table is asked once for each program
        return if insert(&key) { mark(thread) } else { maker.program() };
    };
    // SAFETY: `first` points to a live map value; counters that lose an increment do no harm.
    let first = unsafe { &mut *first };
    first.visits += 1;
    if first.visits > VISITS_PROGRAMS {
        lost(loss::ATTRIBUTION);
        return FULL;
    }
    let mut sees_threads = first.visits <= VISITS_THREADS;
    if sees_threads && !is_name(&first.comm) {
        key.maker = ((inode ^ thread) >> 32) as u32;
        if MAKERS.get_ptr(&key).is_none() {
            first.names += 1;
            sees_threads = first.names <= NAMES && insert(&key);
            if first.names == NAMES + 1 {
                lost(loss::ATTRIBUTION);
            }
        }
    }
    if sees_threads { mark(thread) } else { maker.program() }
}

/// Whether the current thread has this name. By words: a comparison of bytes is a loop.
#[inline(always)]
fn is_name(name: &[u8; COMM_LEN]) -> bool {
    // SAFETY: the name is as long as that, and words may be read from anywhere.
    let [first, second] = unsafe { name.as_ptr().cast::<[u64; 2]>().read_unaligned() };
    let [own_first, own_second] = kernel::name();
    first == own_first && second == own_second
}

/// Notes the current program, now.
#[inline(always)]
fn insert(key: &MakerKey) -> bool {
    const NOEXIST: u64 = 1;
    const EEXIST: i32 = -17;
    let Some(zero) = SIGHTING_ZERO.get(0) else { return false };
    match MAKERS.insert(key, zero, NOEXIST) {
        Ok(()) => {}
        Err(EEXIST) => return true,
        Err(_) => {
            lost(loss::ATTRIBUTION);
            return false;
        }
    }
    let Some(sighting) = MAKERS.get_ptr_mut(key) else { return false };
    fill(sighting);
    true
}

/// Writes who the current program is, and that it is now. Only who inserted the sighting does so.
#[inline(always)]
pub fn fill(sighting: *mut Sighting) {
    // SAFETY: `sighting` points into a live map value; the helpers have no preconditions, and write at most the
    // buffer.
    unsafe {
        (*sighting).at_ns = bpf_ktime_get_ns();
        (&raw mut (*sighting).comm).cast::<[u64; 2]>().write(kernel::name());
        if let Some(name) = exe_name() {
            let _ = bpf_probe_read_kernel_str_bytes(name as *const u8, &mut (*sighting).exe);
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

/// Address of the file name of the current executable.
#[inline(always)]
fn exe_name() -> Option<Address> {
    let mm: Address = kernel::read(kernel::current(), &kernel::TASK_MM)?;
    let file: Address = kernel::read(mm, &kernel::MM_EXE_FILE)?;
    let dentry: Address = kernel::read(file, &kernel::FILE_DENTRY)?;
    kernel::read(dentry, &kernel::DENTRY_NAME)
}
