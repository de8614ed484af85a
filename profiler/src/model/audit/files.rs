//! What it can write to, and what of the host it sees.

use super::{
    Severity,
    facts::{Known, Mount},
    run::{Answer, Subject},
};

/// Paths by which a host is governed. What is below them counts, and so does what holds them.
const SENSITIVE: &[&str] = &[
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib64",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/sys",
    "/usr",
    "/var/lib/containerd",
    "/var/lib/containers",
    "/var/lib/docker",
    "/var/lib/etcd",
    "/var/lib/kubelet",
    "/var/run",
];

/// What is below them and says nothing to anyone, when it cannot be written to.
const HARMLESS: &[&str] = &[
    "/etc/localtime",
    "/etc/timezone",
    "/etc/ssl/certs",
    "/etc/ca-certificates",
    "/usr/share/zoneinfo",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
];

/// File names of the sockets by which engines are commanded.
const SOCKETS: &[&str] = &[
    "docker.sock",
    "podman.sock",
    "containerd.sock",
    "crio.sock",
    "cri-dockerd.sock",
    "buildkitd.sock",
];

pub(super) fn root(subject: &Subject<'_>) -> Known<Answer> {
    let mounts = &subject.facts.mounts;
    let writable = mounts.known.iter().filter(|mount| mount.writable);
    if !*subject.facts.read_only.as_ref()? {
        let besides = writable.filter(|mount| mount.kind != "tmpfs");
        return Ok(Answer::found(Severity::Warning, "the root file system can be written to")
            .with(besides.map(|mount| format!("writable besides: {}", told(mount)))));
    }
    let mut rest: Vec<String> = writable.map(told).collect();
    rest.extend(mounts.rest.as_ref().map(|_| "mounts that are not known".to_owned()));
    let rest = if rest.is_empty() { "nothing".into() } else { rest.join(", ") };
    Ok(Answer::Passed(format!("the root file system is read-only; writable: {rest}")))
}

pub(super) fn host_paths(subject: &Subject<'_>) -> Known<Answer> {
    let found = subject.facts.mounts.bad(|it| it.writable && it.host.is_some())?;
    Ok(judged(
        Severity::Note,
        "can write to a path of the host",
        &found,
        "writes to no path of the host",
    ))
}

pub(super) fn engine_socket(subject: &Subject<'_>) -> Known<Answer> {
    let found = subject.facts.mounts.bad(is_socket)?;
    Ok(judged(
        Severity::Error,
        "an engine's socket is mounted",
        &found,
        "no engine's socket is mounted",
    ))
}

pub(super) fn sensitive(subject: &Subject<'_>) -> Known<Answer> {
    let found = subject.facts.mounts.bad(|it| is_sensitive(it) && !is_socket(it))?;
    let is_worst =
        |it: &&Mount| it.writable || it.host.as_deref().is_some_and(|path| normal(path) == "/");
    let severity = if found.iter().any(is_worst) { Severity::Error } else { Severity::Warning };
    Ok(judged(
        severity,
        "a path by which the host is governed is mounted",
        &found,
        "no such path is mounted",
    ))
}

pub(super) fn shared(subject: &Subject<'_>) -> Known<Answer> {
    let found = subject.facts.mounts.bad(|it| it.shared)?;
    Ok(judged(
        Severity::Warning,
        "a mount is shared with the host",
        &found,
        "no mount is shared with the host",
    ))
}

pub(super) fn devices(subject: &Subject<'_>) -> Known<Answer> {
    let found = subject.facts.devices.bad(|_| true)?;
    Ok(if found.is_empty() {
        Answer::Passed("no devices of the host".into())
    } else {
        Answer::found(Severity::Warning, "devices of the host are in it")
            .with(found.into_iter().cloned())
    })
}

fn judged(severity: Severity, bad: &str, found: &[&Mount], good: &str) -> Answer {
    if found.is_empty() {
        return Answer::Passed(good.into());
    }
    Answer::found(severity, bad).with(found.iter().map(|it| told(it)))
}

fn told(mount: &Mount) -> String {
    let from = mount.host.as_deref().unwrap_or(&mount.kind);
    format!("{from} at {} ({})", mount.target, if mount.writable { "rw" } else { "ro" })
}

fn is_socket(mount: &Mount) -> bool {
    let path = mount.host.as_deref().map(normal).unwrap_or_default();
    SOCKETS.iter().any(|name| path.rsplit('/').next() == Some(*name))
}

fn is_sensitive(mount: &Mount) -> bool {
    let Some(path) = mount.host.as_deref().map(normal) else { return false };
    let below = |parent: &str, child: &str| {
        parent == "/"
            || child
                .strip_prefix(parent)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    if !mount.writable && HARMLESS.iter().any(|harmless| below(harmless, &path)) {
        return false;
    }
    SENSITIVE.iter().any(|known| below(known, &path) || below(&path, known))
}

/// Without empty parts, `.` and `..`.
fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_host_are_told_apart() {
        let at = |path: &str, writable| {
            is_sensitive(&Mount { host: Some(path.into()), writable, ..Mount::default() })
        };
        for path in [
            "/",
            "/etc",
            "/etc/shadow",
            "//proc/",
            "/var",
            "/srv/../sys",
            "/var/lib/docker/overlay2",
            "/etc/localtime",
        ] {
            assert!(at(path, true), "{path}");
        }
        for path in ["/srv/data", "/home/me/etc", "/etcetera", "/varnish"] {
            assert!(!at(path, true), "{path}");
        }
        assert!(
            !at("/etc/localtime", false) && !at("/etc/ssl/certs/x.pem", false) && at("/etc", false)
        );
        assert!(!is_sensitive(&Mount { host: None, target: "/etc".into(), ..Mount::default() }));
    }
}
