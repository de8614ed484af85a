//! The emitted capability list is what the program needs: one-capability programs, probes that need none, refusals.

pub mod borrowed;
pub mod exact;
pub mod files;
pub mod implied;
pub mod moot;
pub mod ways;
