//! `profiler mark`: asks a recorder for a label, and waits until it is in force.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use fs_err as fs;
use thiserror::Error;

use super::{
    labels::Request,
    socket::{VARIABLE, is_private, runtime_dir},
};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes of an answer.
const ANSWER_BYTES: u64 = 4096;

/// Why no label was set.
#[derive(Debug, Error)]
pub enum MarkError {
    /// Nothing answers where recorders are looked for.
    #[error(
        "no recorder to set a label at\nhint: set it from COMMAND of `profiler record ... -- COMMAND`, or name the recorder: profiler mark --socket PATH LABEL"
    )]
    NoRecorder,
    /// More than one answers.
    #[error("{} recorders run\nhint: name one: profiler mark --socket {} LABEL", .0.len(), .0.first().map_or(Path::new("PATH"), PathBuf::as_path).display())]
    Several(Vec<PathBuf>),
    /// The recorder that was named does not answer.
    #[error("no recorder answers at `{}`\nhint: profiler record --socket {0} ...", .path.display())]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The recorder says no.
    #[error("{0}")]
    Refused(String),
}

/// Asks the recorder at `socket`, else the one that runs this process, else the only one of this user. When it returns, the
/// labels are in force.
///
/// # Errors
/// When there is no such recorder, or it refuses.
pub fn mark(socket: Option<&Path>, request: &Request) -> Result<(), MarkError> {
    let named = socket
        .map(Path::to_owned)
        .or_else(|| std::env::var_os(VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from));
    let (path, stream) = match named {
        Some(path) => match UnixStream::connect(&path) {
            Ok(stream) => (path, stream),
            Err(source) => return Err(MarkError::Unreachable { path, source }),
        },
        None => only_one()?,
    };
    let answer =
        converse(stream, request).map_err(|source| MarkError::Unreachable { path, source })?;
    match answer.strip_prefix("error: ") {
        Some(reason) => Err(MarkError::Refused(reason.to_owned())),
        None => Ok(()),
    }
}

/// The recorder of this user, when there is one only.
fn only_one() -> Result<(PathBuf, UnixStream), MarkError> {
    let dir = runtime_dir().ok().filter(|dir| is_private(dir));
    let entries = dir.and_then(|dir| fs::read_dir(dir).ok());
    let mut found: Vec<(PathBuf, UnixStream)> = entries
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let is_socket = path.extension().is_some_and(|extension| extension == "sock");
            let stream = is_socket.then(|| UnixStream::connect(&path).ok())??;
            Some((path, stream))
        })
        .collect();
    match found.len() {
        0 | 1 => found.pop().ok_or(MarkError::NoRecorder),
        _ => {
            let mut paths: Vec<PathBuf> = found.into_iter().map(|(path, _)| path).collect();
            paths.sort();
            Err(MarkError::Several(paths))
        }
    }
}

fn converse(mut stream: UnixStream, request: &Request) -> io::Result<String> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{request}\n").as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream.take(ANSWER_BYTES)).read_line(&mut answer)?;
    if answer.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(answer.trim_end().to_owned())
}
