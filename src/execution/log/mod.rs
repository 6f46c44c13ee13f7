//! The event log of a run: one writer appends, any number of readers read, live or years later, at any speed, and all of
//! them read the same. For the driver of a run, for those who follow it and for history. It refuses to know processes,
//! wires and stores.
//!
//! ```text
//! Writer ──▶ tail (memory) ──▶ Reader, Reader, …        live: events go from the one to the others
//!              │ behind              ▲
//!              ▼                     │
//!            <xx>/<id>.log           │  late: frames say which bytes make up an event
//!            <xx>/<id>.out .err .tty ┘        the bytes lie as they were written
//! ```
//!
//! Appending waits neither for readers nor for the disk; [`Writer::ready`] is how a writer is held back. What is missing is
//! always said: by a stored event or, where the event itself is missing, by [`Item::Gap`].

mod assemble;
mod channel_reader;
mod core;
mod digest;
mod disk;
mod files;
pub mod frame;
mod index;
mod reader;
mod replay;
mod scan;
mod scribe;
mod spool;
mod state;
mod step;
mod tail;
mod writer;

#[cfg(test)]
mod tests;

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::command::OutputPolicy;
use super::event::{Channel, Cursor, EPOCH, Event};
use super::outcome::ChannelSummary;

pub use channel_reader::ChannelReader;
pub use index::{Checkpoint, Place};
pub use reader::Reader;
pub use spool::Spool;
pub use writer::Writer;

/// The reading side of a log: cheap to clone, holds no buffer and no open file.
#[derive(Clone, Debug)]
pub struct Log {
    core: Arc<core::Core>,
}

/// How much of a run is kept, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Recent events held in memory, bytes, counted by allocation. What waits for the disk comes on top. Default 256 KiB.
    pub memory_bytes: usize,
    /// Output kept over all channels, bytes. Default 4 GiB.
    pub output_bytes: u64,
    /// What happens when that is used up, or the disk fails. Default: the beginning is forgotten.
    pub policy: OutputPolicy,
}

/// What became of appended output. Its bytes are counted and digested whatever it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is kept.
    Stored,
    /// There is no room: older output was forgotten for it, or it is not kept, as the policy says.
    Dropping {
        /// It is the first time in this log.
        first: bool,
    },
    /// There is no room, and the policy says that the run is to be ended. It is not kept.
    LimitReached,
}

/// Where to begin to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// With the first event.
    Start,
    /// With what happens from now on.
    Now,
    /// Behind this event.
    Cursor(Cursor),
    /// With the events that hold these bytes, in the order of [`Channel::ALL`]. Notes before the first of them are left out.
    Offsets([u64; 3]),
    /// With the last so many bytes of output, over all channels. Notes before them are left out.
    TailBytes(u64),
}

/// How to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadOptions {
    /// Output of other channels is skipped; `None`, the default, is all of them.
    pub channels: Option<Vec<Channel>>,
    /// Output of one channel that lies together is joined up to so many bytes, and what is longer is split. Default 64 KiB.
    pub max_output_bytes: usize,
    /// [`LogError::OutOfRange`] or [`LogError::Corrupt`] where there would be a gap. Default: false.
    pub strict: bool,
}

/// What a reader gets.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// An event. Of output that joins several events it has the number of the last and the time of the first; of output that
    /// is split, all parts but the last have the number of the event before: resuming there brings the whole again.
    Event(Event),
    /// Events are missing: a `Note::Gap` that is not itself stored, with the number of the last one missing.
    Gap(Event),
    /// What was there when reading began has been read. Comes exactly once.
    Live,
    /// Nothing will ever follow.
    End,
}

/// Why a log cannot be read or opened.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// There is no such log.
    #[error("log does not exist")]
    NotFound,
    /// There is a log of this name already.
    #[error("log exists")]
    Exists,
    /// The log was sealed: there is nothing to recover, load it.
    #[error("log is already sealed")]
    Sealed,
    /// What was asked for is not there, or not any more.
    #[error("the log holds events {} to {}", .valid.events.0, .valid.events.1)]
    OutOfRange {
        /// What is there.
        valid: Valid,
    },
    /// The log is damaged.
    #[error("log is damaged")]
    Corrupt,
    /// The disk.
    #[error("read the log")]
    Io(#[from] io::Error),
}

/// What a log holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Valid {
    /// The first event behind which nothing has been forgotten, and the newest event; 1 and 0 in an empty log.
    pub events: (u64, u64),
    /// The bytes of each channel that can be read, in the order of [`Channel::ALL`].
    pub offsets: [Range<u64>; 3],
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        LogConfig { memory_bytes: 256 << 10, output_bytes: 4 << 30, policy: OutputPolicy::DropOldest }
    }
}

impl LogConfig {
    /// Output that is forgotten at a time, and what lies at most between two places of the index, bytes.
    fn step(&self) -> u64 {
        (self.output_bytes / 16).clamp(256, 1 << 20)
    }
}

impl Default for ReadOptions {
    fn default() -> ReadOptions {
        ReadOptions { channels: None, max_output_bytes: 64 << 10, strict: false }
    }
}

impl Log {
    /// The newest event; what comes later comes behind it.
    #[must_use]
    pub fn last(&self) -> Cursor {
        let mut state = self.core.state();
        state.tail.freeze(); // who resumes here must not miss what would have joined it
        Cursor { epoch: EPOCH, seq: state.tail.end().seq - 1 }
    }

    /// No event will follow.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.core.state().ending().is_some()
    }

    /// The disk's last error; `None` when all is well.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.core.state().failure().map(str::to_owned)
    }

    /// The channels that exist; with digests once the log is sealed and written.
    #[must_use]
    pub fn summaries(&self) -> Vec<ChannelSummary> {
        self.core.state().summaries(false)
    }

    /// A reader from there on.
    ///
    /// # Errors
    /// [`LogError::OutOfRange`] for a place in the future, and with `strict` for one that has been forgotten.
    pub fn read(&self, from: From, options: ReadOptions) -> Result<Reader, LogError> {
        Reader::new(Arc::clone(&self.core), from, options)
    }

    /// The raw bytes of one channel from `offset` on, at most `limit`, up to what is there now.
    ///
    /// # Errors
    /// [`LogError::OutOfRange`] for an offset in the future or one that has been forgotten.
    pub fn read_channel(&self, channel: Channel, offset: u64, limit: Option<u64>) -> Result<ChannelReader, LogError> {
        ChannelReader::new(self, channel, offset, limit)
    }
}
