//! What OCI runtimes call under the filter, measured: `cargo xtask floors`.
//!
//! [`releases`] fetches runtimes of several Debian releases, [`arena`] runs them on a bundle in namespaces of
//! their own, [`measure`] leaves out one call after the other, and [`data`] holds the result against
//! `profiles/floors`. What the words mean is in `docs/floors.md`.

mod arena;
mod data;
mod measure;
mod releases;
mod verb;

pub use verb::{Args, run};
