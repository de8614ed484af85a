//! The descriptor of `--ready-fd`: the one that the caller opened, be it a file, a pipe or a socket.
//!
//! The only place of the binary with `unsafe`: a number that was typed becomes a descriptor. It is copied, so that the
//! copy shares the caller's offset, and a socket, which has no path to open, serves too.

use std::{
    fs::File,
    io,
    os::fd::{BorrowedFd, RawFd},
};

use anyhow::{Context as _, Result};
use rustix::{
    fs::{OFlags, fcntl_getfl},
    io::{Errno, FdFlags, fcntl_dupfd_cloexec, fcntl_setfd},
};

/// Descriptors that COMMAND gets as its own streams; a copy is never one of them.
const STREAMS: RawFd = 3;

/// A copy of descriptor `fd` to write to. COMMAND inherits neither, unless `fd` is one of its streams.
pub fn open(fd: u32) -> Result<File> {
    copy(fd).with_context(|| {
        format!(
            "cannot write to file descriptor `{fd}` of `--ready-fd`\nhint: open it first: profiler record --ready-fd {fd} ... {fd}>FILE"
        )
    })
}

#[expect(unsafe_code, reason = "a descriptor that is known by its number only")]
fn copy(fd: u32) -> io::Result<File> {
    let fd = RawFd::try_from(fd).map_err(|_| Errno::BADF)?;
    std::fs::symlink_metadata(format!("/proc/self/fd/{fd}"))?;
    // SAFETY: it is open, as was just seen, and stays so: whoever started profiler opened it, and nothing here closes
    // it; or else it is one of profiler's own, which outlive this function.
    let given = unsafe { BorrowedFd::borrow_raw(fd) };
    if fcntl_getfl(given)?.intersection(OFlags::RWMODE) == OFlags::RDONLY {
        return Err(Errno::BADF.into());
    }
    let copy = fcntl_dupfd_cloexec(given, STREAMS)?;
    if fd >= STREAMS {
        fcntl_setfd(given, FdFlags::CLOEXEC)?;
    }
    Ok(copy.into())
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        os::{
            fd::{AsFd, AsRawFd as _},
            unix::net::UnixStream,
        },
    };

    use rustix::io::fcntl_getfd;

    use super::*;

    fn number(fd: &impl AsFd) -> u32 {
        u32::try_from(fd.as_fd().as_raw_fd()).expect("it is open")
    }

    /// Writes by way of the descriptor's number; neither it nor the copy may be inherited.
    fn write_to(fd: &impl AsFd) {
        fcntl_setfd(fd, FdFlags::empty()).expect("it is inherited at first");
        let mut copy = open(number(fd)).expect("it can be written to");
        copy.write_all(b"!").expect("writes");
        for fd in [fd.as_fd(), copy.as_fd()] {
            assert_eq!(fcntl_getfd(fd).expect("flags"), FdFlags::CLOEXEC);
        }
    }

    #[test]
    fn a_socket_is_written_to() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        write_to(&theirs);
        drop(theirs);
        let mut text = String::new();
        (&ours).read_to_string(&mut text).expect("reads to the end: nobody holds a copy");
        assert_eq!(text, "!");
    }

    #[test]
    fn a_pipe_is_written_to_and_ends() {
        let (mut ours, theirs) = io::pipe().expect("a pipe");
        write_to(&theirs);
        drop(theirs);
        let mut text = String::new();
        ours.read_to_string(&mut text).expect("reads to the end: nobody holds a copy");
        assert_eq!(text, "!");
    }

    #[test]
    fn a_file_keeps_what_was_written_before() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(b"before").expect("writes");
        write_to(file.as_file());
        file.write_all(b"after").expect("writes");
        assert_eq!(std::fs::read_to_string(file.path()).expect("reads"), "before!after");
    }

    #[test]
    fn what_cannot_be_written_to_is_refused() {
        let (reader, _writer) = io::pipe().expect("a pipe");
        for fd in [number(&reader), 1 << 20, u32::MAX] {
            let error = open(fd).expect_err("not open for writing");
            assert!(error.to_string().contains(&format!("`{fd}` of `--ready-fd`")), "{error}");
        }
    }
}
