//! Makes the runs that a search asks for, and hands over each result before the next.
//!
//! What a run is, a [`Trial`] knows. Nothing here decides what to leave out.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Instant,
};

use thiserror::Error;

use crate::{
    model::minimise::{self, Candidate, Entry, Left, MAX_OUTPUT, Outcome, Run, Settings, Step},
    session::SessionError,
};

/// The tests under the profile without some of its entries.
pub trait Trial: Sync {
    /// Runs them once, on a target that it starts itself.
    ///
    /// # Errors
    /// When they could not be run, which says nothing of the profile.
    fn run(&self, removed: &BTreeSet<Entry>) -> Result<Tried, SessionError>;
}

/// How the tests ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// They passed, and the target held.
    pub passed: bool,
    /// Which entries were used or asked for; `None` where that was not seen.
    pub made: Option<Vec<Entry>>,
    /// What they wrote, or its end.
    pub output: String,
}

/// Why a search did not come to its end.
#[derive(Debug, Error)]
pub enum MinimiseError {
    /// They fail with nothing left out.
    #[error("the tests fail under the whole profile, so nothing can be said{}\nhint: profiler verify PROFILE -- COMMAND says what is refused", quoted(.output))]
    Broken {
        /// The last line that they wrote.
        output: String,
    },
    /// A signal asked for an end.
    #[error("interrupted after {runs} runs\nhint: the same command goes on from there")]
    Interrupted {
        /// How many were made and kept.
        runs: usize,
    },
    /// A run could not be made, or its result not be kept.
    #[error(transparent)]
    Session(#[from] SessionError),
}

fn quoted(output: &str) -> String {
    if output.is_empty() { String::new() } else { format!(": {}", output.escape_debug()) }
}

/// What was just done, and what is left.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// The run.
    pub run: &'a Run,
    /// How many there are with it.
    pub runs: usize,
    /// How many more.
    pub left: Left,
    /// What a run takes, in milliseconds: the median.
    pub median_ms: u64,
}

/// A search.
pub struct Minimise<'a> {
    /// What can be left out.
    pub candidates: &'a [Candidate],
    /// How.
    pub settings: Settings,
    /// How many runs are made at once.
    pub jobs: usize,
    /// Set when it is to end.
    pub interrupted: &'a AtomicBool,
}

impl Minimise<'_> {
    /// Goes on from `runs` to the end. `keep` is told all runs after each one and must keep them.
    ///
    /// # Errors
    /// See [`MinimiseError`].
    pub fn finish(
        &self,
        trial: &dyn Trial,
        runs: &mut Vec<Run>,
        mut keep: impl FnMut(&[Run]) -> Result<(), SessionError>,
        mut tell: impl FnMut(Progress<'_>),
    ) -> Result<Outcome, MinimiseError> {
        loop {
            if let Step::Done(outcome) = minimise::plan(self.candidates, self.settings, runs) {
                return Ok(outcome);
            }
            let wanted = minimise::next(self.candidates, self.settings, runs, self.jobs);
            let tried: Vec<Result<Run, SessionError>> = thread::scope(|scope| {
                let handles: Vec<_> =
                    wanted.iter().map(|removed| scope.spawn(|| timed(trial, removed))).collect();
                handles.into_iter().filter_map(|handle| handle.join().ok()).collect()
            });
            // A signal ends the tests, too, and they fail for that.
            if self.interrupted.load(Ordering::SeqCst) {
                return Err(MinimiseError::Interrupted { runs: runs.len() });
            }
            for run in tried {
                let run = run?;
                if run.removed.is_empty() && !run.passed {
                    let output = minimise::last_line(&run.output);
                    return Err(MinimiseError::Broken { output });
                }
                runs.push(run);
                keep(runs)?;
                if let Some(run) = runs.last() {
                    let left = minimise::left(self.candidates, self.settings, runs);
                    tell(Progress { run, runs: runs.len(), left, median_ms: median_ms(runs) });
                }
            }
        }
    }
}

fn timed(trial: &dyn Trial, removed: &BTreeSet<Entry>) -> Result<Run, SessionError> {
    let started = Instant::now();
    let Tried { passed, made, output } = trial.run(removed)?;
    Ok(Run {
        removed: removed.iter().cloned().collect(),
        passed,
        duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        made,
        output: if passed { String::new() } else { end(&output).to_owned() },
    })
}

/// The last [`MAX_OUTPUT`] bytes, from a character's beginning.
fn end(output: &str) -> &str {
    let from = output.len().saturating_sub(MAX_OUTPUT);
    let from = (from..=output.len()).find(|&at| output.is_char_boundary(at));
    output.get(from.unwrap_or(0)..).unwrap_or_default()
}

fn median_ms(runs: &[Run]) -> u64 {
    let mut times: Vec<u64> = runs.iter().map(|run| run.duration_ms).collect();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::model::minimise::{Standing, Verdict};

    /// Fails without `read`; keeps count.
    struct Fake<'a> {
        made: Mutex<Vec<BTreeSet<Entry>>>,
        interrupt: Option<(&'a AtomicBool, usize)>,
    }

    impl Trial for Fake<'_> {
        fn run(&self, removed: &BTreeSet<Entry>) -> Result<Tried, SessionError> {
            let mut made = self.made.lock().expect("no panic");
            made.push(removed.clone());
            if let Some((flag, after)) = self.interrupt {
                flag.store(made.len() > after, Ordering::SeqCst);
            }
            let passed = !removed.contains(&call("read"));
            let output = if passed { String::new() } else { "ü".repeat(MAX_OUTPUT) + "x" };
            Ok(Tried { passed, made: None, output })
        }
    }

    fn call(name: &str) -> Entry {
        Entry::Syscall(name.into())
    }

    fn candidates() -> Vec<Candidate> {
        let names = ["bpf", "close", "mount", "read"];
        names.map(|name| Candidate { entry: call(name), standing: Standing::Try }).into()
    }

    fn search<'a>(candidates: &'a [Candidate], flag: &'a AtomicBool, jobs: usize) -> Minimise<'a> {
        let settings = Settings { repeats: 2, prove: true };
        Minimise { candidates, settings, jobs, interrupted: flag }
    }

    #[test]
    fn each_run_is_kept_before_the_next_and_bounded() {
        let (all, flag) = (candidates(), AtomicBool::new(false));
        for jobs in [1, 3] {
            let fake = Fake { made: Mutex::default(), interrupt: None };
            let (mut runs, mut kept) = (vec![], vec![]);
            let mut least = vec![];
            let outcome = search(&all, &flag, jobs)
                .finish(
                    &fake,
                    &mut runs,
                    |runs| {
                        kept.push(runs.len());
                        Ok(())
                    },
                    |progress| least.push(progress.left.least),
                )
                .expect("it ends");
            assert_eq!(outcome.dropped(), [call("bpf"), call("close"), call("mount")].into());
            assert_eq!(kept, (1..=runs.len()).collect::<Vec<_>>());
            assert_eq!(least.last(), Some(&0));
            let failed = runs.iter().find(|run| !run.passed).expect("without read");
            assert!(failed.output.ends_with("üx") && failed.output.len() <= MAX_OUTPUT);
            let read = outcome.entries.last().expect("four").verdict;
            assert!(matches!(read, Verdict::Needed { .. }));
        }
    }

    #[test]
    fn an_interrupted_run_is_forgotten_and_made_again() {
        let (all, flag) = (candidates(), AtomicBool::new(false));
        let fake = Fake { made: Mutex::default(), interrupt: Some((&flag, 4)) };
        let mut runs = vec![];
        let error = search(&all, &flag, 1).finish(&fake, &mut runs, |_| Ok(()), |_| ());
        assert!(matches!(error, Err(MinimiseError::Interrupted { runs: 4 })), "{error:?}");
        assert_eq!(runs.len(), 4);
        flag.store(false, Ordering::SeqCst);
        let fake = Fake { made: fake.made, interrupt: None };
        search(&all, &flag, 1).finish(&fake, &mut runs, |_| Ok(()), |_| ()).expect("it ends");
        assert_eq!(fake.made.lock().expect("no panic").len(), runs.len() + 1);
    }

    #[test]
    fn tests_that_fail_anyway_are_an_error_and_not_kept() {
        struct Fails;
        impl Trial for Fails {
            fn run(&self, _: &BTreeSet<Entry>) -> Result<Tried, SessionError> {
                Ok(Tried { passed: false, made: None, output: "no\x1b server\n".into() })
            }
        }
        let (all, flag) = (candidates(), AtomicBool::new(false));
        let mut runs = vec![];
        let error = search(&all, &flag, 1).finish(&Fails, &mut runs, |_| Ok(()), |_| ());
        let text = error.expect_err("they fail").to_string();
        assert!(text.contains("whole profile") && text.contains("no\\u{1b} server"), "{text}");
        assert!(runs.is_empty());
    }
}
