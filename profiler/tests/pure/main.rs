//! The pure half by its contract: text in, model, policy, text out. No privileges, no I/O but the fixtures.

mod diff;
mod evidence;
mod ingest;
mod laws;
mod policy;
mod render;
mod seccomp;
