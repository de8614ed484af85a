//! The end of what a command writes, kept instead of shown; and bounds on how it may stay.

use std::{
    collections::VecDeque,
    process::Stdio,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader},
    process::{Child, Command},
    task::JoinHandle,
};

/// How much is kept.
const LINES: usize = 20;
const LINE_BYTES: u64 = 400;

/// How long output is read after the end, when others hold it open.
const LINGER: Duration = Duration::from_millis(500);

/// The last lines of both streams, in the order in which they came. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Tail {
    lines: Arc<Mutex<VecDeque<String>>>,
    readers: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Tail {
    /// Lets a command that is to be started write here; it reads nothing.
    pub(super) fn pipe(command: &mut Command) {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    }

    /// Reads what it writes from now on.
    pub(super) fn follow(&self, child: &mut Child) {
        let stdout = child.stdout.take().map(|stream| tokio::spawn(self.clone().read(stream)));
        let stderr = child.stderr.take().map(|stream| tokio::spawn(self.clone().read(stream)));
        lock(&self.readers).extend(stdout.into_iter().chain(stderr));
    }

    /// When the command has ended: waits for what it wrote last.
    pub(super) async fn end(&self) {
        let readers = std::mem::take(&mut *lock(&self.readers));
        let all = async {
            for reader in readers {
                let _ = reader.await; // it panicked: what it read until then stays
            }
        };
        let _ = tokio::time::timeout(LINGER, all).await; // others hold it open
    }

    /// What is kept.
    #[must_use]
    pub fn text(&self) -> String {
        let lines: Vec<String> = lock(&self.lines).iter().cloned().collect();
        lines.join("\n")
    }

    async fn read(self, stream: impl AsyncRead + Unpin) {
        let mut reader = BufReader::new(stream);
        let mut bytes = Vec::new();
        // a longer line is several
        while let Ok(1..) = (&mut reader).take(LINE_BYTES).read_until(b'\n', &mut bytes).await {
            let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            bytes.clear();
            let mut lines = lock(&self.lines);
            lines.push_back(line);
            if lines.len() > LINES {
                lines.pop_front();
            }
        }
    }
}

/// A panic elsewhere leaves nothing half done here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
