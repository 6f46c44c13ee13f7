//! Where in a log what is: places between events, and a sparse list of them with their position in the log file, so that
//! reading anywhere is a jump and a short walk. Pure.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::frame::HEADER;
use crate::execution::event::Channel;

/// A checkpoint at least every so many events.
const EVERY_EVENTS: u64 = 256;

/// A place between two events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The number of the next event.
    pub seq: u64,
    /// The offset of the next byte of each channel, in the order of [`Channel::ALL`].
    pub offsets: [u64; 3],
    /// How many of the events before are not output.
    pub notes: u64,
}

/// A place, and where the next event's frame begins in the log file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The place.
    pub place: Place,
    /// Bytes of the log file before the frame.
    pub position: u64,
}

/// The part of a log that is on disk.
#[derive(Debug)]
pub(super) struct Index {
    /// Output between two checkpoints, bytes.
    step: u64,
    /// In order; never empty.
    checkpoints: Vec<Checkpoint>,
    end: Checkpoint,
}

impl Place {
    /// Before the first event.
    pub const START: Place = Place { seq: 1, offsets: [0; 3], notes: 0 };

    /// Output before it over all channels, bytes.
    #[must_use]
    pub fn output_bytes(&self) -> u64 {
        self.offsets.iter().fold(0, |sum, offset| sum.saturating_add(*offset))
    }

    /// Events of output before it.
    pub(super) fn outputs(&self) -> u64 {
        self.seq.saturating_sub(1).saturating_sub(self.notes)
    }

    /// Goes behind output that ends at `end`.
    pub(super) fn pass_output(&mut self, channel: Channel, end: u64) {
        self.seq = self.seq.saturating_add(1);
        self.offsets[channel.index()] = end;
    }

    /// Goes behind lost output, the last of which was event `last`.
    pub(super) fn pass_lost(&mut self, last: u64, ranges: &[Range<u64>; 3]) {
        self.seq = last.saturating_add(1);
        for (offset, range) in self.offsets.iter_mut().zip(ranges) {
            *offset = range.end.max(*offset);
        }
    }

    /// Goes behind a note.
    pub(super) fn pass_note(&mut self) {
        self.seq = self.seq.saturating_add(1);
        self.notes = self.notes.saturating_add(1);
    }
}

impl Checkpoint {
    /// The beginning of a log.
    pub(super) const START: Checkpoint = Checkpoint { place: Place::START, position: HEADER.len() as u64 };
}

impl Index {
    pub(super) fn new(step: u64) -> Index {
        Index { step, checkpoints: vec![Checkpoint::START], end: Checkpoint::START }
    }

    /// The first place that can be read.
    pub(super) fn start(&self) -> Checkpoint {
        self.checkpoints[0]
    }

    /// Behind the last event.
    pub(super) fn end(&self) -> Checkpoint {
        self.end
    }

    /// The index reaches up to `end` from now on, which is one frame, or one damaged region, further.
    pub(super) fn advance(&mut self, end: Checkpoint) {
        let last = self.checkpoints[self.checkpoints.len() - 1].place;
        let here = self.end.place;
        let is_far = here.output_bytes().saturating_sub(last.output_bytes()) >= self.step;
        if here.seq >= last.seq + EVERY_EVENTS || (is_far && here.seq > last.seq) {
            self.checkpoints.push(self.end);
        }
        self.end = end;
    }

    /// Forgets everything before `start`, which is a checkpoint of this log.
    pub(super) fn forget_before(&mut self, start: Checkpoint) {
        self.checkpoints.retain(|checkpoint| checkpoint.place.seq > start.place.seq);
        self.checkpoints.insert(0, start);
    }

    /// The last checkpoint for which `is_before` holds, which holds for the first ones and then no more.
    pub(super) fn last_before(&self, is_before: impl Fn(&Checkpoint) -> bool) -> Checkpoint {
        let behind = self.checkpoints.partition_point(is_before);
        self.checkpoints[behind.saturating_sub(1)]
    }

    /// The first checkpoint for which `is_before` does not hold.
    pub(super) fn first_behind(&self, is_before: impl Fn(&Checkpoint) -> bool) -> Option<Checkpoint> {
        self.checkpoints.get(self.checkpoints.partition_point(is_before)).copied()
    }

    /// The boundaries of the blocks from that of event `seq` on, until they hold `enough` bytes of output;
    /// at least one block.
    pub(super) fn blocks(&self, seq: u64, enough: u64) -> Vec<Checkpoint> {
        let first = self.checkpoints.partition_point(|checkpoint| checkpoint.place.seq <= seq).saturating_sub(1);
        let begin = self.checkpoints[first].place.output_bytes();
        let mut blocks = Vec::new();
        for checkpoint in self.checkpoints[first..].iter().chain([&self.end]) {
            blocks.push(*checkpoint);
            if blocks.len() > 1 && checkpoint.place.output_bytes().saturating_sub(begin) >= enough {
                break;
            }
        }
        blocks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index_of(events: u64, bytes_each: u64, step: u64) -> Index {
        let mut index = Index::new(step);
        for _ in 0..events {
            let mut next = index.end();
            let end = next.place.offsets[0] + bytes_each;
            next.place.pass_output(Channel::Stdout, end);
            next.position += 10;
            index.advance(next);
        }
        index
    }

    #[test]
    fn checkpoints_are_sparse_in_bytes_and_in_events() {
        assert_eq!(index_of(10_000, 1, 1 << 20).checkpoints.len(), 10_000 / 256 + 1);
        assert_eq!(index_of(1_000, 1_000, 100_000).checkpoints.len(), 10);
    }

    #[test]
    fn blocks_cover_what_is_asked_and_no_more() {
        let index = index_of(1_000, 1_000, 100_000);
        let blocks = index.blocks(250, 150_000);
        assert_eq!(blocks.iter().map(|block| block.place.seq).collect::<Vec<_>>(), [201, 301, 401]);
        assert_eq!(index.blocks(1_000, 1).last(), Some(&index.end()));
    }

    #[test]
    fn what_is_forgotten_is_not_found_again() {
        let mut index = index_of(1_000, 1_000, 100_000);
        let start = index.last_before(|checkpoint| checkpoint.place.seq <= 350);
        index.forget_before(start);
        assert_eq!(index.start(), start);
        assert_eq!(index.last_before(|checkpoint| checkpoint.place.seq <= 5), start);
        assert_eq!(index.blocks(350, 1)[0], start);
    }
}
