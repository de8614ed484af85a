//! The few questions that are asked of an engine's API directly: GET over its Unix socket.
//!
//! A client program takes 50 ms to start and may be of any version; this takes one.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use camino::Utf8Path;
use rustix::process::Pid;
use serde_json::Value;

/// GETs `path` as JSON; `None` when the API answers that there is no such thing.
///
/// # Errors
/// When nothing listens, the answer takes longer than ten seconds, or it is an error.
pub fn get(socket: &Utf8Path, path: &str) -> Result<Option<Value>> {
    let answer = exchange(socket, path).with_context(|| format!("cannot ask `{socket}`"))?;
    let (status, body) = parse(&answer).with_context(|| format!("no HTTP from `{socket}`"))?;
    match status {
        200 => Ok(Some(serde_json::from_slice(body)?)),
        404 => Ok(None),
        _ => bail!("`GET {path}` on `{socket}` answered {status}"),
    }
}

/// Whether an engine answers on `socket`.
pub fn answers(socket: &Utf8Path) -> bool {
    exchange(socket, "/_ping").is_ok_and(|answer| matches!(parse(&answer), Some((200, b"OK"))))
}

/// One line about the engine on `socket`, whose daemon is `pid`.
///
/// # Errors
/// When it answers, and then does not say what it is.
pub fn status(socket: &Utf8Path, pid: Option<Pid>) -> Result<String> {
    if !answers(socket) {
        return Ok(match pid {
            None => "down".to_owned(),
            // For one who is not root, up and hung look the same.
            Some(pid) => format!("pid {}, but no answer on unix://{socket}", pid.as_raw_nonzero()),
        });
    }
    let version = get(socket, "/version")?.context("no version")?;
    let info = get(socket, "/info")?.context("no info")?;
    Ok(format!(
        "up, {}, {} images, {} containers, cgroup v{}, unix://{socket}",
        version["Version"].as_str().unwrap_or("unknown version"),
        info["Images"],
        info["Containers"],
        info["CgroupVersion"].as_str().unwrap_or("unknown"),
    ))
}

/// The value of a label of an image; `None` when it has none or is not there.
///
/// # Errors
/// When the engine does not answer.
pub fn image_label(socket: &Utf8Path, image: &str, label: &str) -> Result<Option<String>> {
    let image = get(socket, &format!("/images/{image}/json"))?;
    let value = image.map(|image| image["Config"]["Labels"][label].as_str().map(str::to_owned));
    Ok(value.flatten())
}

/// HTTP/1.0: the answer is not chunked and ends with the connection.
fn exchange(socket: &Utf8Path, path: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: engine\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

/// Status and body of an HTTP answer.
fn parse(answer: &[u8]) -> Option<(u16, &[u8])> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some((status, &answer[end + 4..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_body_are_told_apart() {
        assert_eq!(parse(b"HTTP/1.0 200 OK\r\nA: b\r\n\r\nOK"), Some((200, &b"OK"[..])));
        assert_eq!(parse(b"HTTP/1.1 404 Not Found\r\n\r\n"), Some((404, &b""[..])));
        assert_eq!(parse(b"SSH-2.0\r\n\r\n"), None);
    }
}
