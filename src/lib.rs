//! cc-executor runs commands for other programs and never loses a byte, a process or a result.

pub mod os;
