//! What happens to a run, in one total order.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Containment;
use super::command::{EffectiveTimeout, Limits};
use super::outcome::{Ending, Outcome};
use super::state::State;

/// A place in a run's log: resuming after it delivers what comes behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Cursor {
    /// Grows when another owner continues the log; 1 until then.
    pub epoch: u64,
    /// The event's number, from 1; 0 is before the first.
    pub seq: u64,
}

/// The only epoch there is until logs can change owners.
pub const EPOCH: u64 = 1;

impl Cursor {
    /// The place of event `seq`.
    #[must_use]
    pub fn at(seq: u64) -> Cursor {
        Cursor { epoch: EPOCH, seq }
    }
}

/// One entry of a run's log.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its number, from 1 without holes.
    pub seq: u64,
    /// When it happened.
    pub time: Timestamp,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum EventKind {
    /// The run wrote something.
    Output {
        /// Where.
        channel: Channel,
        /// The offset of the first byte.
        offset: u64,
        /// The bytes.
        data: Bytes,
    },
    /// Anything else.
    Note(Note),
}

/// An event without output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Note {
    /// It waits for a slot.
    Queued {
        /// From 1.
        position: u32,
    },
    /// The process runs.
    Started {
        /// Its process number.
        pid: u32,
        /// How its tree is held together.
        containment: Containment,
        /// The clocks in force.
        timeouts: Vec<EffectiveTimeout>,
        /// The limits in force.
        limits: Limits,
    },
    /// It changed its state.
    StateChanged {
        /// Before.
        from: State,
        /// After.
        to: State,
        /// Why; may be empty.
        reason: String,
        /// Who.
        actor: Actor,
    },
    /// Something a caller may want to act on.
    Warning {
        /// What.
        kind: WarningKind,
        /// One sentence.
        message: String,
        /// What is left of the clock concerned.
        remaining: Option<Duration>,
    },
    /// Bytes are missing here.
    Gap(Gap),
    /// The process has been reaped.
    Exited {
        /// How.
        ending: Ending,
        /// Channels somebody still holds open.
        open_channels: Vec<Channel>,
    },
    /// The end.
    Completed(Box<Outcome>),
}

/// Who changed a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Actor {
    /// A caller.
    Client,
    /// A clock.
    Timeout,
    /// The server.
    Server,
    /// The process itself.
    Process,
}

/// What a warning is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WarningKind {
    /// A run or wall timeout is near.
    TimeoutNear,
    /// An idle timeout is near.
    Idle,
    /// Output is dropped or held back.
    OutputLimit,
    /// The spool cannot be written.
    Spool,
    /// Processes outlived the command.
    Leak,
    /// A pause did not reach every process.
    PauseIncomplete,
    /// The server will stop.
    ServerStopping,
}

/// Something missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Missing events, first and last, where events are missing.
    pub events: Option<(u64, u64)>,
    /// Missing bytes.
    pub ranges: Vec<(Channel, Range<u64>)>,
    /// Why.
    pub reason: GapReason,
}

/// Why something is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapReason {
    /// The output policy.
    OutputLimit,
    /// The disk.
    SpoolFailed,
    /// A checksum.
    Corrupt,
    /// The server was lost.
    ServerLost,
}

/// A stream of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// Standard output, or both when merged.
    Stdout,
    /// Standard error.
    Stderr,
    /// The pseudo-terminal.
    Terminal,
}

impl Channel {
    /// All of them.
    pub const ALL: [Channel; 3] = [Channel::Stdout, Channel::Stderr, Channel::Terminal];

    /// Its place in [`Channel::ALL`].
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Channel::Stdout => 0,
            Channel::Stderr => 1,
            Channel::Terminal => 2,
        }
    }
}
