//! Seccomp filters of threads: what the kernel has loaded, and loading one.
//!
//! With `kernel/libseccomp` the only part of this layer with `unsafe`: ptrace(2), prctl(2) and what runs between fork and
//! execve have no safe form. It compares nothing and decides nothing. Sources:
//! <https://github.com/torvalds/linux/blob/v6.12/kernel/seccomp.c> (`seccomp_get_filter`),
//! <https://github.com/torvalds/linux/blob/v6.12/kernel/ptrace.c> (`ptrace_attach`, `ptrace_check_attach`).

#![expect(unsafe_code, reason = "ptrace, prctl and pre_exec have no safe form")]

use std::{
    ffi::{c_long, c_void},
    io, mem,
    os::unix::process::CommandExt as _,
    process::Command,
    ptr, thread,
    time::{Duration, Instant},
};

use thiserror::Error;

use crate::model::bpf::{Instruction, Program, ProgramError};

/// How long a thread may take to stop: one that sleeps in the kernel takes no signal.
const STOP: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_millis(1);

/// `PTRACE_SECCOMP_GET_FILTER` of linux/ptrace.h.
const GET_FILTER: libc::c_uint = 0x420c;

/// No thread has more filters that are looked at.
const MOST: usize = 64;

/// Why a thread's filters could not be read.
#[derive(Debug, Error)]
pub enum FilterError {
    /// The thread has ended, or does not stop.
    #[error("thread {tid} could not be stopped to read its filter")]
    Stop {
        /// The thread.
        tid: i32,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The kernel does not give it: it was built without CONFIG_CHECKPOINT_RESTORE, or this process lacks CAP_SYS_ADMIN
    /// or is itself under a filter.
    #[error("the kernel does not give out the filter of thread {tid}")]
    Refused {
        /// The thread.
        tid: i32,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// It is none that libseccomp writes.
    #[error("the filter of thread {tid} cannot be followed")]
    Program {
        /// The thread.
        tid: i32,
        /// The cause.
        #[source]
        source: ProgramError,
    },
}

impl FilterError {
    /// Whether another thread could answer: this one is gone or does not stop.
    #[must_use]
    pub const fn is_of_thread(&self) -> bool {
        matches!(self, FilterError::Stop { .. })
    }
}

/// The filters of a thread, the first that was loaded first. The thread is stopped for the moment.
///
/// A thread that did not stop cannot be detached from, and would stop later, for good. When a tracer ends, the kernel
/// takes back what it asked of its tracees (`__ptrace_unlink`), so the tracer is a thread that ends with this call.
///
/// # Errors
/// When it ended or does not stop, or the kernel gives no filters out.
pub fn of_thread(tid: i32) -> Result<Vec<Program>, FilterError> {
    let stop = |source| FilterError::Stop { tid, source };
    thread::scope(|scope| {
        let tracer = thread::Builder::new().name("tracer".to_owned());
        let tracer = tracer.spawn_scoped(scope, move || traced(tid)).map_err(stop)?;
        tracer.join().unwrap_or_else(|_| Err(stop(io::Error::other("the tracer panicked"))))
    })
}

/// The same, by this thread, which is to end after it.
fn traced(tid: i32) -> Result<Vec<Program>, FilterError> {
    let _stopped = Stopped::seize(tid).map_err(|source| FilterError::Stop { tid, source })?;
    let mut programs = Vec::new();
    for index in 0..MOST {
        let refused = |source| FilterError::Refused { tid, source };
        let count = match get(tid, index, ptr::null_mut()) {
            Ok(count) => count,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => break,
            Err(error) => return Err(refused(error)),
        };
        let mut bytes = vec![0_u8; count * size_of::<libc::sock_filter>()];
        get(tid, index, bytes.as_mut_ptr().cast()).map_err(refused)?;
        programs
            .push(Program::parse(&bytes).map_err(|source| FilterError::Program { tid, source })?);
    }
    Ok(programs)
}

/// The length of one filter, in instructions; written to `to` when that is not null, which then has room for them.
fn get(tid: i32, index: usize, to: *mut c_void) -> io::Result<usize> {
    // SAFETY: the thread is this one's tracee; `to` is null or has the room that an earlier answer asked for, and a filter
    // never changes.
    let count = unsafe { libc::ptrace(GET_FILTER, tid, index, to) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// A thread that stands still. Dropping it lets it go on, with the signal that it was about to get.
struct Stopped {
    tid: i32,
    signal: i32,
}

impl Stopped {
    fn seize(tid: i32) -> io::Result<Stopped> {
        request(libc::PTRACE_SEIZE, tid, 0)?;
        let mut stopped = Stopped { tid, signal: 0 };
        request(libc::PTRACE_INTERRUPT, tid, 0)?;
        let deadline = Instant::now() + STOP;
        loop {
            // SAFETY: all zero is a `siginfo_t`.
            let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
            let id = libc::id_t::try_from(tid).map_err(|_| io::ErrorKind::InvalidInput)?;
            // not WEXITED: whose child it is shall get its status
            let options = libc::WSTOPPED | libc::WNOHANG | libc::__WALL;
            // SAFETY: `info` outlives the call.
            if unsafe { libc::waitid(libc::P_PID, id, &raw mut info, options) } == -1 {
                return Err(io::Error::last_os_error());
            }
            // SAFETY: the kernel has written it, as of a child, or it is all zero still.
            let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
            if pid != 0 {
                // not the stop that was asked for, but one for a signal, which must not be lost
                if status >> 8 == 0 {
                    stopped.signal = status;
                }
                return Ok(stopped);
            }
            if Instant::now() >= deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            thread::sleep(PAUSE);
        }
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // it fails for one that has ended, or not stopped: that is let go when this thread ends
        let _ = request(libc::PTRACE_DETACH, self.tid, self.signal.into());
    }
}

fn request(what: libc::c_uint, tid: i32, data: c_long) -> io::Result<()> {
    // SAFETY: none of these requests reads or writes memory of this process.
    let done = unsafe { libc::ptrace(what, tid, ptr::null_mut::<c_void>(), data) };
    if done == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Executes a command under a filter, which is loaded as the last thing before. Returns only when that failed.
pub fn execute(mut command: Command, filter: &Program) -> io::Error {
    let filter: Vec<libc::sock_filter> = filter.instructions().iter().map(raw).collect();
    // SAFETY: between the two it makes one system call and touches memory that it owns.
    unsafe { command.pre_exec(move || load(&filter)) };
    command.exec()
}

fn load(filter: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel reads the program, which is alive, and keeps a copy.
    let done =
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    if done == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn raw(instruction: &Instruction) -> libc::sock_filter {
    let Instruction { code, jt, jf, k } = *instruction;
    libc::sock_filter { code, jt, jf, k }
}
