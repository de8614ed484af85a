//! Tests against real kernels and real engines. `cargo xtask test` sets up what they need and runs them.
//!
//! Every test is listed by `--list` as `group::what`. One that cannot run here is reported as ignored, and the reason is
//! printed before the first test. Three run at a time, most of which wait; those that look at the whole machine run alone, after the others. `--fixtures` only builds
//! the C programs, `--fixtures aarch64` those of the other machine; with PROFILER_KERNEL_HALF set, only the tests run that `cargo xtask vm` wants.

mod arguments;
mod audit;
mod badinput;
mod bound;
mod capability;
mod command;
mod docker;
mod enforce;
mod example;
mod faults;
mod filter;
mod floors;
mod harden;
mod harness;
mod kernel;
mod labels;
mod matrix;
mod minimise;
mod narrow;
mod portable;
mod privilege;
mod readme;
mod scope;
mod verify;

use std::{
    process::ExitCode,
    sync::{Arc, PoisonError, RwLock},
};

use harness::{
    machine::Machine,
    test::{Test, Times},
};
use libtest_mimic::Arguments;

/// How many of the slowest tests are told.
const SLOWEST: usize = 30;

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--fixtures") {
        let is_aarch64 = std::env::args().any(|argument| argument == "aarch64");
        let built = Machine::root().and_then(|root| match is_aarch64 {
            true => harness::fixtures::build_for_aarch64(&root),
            false => harness::fixtures::build_all(&root),
        });
        return match built {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error:#}");
                ExitCode::FAILURE
            }
        };
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(3);
    let machine = match Machine::find() {
        Ok(machine) => Arc::new(machine),
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::from(2);
        }
    };
    let others = Arc::new(RwLock::new(()));
    let times = Times::default();
    let mut trials = Vec::new();
    let mut skips = Vec::new();
    let kernel_half = std::env::var_os("PROFILER_KERNEL_HALF").is_some();
    let mut tests = tests();
    tests.retain(|test| !kernel_half || test.is_of_kernel_half());
    tests.sort_by_key(Test::is_alone); // one in the middle would have the others wait
    for test in tests {
        let (trial, skip) = test.into_trial(&machine, &others, &times);
        trials.push(trial);
        skips.extend(skip);
    }
    if !arguments.list {
        println!("binary under test: {}", machine.profiler);
        let filter = arguments.filter.as_deref().unwrap_or_default();
        for skip in skips.iter().filter(|skip| skip.contains(filter)) {
            println!("skipped {skip}");
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    let mut times = std::mem::take(&mut *times.lock().unwrap_or_else(PoisonError::into_inner));
    times.sort_unstable_by(|one, other| other.cmp(one));
    for (time, name) in times.iter().take(SLOWEST) {
        println!("{:6.1} s {name}", time.as_secs_f64());
    }
    if let Ok(engine) = machine.engine() {
        engine.remove_image();
    }
    harness::pair::remove_images(&machine);
    conclusion.exit_code()
}

fn tests() -> Vec<Test> {
    [
        command::complete::tests(),
        command::counts::tests(),
        command::hostile::tests(),
        command::killed::tests(),
        command::lost::tests(),
        command::moved::tests(),
        command::truth::tests(),
        command::transparent::tests(),
        command::stable::tests(),
        command::stacks::tests(),
        arguments::tests(),
        audit::tests(),
        capability::borrowed::tests(),
        capability::exact::tests(),
        capability::files::tests(),
        capability::implied::tests(),
        capability::moot::tests(),
        capability::ways::tests(),
        kernel::arm::tests(),
        kernel::join::tests(),
        badinput::refuse::tests(),
        bound::tests(),
        docker::tests(),
        enforce::tests(),
        example::tests(),
        faults::tests(),
        labels::tests(),
        filter::differential::tests(),
        filter::static_check::tests(),
        floors::tests(),
        harden::tests(),
        matrix::tests(),
        minimise::tests(),
        narrow::tests(),
        scope::tests(),
        portable::tests(),
        privilege::tests(),
        verify::tests(),
        readme::tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
