//! What crosses to functions that the verifier follows once, apart from those that call them.
//!
//! These are global functions of BTF: exported under a name of their own, never inlined. Their arguments are plain numbers, of which
//! the verifier assumes nothing (Linux 5.10 takes no pointers), and so is their answer. Any other function is followed again for
//! each way that leads to it.

use core::hint;

use profiler_common::{evidence::CallKey, scope::Slot};

/// In the second number: that a twin tells it.
const TWIN: u64 = 1 << 16;

/// Adds who tells it to the second number of a call.
#[inline(always)]
pub fn by_twin(how: u64, is_twin: bool) -> u64 {
    if is_twin { how | TWIN } else { how }
}

/// Whether a twin tells it.
#[inline(always)]
pub fn is_by_twin(how: u64) -> bool {
    how & TWIN != 0
}

/// A call as two numbers. The upper half of the second is free.
#[inline(always)]
pub fn packed(call: &CallKey) -> (u64, u64) {
    let place = u64::from(call.slot) | u64::from(call.nr) << 32;
    (place, u64::from(call.abi) | u64::from(call.phase) << 8)
}

/// The call of two such numbers.
#[inline(always)]
pub fn call(place: u64, how: u64) -> CallKey {
    CallKey {
        slot: place as Slot,
        // else the compiler compares the two together, and the verifier does not see the bound of one
        nr: hint::black_box((place >> 32) as u32),
        abi: how as u8,
        phase: (how >> 8) as u8,
        reserved: 0,
    }
}
