//! What it can write to, and what of the host it sees.

use super::{
    Severity,
    facts::{Known, Mount, Unknown},
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

/// Where those sockets are. `/var/run` is `/run`.
const SOCKET_PATHS: &[&str] = &[
    "/run/docker.sock",
    "/run/podman/podman.sock",
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/cri-dockerd.sock",
    "/run/buildkit/buildkitd.sock",
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
    let found = bad(
        subject,
        |it| it.writable && it.host.is_some(),
        |it| it.writable && it.unsure.is_some(),
    )?;
    Ok(judged(
        Severity::Note,
        "can write to a path of the host",
        &found,
        "writes to no path of the host",
    ))
}

pub(super) fn engine_socket(subject: &Subject<'_>) -> Known<Answer> {
    let found = bad(subject, |it| is_socket(it) || holds_socket(it), is_unplaced)?;
    Ok(judged(
        Severity::Error,
        "an engine's socket is mounted, or a directory that has it",
        &found,
        "no engine's socket is mounted",
    ))
}

pub(super) fn sensitive(subject: &Subject<'_>) -> Known<Answer> {
    let found = bad(subject, |it| is_sensitive(it) && !is_socket(it), is_unplaced)?;
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

/// The mounts that `is_bad` takes. When it takes none, and one could be such or is not known, nobody can tell.
fn bad<'s>(
    subject: &'s Subject<'_>,
    is_bad: impl Fn(&Mount) -> bool,
    could_be: impl Fn(&Mount) -> bool,
) -> Known<Vec<&'s Mount>> {
    let found = subject.facts.mounts.bad(is_bad)?;
    match subject.facts.mounts.known.iter().find(|mount| could_be(mount)) {
        Some(mount) if found.is_empty() => Err(match &mount.unsure {
            Some(why) => Unknown::because(format!("mount at {}: {}", mount.target, why.0)),
            None => Unknown::because(format!("where {} is on the host is not known", told(mount))),
        }),
        _ => Ok(found),
    }
}

/// It could be anywhere on the host. A socket's name says enough.
fn is_unplaced(mount: &Mount) -> bool {
    let is_relative = |path: &String| !path.starts_with('/');
    mount.unsure.is_some() || mount.host.as_ref().is_some_and(is_relative) && !is_socket(mount)
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
    let path = mount.host.as_deref().unwrap_or_default().trim_end_matches('/');
    SOCKETS.iter().any(|name| path.rsplit('/').next() == Some(*name))
}

/// A directory in which engines have their sockets. That it is read-only keeps nobody from connecting.
fn holds_socket(mount: &Mount) -> bool {
    let Some(path) = absolute(mount) else { return false };
    let path = match path.strip_prefix("/var/run") {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("/run{rest}"),
        _ => path,
    };
    // Of a user's own engine.
    let is_users = path == "/run/user"
        || path.strip_prefix("/run/user/").is_some_and(|rest| !rest.contains('/'));
    is_users || SOCKET_PATHS.iter().any(|socket| below(&path, socket))
}

fn absolute(mount: &Mount) -> Option<String> {
    mount.host.as_deref().filter(|path| path.starts_with('/')).map(normal)
}

fn below(parent: &str, child: &str) -> bool {
    parent == "/"
        || child.strip_prefix(parent).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn is_sensitive(mount: &Mount) -> bool {
    let Some(path) = absolute(mount) else { return false };
    // In root's home it is the hidden files that govern, and not what is worked on there.
    if path.strip_prefix("/root/").is_some_and(|rest| !rest.starts_with('.')) {
        return false;
    }
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
        for path in
            ["/srv/data", "/home/me/etc", "/etcetera", "/varnish", "./etc", ".", "/root/app"]
        {
            assert!(!at(path, true), "{path}");
        }
        assert!(
            !at("/etc/localtime", false) && !at("/etc/ssl/certs/x.pem", false) && at("/etc", false)
        );
        assert!(!is_sensitive(&Mount { host: None, target: "/etc".into(), ..Mount::default() }));
        assert!(at("/root/.ssh", false) && at("/root", false));
    }

    #[test]
    fn directories_with_sockets_are_told_and_places_that_are_not_known() {
        let at = |path: &str| Mount { host: Some(path.into()), ..Mount::default() };
        for path in [
            "/",
            "/run",
            "/var/run",
            "/var/run/",
            "/run/containerd",
            "/run/user/1000",
            "/var/run/podman",
        ] {
            assert!(holds_socket(&at(path)), "{path}");
        }
        for path in
            ["/var", "/srv", "/run/lock", "/var/running", ".", "run", "/run/user/1000/pulse"]
        {
            assert!(!holds_socket(&at(path)), "{path}");
        }
        for path in [".", "./etc", "../..", "~", "~/x"] {
            assert!(is_unplaced(&at(path)), "{path}");
        }
        assert!(is_socket(&at("./docker.sock")) && !is_unplaced(&at("./docker.sock")));
        assert!(!is_unplaced(&at("/srv")) && !is_unplaced(&Mount::default()));
    }
}
