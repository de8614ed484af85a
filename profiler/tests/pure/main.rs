//! The pure half by its contract: text in, model, policy, text out. No privileges, no I/O but the fixtures.

mod arguments;
mod audit;
mod conditions;
mod coverage;
mod diff;
mod evidence;
mod explain;
mod fuzz;
mod harden;
mod held;
mod ingest;
mod laws;
mod lint;
mod minimise;
mod narrow;
mod policy;
mod render;
mod schemas;
mod seccomp;
mod services;
mod settings;
mod usage;
