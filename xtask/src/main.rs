//! The project's own verbs. Each does its own set-up.
//!
//! This file only dispatches: a verb is a module, with its arguments and its `run`.

mod apt;
mod bench;
mod codegen;
mod demo;
mod deny;
mod ebpf;
mod engines;
mod example;
mod floors;
mod fuzz;
mod images;
mod layers;
mod mounts;
mod own;
mod sh;
mod story;
mod test;
mod vm;

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "The project's own verbs")]
enum Verb {
    /// Measure what recording costs.
    Bench(bench::Args),
    /// Generate the tables of calls, argument names, constants and libseccomp's names, or check the committed ones.
    Codegen {
        /// Write nothing: fail when the tables are not what the headers give.
        #[arg(long)]
        check: bool,
    },
    /// Record a command and a container, show the profile, and show it enforced.
    Demo,
    /// Check licences, duplicates and sources of every dependency.
    Deny,
    /// Build the kernel side, or check that the committed object is the sources'.
    Ebpf(ebpf::Args),
    /// Install, start and stop real container engines with locally made images.
    Engines(engines::Args),
    /// Build an application of `examples`, record it, start it hardened, and compare.
    Example(example::Args),
    /// Measure what OCI runtimes call under the filter, and compare with `profiles/floors`.
    Floors(floors::Args),
    /// Run each parser's fuzz target for a few seconds.
    Fuzz(fuzz::Args),
    /// Check who imports whom, and where `unsafe` stands.
    Layers,
    /// Make the filter that the recorder puts itself under.
    SelfProfile(own::Args),
    /// Run every test: unit, command line, real kernel, real engines.
    Test(test::Args),
    /// Boot Debian's kernels in an emulated machine and run there what needs no engine.
    Vm(vm::Args),
}

fn main() -> ExitCode {
    let result = match Verb::parse() {
        Verb::Bench(args) => bench::run(&args),
        Verb::Codegen { check } => codegen::run(check),
        Verb::Demo => demo::run(),
        Verb::Deny => deny::run(),
        Verb::Ebpf(args) => ebpf::run(&args),
        Verb::Engines(args) => engines::run(&args),
        Verb::Example(args) => example::run(&args),
        Verb::Floors(args) => floors::run(&args),
        Verb::Fuzz(args) => fuzz::run(&args),
        Verb::Layers => layers::run(),
        Verb::SelfProfile(args) => own::run(&args),
        Verb::Test(args) => test::run(&args),
        Verb::Vm(args) => vm::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            sh::say(format_args!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
