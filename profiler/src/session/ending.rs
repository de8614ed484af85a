//! What ends a recording of a target that the recorder did not start: the test run, a signal, or the time.

use std::{ffi::OsString, path::Path, pin::Pin, time::Duration};

use tokio::{
    sync::mpsc::UnboundedReceiver,
    time::{Sleep, sleep},
};

use super::{
    child::{Running, shell_status},
    error::SessionError,
    signals::Signal,
};

/// The running test run, if there is one, and the other ends.
pub struct Ending {
    running: Option<Running>,
    signals: UnboundedReceiver<Signal>,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Ending {
    /// Starts the command, unless it is empty, and the time.
    pub fn start(
        command: &[OsString],
        socket: Option<&Path>,
        duration: Option<Duration>,
        signals: UnboundedReceiver<Signal>,
    ) -> Result<Self, SessionError> {
        let running = match command {
            [] => None,
            command => Some(Running::plain(command, socket)?),
        };
        Ok(Ending { running, signals, deadline: duration.map(|time| Box::pin(sleep(time))) })
    }

    /// Whether a command says when the recording ends.
    pub fn has_command(&self) -> bool {
        self.running.is_some()
    }

    /// Waits for the end; the command's status, as a shell would report it. Cancel safe.
    pub async fn wait(&mut self) -> Option<i32> {
        loop {
            let Ending { running, signals, deadline } = self;
            tokio::select! {
                status = ended(running) => return status,
                () = passed(deadline) => return None,
                Some(signal) = signals.recv() => match &self.running {
                    Some(running) => running.pass_on(signal),
                    None if signal.asks_to_end() => return None,
                    None => {}
                },
            }
        }
    }
}

async fn ended(running: &mut Option<Running>) -> Option<i32> {
    match running {
        Some(running) => running.wait().await.ok().map(shell_status),
        None => std::future::pending().await,
    }
}

async fn passed(deadline: &mut Option<Pin<Box<Sleep>>>) {
    match deadline {
        Some(deadline) => deadline.await,
        None => std::future::pending().await,
    }
}
