//! What comes into a target from outside, and the filters that it came under.

use crate::scope::Slot;

/// Room for a filter: a power of two. The kernel takes 4096 instructions of eight bytes; one less is kept.
pub const CODE_LEN: usize = 32_768;

/// Value of `ENTRIES`, by target.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Entries {
    /// Processes from outside that executed their first program as the target's.
    pub entered: u64,
    /// How often one without a filter was noticed that is none of the runtime's.
    pub unfiltered: u64,
    /// Name of the first of those.
    pub comm: [u8; 16],
}

/// Key of `FILTERS`: an entry.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct FilterKey {
    /// CLOCK_MONOTONIC.
    pub ns: u64,
    /// The process.
    pub tgid: u32,
    /// The target.
    pub slot: Slot,
}

/// Value of `FILTERS`: the newest filter of a process that entered, as its loader wrote it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Filter {
    /// Bytes of `code` that are used; 0 until they are written.
    pub bytes: u64,
    /// `struct sock_filter`s.
    pub code: [u8; CODE_LEN],
}

const _: () = assert!(size_of::<Entries>() == 32 && size_of::<FilterKey>() == 16);
const _: () = assert!(size_of::<Filter>() == 8 + CODE_LEN && CODE_LEN.is_power_of_two());

#[cfg(feature = "user")]
mod pod {
    #![expect(unsafe_code, reason = "aya::Pod is an unsafe trait")]

    // SAFETY: `repr(C)`, no padding (sizes asserted), any bit pattern is a value.
    unsafe impl aya::Pod for super::Entries {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::FilterKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Filter {}
}
