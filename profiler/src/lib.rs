//! Record what a container or command asks of the kernel, and derive the policy that it needs.
//!
//! Data flows one way: target -> observe -> recording -> profile -> render. A file stands between
//! recording and profile. Who may import whom is in ARCHITECTURE.md; `cargo xtask layers` checks it.

pub mod binaries;
pub mod fuzz;
pub mod ingest;
pub mod kernel;
pub mod model;
pub mod observe;
pub mod render;
pub mod report;
pub mod session;
pub mod target;
