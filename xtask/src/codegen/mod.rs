//! `cargo xtask codegen`: tables of the model, from the kernel's own headers, and what libseccomp knows of
//! them.

mod calls;
mod constants;
mod known;
mod package;
mod probe;
mod prototypes;
mod run;
mod sets;
mod supplement;

pub use run::run;
