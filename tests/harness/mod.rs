//! What every test stands on: the machine, programs under a time limit, the recorder, its files, fixtures and containers.

pub mod docker;
pub mod evidence;
pub mod fixtures;
pub mod leftovers;
pub mod machine;
pub mod pair;
pub mod program;
pub mod record;
pub mod relay;
pub mod rootfs;
pub mod syscalls;
pub mod test;
