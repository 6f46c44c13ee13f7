//! cc-executor runs commands for other programs and never loses a byte, a process or a result.

pub mod cli;
pub mod config;
pub mod execution;
pub mod history;
pub mod proto;
pub mod server;
pub mod shutdown;
pub mod supervisor;
pub mod telemetry;
