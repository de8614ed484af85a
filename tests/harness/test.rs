//! One test: its name, what it needs of the machine, and what it does. Owns the skip reasons and the locking.

use std::{
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};

use anyhow::Result;
use libtest_mimic::{Failed, Trial};

use crate::harness::machine::{Machine, Need};

/// What a test does.
type Body = Box<dyn Fn(&Machine) -> Result<()> + Send + Sync>;

/// How long tests took, for who wants to know where the time goes.
pub type Times = Arc<Mutex<Vec<(Duration, String)>>>;

/// One test, as the groups describe it.
pub struct Test {
    name: String,
    needs: Vec<Need>,
    alone: bool,
    everywhere: bool,
    on_aarch64: bool,
    run: Body,
}

impl Test {
    /// A test called `group::what`, that runs where all of `needs` are met.
    pub fn new(
        name: impl Into<String>,
        needs: &[Need],
        run: impl Fn(&Machine) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            needs: needs.to_vec(),
            alone: false,
            everywhere: false,
            on_aarch64: false,
            run: Box::new(run),
        }
    }

    /// It belongs to the kernel half: `cargo xtask vm` runs it on each of its kernels.
    pub fn on_every_kernel(mut self) -> Self {
        self.everywhere = true;
        self
    }

    /// It belongs to the kernel half, also on aarch64: it names calls, or numbers of either machine.
    pub fn on_every_machine(mut self) -> Self {
        self.on_aarch64 = true;
        self.on_every_kernel()
    }

    /// Whether it belongs to this machine's kernel half.
    pub fn is_of_kernel_half(&self) -> bool {
        if cfg!(target_arch = "aarch64") { self.on_aarch64 } else { self.everywhere }
    }

    /// No other test runs beside this one: it looks at the whole machine.
    pub fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    /// Whether no other may run beside it.
    pub fn is_alone(&self) -> bool {
        self.alone
    }

    /// The trial for the harness, and why it is skipped, if it is.
    pub fn into_trial(
        self,
        machine: &Arc<Machine>,
        others: &Arc<RwLock<()>>,
        times: &Times,
    ) -> (Trial, Option<String>) {
        let skip = self
            .needs
            .iter()
            .find_map(|need| machine.lacks(*need))
            .map(|reason| format!("{}: {reason}", self.name));
        let (machine, others) = (Arc::clone(machine), Arc::clone(others));
        let (times, name) = (Arc::clone(times), self.name.clone());
        let trial = Trial::test(self.name, move || {
            let timed = || {
                let began = Instant::now();
                let outcome = (self.run)(&machine);
                let mut times = times.lock().unwrap_or_else(PoisonError::into_inner);
                times.push((began.elapsed(), name.clone()));
                outcome
            };
            let outcome = if self.alone {
                let _only = others.write();
                timed()
            } else {
                let _beside = others.read();
                timed()
            };
            outcome.map_err(|error| {
                let told = told(&error);
                // at once, too: a run that is cut off has no summary
                eprintln!("{name} failed:\n{told}\n");
                Failed::from(told)
            })
        });
        (trial.with_ignored_flag(skip.is_some()), skip)
    }
}

/// An error and its causes, a line each; no backtrace, whatever the environment says.
fn told(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).collect::<Vec<_>>().join("\n  by: ")
}
