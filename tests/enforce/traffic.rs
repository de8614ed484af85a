//! Clients: HTTP and Redis by hand over TCP, PostgreSQL by psql in a container of its own. Bounded in count and time.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

/// A machine whose disk is busy stalls a database for long.
pub const ANSWER: Duration = Duration::from_secs(90);
/// Between two pieces of a request: by then the server has read the first.
const BETWEEN: Duration = Duration::from_millis(200);

/// A connection, as soon as the server takes one.
pub fn connect(address: &str, port: u16) -> Result<TcpStream> {
    let socket: SocketAddr = format!("{address}:{port}").parse()?;
    let deadline = Instant::now() + ANSWER;
    loop {
        match TcpStream::connect_timeout(&socket, Duration::from_secs(1)) {
            Ok(stream) => {
                stream.set_read_timeout(Some(ANSWER))?;
                stream.set_write_timeout(Some(ANSWER))?;
                return Ok(stream);
            }
            Err(error) if Instant::now() > deadline => {
                return Err(error).with_context(|| format!("nothing listens at {socket}"));
            }
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// A response of HTTP.
pub struct Response {
    /// `200`.
    pub status: u16,
    /// Header lines, in lower case.
    pub head: String,
    /// The body, chunks joined, not decompressed.
    pub body: Vec<u8>,
}

impl Response {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Sends one request on an open connection and reads the whole answer.
pub fn request(stream: &TcpStream, line: &str, headers: &str, body: &[u8]) -> Result<Response> {
    request_in_two(stream, line, headers, body, None)
}

/// The same; of the body as much comes with the head as is said, and a while later the rest. Otherwise that is left to chance.
pub fn request_in_two(
    stream: &TcpStream,
    line: &str,
    headers: &str,
    body: &[u8],
    with_head: Option<usize>,
) -> Result<Response> {
    let mut writer = stream;
    let length =
        if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let head = format!("{line} HTTP/1.1\r\nHost: test\r\n{headers}{length}\r\n");
    let (first, rest) = body.split_at(with_head.unwrap_or(body.len()));
    writer.write_all(&[head.as_bytes(), first].concat())?;
    if !rest.is_empty() {
        thread::sleep(BETWEEN);
        writer.write_all(rest)?;
    }
    let mut reader = BufReader::new(stream);
    let mut status = String::new();
    reader.read_line(&mut status)?;
    let code = status.split(' ').nth(1).and_then(|code| code.parse().ok());
    let code: u16 = code.with_context(|| format!("`{line}` is answered with {status:?}"))?;
    let mut head = String::new();
    loop {
        let mut header = String::new();
        ensure!(reader.read_line(&mut header)? > 0, "the answer to `{line}` ends in its head");
        if header.trim().is_empty() {
            break;
        }
        head.push_str(&header.to_lowercase());
    }
    let mut body = Vec::new();
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    if matches!(code, 204 | 304) {
        // Never a body.
    } else if let Some(length) = length {
        body.resize(length, 0);
        reader.read_exact(&mut body)?;
    } else if head.contains("transfer-encoding: chunked") {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size)?;
            let size = usize::from_str_radix(size.trim(), 16).context("a chunk's size")?;
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk)?;
            if size == 0 {
                break;
            }
            body.extend_from_slice(&chunk[..size]);
        }
    } else {
        reader.read_to_end(&mut body)?;
    }
    Ok(Response { status: code, head, body })
}

/// One request on a connection of its own, answered with `status`.
pub fn once(
    address: &str,
    port: u16,
    line: &str,
    headers: &str,
    body: &[u8],
    status: u16,
) -> Result<Response> {
    let stream = connect(address, port)?;
    let response = request(&stream, line, headers, body)?;
    if response.status != status {
        bail!(
            "`{line}` is answered with {} and {:?}, not {status}",
            response.status,
            response.text()
        );
    }
    Ok(response)
}

/// The same work from four clients at once.
pub fn in_parallel(work: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
    thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|client| {
                scope.spawn({
                    let work = &work;
                    move || work(client)
                })
            })
            .collect();
        for client in clients {
            client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        Ok(())
    })
}

/// Sends one command of Redis and hands back the first line of the answer, and the text of a bulk one.
pub fn redis(stream: &TcpStream, words: &[&str]) -> Result<String> {
    let mut writer = stream;
    let mut command = format!("*{}\r\n", words.len());
    for word in words {
        command.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    writer.write_all(command.as_bytes())?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let line = line.trim_end().to_owned();
    if line.starts_with('-') || line.is_empty() {
        bail!("{words:?} is answered with {line:?}");
    }
    if let Some(length) = line.strip_prefix('$').and_then(|length| length.parse::<usize>().ok()) {
        let mut bulk = vec![0; length + 2];
        reader.read_exact(&mut bulk)?;
        return Ok(String::from_utf8_lossy(&bulk[..length]).into_owned());
    }
    Ok(line)
}
