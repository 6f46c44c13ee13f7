//! cc-executor runs commands for other programs and never loses a byte, a process or a result.
//!
//! A request comes in by [`api`], is admitted and lived by [`supervisor`], whose one task for each run drives
//! [`execution`]: a process held by [`os`], and an event log that any number of watchers read. What became of it is
//! remembered by [`history`], kept by [`store`]. [`server`] wires these together; [`config`], [`cli`] and `main` are
//! what a person meets. ARCHITECTURE.md has the picture, the ranks and the invariants.
//!
//! | rank | module | may import |
//! |---|---|---|
//! | 0 | [`os`], [`proto`], [`shutdown`], [`telemetry`] | nothing of ours |
//! | 1 | [`execution`], [`json`] | rank 0 |
//! | 3 | [`history`] | up to rank 1 |
//! | 5 | [`supervisor`] | up to rank 4, not the wire |
//! | 7 | [`api`], [`store`] | up to rank 6 |
//! | 8–10 | [`server`], [`config`], [`cli`] | all below |

pub mod os;
pub mod proto;
pub mod shutdown;
pub mod telemetry;

pub mod execution;
pub mod json;

pub mod history;
pub mod supervisor;

pub mod api;
pub mod store;

pub mod cli;
pub mod config;
pub mod server;
