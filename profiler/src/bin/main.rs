//! Arguments, output and exit codes; nothing else.

fn main() {}
