//! What is remembered: the record of a run, and the port through which stores keep it.

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::execution::command::EffectiveTimeout;
use crate::execution::outcome::Cause;
use crate::execution::{ExecutionId, Snapshot};

/// A run as it is remembered. Everything a signed receipt will need.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The run; in its final state once it has ended, as accepted before.
    pub snapshot: Snapshot,
    /// SHA-256 of the command and options as requested.
    pub spec_sha256: [u8; 32],
    /// The clocks in force.
    pub timeouts: Vec<EffectiveTimeout>,
    /// The machine.
    pub node: String,
    /// Version and build of the server.
    pub build: String,
    /// The process of the server that owns, or owned, the run.
    pub instance: String,
    /// When record and output are removed; set when the run ends.
    pub expires: Option<Timestamp>,
}
