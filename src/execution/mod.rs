//! The life of one command.

pub mod clock;
pub mod command;
pub mod driver;
pub mod event;
pub mod handle;
pub mod input;
pub mod launch;
pub mod log;
pub mod outcome;
pub mod state;
pub mod verdict;

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use command::Command;
use event::Cursor;
use outcome::{ChannelSummary, Outcome};
use state::State;

/// The name of a run, chosen by the client or made here: 1 to 128 of `[A-Za-z0-9._:-]`, beginning with a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ExecutionId(String);

/// A text that is no [`ExecutionId`].
#[derive(Debug, thiserror::Error)]
#[error("must be 1 to 128 of [A-Za-z0-9._:-], beginning with a letter or digit")]
pub struct InvalidId;

impl ExecutionId {
    /// A new one that sorts by time.
    #[must_use]
    pub fn generate() -> ExecutionId {
        ExecutionId(uuid::Uuid::now_v7().to_string())
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ExecutionId {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<ExecutionId, InvalidId> {
        let fits = (1..=128).contains(&text.len())
            && text.as_bytes()[0].is_ascii_alphanumeric()
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte));
        if fits { Ok(ExecutionId(text)) } else { Err(InvalidId) }
    }
}

impl FromStr for ExecutionId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<ExecutionId, InvalidId> {
        ExecutionId::try_from(text.to_owned())
    }
}

impl From<ExecutionId> for String {
    fn from(id: ExecutionId) -> String {
        id.0
    }
}

impl fmt::Display for ExecutionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a process tree is held together, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Containment {
    /// A cgroup and an init process.
    Cgroup,
    /// An init process.
    Shim,
    /// A process group and a search for the marker.
    Group,
}

/// A run as it is at one moment, without secrets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its id.
    pub id: ExecutionId,
    /// What it runs, redacted, defaults filled in.
    pub command: Command,
    /// Where it is in its life.
    pub state: State,
    /// From 1, while queued.
    pub queue_position: Option<u32>,
    /// Accepted.
    pub created: Timestamp,
    /// Spawned.
    pub started: Option<Timestamp>,
    /// Reaped.
    pub exited: Option<Timestamp>,
    /// Sealed.
    pub completed: Option<Timestamp>,
    /// Of the command's own process.
    pub pid: Option<u32>,
    /// How its tree is held together.
    pub containment: Option<Containment>,
    /// The newest event.
    pub last_cursor: Cursor,
    /// Output so far.
    pub channels: Vec<ChannelSummary>,
    /// The next offset wanted, while input is open.
    pub stdin_offset: Option<u64>,
    /// Clients that follow it.
    pub watchers: u32,
    /// Set exactly when the state is [`State::Completed`].
    pub outcome: Option<Outcome>,
}
