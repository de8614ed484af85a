//! What ends a recording of a target that the recorder did not start: the test run, a signal, the time, or whoever
//! drives the target.

use std::{ffi::OsString, path::Path, pin::Pin, time::Duration};

use tokio::{
    sync::{mpsc::UnboundedReceiver, oneshot},
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
    driver: Option<oneshot::Receiver<Option<i32>>>,
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
        driver: Option<oneshot::Receiver<Option<i32>>>,
    ) -> Result<Self, SessionError> {
        let running = match command {
            _ if driver.is_some() => None,
            [] => None,
            command => Some(Running::plain(command, socket, &[], None)?),
        };
        let deadline = duration.map(|time| Box::pin(sleep(time)));
        Ok(Ending { running, driver, signals, deadline })
    }

    /// Whether somebody says when the recording ends, a command for one.
    pub fn has_command(&self) -> bool {
        self.running.is_some() || self.driver.is_some()
    }

    /// Waits for the end; the command's status, as a shell would report it. Cancel safe.
    pub async fn wait(&mut self) -> Option<i32> {
        loop {
            let Ending { running, driver, signals, deadline } = self;
            tokio::select! {
                status = ended(running) => return status,
                status = driven(driver) => return status,
                () = passed(deadline) => return None,
                Some(signal) = signals.recv() => match &self.running {
                    Some(running) => running.pass_on(signal),
                    None if signal.asks_to_end() && self.driver.is_none() => return None,
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

/// A driver that went away without a word ends it, too.
async fn driven(driver: &mut Option<oneshot::Receiver<Option<i32>>>) -> Option<i32> {
    match driver {
        Some(driver) => driver.await.unwrap_or(None),
        None => std::future::pending().await,
    }
}

async fn passed(deadline: &mut Option<Pin<Box<Sleep>>>) {
    match deadline {
        Some(deadline) => deadline.await,
        None => std::future::pending().await,
    }
}
