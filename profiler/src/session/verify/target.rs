//! A container under a policy: a running one as it is, a copy in another's place, or a service that compose starts.
//!
//! What was changed for it is undone by [`Enforced::clean`], or when it is dropped. Nothing here runs tests or judges.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant, SystemTime},
};

use super::{
    compose::Project,
    policy::Policy,
    watch::{Subject, Watch},
};
use crate::{
    kernel::{
        cgroup,
        identity::{Identity, Life},
        signals,
    },
    session::error::SessionError,
    target::{
        cgroup::of_container,
        docker::{Confinement, ContainerState, Docker, EngineError, own_name},
    },
};

/// How long a health check may take to say that all is well.
const HEALTHY: Duration = Duration::from_secs(180);
const PAUSE: Duration = Duration::from_millis(100);

const PROC: &str = "/proc";

/// Which container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The one of this name, which runs under the policy already.
    Container {
        /// Name or id.
        name: String,
    },
    /// A copy of the one of this name.
    Copy {
        /// Name or id.
        name: String,
        /// It may be stopped for the time, when it runs.
        replace: bool,
        /// By which the copy is found when this process has been killed.
        label: Option<String>,
    },
    /// A service of a compose file, in a project of its own.
    Compose {
        /// The file.
        file: PathBuf,
        /// The service.
        service: String,
    },
}

/// Whether the target is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// It runs, and is healthy where it has a health check; or it has ended by itself, which a container may.
    Up,
    /// The engine or its runtime refused to start it, and why. Hostile text.
    Refused {
        /// In their words.
        reason: String,
    },
    /// It does not run as it should, and why. Hostile text.
    Down {
        /// In the engine's words, or the health check's.
        reason: String,
    },
}

/// A container under a policy. Dropping it undoes what was done for it.
pub struct Enforced {
    docker: Docker,
    id: String,
    kind: Kind,
    clean: bool,
}

enum Kind {
    AsItIs,
    Copy {
        original: String,
        /// It is to be stopped first, and started again after.
        replaces: bool,
        stopped: bool,
        /// The profile, for engines that want a path.
        _profile: Option<tempfile::NamedTempFile>,
    },
    Service(Box<Project>),
}

impl Enforced {
    /// Makes everything ready without changing what runs.
    ///
    /// # Errors
    /// When there is no such container or service, when it runs and must not be replaced, or the engine refuses.
    pub async fn prepare(
        policy: &Policy,
        place: &Place,
        docker: &Docker,
    ) -> Result<Enforced, SessionError> {
        let docker = docker.clone();
        match place {
            Place::Container { name } => {
                let info = find(&docker, name).await?;
                if !info.running {
                    return Err(SessionError::NotRunning { name: name.clone() });
                }
                Ok(Enforced { docker, id: info.id, kind: Kind::AsItIs, clean: true })
            }
            Place::Copy { name, replace, label } => {
                let mut info = find(&docker, name).await?;
                if *replace && !info.running && restore(&docker, name, &info.id).await? {
                    info.running = true;
                }
                if info.running && !replace {
                    return Err(SessionError::Runs { name: name.clone() });
                }
                if info.running && docker.state(&info.id).await?.auto_remove {
                    return Err(SessionError::AutoRemove { name: name.clone() });
                }
                let (seccomp, profile) = if docker.version().name == "podman" {
                    let file = written(&policy.text)?;
                    (file.path().display().to_string(), Some(file))
                } else {
                    (policy.text.clone(), None)
                };
                let confinement = Confinement {
                    seccomp,
                    capabilities: policy.capability_names(),
                    no_new_privileges: policy.no_new_privileges,
                };
                let (copy, label) = (own_name("verify"), label.as_deref());
                let replaces = info.running;
                let maker = replaces.then(own).transpose()?;
                let maker = maker.as_ref();
                let id = docker.create_copy(&info.id, &copy, &confinement, label, maker).await?;
                let kind =
                    Kind::Copy { original: info.id, replaces, stopped: false, _profile: profile };
                Ok(Enforced { docker, id, kind, clean: false })
            }
            Place::Compose { file, service } => {
                let project =
                    Project::new(file, service, &own_name("verify"), policy, &docker).await?;
                let kind = Kind::Service(Box::new(project));
                let mut made = Enforced { docker, id: String::new(), kind, clean: false };
                if let Kind::Service(project) = &made.kind {
                    made.id = project.create().await?;
                }
                Ok(made)
            }
        }
    }

    /// Everything from nothing to a running target: [`prepare`](Self::prepare), then [`begin`](Self::begin).
    ///
    /// # Errors
    /// As those.
    pub async fn start(
        policy: &Policy,
        place: &Place,
        docker: &Docker,
        watch: &Watch,
    ) -> Result<(Enforced, Start), SessionError> {
        let mut enforced = Enforced::prepare(policy, place, docker).await?;
        let start = enforced.begin(watch, &AtomicBool::new(false)).await?;
        Ok((enforced, start))
    }

    /// The container's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Starts it, in the original's place if it has one, and waits until it is healthy; earlier when `interrupted`.
    ///
    /// # Errors
    /// When the engine does not answer. That it does not start is no error.
    pub async fn begin(
        &mut self,
        watch: &Watch,
        interrupted: &AtomicBool,
    ) -> Result<Start, SessionError> {
        let down = |reason: &str| Ok(Start::Down { reason: reason.to_owned() });
        match &mut self.kind {
            Kind::AsItIs => {}
            Kind::Copy { original, replaces, stopped, .. } => {
                if *replaces {
                    // before: what is not known to be done is undone
                    *stopped = true;
                    stop(&self.docker, original).await?;
                }
                if interrupted.load(Ordering::Relaxed) {
                    return down("interrupted");
                }
                match self.docker.start(&self.id).await {
                    Err(EngineError::Refused { message, .. }) => {
                        return Ok(Start::Refused { reason: message });
                    }
                    other => other?,
                }
            }
            Kind::Service(project) => {
                if let Err(SessionError::Compose { message, .. }) = project.up().await {
                    self.follow(watch).await?;
                    return down(&message);
                }
            }
        }
        self.follow(watch).await?;
        self.until_healthy(interrupted).await
    }

    /// Tells the watch where the container's processes are. One that has ended has none.
    async fn follow(&self, watch: &Watch) -> Result<(), SessionError> {
        let setup = cgroup::detect(Path::new("/"))?;
        if let Some(pid) = self.docker.state(&self.id).await?.pid
            && let Ok(cgroup) = of_container(Path::new("/"), &setup, pid, &self.id)
        {
            watch.follow(Subject { cgroup, is_command: false });
        }
        Ok(())
    }

    async fn until_healthy(&self, interrupted: &AtomicBool) -> Result<Start, SessionError> {
        let deadline = Instant::now() + HEALTHY;
        loop {
            let state = self.docker.state(&self.id).await?;
            let reason = match state.health.as_deref() {
                None | Some("healthy") => return Ok(Start::Up),
                Some("unhealthy") => "its health check says `unhealthy`".to_owned(),
                Some(_) if !state.running => {
                    format!("it ended with status {} before it was healthy", state.exit_code)
                }
                Some(_) if interrupted.load(Ordering::Relaxed) => "interrupted".to_owned(),
                Some(_) if Instant::now() > deadline => {
                    format!("it was not healthy within {} s", HEALTHY.as_secs())
                }
                Some(_) => {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            return Ok(Start::Down { reason });
        }
    }

    /// What the tests get in their environment.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn environment(&self) -> Result<Vec<(&'static str, String)>, SessionError> {
        let address = self.docker.state(&self.id).await?.address;
        let address = address.unwrap_or_else(|| "127.0.0.1".to_owned());
        Ok(vec![("PROFILER_CONTAINER", self.id.clone()), ("PROFILER_ADDRESS", address)])
    }

    /// How the container is; `None` when it was removed.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn state(&self) -> Result<Option<ContainerState>, SessionError> {
        Ok(unless_gone(self.docker.state(&self.id).await)?)
    }

    /// Whether somebody else had the engine stop it, at `since` or later.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn was_stopped(&self, since: SystemTime) -> Result<bool, SessionError> {
        Ok(self.docker.was_stopped(&self.id, since).await?)
    }

    /// Stops the target, if it was started for this.
    ///
    /// # Errors
    /// When the engine refuses.
    pub async fn end(&self) -> Result<(), SessionError> {
        match self.kind {
            Kind::AsItIs => Ok(()),
            _ => stop(&self.docker, &self.id).await,
        }
    }

    /// Undoes everything: removes what was made, starts what was stopped.
    ///
    /// # Errors
    /// The first failure, when all was tried.
    pub async fn clean(mut self) -> Result<(), SessionError> {
        self.undo(&self.docker.clone()).await
    }

    async fn undo(&mut self, docker: &Docker) -> Result<(), SessionError> {
        self.clean = true;
        match &mut self.kind {
            Kind::AsItIs => Ok(()),
            Kind::Copy { original, stopped, .. } => {
                let removed = docker.remove(&self.id).await;
                if std::mem::take(stopped) {
                    docker.start(original).await?;
                }
                unless_gone(removed)?;
                Ok(())
            }
            Kind::Service(project) => project.down().await,
        }
    }
}

impl Drop for Enforced {
    fn drop(&mut self) {
        if self.clean {
            return;
        }
        // This may be within a runtime, and its connections are that one's.
        let undone = thread::scope(|scope| {
            let undoing = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.map(|runtime| {
                    runtime.block_on(async {
                        let docker = self.docker.again().await?;
                        self.undo(&docker).await
                    })
                })
            });
            undoing.join()
        });
        if let Ok(Ok(Err(error))) = undone {
            tracing::warn!("{error}");
        }
    }
}

/// Stops a container as its engine does, but for the wait that is in vain: where the kernel throws the stop signal away, as it does
/// for a shell that is the container's first process, the engine would let its whole timeout pass, and kill it then.
async fn stop(docker: &Docker, id: &str) -> Result<(), SessionError> {
    let root = Path::new("/");
    let state = docker.state(id).await?;
    let is_in_vain = match state.pid.zip(state.stop_signal) {
        Some((pid, signal)) => {
            let setup = cgroup::detect(root)?;
            // the number may mean another process here
            of_container(root, &setup, pid, id).is_ok()
                && signals::is_thrown_away(root, pid, signal)
        }
        None => false,
    };
    Ok(docker.stop(id, is_in_vain.then_some(0)).await?)
}

/// Puts in order what a process that was killed has left: removes its copies, and starts the container that they took the
/// place of. Whether there were any. What may be a living one's is left alone, and an error.
async fn restore(docker: &Docker, name: &str, id: &str) -> Result<bool, SessionError> {
    let copies = docker.replacing(id).await?;
    if copies.is_empty() {
        return Ok(false);
    }
    let left = left_behind(name, copies, &own()?)?;
    for copy in &left {
        docker.remove(copy).await?;
    }
    if !left.is_empty() {
        docker.start(id).await?;
    }
    Ok(!left.is_empty())
}

/// The copies whose makers have ended, of those that took the place of the container `name`.
fn left_behind(
    name: &str,
    copies: Vec<(String, Option<Identity>)>,
    own: &Identity,
) -> Result<Vec<String>, SessionError> {
    let mut left = Vec::new();
    for (copy, maker) in copies {
        match maker.map_or(Life::Unknown, |maker| maker.life(own, Path::new(PROC))) {
            Life::Runs => {}
            Life::Ended => left.push(copy),
            Life::Unknown => {
                return Err(SessionError::ReplacedElsewhere { name: name.to_owned(), copy });
            }
        }
    }
    Ok(left)
}

fn own() -> Result<Identity, SessionError> {
    Identity::own(Path::new(PROC)).map_err(|source| SessionError::Identity { source })
}

/// `None` when the engine says that there is no such container.
fn unless_gone<T>(answer: Result<T, EngineError>) -> Result<Option<T>, EngineError> {
    match answer {
        Err(EngineError::Refused { status: 404, .. }) => Ok(None),
        other => other.map(Some),
    }
}

async fn find(
    docker: &Docker,
    name: &str,
) -> Result<crate::target::docker::ContainerInfo, SessionError> {
    let endpoint = docker.endpoint().to_string();
    let missing = SessionError::NoContainer { name: name.to_owned(), endpoint };
    docker.find(name).await?.ok_or(missing)
}

/// A file with this text, which engines and compose read.
pub(super) fn written(text: &str) -> Result<tempfile::NamedTempFile, SessionError> {
    let failed = |source| SessionError::Temporary { path: std::env::temp_dir(), source };
    let mut file =
        tempfile::Builder::new().prefix("profiler-").suffix(".json").tempfile().map_err(failed)?;
    std::io::Write::write_all(&mut file, text.as_bytes()).map_err(failed)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::docker::fake_engine::{block_on, connect, docker_20_10};

    #[test]
    fn a_container_that_is_not_there_is_not_waited_for() {
        let (_dir, endpoint) = docker_20_10(vec![]);
        let error = block_on(async {
            let docker = connect(&endpoint).await.expect("connected");
            find(&docker, "nope").await.map(drop).expect_err("there is none")
        });
        assert!(error.to_string().ends_with("\nhint: docker ps --all"), "{error}");
    }

    #[test]
    fn only_what_the_dead_left_is_removed() {
        let own = own().expect("an identity");
        let words = own.to_string();
        let words: Vec<&str> = words.split(' ').collect();
        let with = |index: usize, word: &str| {
            let mut words = words.clone();
            words[index] = word;
            words.join(" ").parse::<Identity>().ok()
        };
        let left = |maker: Option<Identity>| {
            let copies = vec![
                ("living".to_owned(), Some(own.clone())),
                ("rebooted".to_owned(), with(3, "another")),
                ("asked".to_owned(), maker),
            ];
            left_behind("it", copies, &own)
        };
        // its number is somebody else's now
        assert_eq!(left(with(1, "1")).expect("known"), ["rebooted", "asked"]);
        assert_eq!(left(Some(own.clone())).expect("known"), ["rebooted"]);
        for unknown in [with(2, "1"), None] {
            let error = left(unknown).expect_err("not known").to_string();
            assert!(error.contains("docker rm --force asked && docker start it"), "{error}");
        }
    }
}
