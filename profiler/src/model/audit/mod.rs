//! How a container is confined, held against a checklist: settings, image and what a recording could tighten.
//!
//! Owns the facts that are looked at, the catalogue, and the checks, a file a concern. Pure: who gathers the facts is
//! `target` (an engine) or `ingest` (a compose file, a manifest). What is not known is no pass: see [`Unknown`].

mod access;
mod capabilities;
mod catalogue;
mod facts;
mod files;
mod image;
pub mod kubernetes;
pub mod pod;
mod resources;
mod run;
mod scan;
mod seccomp;

pub use catalogue::{Check, Severity};
pub use facts::{
    Contents, Facts, Filter, Image, Known, Layer, Limits, List, Mount, Namespaces, Packages, Port,
    PrivilegedFile, Process, Reservations, Source, Ulimit, Unknown, User, Variable, behind_volume,
    docker_bool, health_check, is_limit,
};
pub use run::{Finding, Inputs, Machine, State, audit, pod_findings, unread_finding};
pub use scan::{Scan, Vulnerability};
