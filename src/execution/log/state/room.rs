//! The room for output, and what happens when it is used up. Pure.

use bytes::Bytes;
use jiff::Timestamp;

use super::State;
use crate::execution::command::OutputPolicy;
use crate::execution::event::{Channel, Gap, GapReason, Note};
use crate::execution::log::Appended;
use crate::execution::log::frame::OUTPUT_FRAME_BYTES;
use crate::execution::log::index::{Checkpoint, Place};

/// The log file may be as large as this part of the room for output, and at least [`LEAST_LOG_BYTES`].
const LOG_SHARE: u64 = 16;
const LEAST_LOG_BYTES: u64 = 1 << 20;
impl State {
    /// How many more bytes may be stored.
    pub(super) fn room(&self) -> u64 {
        match self.config.policy {
            OutputPolicy::DropOldest | OutputPolicy::Block => u64::MAX,
            OutputPolicy::DropNewest | OutputPolicy::Cancel => self.left(),
        }
    }

    /// Whether nothing more may be stored and nothing is forgotten for it.
    pub(in crate::execution::log) fn is_full(&self) -> bool {
        self.config.policy == OutputPolicy::Block && self.left() == 0
    }

    pub(super) fn left(&self) -> u64 {
        let end = self.tail.end();
        let is_full = self.is_discarding() || !self.fits(&Place::START, u64::MAX, self.log_bytes());
        if is_full { 0 } else { self.config.output_bytes.saturating_sub(end.output_bytes()) }
    }

    /// Whether output has been forgotten or not kept for want of room.
    pub(in crate::execution::log) fn has_dropped(&self) -> bool {
        self.is_discarding() || self.trimmed != Place::START
    }

    fn is_discarding(&self) -> bool {
        self.channels.iter().any(|channel| channel.dropped > 0)
    }

    /// The most the log file may take, bytes.
    fn log_bytes(&self) -> u64 {
        (self.config.output_bytes / LOG_SHARE).max(LEAST_LOG_BYTES)
    }

    /// Forgets the oldest output when there is too much.
    pub(super) fn trim(&mut self) -> Appended {
        let (log_bytes, output_bytes) = (self.log_bytes(), self.config.output_bytes);
        let fits = self.fits(&self.trimmed, output_bytes, log_bytes);
        if self.config.policy != OutputPolicy::DropOldest || fits {
            return Appended::Stored;
        }
        // More than needed, so that it is rare.
        let goal = (output_bytes.saturating_sub(self.config.step()), log_bytes / 16 * 15);
        let is_enough = |place: &Place| self.fits(place, goal.0, goal.1);
        let first = self.trimmed == Place::START;
        self.trimmed = self
            .index
            .first_behind(|checkpoint| !is_enough(&checkpoint.place))
            .map(|checkpoint| checkpoint.place)
            .or_else(|| self.tail.find(is_enough))
            .unwrap_or_else(|| self.tail.end());
        self.tail.freeze(); // or bytes could join an event that is dropped
        Appended::Dropping { first }
    }

    /// Whether what lies behind `place` takes no more than this.
    fn fits(&self, place: &Place, output_bytes: u64, log_bytes: u64) -> bool {
        let end = self.tail.end();
        end.output_bytes().saturating_sub(place.output_bytes()) <= output_bytes
            && end.outputs().saturating_sub(place.outputs()).saturating_mul(OUTPUT_FRAME_BYTES) <= log_bytes
    }

    /// Takes the digest of output and nothing else.
    pub(super) fn discard(&mut self, channel: Channel, data: Bytes) -> Appended {
        let first = !self.is_discarding();
        self.channel(channel).dropped += data.len() as u64;
        self.pending += data.len();
        self.discarded.push((channel, data));
        match self.config.policy {
            OutputPolicy::Cancel => Appended::LimitReached,
            _ => Appended::Dropping { first },
        }
    }

    pub(super) fn announce_dropped(&mut self, now: Timestamp) {
        let mut ranges = Vec::new();
        for channel in Channel::ALL {
            let stored = self.tail.end().offsets[channel.index()];
            let state = self.channel(channel);
            if state.dropped > state.announced {
                ranges.push((channel, stored + state.announced..stored + state.dropped));
                state.announced = state.dropped;
            }
        }
        if !ranges.is_empty() {
            self.tail.push_note(Note::Gap(Gap { events: None, ranges, reason: GapReason::OutputLimit }), now);
        }
    }

    /// What of a log file that has grown too large can be given up: only what is before the trimmed place.
    pub(super) fn forgotten(&self) -> Option<Checkpoint> {
        let (start, end) = (self.index.start(), self.index.end());
        let goal = end.position.saturating_sub(self.log_bytes() / 4 * 3);
        let is_large = end.position - start.position > self.log_bytes();
        let place = self
            .index
            .last_before(|checkpoint| checkpoint.position <= goal && checkpoint.place.seq <= self.trimmed.seq);
        (is_large && place.position > start.position).then_some(place)
    }
}
