//! Real container engines for the tests, under `target/engines`, beside whatever the machine runs.
//!
//! Owns their installation, start and stop. One file a kind of engine, each an [`Engine`]. What an engine changes on the machine is written down before and undone by `down`.

mod cgroups;
mod compose;
mod containerd;
mod daemon;
mod docker;
mod env;
mod http;
mod lent;
mod machine;
mod netfilter;
mod place;
mod podman;
mod runtimes;
mod trixie;
mod verb;

pub use lent::Lent;
pub use verb::{Args, run};

use anyhow::Result;

/// A container engine that can be had on this machine.
pub trait Engine {
    /// What it is called on the command line.
    fn name(&self) -> &'static str;
    /// Installs, starts and fills it, as far as it is not; returns what a shell needs to use it.
    fn up(&self) -> Result<env::Environment>;
    /// Stops it and restores the machine.
    fn down(&self) -> Result<()>;
    /// One line: up or down, version, where.
    fn status(&self) -> Result<String>;
}
