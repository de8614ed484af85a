//! The packet filter: three rules for our networks, added and taken away again.
//!
//! The engine itself is told to keep out of it. Left to itself dockerd flushes the chains that it
//! shares with every other Docker of the machine, and sets the policy of FORWARD to DROP. Ports are
//! published by its user-space proxy, which needs no rule.

use anyhow::Result;

use crate::sh::{Cmd, cmd};

/// The tables that the packet filter has now, as `iptables-save` prints them.
///
/// # Errors
/// When iptables cannot be run.
pub fn save() -> Result<String> {
    cmd("iptables-save").stdout()
}

/// Lets `network` (`10.200.0.0/16`) talk to itself and, behind our addresses, to the outside.
///
/// # Errors
/// When the kernel refuses a rule.
pub fn open(network: &str) -> Result<()> {
    for (table, chain, rule) in rules(network) {
        if !iptables(table, "-C", chain).args(&rule).succeeds() {
            // Before all others: another Docker's policy is to drop.
            iptables(table, "-I", chain).args(&rule).run()?;
        }
    }
    Ok(())
}

/// Takes the rules of [`open`] away, and the tables that came with them and are empty; `before` is
/// what [`save`] said then.
///
/// # Errors
/// When iptables cannot be run.
pub fn close(network: &str, before: &str) -> Result<()> {
    for (table, chain, rule) in rules(network) {
        while iptables(table, "-C", chain).args(&rule).succeeds() {
            iptables(table, "-D", chain).args(&rule).run()?;
        }
    }
    for (table, chain) in empty_chains(before, &save()?) {
        // Before iptables 1.8.8 a built-in chain stays for ever; an accepting one does no harm.
        iptables(&table, "-X", &chain).succeeds();
    }
    Ok(())
}

fn iptables(table: &str, verb: &str, chain: &str) -> Cmd {
    cmd("iptables").args(["--wait", "-t", table, verb, chain])
}

/// Table, chain and rule.
fn rules(network: &str) -> [(&'static str, &'static str, Vec<&str>); 3] {
    [
        ("filter", "FORWARD", vec!["-s", network, "-j", "ACCEPT"]),
        ("filter", "FORWARD", vec!["-d", network, "-j", "ACCEPT"]),
        ("nat", "POSTROUTING", vec!["-s", network, "!", "-d", network, "-j", "MASQUERADE"]),
    ]
}

/// The chains of the tables that were not there in `before` and hold nothing now: built-in chains
/// that accept.
fn empty_chains(before: &str, now: &str) -> Vec<(String, String)> {
    let mut chains = Vec::new();
    for table in now.split('*').skip(1) {
        let mut lines = table.lines();
        let name = lines.next().unwrap_or_default();
        let known = before.lines().any(|line| line.strip_prefix('*') == Some(name));
        let content: Vec<&str> = lines.filter(|line| line.starts_with([':', '-'])).collect();
        let empty = content.iter().all(|line| line.starts_with(':') && line.contains(" ACCEPT "));
        if !known && empty {
            let names = content.iter().filter_map(|line| line[1..].split(' ').next());
            chains.extend(names.map(|chain| (name.to_owned(), chain.to_owned())));
        }
    }
    chains
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_new_tables_without_rules_and_policies_are_empty() {
        let now = "# by iptables-save\n\
                   *nat\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [1:2]\nCOMMIT\n\
                   *raw\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -j ACCEPT\nCOMMIT\n\
                   *filter\n:INPUT DROP [0:0]\nCOMMIT\n";
        let chain = |name: &str| ("nat".to_owned(), name.to_owned());
        assert_eq!(empty_chains("", now), [chain("INPUT"), chain("OUTPUT")]);
        assert_eq!(empty_chains("*nat\n:INPUT ACCEPT [0:0]\nCOMMIT\n", now), []);
    }
}
