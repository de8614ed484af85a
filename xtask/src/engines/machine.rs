//! What an engine changes on the machine: written down before, undone afterwards.
//!
//! Owns our bridge and its addresses, forwarding, and who is asked about the packet filter and the
//! engine's cgroup. What others changed meanwhile stays as they left it.

use std::io::ErrorKind;

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{
    cgroups,
    netfilter::{self, Ours},
};
use crate::sh::cmd;

const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";
/// Second octets of 10.0.0.0/8 that our networks are taken from.
const SECOND_OCTETS: std::ops::Range<u8> = 200..250;

/// The machine before an engine started, and what was given to the engine.
#[derive(Serialize, Deserialize)]
pub struct Machine {
    /// Our bridge; its name differs from checkout to checkout.
    pub bridge: String,
    /// `10.N.`: the bridge is 10.N.0.1/24, compose's networks are in 10.N.128.0/17.
    pub network: String,
    ip_forward: String,
    iptables: String,
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
            iptables: cmd("iptables-save").stdout()?,
            cgroups: cgroups::present()?,
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

    /// Makes the bridge unless it is there.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn bridge_up(&self) -> Result<()> {
        let Self { bridge, network, .. } = self;
        if !Utf8Path::new("/sys/class/net").join(bridge).exists() {
            cmd("ip").args(["link", "add", bridge, "type", "bridge"]).run()?;
            cmd("ip").args(["addr", "add", &format!("{network}0.1/24"), "dev", bridge]).run()?;
        }
        cmd("ip").args(["link", "set", bridge, "up"]).run()
    }

    /// Undoes what the engine did, after it and its containers ended.
    ///
    /// # Errors
    /// When the kernel refuses; what could be undone is.
    pub fn restore(&self) -> Result<()> {
        let interfaces = self.interfaces()?;
        let ours = Ours { interfaces, network: self.network.clone() };
        let now = cmd("iptables-save").stdout()?;
        let script = netfilter::undo(&self.iptables, &now, &ours);
        if !script.is_empty() {
            cmd("iptables-restore").arg("--noflush").input(script).run()?;
        }
        let now = cmd("iptables-save").stdout()?;
        for (table, chains) in netfilter::empty_tables(&self.iptables, &now) {
            for chain in chains {
                // Older programs cannot remove a built-in chain; an accepting one does no harm.
                cmd("iptables").args(["-t", &table, "-X", &chain]).succeeds();
            }
        }
        for interface in &ours.interfaces {
            cmd("ip").args(["link", "delete", interface]).run()?;
        }
        if fs_err::read_to_string(IP_FORWARD)?.trim() != self.ip_forward {
            fs_err::write(IP_FORWARD, &self.ip_forward)?;
        }
        cgroups::remove(&self.cgroups)
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
