//! Facts of this host. Every function that reads a file takes the path or its content; none changes
//! anything.

pub mod btf;
pub mod kallsyms;
