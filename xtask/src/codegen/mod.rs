//! `cargo xtask codegen`: tables of the model, from the kernel's own headers.

mod calls;
mod constants;
mod package;
mod probe;
mod prototypes;
mod run;
mod sets;
mod supplement;

pub use run::run;
