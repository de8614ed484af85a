//! What is made on the way and must not stay: containers of images, which are never started, and directories. They go when they are
//! dropped, and when a signal asks for the end.
//!
//! Must not catch signals while a session of the library does: see [`hand_over`].

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, Once, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use profiler::target::docker::{Docker, Endpoint, EngineError, Environment, own_name};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
    low_level::emulate_default_handler,
};
use tempfile::TempDir;

/// How long the engine may take to answer a question.
const ENGINE_TIMEOUT: Duration = Duration::from_secs(30);

/// How often, and how long after each other, a removal is tried: what is being filled resists.
const TRIES: usize = 200;
const PAUSE: Duration = Duration::from_millis(50);

/// What is there. Locked while something is made or removed; once a signal asks for the end it is never unlocked, so nothing
/// more is made and the process does not end before all is removed.
static THERE: Mutex<Vec<Left>> = Mutex::new(Vec::new());
static ENDING: AtomicBool = AtomicBool::new(false);
static HANDED_OVER: AtomicBool = AtomicBool::new(false);
static CAUGHT: Once = Once::new();

#[derive(Debug, Clone, PartialEq, Eq)]
enum Left {
    Container { endpoint: Endpoint, id: String },
    Directory(PathBuf),
}

fn there() -> MutexGuard<'static, Vec<Left>> {
    THERE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An engine, and what is needed to ask it.
pub struct Engine {
    /// Where requests run.
    pub runtime: tokio::runtime::Runtime,
    /// The engine.
    pub docker: Docker,
}

impl Engine {
    /// The one at `docker_host`, else the usual one.
    pub fn connect(docker_host: Option<&str>) -> Result<Engine> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let environment = Environment::of_process();
        let endpoint = Endpoint::resolve(docker_host, &environment)?;
        let connecting = Docker::connect_or_podman(&endpoint, &environment, ENGINE_TIMEOUT);
        let docker = runtime.block_on(connecting)?;
        Ok(Engine { runtime, docker })
    }
}

/// A container of an image, with nothing but what the image says.
pub struct Container<'a> {
    engine: &'a Engine,
    /// Its id.
    pub id: String,
}

impl<'a> Container<'a> {
    /// Creates it.
    pub fn of_image(engine: &'a Engine, image: &str) -> Result<Container<'a>> {
        catch();
        let mut there = there();
        let name = own_name("files");
        let creation = engine.docker.create_from_image(image, &name);
        let id = engine.runtime.block_on(creation)?;
        there.push(left(engine, &id));
        Ok(Container { engine, id })
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        let mut there = there();
        if let Err(error) = self.engine.runtime.block_on(self.engine.docker.remove(&self.id)) {
            tracing::warn!("a container was left behind: {error}");
        }
        there.retain(|other| *other != left(self.engine, &self.id));
    }
}

fn left(engine: &Engine, id: &str) -> Left {
    Left::Container { endpoint: engine.docker.endpoint().clone(), id: id.to_owned() }
}

/// A directory for files of an image.
pub struct Directory(Option<TempDir>);

impl Directory {
    /// Creates it, where TMPDIR says.
    pub fn new() -> Result<Directory> {
        catch();
        let mut there = there();
        let dir = tempfile::Builder::new().prefix("profiler-files-").tempdir();
        let dir = dir.context("cannot create a directory\nhint: TMPDIR names where it goes")?;
        there.push(Left::Directory(dir.path().to_owned()));
        Ok(Directory(Some(dir)))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.as_ref().map_or(Path::new(""), TempDir::path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let mut there = there();
        if let Some(dir) = self.0.take() {
            there.retain(|other| *other != Left::Directory(dir.path().to_owned()));
        }
    }
}

/// A writer that takes so many bytes and no more, and none once a signal has asked for the end.
pub struct Bounded<W> {
    inner: W,
    left: u64,
}

impl<W> Bounded<W> {
    /// With room for `left` bytes.
    pub fn new(inner: W, left: u64) -> Bounded<W> {
        Bounded { inner, left }
    }
}

impl<W: Write> Write for Bounded<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if ENDING.load(Ordering::Relaxed) {
            return Err(io::Error::other("a signal asked for the end"));
        }
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        if room == 0 && !bytes.is_empty() {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "there is more than is read"));
        }
        let written = self.inner.write(&bytes[..room])?;
        self.left -= written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// From now on a session of the library answers to signals: it puts back what it changed, and returns.
pub fn hand_over() {
    HANDED_OVER.store(true, Ordering::Relaxed);
}

/// Catches what asks for the end, once.
fn catch() {
    CAUGHT.call_once(|| match Signals::new([SIGINT, SIGTERM, SIGHUP]) {
        Ok(mut signals) => {
            thread::spawn(move || {
                let is_ours = |_: &i32| !HANDED_OVER.load(Ordering::Relaxed);
                if let Some(signal) = signals.forever().find(is_ours) {
                    end(signal);
                }
            });
        }
        Err(error) => tracing::warn!("signals are not caught: {error}"),
    });
}

/// Removes all that is there, and ends the process as the signal would have.
fn end(signal: i32) {
    ENDING.store(true, Ordering::Relaxed);
    let mut there = there();
    for left in there.drain(..) {
        if let Err(error) = removed(&left) {
            tracing::warn!("{left:?} was left behind: {error:#}");
        }
    }
    let _ = emulate_default_handler(signal); // if it does not end by that, then so:
    std::process::exit(128 + signal);
}

fn removed(left: &Left) -> Result<()> {
    match left {
        Left::Container { endpoint, id } => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let docker = Docker::connect(endpoint, ENGINE_TIMEOUT).await?;
                match docker.remove(id).await {
                    Err(EngineError::Refused { status: 404, .. }) => Ok(()),
                    other => Ok(other?),
                }
            })
        }
        Left::Directory(path) => {
            let mut tries = 1;
            loop {
                match std::fs::remove_dir_all(path) {
                    Ok(()) => return Ok(()),
                    Err(error) if error.kind() == io::ErrorKind::NotFound && !path.exists() => {
                        return Ok(());
                    }
                    Err(error) if tries == TRIES => return Err(error.into()),
                    Err(_) => thread::sleep(PAUSE),
                }
                tries += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_written_than_there_is_room() {
        let mut out = Vec::new();
        let mut bounded = Bounded::new(&mut out, 5);
        bounded.write_all(b"abc").expect("there is room");
        let error = bounded.write_all(b"defg").expect_err("there is none");
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(out, b"abcde");
    }
}
