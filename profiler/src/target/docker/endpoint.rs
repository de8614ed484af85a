//! Where the engine listens: what the docker client would choose, from the same settings in the same order.
//!
//! `--docker-host`, `DOCKER_HOST`, `DOCKER_CONTEXT`, the current context of the client's configuration, the
//! default socket. Reads configuration; connects to nothing.

use std::{
    fmt, io,
    net::IpAddr,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use sha2::{Digest, Sha256};
use thiserror::Error;

/// Where dockerd listens unless it is told otherwise.
pub const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// Where podman's service for the whole system listens.
const PODMAN_SOCKET: &str = "/run/podman/podman.sock";

/// The context that means "no context".
const DEFAULT_CONTEXT: &str = "default";

/// The settings of the docker client, as the environment gives them. Empty values count as absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// `DOCKER_HOST`.
    pub docker_host: Option<String>,
    /// `DOCKER_CONTEXT`.
    pub docker_context: Option<String>,
    /// `DOCKER_CONFIG`: the directory of `config.json`.
    pub docker_config: Option<PathBuf>,
    /// `DOCKER_TLS_VERIFY` or `DOCKER_TLS` is set.
    pub tls: bool,
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`: where engines of an ordinary user listen.
    pub runtime_dir: Option<PathBuf>,
}

impl Environment {
    /// The environment of this process.
    #[must_use]
    pub fn of_process() -> Self {
        let var = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let path =
            |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Environment {
            docker_host: var("DOCKER_HOST"),
            docker_context: var("DOCKER_CONTEXT"),
            docker_config: path("DOCKER_CONFIG"),
            tls: var("DOCKER_TLS_VERIFY").or_else(|| var("DOCKER_TLS")).is_some(),
            home: path("HOME"),
            runtime_dir: path("XDG_RUNTIME_DIR").filter(|dir| dir.is_absolute()),
        }
    }

    /// A socket of an ordinary user's engine.
    fn own_socket(&self, name: &str) -> Option<String> {
        Some(self.runtime_dir.as_ref()?.join(name).to_str()?.to_owned())
    }

    /// The directory of the client's configuration, if there can be one.
    fn config_dir(&self) -> Option<PathBuf> {
        self.docker_config.clone().or_else(|| Some(self.home.as_ref()?.join(".docker")))
    }
}

/// How the engine is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A socket of this machine.
    Unix(String),
    /// `host:port` on the loopback interface, without TLS.
    Tcp(String),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "unix://{path}"),
            Address::Tcp(authority) => write!(f, "tcp://{authority}"),
        }
    }
}

/// Which setting chose the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `--docker-host`.
    Flag,
    /// `DOCKER_HOST`.
    Variable,
    /// A context of the docker client, by `DOCKER_CONTEXT` or its configuration.
    Context(String),
    /// Nothing said otherwise.
    Default,
    /// Nothing said otherwise, and docker is not there.
    Podman,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Flag => f.write_str("from --docker-host"),
            Source::Variable => f.write_str("from DOCKER_HOST"),
            Source::Context(name) => write!(f, "context `{name}`"),
            Source::Default => f.write_str("default"),
            Source::Podman => f.write_str("podman's default"),
        }
    }
}

/// An engine's address and why it is this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// How it is reached.
    pub address: Address,
    /// Which setting chose it.
    pub source: Source,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` ({})", self.address, self.source)
    }
}

/// Why no engine could be chosen.
#[derive(Debug, Error)]
pub enum EndpointError {
    /// The address has a scheme that is not spoken here.
    #[error(
        "cannot reach an engine by `{address}` ({source_name}): {reason}\n\
         hint: DOCKER_HOST=unix://{DEFAULT_SOCKET} profiler doctor"
    )]
    Unsupported {
        /// As it was configured.
        address: String,
        /// Which setting.
        source_name: Source,
        /// What is not supported.
        reason: &'static str,
    },
    /// The engine is on another machine, whose kernel is not this one.
    #[error(
        "the engine at `{address}` ({source_name}) is on another machine: its containers run on another kernel, which cannot be observed from here\n\
         hint: run profiler on that machine, or unset DOCKER_HOST to use the local engine"
    )]
    Remote {
        /// As it was configured.
        address: String,
        /// Which setting.
        source_name: Source,
    },
    /// The address cannot be read.
    #[error(
        "`{address}` ({source_name}) is no engine's address\nhint: DOCKER_HOST=unix://{DEFAULT_SOCKET} profiler doctor"
    )]
    Malformed {
        /// As it was configured.
        address: String,
        /// Which setting.
        source_name: Source,
    },
    /// The context does not exist.
    #[error(
        "docker context `{name}` does not exist; known: {}\nhint: docker context ls",
        known.join(", ")
    )]
    NoSuchContext {
        /// The context that was asked for.
        name: String,
        /// The ones that exist, sorted.
        known: Vec<String>,
    },
    /// A file of the client's configuration could not be read.
    #[error("cannot read `{}`\nhint: DOCKER_HOST=unix://{DEFAULT_SOCKET} profiler doctor", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A file of the client's configuration is no valid JSON of its kind.
    #[error("`{}` is malformed\nhint: DOCKER_HOST=unix://{DEFAULT_SOCKET} profiler doctor", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
}

#[derive(Deserialize)]
struct ClientConfig {
    #[serde(default, rename = "currentContext")]
    current_context: Option<String>,
}

#[derive(Deserialize)]
struct ContextMeta {
    #[serde(default, rename = "Name")]
    name: String,
    #[serde(default, rename = "Endpoints")]
    endpoints: ContextEndpoints,
}

#[derive(Default, Deserialize)]
struct ContextEndpoints {
    docker: Option<ContextEndpoint>,
}

#[derive(Deserialize)]
struct ContextEndpoint {
    #[serde(default, rename = "Host")]
    host: Option<String>,
}

impl Endpoint {
    /// Chooses the engine; `flag` is the value of `--docker-host`.
    pub fn resolve(flag: Option<&str>, environment: &Environment) -> Result<Self, EndpointError> {
        if let Some(host) = flag {
            return parse(host, Source::Flag, environment.tls);
        }
        if let Some(host) = &environment.docker_host {
            return parse(host, Source::Variable, environment.tls);
        }
        let config_dir = environment.config_dir();
        let context = match (&environment.docker_context, &config_dir) {
            (Some(name), _) => Some(name.clone()),
            (None, Some(dir)) => current_context(dir)?,
            (None, None) => None,
        };
        match context.filter(|name| !name.is_empty() && name != DEFAULT_CONTEXT) {
            Some(name) => {
                let host = context_host(config_dir.as_deref(), &name)?;
                parse(&host, Source::Context(name), environment.tls)
            }
            None => Ok(Endpoint {
                address: Address::Unix(DEFAULT_SOCKET.to_owned()),
                source: Source::Default,
            }),
        }
    }
}

/// Where podman listens unless it is told otherwise: the system's, then the user's own.
#[must_use]
pub fn podman_endpoints(environment: &Environment) -> Vec<Endpoint> {
    let own = environment.own_socket("podman/podman.sock");
    let sockets = [Some(PODMAN_SOCKET.to_owned()), own].into_iter().flatten();
    sockets
        .map(|socket| Endpoint { address: Address::Unix(socket), source: Source::Podman })
        .collect()
}

/// Where engines listen on usual machines: docker, rootless docker, podman, rootless podman.
pub(in crate::target) fn usual_sockets(environment: &Environment) -> Vec<String> {
    let mut sockets = vec![DEFAULT_SOCKET.to_owned()];
    sockets.extend(environment.own_socket("docker.sock"));
    sockets.extend(podman_endpoints(environment).into_iter().filter_map(|one| match one.address {
        Address::Unix(path) => Some(path),
        Address::Tcp(_) => None,
    }));
    sockets
}

impl Endpoint {
    /// Whether whoever answers there may as well be us: a socket of root's or of our own.
    pub(super) fn is_ours(&self) -> bool {
        let Address::Unix(path) = &self.address else { return false };
        let us = rustix::process::geteuid().as_raw();
        std::fs::metadata(path).is_ok_and(|socket| [0, us].contains(&socket.uid()))
    }
}

fn current_context(config_dir: &Path) -> Result<Option<String>, EndpointError> {
    let path = config_dir.join("config.json");
    match std::fs::read(&path) {
        Ok(text) => serde_json::from_slice::<ClientConfig>(&text)
            .map(|config| config.current_context)
            .map_err(|source| EndpointError::Config { path, source }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(EndpointError::Read { path, source }),
    }
}

/// The host of a context; docker keeps it in a directory named by the hash of the context's name.
fn context_host(config_dir: Option<&Path>, name: &str) -> Result<String, EndpointError> {
    let missing = |known| EndpointError::NoSuchContext { name: name.to_owned(), known };
    let Some(config_dir) = config_dir else {
        return Err(missing(vec![DEFAULT_CONTEXT.to_owned()]));
    };
    let contexts = config_dir.join("contexts/meta");
    let digest: String =
        Sha256::digest(name.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    let path = contexts.join(digest).join("meta.json");
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(missing(known_contexts(&contexts)));
        }
        Err(source) => return Err(EndpointError::Read { path, source }),
    };
    let meta: ContextMeta =
        serde_json::from_slice(&text).map_err(|source| EndpointError::Config { path, source })?;
    let host = meta.endpoints.docker.and_then(|docker| docker.host).unwrap_or_default();
    // The docker client reads an empty host as its default.
    Ok(if host.is_empty() { format!("unix://{DEFAULT_SOCKET}") } else { host })
}

/// The names of all contexts; what cannot be read is left out, for this only fills a message.
fn known_contexts(contexts: &Path) -> Vec<String> {
    let mut known = vec![DEFAULT_CONTEXT.to_owned()];
    for entry in std::fs::read_dir(contexts).into_iter().flatten().flatten() {
        let meta = std::fs::read(entry.path().join("meta.json")).unwrap_or_default();
        if let Ok(meta) = serde_json::from_slice::<ContextMeta>(&meta) {
            known.push(meta.name);
        }
    }
    known.sort();
    known
}

fn parse(host: &str, source: Source, tls: bool) -> Result<Endpoint, EndpointError> {
    let unsupported = |reason| EndpointError::Unsupported {
        address: host.to_owned(),
        source_name: source.clone(),
        reason,
    };
    let malformed =
        || EndpointError::Malformed { address: host.to_owned(), source_name: source.clone() };
    let (scheme, rest) = match host.split_once("://") {
        Some(parts) => parts,
        // The docker client takes a bare `host:port` for tcp, and nothing else without a scheme.
        None if !host.starts_with('/') => ("tcp", host),
        None => return Err(malformed()),
    };
    match scheme {
        "unix" if rest.starts_with('/') => {
            Ok(Endpoint { address: Address::Unix(rest.to_owned()), source })
        }
        "unix" => Err(malformed()),
        "tcp" | "http" => {
            let authority = rest.trim_end_matches('/');
            let name = host_name(authority).ok_or_else(malformed)?;
            if !is_loopback(name) {
                return Err(EndpointError::Remote {
                    address: host.to_owned(),
                    source_name: source,
                });
            }
            if tls {
                return Err(unsupported("TLS is not supported; use the engine's socket"));
            }
            Ok(Endpoint { address: Address::Tcp(authority.to_owned()), source })
        }
        "https" => Err(unsupported("TLS is not supported; use the engine's socket")),
        "ssh" => Err(unsupported("ssh is not supported; run profiler on the engine's machine")),
        "npipe" => Err(unsupported("named pipes are not supported")),
        _ => Err(malformed()),
    }
}

/// The host of `host:port` or `[v6]:port`; a port there must be.
fn host_name(authority: &str) -> Option<&str> {
    let (name, port) = authority.rsplit_once(':')?;
    port.parse::<u16>().ok()?;
    let name = match name.strip_prefix('[') {
        Some(v6) => v6.strip_suffix(']')?,
        None if name.contains(':') => return None,
        None => name,
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-:_".contains(c);
    (!name.is_empty() && name.chars().all(plain)).then_some(name)
}

fn is_loopback(name: &str) -> bool {
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A configuration directory with one context `lab` and the given `config.json`.
    fn configured(config: &str, host: &str) -> (tempfile::TempDir, Environment) {
        let dir = tempfile::tempdir().expect("temp dir");
        fs::write(dir.path().join("config.json"), config).expect("config.json");
        // printf lab | sha256sum
        let digest = "a51146d38077ff992eba84cf1d5e9b249073503eb74868699016153b031a38f7";
        let meta = dir.path().join("contexts/meta").join(digest);
        fs::create_dir_all(&meta).expect("contexts");
        let text = format!(
            r#"{{"Name":"lab","Metadata":{{}},"Endpoints":{{"docker":{{"Host":"{host}","SkipTLSVerify":false}}}}}}"#
        );
        fs::write(meta.join("meta.json"), text).expect("meta.json");
        let environment =
            Environment { docker_config: Some(dir.path().to_owned()), ..Environment::default() };
        (dir, environment)
    }

    fn unix(path: &str, source: Source) -> Endpoint {
        Endpoint { address: Address::Unix(path.to_owned()), source }
    }

    #[test]
    fn nothing_set_means_the_default_socket() {
        let chosen = Endpoint::resolve(None, &Environment::default()).expect("default");
        assert_eq!(chosen, unix(DEFAULT_SOCKET, Source::Default));
        assert_eq!(chosen.to_string(), "`unix:///var/run/docker.sock` (default)");
    }

    #[test]
    fn podman_listens_for_the_system_and_for_the_user() {
        let environment =
            Environment { runtime_dir: Some("/run/user/7".into()), ..Environment::default() };
        let shown: Vec<String> =
            podman_endpoints(&environment).iter().map(ToString::to_string).collect();
        let expected = ["/run/podman/podman.sock", "/run/user/7/podman/podman.sock"]
            .map(|path| format!("`unix://{path}` (podman's default)"));
        assert_eq!(shown, expected);
        assert_eq!(podman_endpoints(&Environment::default()).len(), 1);
    }

    #[test]
    fn the_order_is_flag_variable_context_default() {
        let (_dir, mut environment) =
            configured(r#"{"auths":{},"currentContext":"lab"}"#, "unix:///lab.sock");
        let resolve = |flag, environment: &Environment| {
            Endpoint::resolve(flag, environment).expect("an engine")
        };
        assert_eq!(resolve(None, &environment), unix("/lab.sock", Source::Context("lab".into())));
        environment.docker_context = Some("default".to_owned());
        assert_eq!(resolve(None, &environment), unix(DEFAULT_SOCKET, Source::Default));
        environment.docker_host = Some("unix:///env.sock".to_owned());
        assert_eq!(resolve(None, &environment), unix("/env.sock", Source::Variable));
        assert_eq!(
            resolve(Some("unix:///flag.sock"), &environment),
            unix("/flag.sock", Source::Flag)
        );
    }

    #[test]
    fn the_context_variable_wins_over_the_configured_one() {
        let (_dir, mut environment) = configured("{}", "unix:///lab.sock");
        assert_eq!(Endpoint::resolve(None, &environment).expect("default").source, Source::Default);
        environment.docker_context = Some("lab".to_owned());
        let chosen = Endpoint::resolve(None, &environment).expect("lab");
        assert_eq!(chosen, unix("/lab.sock", Source::Context("lab".into())));
    }

    #[test]
    fn home_holds_the_configuration_unless_docker_config_does() {
        let (dir, _) = configured("{}", "unix:///x.sock");
        let home = tempfile::tempdir().expect("temp dir");
        fs::rename(dir.path(), home.path().join(".docker")).expect("rename");
        let environment = Environment {
            home: Some(home.path().to_owned()),
            docker_context: Some("lab".to_owned()),
            ..Environment::default()
        };
        let chosen = Endpoint::resolve(None, &environment).expect("lab");
        assert_eq!(chosen.address, Address::Unix("/x.sock".to_owned()));
    }

    #[test]
    fn an_unknown_context_is_refused_with_the_known_ones() {
        let (_dir, environment) = configured(r#"{"currentContext":"gone"}"#, "unix:///x.sock");
        let error = Endpoint::resolve(None, &environment).expect_err("no such context");
        let text = error.to_string();
        assert!(text.contains("`gone`") && text.contains("default, lab"), "{text}");
    }

    #[test]
    fn a_malformed_configuration_is_an_error_not_the_default() {
        let (_dir, environment) = configured("{", "unix:///x.sock");
        let error = Endpoint::resolve(None, &environment).expect_err("malformed");
        assert!(matches!(error, EndpointError::Config { .. }), "{error}");
    }

    #[test]
    fn engines_of_other_machines_are_refused_and_loopback_is_not() {
        for remote in ["tcp://10.0.0.5:2375", "10.0.0.5:2375", "tcp://ci.example:2375"] {
            let error = parse(remote, Source::Variable, false).expect_err(remote);
            assert!(matches!(error, EndpointError::Remote { .. }), "{remote}: {error}");
        }
        for local in ["tcp://127.0.0.1:2375", "tcp://localhost:2375/", "tcp://[::1]:2375"] {
            let chosen = parse(local, Source::Variable, false).expect(local);
            assert!(matches!(chosen.address, Address::Tcp(_)), "{local}");
            let error = parse(local, Source::Variable, true).expect_err(local);
            assert!(error.to_string().contains("TLS"), "{error}");
        }
    }

    #[test]
    fn what_is_not_spoken_says_so() {
        for (host, word) in
            [("ssh://ops@host", "ssh is not supported"), ("https://localhost:2376", "TLS")]
        {
            let error = parse(host, Source::Flag, false).expect_err(host);
            assert!(error.to_string().contains(word), "{error}");
        }
        for host in [
            "",
            "/run/docker.sock",
            "unix://relative",
            "tcp://localhost",
            "ftp://x:1",
            "tcp://a b:1",
        ] {
            let error = parse(host, Source::Flag, false).expect_err(host);
            assert!(matches!(error, EndpointError::Malformed { .. }), "{host}: {error}");
        }
    }
}
