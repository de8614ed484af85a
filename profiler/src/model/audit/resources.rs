//! What it may use up, who asks whether it is well, and which ports lead to it.

use super::{
    Severity,
    facts::{Known, Port, Source, Unknown},
    run::{Answer, Subject},
};

pub(super) fn memory(subject: &Subject<'_>) -> Known<Answer> {
    limit(&subject.facts.limits.memory, Severity::Warning, "memory")
}

pub(super) fn pids(subject: &Subject<'_>) -> Known<Answer> {
    limit(&subject.facts.limits.pids, Severity::Warning, "processes")
}

pub(super) fn cpu(subject: &Subject<'_>) -> Known<Answer> {
    limit(&subject.facts.limits.cpu, Severity::Note, "processors")
}

fn limit(limit: &Known<Option<String>>, severity: Severity, what: &str) -> Known<Answer> {
    Ok(match limit.as_ref()? {
        Some(limit) => Answer::Passed(format!("{what}: at most {limit}")),
        None => Answer::found(severity, format!("{what}: no limit")),
    })
}

pub(super) fn reservations(subject: &Subject<'_>) -> Known<Answer> {
    let kept = &subject.facts.reservations;
    let (memory, cpu) = (kept.memory.as_ref()?, kept.cpu.as_ref()?);
    let one =
        |what: &str, kept: &Option<String>| kept.as_ref().map(|kept| format!("{what} {kept}"));
    let told: Vec<String> =
        [one("memory", memory), one("processors", cpu)].into_iter().flatten().collect();
    Ok(if told.is_empty() {
        Answer::found(Severity::Note, "neither memory nor processors are kept for it")
    } else {
        Answer::Passed(format!("kept for it: {}", told.join(", ")))
    })
}

pub(super) fn ulimits(subject: &Subject<'_>) -> Known<Answer> {
    let found = subject.facts.ulimits.bad(|it| it.hard == -1)?;
    if !found.is_empty() {
        let told = found.iter().map(|it| format!("{}: unlimited", it.name));
        return Ok(Answer::found(Severity::Note, "a ulimit was lifted").with(told));
    }
    let own: Vec<String> =
        subject.facts.ulimits.known.iter().map(|it| format!("{}={}", it.name, it.hard)).collect();
    Ok(Answer::Passed(if own.is_empty() { "the engine's ulimits".into() } else { own.join(", ") }))
}

pub(super) fn health(subject: &Subject<'_>) -> Known<Answer> {
    Ok(match subject.facts.health.as_ref()? {
        Some(check) => Answer::Passed(format!("asked by: {check}")),
        None => Answer::found(Severity::Note, "there is no health check"),
    })
}

pub(super) fn addresses(subject: &Subject<'_>) -> Known<Answer> {
    let found = subject.facts.ports.bad(is_any)?;
    if !found.is_empty() {
        return Ok(Answer::found(Severity::Warning, "ports are open at every address of the host")
            .with(found.into_iter().map(told)));
    }
    own_network(subject)?;
    let bound: Vec<String> = subject.facts.ports.known.iter().map(told).collect();
    Ok(Answer::Passed(if bound.is_empty() {
        "no port of the host leads to it".into()
    } else {
        bound.join(", ")
    }))
}

pub(super) fn privileged_ports(subject: &Subject<'_>) -> Known<Answer> {
    let is_low = |port: &Port| port.host.is_some_and(|number| (1..1024).contains(&number));
    let found = subject.facts.ports.bad(is_low)?;
    if found.is_empty() {
        own_network(subject)?;
    }
    Ok(if found.is_empty() {
        Answer::Passed("no port of the host below 1024".into())
    } else {
        Answer::found(Severity::Note, "ports of the host below 1024 lead to it")
            .with(found.into_iter().map(told))
    })
}

/// However the address is written.
fn is_any(port: &Port) -> bool {
    let address = port.address.trim_start_matches('[').trim_end_matches(']');
    let parsed = address.parse::<std::net::IpAddr>();
    matches!(address, "" | "*") || parsed.is_ok_and(|it| it.to_canonical().is_unspecified())
}

/// In the host's network, or another's, no setting says at which ports it listens.
fn own_network(subject: &Subject<'_>) -> Known<()> {
    if *subject.facts.namespaces.network.as_ref()? {
        let why = "it is in the host's network: where it listens is not in its settings";
        return Err(Unknown::because(why));
    }
    Ok(())
}

fn told(port: &Port) -> String {
    let address = if port.address.is_empty() { "every address" } else { &port.address };
    let number = port.host.map_or_else(|| "any".to_owned(), |number| number.to_string());
    format!("{address} port {number} to {}", port.container)
}

pub(super) fn default_network(subject: &Subject<'_>) -> Known<Answer> {
    Ok(match subject.facts.default_network {
        None if subject.facts.source == Source::Engine => {
            return Err(Unknown::because("the engine names no network"));
        }
        None => Answer::Moot,
        Some(true) => Answer::found(Severity::Note, "it is in the engine's default network"),
        Some(false) => Answer::Passed("not in the engine's default network".into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_is_told_however_it_is_written() {
        let is = |address: &str| {
            is_any(&Port { address: address.into(), host: None, container: String::new() })
        };
        for address in
            ["", "*", "0.0.0.0", "::", "[::]", "::0", "0:0:0:0:0:0:0:0", "::ffff:0.0.0.0"]
        {
            assert!(is(address), "{address}");
        }
        for address in ["127.0.0.1", "::1", "[::1]", "localhost"] {
            assert!(!is(address), "{address}");
        }
    }
}
