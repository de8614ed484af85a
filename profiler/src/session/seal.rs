//! What the recorder gives up once everything is attached and COMMAND has been started with all that it had: capabilities, the
//! right to gain any, and the calls that it makes no more.
//!
//! Threads that look at files have given up their capabilities when they started; the filter reaches them, too. Whoever
//! starts programs later, as `verify` does, is not sealed, for they would get no more than what is left.

use thiserror::Error;

use super::event::Event;
use crate::{
    kernel::{
        libseccomp::{Libseccomp, LibseccompError},
        shed,
    },
    model::{
        arch::Abi,
        effective::{Context, Engine},
        seccomp::{KernelVersion, SeccompFile},
    },
};

/// Lets all threads be under the filter.
const ALL_THREADS: &str = "SECCOMP_FILTER_FLAG_TSYNC";

/// How the recorder is sealed.
#[derive(Debug, Clone, Default)]
pub struct Seal {
    /// The filter that allows what it does from then on; with none it only gives up capabilities.
    pub filter: Option<SeccompFile>,
}

/// Why something was not given up.
#[derive(Debug, Error)]
enum SealError {
    #[error("profiler keeps capabilities that it does not need")]
    Capabilities(#[source] std::io::Error),
    #[error("profiler records without a filter of its own")]
    Filter(#[from] LibseccompError),
}

impl Seal {
    /// Gives up what can be given up. A recording is worth more than the rest, so that is told and no more.
    pub(super) fn close(&self, tell: &mut impl FnMut(Event)) {
        for done in [capabilities(), self.load()] {
            if let Err(error) = done {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tell(Event::Warning {
                    text: format!("{error}: {}", cause.unwrap_or_default().replace('\n', "; ")),
                });
            }
        }
    }

    fn load(&self) -> Result<(), SealError> {
        let Some(file) = &self.filter else { return Ok(()) };
        let library = match Libseccomp::open() {
            Err(LibseccompError::Open(_)) => return Ok(()), // `doctor` says so
            library => library?,
        };
        let mut file = file.clone();
        file.flags.push(ALL_THREADS.to_owned());
        Ok(library.load(&file, &context(), true)?)
    }
}

fn capabilities() -> Result<(), SealError> {
    shed::keep(shed::RECORDING).map_err(SealError::Capabilities)
}

/// The file has nothing in it that depends on this, but for the machine.
fn context() -> Context {
    Context {
        native: Abi::X86_64,
        capabilities: Default::default(),
        kernel: KernelVersion { major: 5, minor: 10 },
        engine: Engine::Oci,
    }
}
