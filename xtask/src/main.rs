//! The project's own verbs. Each does its own set-up.
//!
//! This file only dispatches: a verb is a module, with its arguments and its `run`.

mod apt;
mod ebpf;
mod engines;
mod images;
mod layers;
mod mounts;
mod sh;

use clap::Parser;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "The project's own verbs")]
enum Verb {
    /// Build the kernel side, or check that the committed object is the sources'.
    Ebpf(ebpf::Args),
    /// Install, start and stop real container engines with locally made images.
    Engines(engines::Args),
    /// Check who imports whom, and where `unsafe` stands.
    Layers,
}

fn main() -> anyhow::Result<()> {
    match Verb::parse() {
        Verb::Ebpf(args) => ebpf::run(&args),
        Verb::Engines(args) => engines::run(&args),
        Verb::Layers => layers::run(),
    }
}
