//! What every recording has in common: an observer, a clock, ticks, and the end of a command.

use std::{
    ffi::OsString,
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::sync::oneshot;

use super::{
    error::SessionError,
    event::Event,
    exits::Exits,
    labels::InForce,
    run::{self, Circumstances, Clock},
    seal::Seal,
    socket::{Asked, Socket},
    verify::Confined,
};
use crate::{
    kernel::privileges::{self, Privileges},
    model::recording::{Recording, RunId, Target},
    observe::{
        ebpf::{Observer, Options, Slot},
        evidence::{Entries, Evidence, Found},
    },
};

/// How often the recorder looks at what was found.
pub const TICK: Duration = Duration::from_millis(250);

/// What to do, whatever the target.
pub struct Plan {
    /// Name of the result, for commands.
    pub name: String,
    /// The tests, or the workload itself.
    pub command: Vec<OsString>,
    /// End after this time.
    pub duration: Option<Duration>,
    /// Receives a byte when everything is attached.
    pub ready: Option<File>,
    /// How to observe.
    pub observe: Options,
    /// Where to listen for labels.
    pub socket: Option<PathBuf>,
    /// How the command is confined, when it is the target.
    pub confined: Option<Confined>,
    /// What is given up while the target is recorded; nothing, for whoever starts programs meanwhile.
    pub seal: Option<Seal>,
    /// Says the end, and the status of the tests, in place of a command that is started here.
    pub driver: Option<oneshot::Receiver<Option<i32>>>,
}

/// One finished recording.
pub struct Recorded {
    /// The target as the user named it.
    pub name: String,
    /// The evidence.
    pub recording: Recording,
    /// Who came into it.
    pub entries: Entries,
    /// What is not known of some of its containers, which is why there may be no advice on it. Hostile text.
    pub unseen: Vec<String>,
}

/// What came out of a session.
pub struct Outcome {
    /// A recording for each target that ran.
    pub recordings: Vec<Recorded>,
    /// Targets that never ran.
    pub never_ran: Vec<Target>,
    /// Status of the command, as a shell would report it.
    pub command_status: Option<i32>,
}

/// An armed observer, and what was found by it.
pub struct Recorder {
    /// The kernel side.
    pub observer: Observer,
    /// Since when.
    pub clock: Clock,
    run: RunId,
    exits: Exits,
    found: Found,
    last_new: Duration,
    labels: InForce,
    socket: Option<Socket>,
}

impl Recorder {
    /// Loads and attaches everything. No target is in scope yet.
    pub fn start(options: Options, tell: &mut impl FnMut(Event)) -> Result<Self, SessionError> {
        // without /proc nothing is known, and loading will tell
        if let Ok(privileges) = Privileges::read(Path::new("/")) {
            let lacking = privileges.lacking();
            if !lacking.is_empty() {
                return Err(SessionError::Lacks { names: privileges::names(&lacking) });
            }
            for wanted in privileges.wanting().filter(|wanted| wanted.changes_results) {
                tell(Event::Warning {
                    text: format!("without {}, {}", wanted.name, wanted.without),
                });
            }
        }
        let observer = Observer::start(Path::new("/sys"), options)?;
        Ok(Recorder {
            observer,
            clock: Clock::start(),
            run: run::new_id()?,
            exits: Exits::default(),
            found: Found::default(),
            last_new: Duration::ZERO,
            labels: InForce::default(),
            socket: None,
        })
    }

    /// Listens for labels: at `path`, which must be possible, or else at a path of its own, if it is.
    pub fn listen(
        &mut self,
        path: Option<&Path>,
        tell: &mut impl FnMut(Event),
    ) -> Result<(), SessionError> {
        match Socket::listen(path, &self.run) {
            Ok(socket) => self.socket = Some(socket),
            Err(error) if path.is_some() => return Err(error),
            Err(error) => tell(Event::NoSocket { error: error.told() }),
        }
        Ok(())
    }

    /// Where it listens for labels.
    pub fn socket(&self) -> Option<&Path> {
        self.socket.as_ref().map(Socket::path)
    }

    /// The next request for a label. Cancel safe.
    pub async fn asked(&mut self) -> Asked {
        match &mut self.socket {
            Some(socket) => socket.next().await,
            None => std::future::pending().await,
        }
    }

    /// Changes the labels in force, then answers.
    pub fn label(&mut self, asked: Asked) -> Result<(), SessionError> {
        let outcome = match self.labels.apply(asked.request.clone()) {
            Ok(labels) => {
                self.observer.label(&labels, &self.run, self.clock.armed_ns())?;
                Ok(())
            }
            Err(error) => Err(error),
        };
        asked.answer(outcome);
        Ok(())
    }

    /// Looks at what was found, and decides whether `sys_exit` stays.
    ///
    /// `expecting` holds while a target may yet start, `denying` while a target's filter denies.
    pub fn tick(
        &mut self,
        slots: &[Slot],
        expecting: bool,
        denying: bool,
    ) -> Result<Event, SessionError> {
        let elapsed = self.clock.elapsed();
        self.observer.tidy(&self.run, self.clock.armed_ns())?;
        let found = self.observer.found(slots)?;
        if self.found.extend(found) {
            self.last_new = elapsed;
        }
        let outcomes = self.exits.outcomes(elapsed, self.found.checks.len(), expecting);
        self.observer.watch_exits(outcomes, denying || expecting)?;
        self.observer.flush_log();
        Ok(Event::Progress {
            elapsed,
            quiet: elapsed.saturating_sub(self.last_new),
            syscalls: self.found.syscalls.len(),
            capabilities: self.found.capabilities.len(),
            denials: self.found.denials.len(),
        })
    }

    /// What was written to slots so far.
    pub fn evidence(&mut self, slots: &[Slot]) -> Result<Evidence, SessionError> {
        Ok(self.observer.evidence(slots, &self.run, self.clock.armed_ns(), self.labels.lost)?)
    }

    /// The recording of one target, from evidence taken after [`Observer::stop`].
    pub fn recording(&self, circumstances: Circumstances, evidence: Evidence) -> Recording {
        run::recording(self.run.clone(), circumstances, evidence)
    }
}

/// Tells whoever waits on `--ready-fd`.
pub fn signal_ready(ready: Option<File>) {
    if let Some(mut ready) = ready {
        let _ = ready.write_all(b"\n"); // a reader that went away needs no byte
    }
}
