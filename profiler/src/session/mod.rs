//! Orchestration: a plan goes in, events come out while it runs, recordings at the end.
//!
//! `command`, `containers` and `cgroups` know their kind of target; all drive one `recorder`, which owns the
//! observer. Nothing here formats text for people or decides policy.

mod cgroups;
mod child;
mod command;
mod confine;
mod containers;
mod ending;
mod error;
mod event;
mod exits;
mod followed;
mod labels;
mod mark;
pub mod minimise;
mod origin;
mod recorder;
mod run;
mod seal;
mod settings;
mod signals;
mod socket;
pub mod store;
mod tail;
mod usage;
pub mod verify;
mod wanted;
mod warden;

pub use cgroups::{CgroupPlan, Named, record_cgroup};
pub use child::enter;
pub use command::record_command;
pub use confine::Confinement;
pub use containers::{ContainerPlan, record_containers};
pub use error::SessionError;
pub use event::Event;
pub use labels::{Label, LabelError, Request};
pub use mark::{MarkError, mark};
pub use origin::Files;
pub use recorder::{Outcome, Plan, Recorded};
pub use seal::Seal;
pub use tail::Tail;
pub use wanted::{Stack, Whom};
pub use warden::warden;
