//! What the kernel side and the user side agree on: map keys and values, bounds, and the names of
//! the globals that user space injects before loading.
//!
//! Every struct is `repr(C)` without implicit padding, so that a map key is the same bytes for the
//! same content; sizes are asserted at compile time. The only logic is [`suspended`]'s, which is here to be tested.

#![no_std]

pub mod entries;
pub mod evidence;
pub mod globals;
pub mod scope;
pub mod suspended;
