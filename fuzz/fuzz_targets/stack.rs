//! `Parser::Stack` with any bytes.
#![no_main]

use profiler::fuzz::{Parser, run};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| run(Parser::Stack, bytes));
