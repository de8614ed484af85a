//! Model to text: pure functions, one file a format. Nothing is decided here that `model` has not decided.

pub mod bundle;
pub mod compose;
pub mod granted;
mod harden;
pub mod held;
pub mod json;
pub mod kubernetes;
pub mod seccomp;
mod yaml;

pub use bundle::bundle;
