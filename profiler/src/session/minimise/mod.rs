//! Leave-one-out on real tests: `search` makes the runs that the model asks for, `trial` is one run under enforcement,
//! `original` the container that is copied.

mod original;
mod search;
mod trial;

pub use original::Original;
pub use search::{Minimise, MinimiseError, Progress, Trial, Tried};
pub use trial::Enforcing;
