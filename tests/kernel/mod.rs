//! What the kernel side does without an engine: driven through the library, on this kernel and on those of `cargo xtask vm`.

pub mod arm;
pub mod join;
