//! The `cc-executor` binary.

fn main() {}
