//! Verification: a target is run under a policy, the tests are run against it, and everything that the filter refuses is
//! recorded, while it is looked up on the running threads that the filter is in force.
//!
//! `target` puts containers under a policy and everything back; `watch` looks; `run` joins both with the recorder,
//! within bounds when it is one of many. What the outcome means is `model::verdict`'s.

mod compose;
mod policy;
mod run;
mod target;
mod watch;

pub use policy::Policy;
pub use run::{Bounds, Confined, Verification, Verified, bounded, verify};
pub use target::{Enforced, Place, Start};
pub use watch::{Evidence, Fault, InForce, Subject, Watch};
