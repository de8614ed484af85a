//! A Unix socket in front of the engine's, which a test can close: an engine that goes away without disturbing others.

use std::{
    io,
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    sync::{Arc, Mutex},
    thread,
};

use anyhow::{Context as _, Result};
use camino::Utf8Path;

/// The relay. Dropping it closes it.
pub struct Relay {
    host: String,
    open: Arc<Mutex<Option<Vec<UnixStream>>>>,
    socket: camino::Utf8PathBuf,
}

impl Relay {
    /// Listens at `socket` and passes on to the engine at `host`, a `unix://` address.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn start(host: &str, socket: &Utf8Path) -> Result<Self> {
        let engine =
            host.strip_prefix("unix://").context("the engine has a Unix socket")?.to_owned();
        let listener = UnixListener::bind(socket)?;
        let open = Arc::new(Mutex::new(Some(Vec::new())));
        let shared = Arc::clone(&open);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = UnixStream::connect(&engine) else { continue };
                let Ok(mut open) = shared.lock() else { return };
                let Some(streams) = open.as_mut() else { return };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (Ok(mut from), Ok(mut to), Ok(kept)) =
                        (from.try_clone(), to.try_clone(), from.try_clone())
                    else {
                        return;
                    };
                    streams.push(kept);
                    thread::spawn(move || {
                        // Either side may go first; the other is told.
                        let _ = io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Write);
                    });
                }
            }
        });
        Ok(Self { host: format!("unix://{socket}"), open, socket: socket.to_owned() })
    }

    /// Its address, as `DOCKER_HOST`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Closes every connection and takes no new ones.
    pub fn stop(&self) {
        if let Ok(mut open) = self.open.lock() {
            for stream in open.take().into_iter().flatten() {
                // Closed already, then.
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
        // The listener's thread ends at the next connection, which nobody can make any more.
        let _ = fs_err::remove_file(&self.socket);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop();
    }
}
