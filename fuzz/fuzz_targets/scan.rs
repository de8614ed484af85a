//! `Parser::Scan` with any bytes.
#![no_main]

use profiler::fuzz::{Parser, run};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| run(Parser::Scan, bytes));
