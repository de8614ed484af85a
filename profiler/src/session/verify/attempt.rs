//! One run of the tests under a policy, without a recorder: whether they pass, what they said last, and whether the filter
//! was in force.

use std::{
    cell::RefCell,
    collections::VecDeque,
    ffi::OsString,
    path::Path,
    process::Stdio,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use fs_err as fs;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::Command,
};

use super::{
    policy::Policy,
    target::{Enforced, Place, Start},
    watch::{Evidence, InForce, Subject, Watch},
};
use crate::{
    kernel::cgroup,
    session::{
        child::{Running, program_of, shell_status},
        confine::Confinement,
        error::SessionError,
    },
    target::{
        command::CommandCgroup,
        docker::{ContainerState, Docker},
    },
};

/// How much of the output is kept.
const LINES: usize = 20;
const LINE_BYTES: usize = 400;

/// How long output is read after the end, when others hold it open.
const LINGER: Duration = Duration::from_millis(500);

/// How one run went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Status of the tests, as a shell would report it; none when the target did not start.
    pub status: Option<i32>,
    /// The last lines that they wrote, to standard output and error; or why the target did not start. Hostile text.
    pub output: Vec<String>,
    /// What was seen of the filter.
    pub in_force: InForce,
    /// How the container was when the tests had ended.
    pub state: Option<ContainerState>,
}

impl Attempt {
    /// Whether the target started, the tests passed, and nothing ended or was started anew meanwhile. Says nothing of the
    /// filter.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.status == Some(0)
            && self.state.as_ref().is_none_or(|state| !state.out_of_memory && state.restarts == 0)
    }
}

/// Runs the tests once under the policy: against a container, or, with no `place`, as the command that is confined.
///
/// # Errors
/// When the run could not be made. That the target does not start or the tests fail is no error.
pub async fn attempt(
    policy: &Policy,
    place: Option<(&Place, &Docker)>,
    command: &[OsString],
) -> Result<Attempt, SessionError> {
    program_of(command)?;
    let watch = Watch::start(Arc::new(policy.clone()))?;
    match place {
        None => directly(policy, watch, command).await,
        Some((place, docker)) => {
            let mut enforced = Enforced::prepare(policy, place, docker).await?;
            let start = enforced.begin(&watch, &AtomicBool::new(false)).await?;
            let (status, output) = match start {
                Start::Down { reason } => (None, vec![reason]),
                Start::Up => {
                    let mut tests = Command::new(&command[0]);
                    tests.args(&command[1..]).envs(enforced.environment().await?);
                    let (status, output) = told(&mut tests).await?;
                    (Some(status), output)
                }
            };
            let state = enforced.state().await?;
            let in_force = watch.end();
            enforced.clean().await?;
            Ok(Attempt { status, output, in_force, state: Some(state) })
        }
    }
}

async fn directly(
    policy: &Policy,
    watch: Watch,
    command: &[OsString],
) -> Result<Attempt, SessionError> {
    let setup = cgroup::detect(Path::new("/"))?;
    let cgroup = CommandCgroup::create(Path::new("/"), &setup)?;
    watch.follow(Subject { cgroup: cgroup.cgroup().clone(), is_command: true });
    let confinement = Confinement {
        filter: policy.program.clone(),
        capabilities: policy.capabilities.clone(),
        no_new_privileges: policy.no_new_privileges.unwrap_or(false),
    };
    let file = cgroup.procs_file();
    let join = |pid: u32| {
        fs::write(&file, pid.to_string()).map_err(|source| SessionError::Io {
            verb: "write",
            path: file.clone(),
            source,
        })
    };
    let mut running = Running::piped(command, &confinement, join)?;
    let streams = running.output();
    let (status, output) = to_the_end(streams, running.wait()).await;
    let status = shell_status(status.map_err(|source| spawn_error(command, source))?);
    let mut in_force = watch.end();
    in_force.evidence.get_or_insert(Evidence::Loaded);
    cgroup.remove()?;
    Ok(Attempt { status: Some(status), output, in_force, state: None })
}

async fn told(command: &mut Command) -> Result<(i32, Vec<String>), SessionError> {
    let failed = |source| SessionError::Spawn { program: "the tests".to_owned(), source };
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    let streams = (child.stdout.take(), child.stderr.take());
    let (status, output) = to_the_end(streams, child.wait()).await;
    Ok((shell_status(status.map_err(failed)?), output))
}

fn spawn_error(command: &[OsString], source: std::io::Error) -> SessionError {
    let program = command.first().map(|word| word.to_string_lossy().into_owned());
    SessionError::Spawn { program: program.unwrap_or_default(), source }
}

/// Waits for an end; the last lines of two streams, in the order in which they came. What others hold open after that is
/// not waited for.
async fn to_the_end<T>(
    (stdout, stderr): (Option<impl AsyncRead + Unpin>, Option<impl AsyncRead + Unpin>),
    end: impl Future<Output = T>,
) -> (T, Vec<String>) {
    let kept = RefCell::new(VecDeque::new());
    let ended = {
        let reading = async { tokio::join!(follow(stdout, &kept), follow(stderr, &kept)) };
        tokio::pin!(reading, end);
        tokio::select! {
            ended = &mut end => {
                let _ = tokio::time::timeout(LINGER, reading).await; // what came until then counts
                ended
            }
            _ = &mut reading => end.await,
        }
    };
    (ended, kept.into_inner().into())
}

async fn follow(stream: Option<impl AsyncRead + Unpin>, kept: &RefCell<VecDeque<String>>) {
    let Some(stream) = stream else { return };
    let mut reader = BufReader::new(stream);
    let mut bytes = Vec::new();
    while let Ok(1..) = reader.read_until(b'\n', &mut bytes).await {
        bytes.truncate(LINE_BYTES);
        let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
        bytes.clear();
        let mut kept = kept.borrow_mut();
        kept.push_back(line);
        if kept.len() > LINES {
            kept.pop_front();
        }
    }
}
