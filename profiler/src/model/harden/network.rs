//! Where a container listens and whom it connects to.
//!
//! Owns which of that is the same in every run: ports that the kernel chose are not.

use std::{collections::BTreeSet, net::IpAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Evidence, user::FIRST_FREE_PORT};
use crate::model::usage::{Protocol, Role, Socket};

/// The first port that the kernel chooses by itself, unless told otherwise (`net.ipv4.ip_local_port_range`).
const FIRST_EPHEMERAL: u16 = 32768;

/// Where Docker answers names, on a port that it chooses.
const DOCKERS_NAMES: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 11));

/// More ports than this in one list are a scan, and no service.
const MAX_PORTS: usize = 64;

/// What a network policy has to let through.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Ports that others reach.
    pub listens: BTreeSet<Port>,
    /// Ports that only the container itself reaches.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub loopback: BTreeSet<Port>,
    /// Ports of others that it connected to.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub connects: BTreeSet<Port>,
    /// Address families of all of these.
    pub families: BTreeSet<Family>,
    /// Why `NET_BIND_SERVICE` is needed, or is not.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub bind_service: BTreeSet<String>,
    /// Why nothing can be said: not empty, and nothing is written.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub not_because: BTreeSet<String>,
}

/// A port of a protocol.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// Its number.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
}

/// An address family.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6; such a socket usually takes both.
    Ipv6,
}

impl std::fmt::Display for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        write!(f, "{}/{protocol}", self.port)
    }
}

impl Network {
    /// Whether anything can be said.
    #[must_use]
    pub fn is_advised(&self) -> bool {
        self.not_because.is_empty()
    }
}

pub(super) fn advise(evidence: &Evidence<'_>) -> Network {
    let mut advice = Network::default();
    advice.not_because.extend(evidence.gap_of_looks());
    for usage in &evidence.usages {
        let start = usage.unprivileged_port_start;
        for socket in usage.sockets.iter().filter(|socket| is_lasting(socket)) {
            let port = Port { port: socket.port, protocol: socket.protocol };
            let family = match socket.address.to_canonical() {
                IpAddr::V4(_) => Family::Ipv4,
                IpAddr::V6(_) => Family::Ipv6,
            };
            match (socket.role, socket.address.to_canonical().is_loopback()) {
                // for a moment, mostly: whether it is seen is chance
                (Role::Connected, true) => continue,
                (Role::Connected, false) => {
                    advice.families.insert(family);
                    advice.connects.insert(port);
                    continue;
                }
                (Role::Listening, true) => advice.loopback.insert(port),
                (Role::Listening, false) => advice.listens.insert(port),
            };
            advice.families.insert(family);
            advice.bind_service.extend(bind(port.port, start, evidence));
        }
    }
    if [&advice.listens, &advice.connects].iter().any(|ports| ports.len() > MAX_PORTS) {
        advice.not_because.insert(format!("more than {MAX_PORTS} ports were seen"));
        advice = Network { not_because: advice.not_because, ..Network::default() };
    }
    if advice.bind_service.is_empty() && advice.is_advised() {
        advice.bind_service.insert(match evidence.requires("NET_BIND_SERVICE") {
            true => "required, for a port that was not seen at a look".to_owned(),
            false => "not needed: no port below a user's first was seen".to_owned(),
        });
    }
    advice
}

/// Whether a run would have it again.
fn is_lasting(socket: &Socket) -> bool {
    let chosen = socket.port >= FIRST_EPHEMERAL
        && socket.role == Role::Listening
        && (socket.protocol == Protocol::Udp || socket.address.is_loopback());
    socket.port != 0 && socket.address != DOCKERS_NAMES && !chosen
}

/// What a port says of the capability; nothing when any user may bind it anywhere.
fn bind(port: u16, start: Option<u16>, evidence: &Evidence<'_>) -> Option<String> {
    const USUAL: u16 = FIRST_FREE_PORT;
    let required = evidence.requires("NET_BIND_SERVICE");
    match start {
        _ if port >= start.unwrap_or(USUAL).max(USUAL) => None,
        Some(start) if port >= start => Some(format!(
            "not needed for port {port} here: net.ipv4.ip_unprivileged_port_start is {start}; needed where that is {USUAL}, as in Kubernetes"
        )),
        _ if required => Some(format!("needed for port {port}")),
        _ if !evidence.capabilities.known => {
            Some(format!("may be needed for port {port}: capabilities could not be seen"))
        }
        _ => Some(format!(
            "not needed for port {port} here, which was bound without it; needed where net.ipv4.ip_unprivileged_port_start is {USUAL}, as in Kubernetes"
        )),
    }
}
