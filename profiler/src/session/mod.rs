//! Orchestration: a plan goes in, events come out while it runs, recordings at the end.
//!
//! `command` and `containers` know their kind of target; both drive one `recorder`, which owns the
//! observer. Nothing here formats text for people or decides policy.

mod child;
mod command;
mod containers;
mod error;
mod event;
mod exits;
mod followed;
mod labels;
mod mark;
mod recorder;
mod run;
mod signals;
mod socket;
pub mod store;

pub use child::enter;
pub use command::record_command;
pub use containers::{ContainerPlan, record_containers};
pub use error::SessionError;
pub use event::Event;
pub use labels::{Label, LabelError, Request};
pub use mark::{MarkError, mark};
pub use recorder::{Outcome, Plan, Recorded};
