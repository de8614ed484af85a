//! Leave-one-out: which entries of a profile its tests can do without.
//!
//! Pure: `entry` says what can be left out, `prior` what is likely to be missed by nobody, `made` what a run used, `search` which run to make next and what follows from
//! those that were made, `outcome` what becomes of the profile. Nothing here runs anything.

mod bits;
mod entry;
mod made;
mod outcome;
mod prior;
mod search;
mod state;

pub use entry::{Candidate, Entry, Kept, Standing, Wanted, candidates, without};
pub use made::made;
pub use outcome::{Judged, Outcome, Verdict, last_line, minimised};
pub use search::{Left, Settings, Step, left, next, plan};
pub use state::{Fingerprint, MAX_OUTPUT, Run, SCHEMA_VERSION, State};
