//! What seccomp files decide: `model::effective` against libseccomp.

pub mod differential;
pub mod static_check;
