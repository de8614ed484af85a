//! Containers of an engine that speaks Docker's API: docker, and podman's compatible service.
//!
//! The only place that names the engine's client. Asks the engine, changes nothing, save [`Docker::restart`]
//! on the user's word. Every request has a deadline.

mod audit;
pub mod contents;
mod copy;
pub mod endpoint;
mod engine;
mod events;
#[cfg(test)]
pub(crate) mod fake_engine;
mod image;
mod inspect;
mod labels;
mod libpod;

use std::{
    collections::HashMap,
    io::{self, Read},
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use bollard::{
    API_DEFAULT_VERSION,
    errors::Error as ClientError,
    query_parameters::{InspectContainerOptions, RestartContainerOptions},
};
use futures_util::StreamExt;
use serde::{Deserialize, de::DeserializeOwned};
use thiserror::Error;

pub(super) use self::endpoint::usual_sockets;
pub use self::{
    audit::ParseProfile,
    copy::{Confinement, ContainerState},
    endpoint::{Address, Endpoint, EndpointError, Environment, Source},
    engine::EngineInfo,
    events::{ContainerEvent, ContainerEventKind, EngineGone, EventStream},
    image::own_name,
    inspect::ContainerInfo,
    labels::{Membership, Origin, is_name},
};
use crate::{
    kernel::version::uname,
    target::runtime::{self, RuntimeVersion},
};

/// A restart waits for the container's own stop timeout first, 10 s by default.
const RESTART_TIMEOUT: Duration = Duration::from_secs(120);

/// The fewest digits that count as a prefix of an id; fewer are taken for a name.
const SHORTEST_PREFIX: usize = 12;

/// The largest profile that is read to find out whether it denies anything.
const PROFILE_BYTES: u64 = 4 << 20;

/// A connection to an engine. Cheap to clone; needs a tokio runtime.
#[derive(Debug, Clone)]
pub struct Docker {
    client: bollard::Docker,
    endpoint: Endpoint,
    timeout: Duration,
    info: EngineInfo,
    /// What runtimes said when they were asked, by where they are.
    runtimes: Arc<Mutex<HashMap<String, Option<RuntimeVersion>>>>,
}

/// Why the engine could not answer.
#[derive(Debug, Error)]
pub enum EngineError {
    /// The socket does not exist.
    #[error("no container engine at {endpoint}: there is no such socket\nhint: {hint}")]
    NoSocket {
        /// Where it was looked for.
        endpoint: Endpoint,
        /// What to do.
        hint: String,
    },
    /// Nobody listens.
    #[error(
        "no container engine at {endpoint}: nobody listens there\nhint: start the engine, then check it with `profiler doctor`"
    )]
    NotListening {
        /// Where it was looked for.
        endpoint: Endpoint,
    },
    /// The socket may not be used.
    #[error(
        "no permission to use the container engine at {endpoint}\nhint: run profiler with sudo, or as a member of the socket's group"
    )]
    PermissionDenied {
        /// Which engine.
        endpoint: Endpoint,
    },
    /// The connection failed in another way.
    #[error("cannot connect to the container engine at {endpoint}\nhint: profiler doctor")]
    Connect {
        /// Which engine.
        endpoint: Endpoint,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// No answer in time.
    #[error(
        "the container engine at {endpoint} did not {verb} within {} s\nhint: profiler doctor", timeout.as_secs()
    )]
    Timeout {
        /// Which engine.
        endpoint: Endpoint,
        /// What it was asked to do.
        verb: String,
        /// The deadline.
        timeout: Duration,
    },
    /// It answered with an error. The message is hostile text.
    #[error(
        "the container engine at {endpoint} refused to {verb}: {message} (status {status})\nhint: check the container with `docker ps --all`, the engine with `profiler doctor`"
    )]
    Refused {
        /// Which engine.
        endpoint: Endpoint,
        /// What it was asked to do.
        verb: String,
        /// The HTTP status.
        status: u16,
        /// Its own words.
        message: String,
    },
    /// The request failed on the way, or the answer cannot be understood.
    #[error(
        "the container engine at {endpoint} could not be asked to {verb}\nhint: profiler doctor"
    )]
    Request {
        /// Which engine.
        endpoint: Endpoint,
        /// What it was asked to do.
        verb: String,
        /// The cause.
        #[source]
        source: Box<ClientError>,
    },
    /// Its containers run on another kernel: a virtual machine, or a forwarded socket.
    #[error(
        "the container engine at {endpoint} runs on kernel `{engine}`, not on this machine's `{host}`: its containers cannot be observed from here\nhint: run profiler on the machine of the engine"
    )]
    OtherKernel {
        /// Which engine.
        endpoint: Endpoint,
        /// The release that the engine named.
        engine: String,
        /// The release of this machine.
        host: String,
    },
    /// The name could not be one of a container.
    #[error(
        "`{name}` is no name or id of a container: those are made of letters, digits, `_`, `.` and `-`\nhint: docker ps --all"
    )]
    BadName {
        /// What was given.
        name: String,
    },
    /// Several containers have ids that begin so.
    #[error(
        "several containers have an id that begins with `{prefix}`\nhint: docker ps --all --no-trunc"
    )]
    Ambiguous {
        /// What was given.
        prefix: String,
    },
}

impl Docker {
    /// Connects and asks the engine for its own facts.
    ///
    /// `timeout` holds for each request. The engine must run on this machine's kernel.
    pub async fn connect(endpoint: &Endpoint, timeout: Duration) -> Result<Self, EngineError> {
        let connection = Connection { endpoint, timeout };
        connection.probe().await?;
        let client = unversioned(connection.client()?);
        let version = connection.ask("tell its version", client.version()).await?;
        let system = connection.ask("describe itself", client.info()).await?;
        let info = EngineInfo::new(&version, &system, &read_profile);
        let host = uname().release;
        if !info.kernel.is_empty() && info.kernel != host {
            return Err(EngineError::OtherKernel {
                endpoint: endpoint.clone(),
                engine: info.kernel,
                host,
            });
        }
        let runtimes = Arc::default();
        Ok(Docker { client, endpoint: endpoint.clone(), timeout, info, runtimes })
    }

    /// Connects to the engine of the user's settings; when they say nothing and docker is not there, to podman
    /// where it listens by itself.
    pub async fn connect_or_podman(
        endpoint: &Endpoint,
        environment: &Environment,
        timeout: Duration,
    ) -> Result<Self, EngineError> {
        let error = match Self::connect(endpoint, timeout).await {
            Err(error @ (EngineError::NoSocket { .. } | EngineError::NotListening { .. }))
                if endpoint.source == Source::Default =>
            {
                error
            }
            other => return other,
        };
        for podman in endpoint::podman_endpoints(environment) {
            if let Ok(engine) = Self::connect(&podman, timeout).await {
                return Ok(engine);
            }
        }
        Err(error)
    }

    /// The engine, as it answered on connecting.
    #[must_use]
    pub fn version(&self) -> &EngineInfo {
        &self.info
    }

    /// Where the engine is and which setting said so.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The container with this name, full id or prefix of an id of 12 digits or more; `None` when there is none.
    ///
    /// The engine takes any prefix of an id for a name. Waiting for `db` must not catch a container whose id
    /// begins with these digits, so shorter prefixes count as names.
    pub async fn find(&self, name_or_id: &str) -> Result<Option<ContainerInfo>, EngineError> {
        let wanted = wanted_name(name_or_id)?;
        let found = match self.inspect(wanted).await {
            Ok(answer) => answer.filter(|info| is_named(wanted, &info.id, &info.name)),
            Err(EngineError::Refused { status: 404, .. }) => None,
            Err(EngineError::Refused { message, .. }) if is_gone(&message) => None,
            Err(EngineError::Refused { message, .. }) if is_ambiguous(&message) => {
                if is_id_prefix(wanted) {
                    return Err(EngineError::Ambiguous { prefix: wanted.to_owned() });
                }
                None
            }
            Err(error) => return Err(error),
        };
        let Some(mut info) = found else { return Ok(None) };
        if info.facts.runtime_version.is_empty()
            && let Some(told) = self.ask_runtime(&info.runtime_path).await
        {
            info.facts.runtime = told.program;
            info.facts.runtime_version = told.version;
        }
        Ok(Some(info))
    }

    async fn inspect(&self, wanted: &str) -> Result<Option<ContainerInfo>, EngineError> {
        let verb = format!("inspect container `{wanted}`");
        let connection = self.connection();
        if self.info.name == "podman" {
            let path = libpod::inspect_path(&self.info.version, wanted);
            let answer = connection.get(&verb, &path).await?;
            return Ok(inspect::podman_container_info(answer, &self.info, &read_profile));
        }
        let request = self.client.inspect_container(wanted, None::<InspectContainerOptions>);
        let answer = connection.ask(&verb, request).await?;
        Ok(inspect::container_info(answer, &self.info, &read_profile))
    }

    /// What a runtime that the engine does not know the version of says itself, once. An engine of another user is
    /// not believed: its word would be executed.
    async fn ask_runtime(&self, path: &str) -> Option<RuntimeVersion> {
        if path.is_empty() || !self.endpoint.is_ours() {
            return None;
        }
        let known = self.runtimes.lock().ok().and_then(|known| known.get(path).cloned());
        if let Some(known) = known {
            return known;
        }
        let told = runtime::ask(path).await;
        if let Ok(mut known) = self.runtimes.lock() {
            known.insert(path.to_owned(), told.clone());
        }
        told
    }

    /// Subscribes to the events of all containers that happened at `since` or later.
    ///
    /// Take `since` before arming what depends on events: then nothing between arming and subscribing is
    /// lost, as [`events`](self) explains. That the engine answers such requests at all is tried first, so that
    /// a refusal is an error here and not the end of the stream later.
    pub async fn events(&self, since: SystemTime) -> Result<EventStream, EngineError> {
        // podman's way to answer about the past only may wait for an event; it is not asked.
        if self.info.name == "docker" {
            let mut past =
                std::pin::pin!(self.client.events(Some(events::options(since, Some(since)))));
            let drained = async {
                while let Some(message) = past.next().await {
                    message?;
                }
                Ok(())
            };
            self.connection().ask("tell its events", drained).await?;
        }
        Ok(EventStream::open(self.client.clone(), since))
    }

    /// Stops the container, with its own stop timeout, and starts it again.
    pub async fn restart(&self, id: &str) -> Result<(), EngineError> {
        let wanted = wanted_name(id)?;
        let client = self.client.clone().with_timeout(RESTART_TIMEOUT);
        let request = client.restart_container(wanted, None::<RestartContainerOptions>);
        let connection = Connection { endpoint: &self.endpoint, timeout: RESTART_TIMEOUT };
        connection.ask(&format!("restart container `{wanted}`"), request).await
    }

    fn connection(&self) -> Connection<'_> {
        Connection { endpoint: &self.endpoint, timeout: self.timeout }
    }
}

/// Whether a container with this id and name is the one that the user wrote: by name, with a slash or without,
/// by full id or by a prefix of it of 12 digits or more.
#[must_use]
pub fn is_named(wanted: &str, id: &str, name: &str) -> bool {
    let wanted = wanted.strip_prefix('/').unwrap_or(wanted);
    wanted == name || is_id_prefix(wanted) && id.starts_with(&wanted.to_ascii_lowercase())
}

fn is_id_prefix(text: &str) -> bool {
    (SHORTEST_PREFIX..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The name without a slash, if it can be one: it becomes part of a URL.
fn wanted_name(name: &str) -> Result<&str, EngineError> {
    let bare = name.strip_prefix('/').unwrap_or(name);
    let first = bare.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if first && bare.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b)) {
        Ok(bare)
    } else {
        Err(EngineError::BadName { name: name.to_owned() })
    }
}

/// docker: `multiple IDs found with provided prefix: 4f`, podman: `more than one result for container ...`.
fn is_ambiguous(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    message.contains("multiple ids") || message.contains("more than one")
}

/// podman, of a container that is removed while it is looked at; with status 500.
fn is_gone(message: &str) -> bool {
    message.to_ascii_lowercase().contains("no such container")
}

/// Sends requests without an API version, which the engine answers in its newest.
///
/// No version suits all engines: docker 20.10 refuses those after 1.41, docker 29 those before 1.44. The fields
/// that are read here are the same in all of them.
fn unversioned(client: bollard::Docker) -> bollard::Docker {
    let version = client.client_version();
    let prefix = format!("/v{}.{}/", version.major_version, version.minor_version);
    client.with_request_modifier(move |mut request| {
        if let Some(path) = request.uri().path().strip_prefix(&prefix) {
            let whole = request.uri().to_string();
            let bare = whole.replacen(&format!("{prefix}{path}"), &format!("/{path}"), 1);
            if let Ok(uri) = bare.parse() {
                *request.uri_mut() = uri;
            }
        }
        request
    })
}

/// A profile that the engine names by its path is a file of this machine.
fn read_profile(path: &str) -> Option<String> {
    let path = Path::new(path).canonicalize().ok()?;
    // No device or pipe is opened for an engine's word.
    let file = path.is_file().then(|| std::fs::File::open(&path))?.ok()?;
    let mut text = String::new();
    file.take(PROFILE_BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}

/// An engine's address with the deadline of requests to it.
struct Connection<'a> {
    endpoint: &'a Endpoint,
    timeout: Duration,
}

impl Connection<'_> {
    /// Tells apart what the client's errors do not: no socket, nobody there, no permission.
    async fn probe(&self) -> Result<(), EngineError> {
        let attempt = async {
            match &self.endpoint.address {
                Address::Unix(path) => tokio::net::UnixStream::connect(path).await.map(drop),
                Address::Tcp(authority) => {
                    tokio::net::TcpStream::connect(authority).await.map(drop)
                }
            }
        };
        let endpoint = self.endpoint.clone();
        match tokio::time::timeout(self.timeout, attempt).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(source)) => Err(match source.kind() {
                io::ErrorKind::NotFound => {
                    EngineError::NoSocket { hint: other_sockets(&endpoint), endpoint }
                }
                io::ErrorKind::ConnectionRefused => EngineError::NotListening { endpoint },
                io::ErrorKind::PermissionDenied => EngineError::PermissionDenied { endpoint },
                _ => EngineError::Connect { endpoint, source },
            }),
            Err(_) => Err(self.timed_out("accept a connection")),
        }
    }

    fn client(&self) -> Result<bollard::Docker, EngineError> {
        let timeout_s = self.timeout.as_secs().max(1);
        match &self.endpoint.address {
            Address::Unix(path) => {
                bollard::Docker::connect_with_unix(path, timeout_s, API_DEFAULT_VERSION)
            }
            Address::Tcp(authority) => {
                bollard::Docker::connect_with_http(authority, timeout_s, API_DEFAULT_VERSION)
            }
        }
        .map_err(|source| self.failed("accept a connection", source))
    }

    /// Awaits an answer, body and all, within the deadline.
    async fn ask<T>(
        &self,
        verb: &str,
        request: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, EngineError> {
        match tokio::time::timeout(self.timeout, request).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(source)) => Err(self.failed(verb, source)),
            Err(_) => Err(self.timed_out(verb)),
        }
    }

    /// Asks podman in its own words.
    async fn get<T: DeserializeOwned>(&self, verb: &str, path: &str) -> Result<T, EngineError> {
        #[derive(Default, Deserialize)]
        struct Refusal {
            #[serde(default)]
            message: String,
        }
        let answer = tokio::time::timeout(self.timeout, libpod::get(&self.endpoint.address, path));
        let (status, body) = answer
            .await
            .map_err(|_| self.timed_out(verb))?
            .map_err(|source| self.failed(verb, ClientError::IOError { err: source }))?;
        if status != 200 {
            let Refusal { message } = serde_json::from_slice(&body).unwrap_or_default();
            let endpoint = self.endpoint.clone();
            return Err(EngineError::Refused { endpoint, verb: verb.to_owned(), status, message });
        }
        serde_json::from_slice(&body)
            .map_err(|source| self.failed(verb, ClientError::JsonSerdeError { err: source }))
    }

    fn failed(&self, verb: &str, source: ClientError) -> EngineError {
        let endpoint = self.endpoint.clone();
        let verb = verb.to_owned();
        match source {
            ClientError::DockerResponseServerError { status_code, message } => {
                EngineError::Refused { endpoint, verb, status: status_code, message }
            }
            ClientError::RequestTimeoutError => self.timed_out(&verb),
            source => EngineError::Request { endpoint, verb, source: Box::new(source) },
        }
    }

    fn timed_out(&self, verb: &str) -> EngineError {
        EngineError::Timeout {
            endpoint: self.endpoint.clone(),
            verb: verb.to_owned(),
            timeout: self.timeout,
        }
    }
}

/// Names a socket that is there instead, where there is one.
fn other_sockets(tried: &Endpoint) -> String {
    let tried = tried.address.to_string();
    usual_sockets(&Environment::of_process())
        .into_iter()
        .filter(|socket| Path::new(socket).exists())
        .map(|socket| format!("unix://{socket}"))
        .find(|address| *address != tried)
        .map_or_else(
            || "start the engine, or say where it is with DOCKER_HOST=unix:///path; `profiler doctor` shows what was tried".to_owned(),
            |address| format!("DOCKER_HOST={address} profiler doctor"),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "b34304da0dc77125be7190d46974a31d8120ee1a3edebca1afdd4b0c35002d16";

    fn endpoint(path: &Path) -> Endpoint {
        Endpoint {
            address: Address::Unix(path.to_str().expect("UTF-8").to_owned()),
            source: Source::Variable,
        }
    }

    fn connect(path: &Path) -> Result<Docker, EngineError> {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("runtime")
            .block_on(Docker::connect(&endpoint(path), Duration::from_secs(1)))
    }

    #[test]
    fn a_container_is_named_by_name_full_id_or_long_prefix() {
        assert!(is_named("backend", ID, "backend"));
        assert!(is_named("/backend", ID, "backend"));
        assert!(is_named(ID, ID, "backend"));
        assert!(is_named(&ID[..12], ID, "backend"));
        assert!(is_named(&ID[..12].to_uppercase(), ID, "backend"));
        assert!(!is_named(&ID[..11], ID, "backend"), "a short prefix is a name");
        assert!(!is_named("back", ID, "backend"));
        assert!(!is_named("", ID, "backend"));
    }

    #[test]
    fn names_that_would_change_the_request_are_refused() {
        for name in ["", "/", "a/b", "../version", "a?all=1", "-x", "a b", "ä", "a\n"] {
            let error = wanted_name(name).expect_err(name);
            assert!(matches!(error, EngineError::BadName { .. }), "{error}");
        }
        for name in ["backend", "/backend", "shop-db_1.x", ID] {
            assert!(wanted_name(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn no_socket_and_nobody_listening_are_different_errors() {
        let dir = tempfile::tempdir().expect("temp dir");
        let absent = dir.path().join("absent.sock");
        let error = connect(&absent).expect_err("no socket");
        assert!(matches!(error, EngineError::NoSocket { .. }), "{error}");
        let text = error.to_string();
        assert!(
            text.contains("absent.sock` (from DOCKER_HOST)") && text.contains("\nhint: "),
            "{text}"
        );

        let dead = dir.path().join("dead.sock");
        drop(std::os::unix::net::UnixListener::bind(&dead).expect("bind"));
        let error = connect(&dead).expect_err("nobody listens");
        assert!(matches!(error, EngineError::NotListening { .. }), "{error}");
    }

    #[test]
    fn an_engine_that_never_answers_is_given_up() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("mute.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&path).expect("bind");
        let error = connect(&path).expect_err("no answer");
        assert!(matches!(error, EngineError::Timeout { .. }), "{error}");
    }

    #[test]
    fn profiles_are_read_from_files_only() {
        let dir = tempfile::tempdir().expect("temp dir");
        let file = dir.path().join("p.json");
        std::fs::write(&file, "{}").expect("write");
        assert_eq!(read_profile(file.to_str().expect("UTF-8")).as_deref(), Some("{}"));
        assert_eq!(read_profile(dir.path().to_str().expect("UTF-8")), None);
        assert_eq!(read_profile("/dev/zero"), None);
        assert_eq!(read_profile("/nonexistent/p.json"), None);
    }
}
