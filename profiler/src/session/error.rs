//! Why a session could not start or go on.

use std::{io, path::PathBuf};

use thiserror::Error;

use crate::{
    kernel::{cgroup::CgroupError, libseccomp::LibseccompError},
    observe::ebpf::ObserveError,
    target::{
        cgroup::ScopeError, command::CommandCgroupError, docker::EngineError, place::PlaceError,
    },
};

/// Failures of a session.
#[derive(Debug, Error)]
pub enum SessionError {
    /// The observer.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// This process may not record.
    #[error(
        "recording is not permitted: this process lacks {names}\nhint: run profiler as root, with sudo; or with the capabilities of docs/security.md: setpriv --inh-caps=+bpf,+perfmon --ambient-caps=+bpf,+perfmon profiler ..."
    )]
    Lacks {
        /// What it lacks.
        names: String,
    },
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The host's cgroups.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The command's own cgroup.
    #[error(transparent)]
    CommandCgroup(#[from] CommandCgroupError),
    /// The container's cgroup.
    #[error(transparent)]
    Scope(#[from] ScopeError),
    /// The place of the cgroup.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// There is no such container.
    #[error("no container `{name}` at {endpoint}\nhint: docker ps --all")]
    NoContainer {
        /// As the user wrote it.
        name: String,
        /// Where it was looked for.
        endpoint: String,
    },
    /// There is no such container yet, and waiting was not wanted.
    #[error(
        "no container `{name}` at {endpoint}\nhint: docker ps --all, or leave out --no-wait to wait for it"
    )]
    NotAwaited {
        /// As the user wrote it.
        name: String,
        /// Where it was looked for.
        endpoint: String,
    },
    /// There is no container of such a service, and waiting was not wanted. The names are hostile text.
    #[error(
        "project `{project}` has no container of service `{service}`\nhint: it has {}; leave out --no-wait to wait for it", if known.is_empty() { "none" } else { known }
    )]
    NoService {
        /// The project.
        project: String,
        /// The service.
        service: String,
        /// Those that have containers, for people.
        known: String,
    },
    /// A project has no container, and waiting was not wanted.
    #[error(
        "project `{project}` has no container\nhint: docker compose ls --all, or leave out --no-wait to wait for it"
    )]
    NoProject {
        /// The project.
        project: String,
    },
    /// A container that is to be looked at does not run.
    #[error("container `{name}` does not run\nhint: docker start {name}")]
    NotRunning {
        /// As the user wrote it.
        name: String,
    },
    /// A container that is to be copied runs, and nothing was said about replacing it.
    #[error(
        "container `{name}` runs: a copy in its place needs it stopped for the time\nhint: add `--replace`, or docker stop {name}"
    )]
    Runs {
        /// As the user wrote it.
        name: String,
    },
    /// A container that would be gone when it is stopped.
    #[error(
        "container `{name}` was started with `--rm`: stopped, it would be gone\nhint: stop it yourself after creating one without `--rm`"
    )]
    AutoRemove {
        /// As the user wrote it.
        name: String,
    },
    /// A container that is stopped has a copy in its place, and whether its maker lives cannot be told.
    #[error(
        "container `{name}` is stopped for a copy of it, by a process that cannot be looked for from here: in another PID namespace, or of another version\nhint: when that one has ended: docker rm --force {copy} && docker start {name}"
    )]
    ReplacedElsewhere {
        /// As the user wrote it.
        name: String,
        /// The copy's id.
        copy: String,
    },
    /// This process's own entries in /proc.
    #[error("cannot read from /proc who this process is\nhint: mount -t proc proc /proc")]
    Identity {
        /// Why not.
        source: io::Error,
    },
    /// There is no compose.
    #[error(
        "neither `docker compose` nor `docker-compose` runs\nhint: apt-get install docker-compose"
    )]
    NoCompose,
    /// Compose refused. The message is hostile text.
    #[error("compose failed with `{}`: {message}\nhint: docker compose -f {} config", file.display(), file.display())]
    Compose {
        /// The file that the user named.
        file: PathBuf,
        /// The last line that it wrote.
        message: String,
    },
    /// Two names mean the same container.
    #[error(
        "`{first}` and `{second}` are the same container\nhint: name it once: profiler record --container {first}"
    )]
    SameContainer {
        /// One name.
        first: String,
        /// Another.
        second: String,
    },
    /// The program does not exist.
    #[error("cannot find the program `{program}`\nhint: check the spelling, or give its path")]
    NoProgram {
        /// As the user wrote it.
        program: String,
    },
    /// The program is there but cannot be run.
    #[error("cannot run the program `{program}`\nhint: chmod +x {program}")]
    NotExecutable {
        /// As the user wrote it.
        program: String,
    },
    /// A process could not be started.
    #[error("cannot start `{program}`\nhint: check what the limits of this shell leave: ulimit -a")]
    Spawn {
        /// What was to be started.
        program: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Reading or writing a file failed.
    #[error("cannot {verb} `{}`\nhint: profiler doctor", path.display())]
    Io {
        /// `read`, `write`, `create`.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The socket for labels could not be made.
    #[error("cannot {verb} the socket `{}`\nhint: choose another path: profiler record --socket PATH", path.display())]
    Socket {
        /// `create`, `read`.
        verb: &'static str,
        /// The socket, or its directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A result could not be written.
    #[error("cannot {verb} `{}`\nhint: choose another directory with `-o DIR`", path.display())]
    Output {
        /// `write`, `create`, `remove`.
        verb: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// What is needed for the time of the session could not be made.
    #[error("cannot create a file in `{}`\nhint: TMPDIR names where it goes", path.display())]
    Temporary {
        /// The directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A profile's filter could not be compiled.
    #[error(transparent)]
    Libseccomp(#[from] LibseccompError),
    /// A run was not under the profile. Hostile text.
    #[error(
        "the profile was not in force: {why}\nhint: profiler verify PROFILE -- COMMAND says more"
    )]
    NotInForce {
        /// Who was not.
        why: String,
    },
    /// A target was not started, and not for what its profile lacks. Hostile text.
    #[error(
        "the target could not be started, which says nothing of the profile: {}\nhint: mend that, then give the same command again", reason.escape_debug()
    )]
    NotStarted {
        /// In the engine's words.
        reason: String,
    },
    /// Signals could not be caught.
    #[error("cannot catch signals\nhint: check what the limits of this shell leave: ulimit -a")]
    Signals(#[source] io::Error),
}

impl SessionError {
    /// Message and causes on one line, without the hint.
    pub(super) fn told(&self) -> String {
        let mut told = String::new();
        let mut next: Option<&dyn std::error::Error> = Some(self);
        while let Some(error) = next {
            let text = error.to_string();
            let message = text.split("\nhint: ").next().unwrap_or_default();
            told.push_str(if told.is_empty() { "" } else { ": " });
            told.push_str(message);
            next = error.source();
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::merge,
        target::docker::{Address, Endpoint, Source},
    };

    #[test]
    fn every_error_says_a_way_out_that_exists() {
        let name = || "x".to_owned();
        let source = || io::Error::from(io::ErrorKind::NotFound);
        let endpoint = Endpoint { address: Address::Unix(name()), source: Source::Variable };
        let refused = EngineError::Refused { endpoint, verb: name(), status: 500, message: name() };
        let errors: Vec<SessionError> = vec![
            ScopeError::Ended { pid: 1 }.into(),
            ScopeError::Read { path: PathBuf::new(), source: source() }.into(),
            CgroupError::Read { path: "x".into(), source: source() }.into(),
            refused.into(),
            SessionError::SameContainer { first: name(), second: name() },
            SessionError::Spawn { program: name(), source: source() },
            SessionError::Io { verb: "read", path: PathBuf::new(), source: source() },
            SessionError::Socket { verb: "create", path: PathBuf::new(), source: source() },
            SessionError::NotStarted { reason: name() },
            SessionError::Temporary { path: PathBuf::new(), source: source() },
            SessionError::Signals(source()),
            SessionError::Lacks { names: name() },
        ];
        for error in errors {
            assert!(error.to_string().contains("\nhint: "), "{error}");
        }
        let empty = merge::MergeError::Empty.to_string();
        assert!(empty.contains("\nhint: profiler generate "), "{empty}");
    }
}
