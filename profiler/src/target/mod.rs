//! Who is observed: containers of an engine, commands in a cgroup of their own, cgroups by their path.
//!
//! Only `docker` names an engine's client. Nothing here observes; a target that cannot be observed is an
//! error that says why.

pub mod cgroup;
pub mod command;
pub mod compose;
pub mod docker;
pub mod doctor;
pub mod place;
pub mod runtime;
