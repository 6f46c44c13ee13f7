//! The states of a run, and which control is possible in which state. Pure.
//!
//! ```text
//! Queued ─▶ Starting ─▶ Running ◀─▶ Pausing ─▶ Paused
//!    │          │          │            │         │
//!    │          │          ├────────────┴─────────┤
//!    │          │          ▼                      ▼
//!    │          │       Exited ◀────────────── Stopping
//!    ▼          ▼          │
//!    └──────────┴──────────┴──▶ Completed
//! ```

use serde::{Deserialize, Serialize};

/// Where a run is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum State {
    /// Waits for a slot.
    Queued,
    /// Is being spawned.
    Starting,
    /// Runs.
    Running,
    /// A pause takes effect.
    Pausing,
    /// Stands still.
    Paused,
    /// A cancel or timeout takes effect.
    Stopping,
    /// Reaped; output is drained.
    Exited,
    /// Over.
    Completed,
}

impl State {
    /// All of them, in the order of the protocol.
    pub const ALL: [State; 8] = [
        State::Queued,
        State::Starting,
        State::Running,
        State::Pausing,
        State::Paused,
        State::Stopping,
        State::Exited,
        State::Completed,
    ];

    /// The name used in filters and tables, for instance `RUNNING`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            State::Queued => "QUEUED",
            State::Starting => "STARTING",
            State::Running => "RUNNING",
            State::Pausing => "PAUSING",
            State::Paused => "PAUSED",
            State::Stopping => "STOPPING",
            State::Exited => "EXITED",
            State::Completed => "COMPLETED",
        }
    }
}
