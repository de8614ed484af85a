//! Profiles for another runtime than the recorded one, held against real runtimes: several versions of runc and crun, run
//! on bundles by `cargo xtask floors --try`, which starts containers and joins them, as root and as another user.

mod purpose;

pub use purpose::tests;
