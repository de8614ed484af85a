//! What an engine changes on the machine: written down before, undone afterwards.
//!
//! Owns our bridge and its addresses, and forwarding; the packet filter and the engine's cgroups have
//! modules of their own. What others changed meanwhile stays as they left it.

use std::io::ErrorKind;

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{cgroups, netfilter};
use crate::sh::cmd;

const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";
/// Our bridge's hardware address, a locally administered one.
const BRIDGE_ADDRESS: &str = "02:42:00:00:00:01";
/// Second octets of 10.0.0.0/8 that our networks are taken from.
const SECOND_OCTETS: std::ops::Range<u8> = 200..250;

/// Docker's parent of all containers' cgroups.
pub const CGROUPS: &str = "docker";

/// The machine before an engine started, and what was given to the engine.
#[derive(Serialize, Deserialize)]
pub struct Machine {
    /// Our bridge; its name differs from checkout to checkout.
    pub bridge: String,
    /// `10.N.`: the bridge is 10.N.0.1/24, compose's networks are in 10.N.128.0/17.
    pub network: String,
    ip_forward: String,
    netfilter: String,
    /// The engine's cgroup directories that were there already.
    cgroups: Vec<Utf8PathBuf>,
}

impl Machine {
    /// The state saved in `file`, taken and saved now if there is none.
    ///
    /// # Errors
    /// When the machine's state cannot be read.
    pub fn remembered(file: &Utf8Path) -> Result<Self> {
        if let Some(machine) = Self::saved(file)? {
            return Ok(machine);
        }
        let routes = cmd("ip").args(["-4", "route", "show"]).stdout()?;
        let addresses = cmd("ip").args(["-4", "-o", "addr", "show"]).stdout()?;
        let network = SECOND_OCTETS
            .map(|octet| format!("10.{octet}."))
            .find(|network| !routes.contains(network) && !addresses.contains(network))
            .context("every network from 10.200.0.0/16 to 10.249.0.0/16 is in use")?;
        let digest = Sha256::digest(file.as_str());
        let machine = Self {
            bridge: format!("profiler{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2]),
            network,
            ip_forward: fs_err::read_to_string(IP_FORWARD)?.trim().to_owned(),
            netfilter: netfilter::save()?,
            cgroups: cgroups::present(CGROUPS)?,
        };
        fs_err::write(file, serde_json::to_string_pretty(&machine)?)?;
        Ok(machine)
    }

    /// The state saved in `file`, if there is one.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn saved(file: &Utf8Path) -> Result<Option<Self>> {
        match fs_err::read_to_string(file) {
            Ok(text) => {
                Ok(Some(serde_json::from_str(&text).with_context(|| format!("bad `{file}`"))?))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Our bridge's network and compose's, together.
    fn networks(&self) -> String {
        format!("{}0.0/16", self.network)
    }

    /// Makes the bridge unless it is there, and lets its network reach the outside.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn connect(&self) -> Result<()> {
        let Self { bridge, network, .. } = self;
        if !bridges()?.contains(bridge) {
            // Without an address of its own it has that of a port, and another when that container
            // ends: what the others then send to it is dropped until they ask who it is.
            let add = ["link", "add", bridge, "address", BRIDGE_ADDRESS, "type", "bridge"];
            cmd("ip").args(add).run()?;
            cmd("ip").args(["addr", "add", &format!("{network}0.1/24"), "dev", bridge]).run()?;
        }
        cmd("ip").args(["link", "set", bridge, "up"]).run()?;
        fs_err::write(IP_FORWARD, "1")?;
        netfilter::open(&self.networks())
    }

    /// Undoes what the engine did, after it and its containers ended.
    ///
    /// # Errors
    /// When the kernel refuses; what could be undone is.
    pub fn restore(&self) -> Result<()> {
        netfilter::close(&self.networks(), &self.netfilter)?;
        for interface in self.interfaces()? {
            cmd("ip").args(["link", "delete", &interface]).run()?;
        }
        // Whoever made another bridge since then needs forwarding as well.
        if bridges()?.is_empty() && fs_err::read_to_string(IP_FORWARD)?.trim() != self.ip_forward {
            fs_err::write(IP_FORWARD, &self.ip_forward)?;
        }
        cgroups::remove(CGROUPS, &self.cgroups)
    }

    /// The bridges with an address in our network: ours, and those of compose projects.
    fn interfaces(&self) -> Result<Vec<String>> {
        let json = cmd("ip").args(["-4", "-json", "addr", "show"]).stdout()?;
        let links: Vec<Value> = serde_json::from_str(&json)?;
        let ours = |link: &&Value| {
            let addresses = link["addr_info"].as_array().into_iter().flatten();
            addresses
                .filter_map(|address| address["local"].as_str())
                .any(|address| address.starts_with(&self.network))
        };
        let named = links.iter().filter(ours).filter_map(|link| link["ifname"].as_str());
        Ok(named.map(str::to_owned).collect())
    }
}

/// The bridges that there are.
fn bridges() -> Result<Vec<String>> {
    // Not from /sys, which shows the network namespace that it was mounted in.
    let json = cmd("ip").args(["-json", "link", "show", "type", "bridge"]).stdout()?;
    // Without a bridge there is no JSON either.
    let json = if json.is_empty() { "[]" } else { &json };
    let links: Vec<Value> = serde_json::from_str(json)?;
    Ok(links.iter().filter_map(|link| link["ifname"].as_str()).map(str::to_owned).collect())
}
