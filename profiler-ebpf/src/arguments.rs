//! With which arguments a call was made, for the few that user space watches.
//!
//! A watched call has no marks of its own: the word of [`Makers`] that others have says how many combinations of arguments were
//! seen, which is no maker's mark, so that nobody passes by before its arguments were looked at. The marks are with
//! each combination. When one cannot be kept, the call goes on as one that is not watched: marks beside the count say that
//! any arguments may have been seen. So the bound costs no entry, and what is beyond it costs nothing.

use core::mem::MaybeUninit;

use profiler_common::{
    evidence::{
        ARGUMENTS as COUNT, ArgumentsKey, COMBINATIONS, CallKey, FIRST_MARK, Makers, Watch, abi,
        watch,
    },
    scope::{Stamp, loss},
};

use crate::{
    apart,
    attribution::{self, Maker},
    kernel::{self, Address},
    maps::{ARGUMENTS, Made, RECENT, RECENT_PLACES, WATCHED, add, control, lost},
};

/// An odd number whose product depends on all bits below.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Whether this maker was seen making this call as the current one is made. `stamp` tells one use of its slot from the next.
#[inline(always)]
pub fn are_known(call: &CallKey, stamp: Stamp, maker: &Maker) -> bool {
    let (place, how) = apart::packed(call);
    known(place, how | u64::from(stamp) << 32, maker.packed()) == 1
}

#[unsafe(export_name = "arguments_known")]
#[inline(never)]
extern "C" fn known(place: u64, how: u64, thread: u64) -> u64 {
    let call = apart::call(place, how);
    let maker = attribution::thread(thread);
    let mut room = MaybeUninit::uninit();
    let key = blank(&mut room, &call);
    if !watched(&call).is_some_and(|watch| read(watch, key)) {
        return 0;
    }
    let made = made(key, (how >> 32) as Stamp, thread);
    let recent = recent(&made);
    if recent.is_some_and(|recent| is(recent, &made)) {
        return 1;
    }
    let is_known = ARGUMENTS
        .get_ptr(&*key)
        // SAFETY: the pointer is to a live map value; an aligned word does not tear.
        .is_some_and(|makers| maker.is_among(unsafe { makers.read_volatile() }));
    if let Some(recent) = recent.filter(|_| is_known) {
        // SAFETY: as above; the value is this processor's own, and nothing comes between.
        unsafe { recent.write(made) };
    }
    u64::from(is_known)
}

#[inline(always)]
fn made(key: &ArgumentsKey, stamp: Stamp, thread: u64) -> Made {
    let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    let [first, second, third, fourth, fifth, sixth] = key.values;
    let how = u32::from(key.call.abi) | u32::from(key.call.phase) << 8;
    let call = [pair(stamp, key.call.nr), pair(how, first)];
    [call[0], call[1], pair(second, third), pair(fourth, fifth), sixth.into(), thread]
}

/// Where it is noted. Nowhere where a program may be suspended: another one may be run before it goes on.
#[inline(always)]
fn recent(made: &Made) -> Option<*mut Made> {
    if control().twins != 0 {
        return None;
    }
    // each for itself: a product that waits for the one before takes longer than the rest
    let spread = |i: usize| made[i].wrapping_mul(SPREAD.rotate_left(8 * i as u32) | 1);
    let sum = (0..made.len()).fold(0, |sum: u64, i| sum.wrapping_add(spread(i)));
    RECENT.get_ptr_mut((sum >> 32) as u32 & (RECENT_PLACES - 1))
}

/// Compares word by word: the compiler would call memcmp, which goes by bytes.
#[inline(always)]
fn is(recent: *const Made, made: &Made) -> bool {
    // SAFETY: the pointer is to a live map value of this processor's.
    let recent = unsafe { recent.read_volatile() };
    recent.iter().zip(made).fold(0, |differs, (one, other)| differs | (one ^ other)) == 0
}

/// Notes who made the current call, and how, if that is new. Whether it is. The word is not 0 after it, and not before the
/// arguments are kept.
#[inline(always)]
pub fn note(word: *mut Makers, call: &CallKey, maker: &Maker) -> bool {
    // SAFETY: `word` points into a live map value; an aligned word does not tear.
    let seen = unsafe { word.read_volatile() };
    let own = if seen < FIRST_MARK { watched(call) } else { None };
    let (makers, about) = own.and_then(|watch| entry(word, call, watch)).unwrap_or((word, 0));
    // SAFETY: as above, of either.
    if maker.is_among(unsafe { makers.read_volatile() }) {
        return false;
    }
    attribution::note(makers, call, about, maker);
    true
}

/// The marks of the current call's arguments, and what tells these from others. `None` when they cannot be kept.
#[inline(always)]
fn entry(word: *mut Makers, call: &CallKey, watch: &Watch) -> Option<(*mut Makers, u32)> {
    const NOEXIST: u64 = 1;
    const EEXIST: i32 = -17;
    let mut room = MaybeUninit::uninit();
    let key = blank(&mut room, call);
    if !read(watch, key) {
        return None;
    }
    let about = key.about();
    if let Some(makers) = ARGUMENTS.get_ptr_mut(&*key) {
        return Some((makers, about));
    }
    // SAFETY: as in `note`.
    if unsafe { word.read_volatile() } >= COMBINATIONS {
        return None;
    }
    match ARGUMENTS.insert(&*key, 0, NOEXIST) {
        // who inserts counts: of several at once none is forgotten
        Ok(()) => add(word, 1),
        Err(EEXIST) => {}
        Err(_) => {
            lost(loss::ARGUMENTS);
            return None;
        }
    }
    ARGUMENTS.get_ptr_mut(&*key).map(|makers| (makers, about))
}

/// A key without values, in place. Word by word: the compiler would call memset, which goes by bytes.
#[inline(always)]
fn blank<'a>(room: &'a mut MaybeUninit<ArgumentsKey>, call: &CallKey) -> &'a mut ArgumentsKey {
    let key = room.as_mut_ptr();
    // SAFETY: `key` points to room for one, all of which is written.
    unsafe {
        (&raw mut (*key).call).write(*call);
        for i in 0..COUNT {
            (&raw mut (*key).values).cast::<u32>().add(i).write_volatile(0);
        }
        &mut *key
    }
}

/// What is watched of a call.
#[inline(always)]
fn watched(call: &CallKey) -> Option<&'static Watch> {
    WATCHED.get(watch::place(call)?).filter(|watch| watch.kind != watch::NONE)
}

/// Reads the current call's arguments. False when they lie in memory that cannot be read.
#[inline(always)]
fn read(watch: &Watch, key: &mut ArgumentsKey) -> bool {
    let regs = kernel::current_regs();
    for i in 0..COUNT {
        if watch.masks[i] == 0 {
            continue;
        }
        let mut value = kernel::argument(regs, key.call.abi, i);
        if i == 0 && watch.kind == watch::POINTED {
            if key.call.abi == abi::COMPAT {
                value &= 0xffff_ffff;
            }
            let Some(flags) = clone3_flags(value, kernel::argument(regs, key.call.abi, 1)) else {
                return false;
            };
            value = flags;
        }
        key.values[i] = value as u32 & watch.masks[i];
    }
    // not in the loop, in which each branch is another state for the verifier
    if watch.of != 0 && !is_kept(watch, key.values[0]) {
        key.values[1] = 0;
    }
    true
}

/// Whether the second argument is kept, beside this first one.
#[inline(always)]
fn is_kept(watch: &Watch, first: u32) -> bool {
    first < 64 && watch.of >> first & 1 != 0
}

/// The flags of a `struct clone_args`, with [`watch::BEYOND`] for what clone(2) has no way to say: a cgroup to start in, and
/// chosen process ids (<https://elixir.bootlin.com/linux/v6.12/source/include/uapi/linux/sched.h#L92>).
#[inline(always)]
fn clone3_flags(at: Address, size: u64) -> Option<u64> {
    const CLEAR_SIGHAND: u32 = 32; // C libraries do without
    const SET_TID_SIZE: u64 = 72;
    let flags = kernel::read_user::<u64>(at)?;
    let ids =
        if size < SET_TID_SIZE + 8 { 0 } else { kernel::read_user::<u64>(at + SET_TID_SIZE)? };
    let beyond = flags >> (CLEAR_SIGHAND + 1) != 0 || ids != 0;
    Some(flags & !watch::BEYOND | if beyond { watch::BEYOND } else { 0 })
}
