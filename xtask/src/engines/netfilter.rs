//! Taking an engine's rules out of the packet filter, and nobody else's. Pure text.
//!
//! Docker adds chains named DOCKER*, jumps to them, rules about its bridges, and sets the policy of
//! FORWARD to DROP. Another Docker on the machine shares the chains: they go with the last user.

use std::fmt::Write as _;

/// What a rule must mention to be ours.
pub struct Ours {
    /// Names of our bridges.
    pub interfaces: Vec<String>,
    /// First octets of our addresses, with the last dot: `10.200.`.
    pub network: String,
}

impl Ours {
    fn owns(&self, rule: &str) -> bool {
        rule.split_whitespace().any(|word| {
            word.starts_with(&self.network) || self.interfaces.iter().any(|name| name == word)
        })
    }
}

/// Input for `iptables-restore --noflush` that turns `now` into `before`, as far as that is ours to
/// do. Both are output of `iptables-save`. Empty when there is nothing to do.
pub fn undo(before: &str, now: &str, ours: &Ours) -> String {
    let mut script = String::new();
    let docker_is_alone = !now.lines().any(|line| {
        let of_docker = line.starts_with("-A") && chain_of(line).is_some_and(is_dockers);
        of_docker && !ours.owns(line) && mentions_interface(line)
    });
    for table in tables(now) {
        let mut commands = String::new();
        for rule in table.lines.iter().filter(|line| line.starts_with("-A ")) {
            let boilerplate = docker_is_alone
                && (chain_of(rule).is_some_and(is_dockers)
                    || target_of(rule).is_some_and(is_dockers));
            if ours.owns(rule) || boilerplate {
                let _ = writeln!(commands, "-D {}", &rule[3..]);
            }
        }
        if docker_is_alone {
            for line in &table.lines {
                let name = line.strip_prefix(':').and_then(|rest| rest.split(' ').next());
                if let Some(name) = name.filter(|name| is_dockers(name)) {
                    let _ = writeln!(commands, "-X {name}");
                }
            }
            let policy = policy_of_forward(before, table.name).unwrap_or("ACCEPT");
            if policy_of_forward(now, table.name).is_some_and(|current| current != policy) {
                let _ = writeln!(commands, "-P FORWARD {policy}");
            }
        }
        if !commands.is_empty() {
            let _ = write!(script, "*{}\n{commands}COMMIT\n", table.name);
        }
    }
    script
}

/// The tables in `now` that were not there in `before` and hold nothing: built-in chains that
/// accept. Each with the names of its chains.
pub fn empty_tables(before: &str, now: &str) -> Vec<(String, Vec<String>)> {
    let known: Vec<&str> = tables(before).iter().map(|table| table.name).collect();
    let empty = |line: &&str| line.starts_with(':') && line.contains(" ACCEPT ");
    tables(now)
        .iter()
        .filter(|table| !known.contains(&table.name) && table.lines.iter().all(empty))
        .map(|table| {
            let chains = table.lines.iter().filter_map(|line| line[1..].split(' ').next());
            (table.name.to_owned(), chains.map(str::to_owned).collect())
        })
        .collect()
}

struct Table<'a> {
    name: &'a str,
    lines: Vec<&'a str>,
}

fn tables(save: &str) -> Vec<Table<'_>> {
    let mut tables: Vec<Table<'_>> = Vec::new();
    for line in save.lines() {
        if let Some(name) = line.strip_prefix('*') {
            tables.push(Table { name, lines: Vec::new() });
        } else if (line.starts_with(':') || line.starts_with("-A "))
            && let Some(table) = tables.last_mut()
        {
            table.lines.push(line);
        }
    }
    tables
}

fn is_dockers(chain: &str) -> bool {
    chain == "DOCKER" || chain.starts_with("DOCKER-")
}

fn chain_of(rule: &str) -> Option<&str> {
    rule.split(' ').nth(1)
}

fn target_of(rule: &str) -> Option<&str> {
    let mut words = rule.split(' ');
    words.find(|word| *word == "-j").and_then(|_| words.next())
}

fn mentions_interface(rule: &str) -> bool {
    rule.split(' ').any(|word| word == "-i" || word == "-o")
}

fn policy_of_forward<'a>(save: &'a str, table: &str) -> Option<&'a str> {
    let lines = tables(save).into_iter().find(|t| t.name == table)?.lines;
    lines.into_iter().find_map(|line| line.strip_prefix(":FORWARD ")?.split(' ').next())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS_NOW: &str = "\
*nat
:PREROUTING ACCEPT [0:0]
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 10.200.0.0/24 ! -o prof1 -j MASQUERADE
-A DOCKER -i prof1 -j RETURN
COMMIT
*filter
:FORWARD DROP [0:0]
:DOCKER - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -o prof1 -j DOCKER
-A FORWARD -i eth9 -j ACCEPT
-A DOCKER-USER -j RETURN
COMMIT
";

    fn ours() -> Ours {
        Ours { interfaces: vec!["prof1".to_owned()], network: "10.200.".to_owned() }
    }

    #[test]
    fn alone_every_trace_goes_and_the_rest_stays() {
        let script = undo("*filter\n:FORWARD ACCEPT [0:0]\nCOMMIT\n", OURS_NOW, &ours());
        assert_eq!(
            script,
            "*nat\n\
             -D PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\n\
             -D POSTROUTING -s 10.200.0.0/24 ! -o prof1 -j MASQUERADE\n\
             -D DOCKER -i prof1 -j RETURN\n\
             -X DOCKER\n\
             COMMIT\n\
             *filter\n\
             -D FORWARD -j DOCKER-USER\n\
             -D FORWARD -o prof1 -j DOCKER\n\
             -D DOCKER-USER -j RETURN\n\
             -X DOCKER\n\
             -X DOCKER-USER\n\
             -P FORWARD ACCEPT\n\
             COMMIT\n"
        );
    }

    #[test]
    fn beside_another_docker_only_our_rules_go() {
        let now = OURS_NOW
            .replace("-A DOCKER -i prof1", "-A DOCKER -i docker0 -j RETURN\n-A DOCKER -i prof1");
        let script = undo("", &now, &ours());
        assert!(script.contains("-D DOCKER -i prof1 -j RETURN\n"), "{script}");
        for kept in ["docker0", "-X", "-P", "-j DOCKER-USER", "eth9"] {
            assert!(!script.contains(kept), "{kept} in {script}");
        }
    }

    #[test]
    fn a_clean_machine_needs_nothing() {
        assert_eq!(undo("", "*filter\n:FORWARD ACCEPT [1:2]\nCOMMIT\n", &ours()), "");
    }

    #[test]
    fn a_table_is_empty_only_without_rules_chains_and_policies() {
        let now = "*nat\n:INPUT ACCEPT [0:0]\nCOMMIT\n*filter\n:INPUT DROP [0:0]\nCOMMIT\n";
        let nat = [("nat".to_owned(), vec!["INPUT".to_owned()])];
        assert_eq!(empty_tables("", now), nat);
        assert_eq!(empty_tables("*nat\nCOMMIT\n", now), []);
    }
}
