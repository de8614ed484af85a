//! What seccomp files decide: `model::effective` against libseccomp.

mod bpf;
pub mod differential;
