//! The command that a recording runs: started as it would be without us, or in a cgroup of its own.
//!
//! A command that is the target must be in its cgroup before its first call, and must not be
//! counted before its own execve. So this program starts itself as `__enter -- COMMAND`, which stops itself;
//! moves that process into the cgroup, and lets it go on to execute the command.

use std::{
    ffi::{OsStr, OsString},
    os::unix::{
        fs::PermissionsExt as _,
        process::{CommandExt as _, ExitStatusExt as _, parent_id},
    },
    path::{Path, PathBuf},
    process::ExitStatus,
};

use rustix::process::{
    Pid, Signal as Number, WaitId, WaitIdOptions, getpid, kill_process, kill_process_group,
    set_parent_process_death_signal, waitid,
};
use tokio::process::{Child, Command};

use super::{confine::Confinement, error::SessionError, signals::Signal, socket, tail::Tail};

/// Name of the hidden subcommand that [`enter`] serves.
pub const ENTER: &str = "__enter";

/// A running command.
pub struct Running {
    child: Child,
    pid: Option<Pid>,
    /// It leads a process group of its own, and is sent signals with it.
    leads: bool,
}

impl Running {
    /// Starts a command that is not the target. With a `tail` its output goes there, and it gets a process group of its own,
    /// so that what it started can be ended with it.
    pub fn plain(
        command: &[OsString],
        socket: Option<&Path>,
        environment: &[(&str, String)],
        tail: Option<&Tail>,
    ) -> Result<Self, SessionError> {
        let program = program_of(command)?;
        let environment = environment.iter().map(|(name, value)| (name, value));
        let mut starting = Command::new(program);
        starting.args(&command[1..]).envs(environment);
        if tail.is_some() {
            starting.process_group(0);
        }
        let running = Self::spawn(&mut starting, program, socket, tail)?;
        Ok(Running { leads: tail.is_some(), ..running })
    }

    /// Starts a command that is the target; `join` is called with its process id and must move it
    /// into its cgroup. It executes the command only after that, confined. Its output goes to `tail`, if there is one.
    pub fn inside(
        command: &[OsString],
        confinement: Option<&Confinement>,
        socket: Option<&Path>,
        tail: Option<&Tail>,
        join: impl FnOnce(u32) -> Result<(), SessionError>,
    ) -> Result<Self, SessionError> {
        let program = program_of(command)?;
        let itself = std::env::current_exe()
            .map_err(|source| io("find", Path::new("/proc/self/exe"), source))?;
        let mut entering = Command::new(itself);
        entering.args([ENTER, "--parent", &std::process::id().to_string()]);
        let file = match confinement.map(Confinement::handed_over).transpose() {
            Ok(None) => None,
            Ok(Some((options, file))) => {
                entering.args(options);
                Some(file)
            }
            Err(source) => return Err(io("write", &std::env::temp_dir(), source)),
        };
        let running = Self::spawn(entering.arg("--").args(command), program, socket, tail)?;
        let Some(pid) = running.pid else { return Ok(running) };
        // stopped, it makes no calls while it is between the cgroups, and its own execve is behind it
        let stopped_or_ended =
            WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let joined = waitid(WaitId::Pid(pid), stopped_or_ended)
            .map_err(|error| SessionError::Spawn {
                program: program.to_string_lossy().into_owned(),
                source: error.into(),
            })
            .and_then(|_| join(pid.as_raw_nonzero().get().unsigned_abs()));
        drop(file); // it has been read
        // unrecorded, the command must not run
        let next = if joined.is_ok() { Number::CONT } else { Number::KILL };
        let _ = kill_process(pid, next); // it may have been killed
        joined.map(|()| running)
    }

    fn spawn(
        command: &mut Command,
        program: &OsStr,
        socket: Option<&Path>,
        tail: Option<&Tail>,
    ) -> Result<Self, SessionError> {
        if tail.is_some() {
            Tail::pipe(command);
        }
        if let Some(socket) = socket {
            command.env(socket::VARIABLE, socket);
        }
        let mut child = command.spawn().map_err(|source| SessionError::Spawn {
            program: program.to_string_lossy().into_owned(),
            source,
        })?;
        let pid = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        if let Some(tail) = tail {
            tail.follow(&mut child);
        }
        Ok(Running { child, pid, leads: false })
    }

    /// Waits for its end. Cancel safe.
    pub async fn wait(&mut self) -> std::io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Ends it, and its group where it has its own, also after its own end.
    pub fn kill(&self) {
        if let Some(pid) = self.pid {
            self.send(pid, Number::KILL);
        }
    }

    /// Passes on a signal, unless the terminal sent it to the command as well.
    pub fn pass_on(&self, signal: Signal) {
        // The terminal reaches its own foreground group only.
        if let (false, Some(pid), Some(number)) =
            (signal.from_kernel && !self.leads, self.pid, Number::from_named_raw(signal.number))
        {
            self.send(pid, number);
        }
    }

    fn send(&self, pid: Pid, number: Number) {
        let send = if self.leads { kill_process_group } else { kill_process };
        let _ = send(pid, number); // it may just have ended
    }
}

/// The status that a shell would report: the exit code, or 128 and the signal's number.
pub fn shell_status(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1)
}

/// Serves the hidden subcommand: stops until it was moved into its cgroup, then becomes the command, confined. Without
/// `parent`, the recorder, nobody would continue it, so it ends with that; the command does not. Returns only when that failed.
pub fn enter(
    parent: u32,
    command: &[OsString],
    confinement: Option<&Confinement>,
) -> std::io::Error {
    match set_parent_process_death_signal(Some(Number::KILL)) {
        Ok(()) if parent_id() == parent => {}
        Ok(()) => return std::io::Error::other("the recorder is gone"),
        Err(error) => return error.into(),
    }
    if let Some(Err(error)) = confinement.map(Confinement::cut) {
        return error;
    }
    match (kill_process(getpid(), Number::STOP), command.split_first()) {
        (Err(error), _) => error.into(),
        (Ok(()), None) => std::io::ErrorKind::InvalidInput.into(),
        (Ok(()), Some((program, args))) => {
            if let Err(error) = set_parent_process_death_signal(None) {
                return error.into();
            }
            let mut command = std::process::Command::new(program);
            command.args(args);
            match confinement {
                Some(confinement) => confinement.execute(command),
                None => command.exec(),
            }
        }
    }
}

/// The program of a command, after a look whether it can be run at all.
pub fn program_of(command: &[OsString]) -> Result<&OsStr, SessionError> {
    let program = command.first().map_or(OsStr::new(""), OsString::as_os_str);
    let candidates: Vec<PathBuf> = if program.as_encoded_bytes().contains(&b'/') {
        vec![PathBuf::from(program)]
    } else {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).map(|dir| dir.join(program)).collect()
    };
    let files: Vec<&PathBuf> = candidates.iter().filter(|path| path.is_file()).collect();
    let name = || program.to_string_lossy().into_owned();
    if files.is_empty() || program.is_empty() {
        return Err(SessionError::NoProgram { program: name() });
    }
    let executable = |path: &&PathBuf| {
        path.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o111 != 0)
    };
    if !files.iter().any(executable) {
        return Err(SessionError::NotExecutable { program: name() });
    }
    Ok(program)
}

fn io(verb: &'static str, path: &Path, source: std::io::Error) -> SessionError {
    SessionError::Io { verb, path: path.to_owned(), source }
}
