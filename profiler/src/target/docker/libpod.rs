//! podman in its own words. Its Docker-compatible answers leave out which runtime starts a container and with
//! which capabilities, and are not always of Docker's form.
//!
//! One request a connection, by hand: the engine's client speaks Docker only.

use std::{
    collections::HashMap,
    io::{Error, ErrorKind},
};

use bollard::models::{
    ContainerConfig, ContainerInspectResponse, ContainerState, HostConfig, RestartPolicy,
};
use serde::Deserialize;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
};

use super::endpoint::Address;

/// The longest answer that is read.
const ANSWER_BYTES: u64 = 16 << 20;

/// A container, as podman inspects it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Inspected {
    #[serde(default)]
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    image: String,
    #[serde(default)]
    image_name: String,
    #[serde(default, rename = "OCIRuntime")]
    oci_runtime: String,
    /// With `CAP_`; absent before the first start.
    #[serde(default)]
    bounding_caps: Option<Vec<String>>,
    #[serde(default)]
    state: State,
    #[serde(default)]
    host_config: Host,
    #[serde(default)]
    config: Config,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct State {
    running: bool,
    pid: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Host {
    privileged: bool,
    security_opt: Option<Vec<String>>,
    cap_add: Option<Vec<String>>,
    cap_drop: Option<Vec<String>>,
    restart_policy: Restart,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Restart {
    name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Config {
    user: String,
    labels: Option<HashMap<String, String>>,
}

impl Inspected {
    /// The same in Docker's words, and the bounding set that it was started with.
    pub fn into_docker(self) -> (ContainerInspectResponse, Option<Vec<String>>) {
        let Inspected { state, host_config: host, config, .. } = self;
        let name = serde_json::Value::String(host.restart_policy.name);
        let answer = ContainerInspectResponse {
            id: Some(self.id),
            name: Some(self.name),
            image: (!self.image.is_empty()).then(|| format!("sha256:{}", self.image)),
            state: Some(ContainerState {
                running: Some(state.running),
                pid: Some(state.pid),
                ..ContainerState::default()
            }),
            host_config: Some(HostConfig {
                runtime: Some(self.oci_runtime),
                privileged: Some(host.privileged),
                security_opt: host.security_opt,
                cap_add: host.cap_add,
                cap_drop: host.cap_drop,
                restart_policy: Some(RestartPolicy {
                    name: serde_json::from_value(name).ok(),
                    ..RestartPolicy::default()
                }),
                ..HostConfig::default()
            }),
            config: Some(ContainerConfig {
                user: Some(config.user),
                labels: config.labels,
                image: Some(self.image_name),
                ..ContainerConfig::default()
            }),
            ..ContainerInspectResponse::default()
        };
        (answer, self.bounding_caps.filter(|caps| !caps.is_empty()))
    }
}

/// The path by which podman of this version inspects a container.
pub fn inspect_path(version: &str, container: &str) -> String {
    let end = version.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(version.len());
    format!("/v{}/libpod/containers/{container}/json", &version[..end])
}

/// Asks for `path`; the status and the body.
pub async fn get(address: &Address, path: &str) -> std::io::Result<(u16, Vec<u8>)> {
    match address {
        Address::Unix(socket) => converse(UnixStream::connect(socket).await?, path).await,
        Address::Tcp(authority) => converse(TcpStream::connect(authority).await?, path).await,
    }
}

async fn converse(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    path: &str,
) -> std::io::Result<(u16, Vec<u8>)> {
    // version 1.0: the answer is not sent in chunks, and ends with the connection
    let request = format!("GET {path} HTTP/1.0\r\nHost: podman\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES).read_to_end(&mut answer).await?;
    parse(answer).ok_or_else(|| Error::new(ErrorKind::InvalidData, "the answer is no HTTP"))
}

fn parse(mut answer: Vec<u8>) -> Option<(u16, Vec<u8>)> {
    let body = answer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&answer[..body]).ok()?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer.split_off(body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_status_and_a_body() {
        let answer = b"HTTP/1.0 404 Not Found\r\nContent-Length: 2\r\n\r\n{}".to_vec();
        assert_eq!(parse(answer), Some((404, b"{}".to_vec())));
        for bad in ["", "{}", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 x\r\n\r\n", "\r\n\r\n"] {
            assert_eq!(parse(bad.as_bytes().to_vec()), None, "{bad}");
        }
    }

    #[test]
    fn the_version_in_the_path_is_one_that_podman_reads() {
        let path = "/v4.3.1/libpod/containers/web/json";
        assert_eq!(inspect_path("4.3.1", "web"), path);
        assert_eq!(inspect_path("4.3.1-rhel", "web"), path);
    }
}
