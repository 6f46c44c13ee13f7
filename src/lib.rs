//! cc-executor runs commands for other programs and never loses a byte, a process or a result.

pub mod api;
pub mod cli;
pub mod config;
pub mod execution;
pub mod history;
pub mod json;
pub mod os;
pub mod proto;
pub mod server;
pub mod shutdown;
pub mod store;
pub mod supervisor;
pub mod telemetry;
