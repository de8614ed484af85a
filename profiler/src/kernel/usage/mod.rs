//! What a container uses of this machine, read from outside: from `/proc`, from the upper directory of its root, from its cgroups.
//!
//! All of it is the workload's to choose, so each reader is bounded, opens nothing of the workload's but directories of its upper layer and the
//! first bytes of regular files there, and follows no link. What cannot be read is left out: no error ends a recording.

pub mod image;
pub mod layer;
pub mod lower;
pub mod mounts;
pub mod resources;
pub mod sockets;
pub mod users;

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

/// How much is read of one file of `/proc` or of a cgroup, in bytes.
const MAX_READ: u64 = 1 << 20;

/// Bytes as text; those that are not UTF-8 are `\xNN`.
#[must_use]
pub fn text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// At most so many bytes of `text`, not cutting a character.
fn cut(text: &str, most: usize) -> String {
    text[..text.floor_char_boundary(most)].to_owned()
}

/// A file of the kernel's, as far as it is read.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_READ).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_bytes_survive_as_text() {
        assert_eq!(text(b"a\nb\"\xff\xc3\xa9\xf0\x9f"), "a\nb\"\\xff\u{e9}\\xf0\\x9f");
        assert_eq!(cut("a\u{e9}", 2), "a");
    }
}
