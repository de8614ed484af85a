//! What goes wrong ends in one clear error with a hint, a documented status, and nothing half done.

pub mod refuse;
