//! Why observing failed, in words for whoever has to mend it.

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
