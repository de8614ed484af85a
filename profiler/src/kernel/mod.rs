//! Facts of this host: version, cgroup set-up, privileges, what tracing needs.
//!
//! Reads files below a root path that the caller gives, so that every function can be tested on a tree of
//! files. Loads no program, makes no bpf(2) call, changes nothing but what its own process may do.

pub mod btf;
pub mod cgroup;
pub mod doctor;
pub mod filters;
pub mod identity;
pub mod kallsyms;
pub mod libseccomp;
pub mod privileges;
pub mod process;
pub mod shed;
pub mod signals;
pub mod tracing;
pub mod usage;
pub mod version;
