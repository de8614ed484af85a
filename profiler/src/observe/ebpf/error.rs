//! Why observing failed, in words for whoever has to mend it.

use aya::{EbpfError, programs::ProgramError};
use thiserror::Error;

use crate::kernel::btf::BtfError;

/// Failures of the eBPF observer.
#[derive(Debug, Error)]
pub enum ObserveError {
    /// The kernel has no BTF.
    #[error(
        "cannot read `{path}`\nhint: recording needs a kernel built with CONFIG_DEBUG_INFO_BTF=y; see `profiler doctor`"
    )]
    NoBtf {
        /// Where it was looked for.
        path: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The kernel's BTF is not understood.
    #[error(
        "cannot read the types of this kernel\nhint: attach the output of `profiler doctor` to a bug report"
    )]
    Btf(#[from] BtfError),
    /// aya could not read the kernel's BTF.
    #[error(
        "cannot read the types of this kernel\nhint: attach the output of `profiler doctor` to a bug report"
    )]
    AyaBtf(#[from] aya::BtfError),
    /// A needed field does not exist.
    #[error(
        "this kernel is not supported: `{of}` has no field `{field}`\nhint: attach the output of `profiler doctor` to a bug report"
    )]
    NoField {
        /// Struct.
        of: &'static str,
        /// Field path.
        field: &'static str,
    },
    /// A needed tracepoint does not exist.
    #[error(
        "this kernel is not supported: it has no tracepoint `{0}`\nhint: see `profiler doctor`"
    )]
    NoTracepoint(&'static str),
    /// The programs are loaded in threads of their own.
    #[error(
        "no thread to load an eBPF program in\nhint: raise the limit of processes: `ulimit -u`, `pids.max`, TasksMax"
    )]
    NoThread(#[source] std::io::Error),
    /// bpf(2) is not allowed.
    #[error(
        "loading eBPF programs is not permitted\nhint: run as root, or with CAP_BPF and CAP_PERFMON: `sudo profiler ...`; see `profiler doctor`"
    )]
    NotPermitted(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A descriptor could not be had.
    #[error("cannot have another file descriptor\nhint: ulimit -n 1024")]
    Descriptor(#[source] std::io::Error),
    /// The object does not load.
    #[error("cannot load the eBPF object")]
    Load(#[source] aya::EbpfError),
    /// A program does not load or attach.
    #[error("cannot attach `{program}`\nhint: see `profiler doctor`")]
    Attach {
        /// Program name.
        program: &'static str,
        /// The cause, with the verifier's log.
        #[source]
        source: Box<aya::programs::ProgramError>,
    },
    /// A map operation failed.
    #[error("cannot use the eBPF map `{name}`")]
    Map {
        /// Map name.
        name: &'static str,
        /// The cause.
        #[source]
        source: aya::maps::MapError,
    },
    /// The kernel side has no room for the path of a cgroup.
    #[error("the path of the cgroup is too long to be waited for\nhint: create it first")]
    LongPath,
    /// More targets than evidence slots.
    #[error("too many targets at once: there are {0} evidence slots")]
    NoSlot(u32),
}

/// Why a way was refused, in a few words: the system call's own, where one failed.
pub fn reason(error: &ProgramError) -> String {
    /// The kernel's own number for what the machine does not have.
    const ENOTSUPP: i32 = 524;
    let io = match error {
        ProgramError::IOError(io) => io,
        ProgramError::SyscallError(call) => &call.io_error,
        _ => return error.to_string().lines().next().unwrap_or_default().to_owned(),
    };
    match io.kind() {
        std::io::ErrorKind::PermissionDenied => "not permitted".to_owned(),
        std::io::ErrorKind::NotFound => "this kernel offers none".to_owned(),
        _ if io.raw_os_error() == Some(ENOTSUPP) => "this kernel offers none".to_owned(),
        _ => io.to_string(),
    }
}

/// The error of loading an object.
pub fn load_error(error: EbpfError) -> ObserveError {
    if is_permission(&error) {
        ObserveError::NotPermitted(Box::new(error))
    } else {
        ObserveError::Load(error)
    }
}

/// The error of a program.
pub fn program_error(program: &'static str) -> impl Fn(ProgramError) -> ObserveError {
    move |source| {
        if is_permission(&source) {
            ObserveError::NotPermitted(Box::new(source))
        } else {
            ObserveError::Attach { program, source: Box::new(source) }
        }
    }
}

/// Whether EPERM or EACCES without a verifier log is at the bottom of an error.
fn is_permission(error: &(dyn std::error::Error + 'static)) -> bool {
    if let Some(ProgramError::LoadError { verifier_log, .. }) = error.downcast_ref()
        && !verifier_log.to_string().is_empty()
    {
        return false;
    }
    match error.downcast_ref::<std::io::Error>() {
        Some(io) => io.kind() == std::io::ErrorKind::PermissionDenied,
        None => error.source().is_some_and(is_permission),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_in_a_few_words() {
        let of = |number| reason(&ProgramError::IOError(std::io::Error::from_raw_os_error(number)));
        assert_eq!(of(1), "not permitted");
        assert_eq!([of(2), of(524)], ["this kernel offers none"; 2]);
        assert_eq!(reason(&ProgramError::UnexpectedProgramType), "unexpected program type");
    }
}
