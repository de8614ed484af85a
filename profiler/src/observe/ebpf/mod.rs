//! The eBPF observer: the only code that names aya.
//!
//! `attach` is the ordered table of what is attached; `types` reads what the running kernel has of it; `observer` arms and stops what `load` loads; `twins` are programs that are attached twice; `slots`
//! owns which cgroup belongs to which target; `arguments` says which arguments are kept; `labels` where a target writes; `drain` turns maps into facts; `callers` tells real capability
//! checks from probes.

mod arguments;
mod attach;
mod callers;
mod doctor;
mod drain;
mod entries;
mod error;
mod files;
mod labels;
mod load;
mod misses;
mod observer;
mod slots;
mod stacks;
mod symbols;
mod twins;
mod types;
mod worker;

pub use attach::Way;
pub use doctor::checks;
pub use error::ObserveError;
pub use labels::Labels;
pub use observer::{Observer, Options};
pub use profiler_common::scope::Slot;
pub use slots::{Candidate, SlotKind};
pub use twins::Twins;
