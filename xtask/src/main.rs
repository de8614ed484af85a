//! The project's own verbs. Each does its own set-up.

fn main() {}
