//! What a fuzzer calls: each parser with any bytes, and what must hold of whatever it takes.

mod laws;

pub use laws::{PARSERS, Parser, run};
