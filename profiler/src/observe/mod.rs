//! Watching the kernel: from armed scopes to evidence. Only `ebpf` knows how.

pub mod ebpf;
pub mod evidence;
mod symbolise;
