//! Recordings and checks for people and machines: formatting only.
//!
//! Takes data, writes text; examines nothing, reads no file, decides no colour. Styles are written always and
//! are taken out by the stream of the binary where they are not wanted. All text that others control goes through
//! [`escape`].

pub mod audit;
pub mod coverage;
pub mod diff;
pub mod doctor;
pub mod escape;
pub mod explain;
pub mod facts;
pub mod harden;
pub mod lint;
pub mod minimise;
mod next;
pub mod progress;
pub mod quick;
pub mod schema;
pub mod static_check;
mod style;
pub mod summary;
pub mod surface;
mod text;
pub mod verify;
mod warning;
