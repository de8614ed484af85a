//! How long requests take: one after the other, a connection each, through the published port.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

/// Answers before any counts.
const WARM_UP: usize = 20;
const GETS: usize = 200;
const POSTS: usize = 100;
const PATIENCE: Duration = Duration::from_secs(30);

/// How long each request took.
#[derive(Debug, Default)]
pub struct Latency {
    /// Reading a task.
    pub get: Vec<Duration>,
    /// Making a task.
    pub post: Vec<Duration>,
}

impl Latency {
    /// Measures once more, at the front end's port.
    ///
    /// # Errors
    /// When an answer is not the expected one.
    pub fn measure(&mut self, port: u16) -> Result<()> {
        let body = r#"{"title": "measure", "notes": "how long this takes"}"#;
        let (status, made, _) = request(port, "POST", "/api/tasks", body)?;
        ensure!(status == 201, "status {status}: {made}");
        let made: serde_json::Value = serde_json::from_str(&made)?;
        let path = format!("/api/tasks/{}", made["id"]);
        for number in 0..WARM_UP + GETS {
            let (status, text, took) = request(port, "GET", &path, "")?;
            ensure!(status == 200, "status {status}: {text}");
            self.get.extend((number >= WARM_UP).then_some(took));
        }
        for number in 0..WARM_UP + POSTS {
            let (status, text, took) = request(port, "POST", "/api/tasks", body)?;
            ensure!(status == 201, "status {status}: {text}");
            self.post.extend((number >= WARM_UP).then_some(took));
        }
        Ok(())
    }
}

/// The value below which `percent` of them are.
pub fn percentile(times: &[Duration], percent: usize) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    let index = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    sorted.get(index).copied().unwrap_or_default()
}

/// Status, body and the time from connecting to the last byte.
fn request(port: u16, method: &str, path: &str, body: &str) -> Result<(u16, String, Duration)> {
    let began = Instant::now();
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).with_context(|| format!("no answer to {method} {path}"))?;
    let took = began.elapsed();
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer without an end of head")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    // Node sends small bodies of known length in one piece, without chunks.
    Ok((status.context("an answer without a status")?, body.to_owned(), took))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_values() {
        let times: Vec<_> = (1..=200).rev().map(Duration::from_millis).collect();
        assert_eq!(percentile(&times, 50), Duration::from_millis(100));
        assert_eq!(percentile(&times, 99), Duration::from_millis(198));
        assert_eq!(percentile(&times[..1], 50), Duration::from_millis(200));
        assert_eq!(percentile(&[], 50), Duration::ZERO);
    }
}
