//! Signals to the recorder, with who sent them.
//!
//! A terminal sends Ctrl-C to the whole foreground group, so the command has it already; what
//! another process sends to the recorder alone is passed on.

use std::{io, thread};

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2},
    iterator::{
        SignalsInfo,
        exfiltrator::origin::{Origin, WithOrigin},
    },
    low_level::siginfo::{Cause, Sent},
};
use tokio::sync::mpsc;

use crate::kernel::shed::{self, Capabilities};

/// A signal that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal {
    /// Its number.
    pub number: i32,
    /// It came from the terminal or the kernel, not from kill(2).
    pub from_kernel: bool,
}

impl Signal {
    /// Whether it asks the recorder to come to an end.
    pub fn asks_to_end(self) -> bool {
        matches!(self.number, SIGINT | SIGTERM | SIGHUP | SIGQUIT)
    }
}

/// Catches every signal that is passed on or ends a recording, from now on.
pub fn catch() -> io::Result<mpsc::UnboundedReceiver<Signal>> {
    let all = [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2];
    let mut signals = SignalsInfo::<WithOrigin>::new(all)?;
    let (sender, receiver) = mpsc::unbounded_channel();
    let (shed, has_shed) = std::sync::mpsc::channel::<()>();
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        if let Err(error) = shed::keep(Capabilities::empty()) {
            tracing::warn!("a thread keeps more privileges than it needs: {error}");
        }
        drop(shed);
        for origin in &mut signals {
            let Origin { signal, cause, .. } = origin;
            let from_kernel = !matches!(cause, Cause::Sent(Sent::User | Sent::TKill | Sent::Queue));
            if sender.send(Signal { number: signal, from_kernel }).is_err() {
                break;
            }
        }
    })?;
    let _ = has_shed.recv(); // nothing is ever sent
    Ok(receiver)
}
