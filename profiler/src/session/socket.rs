//! The recorder's Unix socket, over which tests set labels.
//!
//! Owns where it is, who may reach it and how many do; what is asked is `labels`' and is answered by the session's loop,
//! when the change is in force. It is made in a directory that nobody else can enter, and gets its name only when it
//! answers, so no link is followed and no half-made socket is seen.

use std::{
    io,
    os::unix::{
        fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
        net::UnixStream,
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use fs_err as fs;
use rustix::{
    fs::{CWD, RenameFlags, renameat_with},
    process::geteuid,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixListener,
    sync::{Semaphore, mpsc, oneshot},
    task::AbortHandle,
};

use super::{
    error::SessionError,
    labels::{LabelError, Request},
};

/// Tells COMMAND, and what it starts, where the socket is.
pub const VARIABLE: &str = "PROFILER_SOCKET";

/// Connections at once; more are closed.
const CONNECTIONS: usize = 64;

/// Bytes of a line; a longer one ends the connection.
const LINE_BYTES: u64 = 4096;

/// A request, and who waits for its answer.
pub struct Asked {
    /// What is asked.
    pub request: Request,
    answer: oneshot::Sender<Result<(), LabelError>>,
}

impl Asked {
    /// Answers; to be called when the labels are in force.
    pub fn answer(self, outcome: Result<(), LabelError>) {
        let _ = self.answer.send(outcome); // whoever asked may be gone
    }
}

/// A socket that answers until it is dropped.
pub struct Socket {
    path: PathBuf,
    inode: u64,
    asked: mpsc::Receiver<Asked>,
    server: AbortHandle,
}

impl Socket {
    /// Listens at `path`, or at a path of its own where `profiler mark` looks.
    ///
    /// # Errors
    /// When there is something at `path`, or no socket can be made.
    pub fn listen(path: Option<&Path>, run: &str) -> Result<Self, SessionError> {
        let path = match path {
            Some(path) => path.to_owned(),
            None => {
                let dir = runtime_dir().map_err(error("create", &PathBuf::from(RUN_DIR)))?;
                make_private(&dir).map_err(error("create", &dir))?;
                sweep(&dir);
                dir.join(format!("{run}.sock"))
            }
        };
        let listener = bind(&path).map_err(error("create", &path))?;
        let inode = fs::symlink_metadata(&path).map_err(error("read", &path))?.ino();
        let (sender, asked) = mpsc::channel(CONNECTIONS);
        let server = tokio::spawn(serve(listener, sender)).abort_handle();
        Ok(Socket { path, inode, asked, server })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next request. Cancel safe.
    pub async fn next(&mut self) -> Asked {
        match self.asked.recv().await {
            Some(asked) => asked,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.server.abort();
        // not one that took its place
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            let _ = fs::remove_file(&self.path); // nobody is left to tell
        }
    }
}

/// Where root's recorders have their sockets.
const RUN_DIR: &str = "/run/profiler";

/// Where recorders of this user have their sockets.
pub fn runtime_dir() -> io::Result<PathBuf> {
    if geteuid().is_root() {
        return Ok(RUN_DIR.into());
    }
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(dir) if Path::new(&dir).is_absolute() => Ok(Path::new(&dir).join("profiler")),
        _ => Err(io::Error::new(io::ErrorKind::NotFound, "XDG_RUNTIME_DIR is not set")),
    }
}

/// Whether a path is a directory of this user that nobody else can enter; a link is none.
pub fn is_private(dir: &Path) -> bool {
    fs::symlink_metadata(dir).is_ok_and(|found| {
        found.is_dir() && found.uid() == geteuid().as_raw() && found.mode() & 0o077 == 0
    })
}

fn make_private(dir: &Path) -> io::Result<()> {
    match std::fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    if is_private(dir) {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        "it is not a directory that only this user can enter",
    ))
}

/// Removes sockets that nobody answers at: of recorders that were killed.
fn sweep(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.filter_map(Result::ok) {
        if is_dead(&entry.path()) {
            let _ = fs::remove_file(entry.path()); // another recorder may sweep, too
        }
    }
}

/// Whether it is a socket at which nobody answers.
fn is_dead(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    let refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    is_socket && UnixStream::connect(path).is_err_and(|error| refused(&error))
}

/// A socket that answers, at a path where nothing is but a dead socket, for this user only.
fn bind(path: &Path) -> io::Result<UnixListener> {
    if is_dead(path) {
        fs::remove_file(path)?;
    }
    let parent = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let making = tempfile::Builder::new()
        .prefix(".profiler-")
        .permissions(std::fs::Permissions::from_mode(0o700))
        .tempdir_in(parent.unwrap_or(Path::new(".")))?;
    let made = making.path().join("s");
    let listener = UnixListener::bind(&made)?;
    fs::set_permissions(&made, std::fs::Permissions::from_mode(0o600))?;
    renameat_with(CWD, &made, CWD, path, RenameFlags::NOREPLACE)?;
    Ok(listener)
}

async fn serve(listener: UnixListener, sender: mpsc::Sender<Asked>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // out of descriptors: those that are open will end
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let sender = sender.clone();
        tokio::spawn(async move {
            let _ = converse(stream, &sender).await; // whoever asked went away
            drop(place);
        });
    }
}

/// Answers line by line: `ok`, or `error: ` and why.
async fn converse(
    mut stream: tokio::net::UnixStream,
    sender: &mpsc::Sender<Asked>,
) -> io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = Vec::new();
        (&mut reader).take(LINE_BYTES).read_until(b'\n', &mut line).await?;
        if line.is_empty() {
            return Ok(());
        }
        let is_whole = line.pop_if(|last| *last == b'\n').is_some() || line.len() < 4096;
        let outcome = match Request::parse(&String::from_utf8_lossy(&line)) {
            Ok(request) if is_whole => ask(request, sender).await,
            Ok(_) => Err(LabelError::Request),
            Err(error) => Err(error),
        };
        let answer = match outcome {
            Ok(()) => "ok\n".to_owned(),
            Err(error) => format!("error: {error}\n"),
        };
        writer.write_all(answer.as_bytes()).await?;
        if !is_whole {
            return Ok(());
        }
    }
}

async fn ask(request: Request, sender: &mpsc::Sender<Asked>) -> Result<(), LabelError> {
    let (answer, answered) = oneshot::channel();
    // the recorder may just have come to its end: then nothing is recorded any more
    if sender.send(Asked { request, answer }).await.is_ok() {
        return answered.await.unwrap_or(Ok(()));
    }
    Ok(())
}

fn error(verb: &'static str, path: &Path) -> impl Fn(io::Error) -> SessionError {
    move |source| SessionError::Socket { verb, path: path.to_owned(), source }
}
