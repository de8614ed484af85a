//! What two policies decide differently.
//!
//! Owns the comparison: by ABI and call, exactly for every argument, and by capability and setting. Each
//! difference says whether it lets more pass, how risky that is, and who needs it. It does not know where the two came
//! from, and formats nothing: `report` does.

mod compare;
mod entry;
mod gate;
mod hardening;
mod regions;
mod risk;
mod side;

pub use compare::{diff, gone};
pub use entry::{Change, Diff, Entry, Kind, Subject};
pub use gate::{Allowed, Allowlist, Date, FailOn, Gate, Verdict};
pub use regions::{Comparison, Extent, Relation, compare};
pub use side::{Grants, Side, Users};
