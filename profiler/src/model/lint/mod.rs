//! The traps of seccomp files, found: what an engine, a runtime or libseccomp takes differently from how it reads.
//!
//! Owns the catalogue and the checks. Takes a file that was read and the contexts it may be loaded in; reads no file
//! and changes none: a fix is an edit that the caller applies. Each trap has a section in docs/lint.md.

mod calls;
mod capabilities;
mod catalogue;
mod compatible;
mod finding;
mod keys;
pub mod libseccomp;
mod names;
mod rules;
mod run;

pub use catalogue::{Lint, Severity};
pub use finding::{Edit, Finding};
pub use run::{Subject, lint};
