//! What a reader does next. Pure: it looks at the state and says so.

use super::assemble::{Missing, Piece};
use super::disk::BATCH_BYTES;
use super::index::{Checkpoint, Place};
use super::state::{Ending, State};
use super::tail::{Content, Entry};
use crate::execution::event::GapReason;

/// So many events are taken out of memory at once.
const EVENTS: usize = 256;

/// What a reader does next.
#[derive(Debug)]
pub(super) enum Step {
    /// Take these, and go on with event `next`.
    Take { pieces: Vec<Piece>, next: u64 },
    /// Read these blocks from the disk; output before event `trimmed` is gone.
    Replay { blocks: Vec<Checkpoint>, trimmed: u64 },
    /// Everything there was when reading began has been read.
    Live,
    /// Nothing will come.
    End { is_lost: bool },
    /// Wait for the log to grow.
    Wait,
}

impl State {
    /// What a reader does that wants event `next`, at most `most` bytes of output at once, and that began when event `head`
    /// was the newest; `None` when it has been told that it is live.
    pub(super) fn step(&mut self, next: u64, head: Option<u64>, most: usize) -> Step {
        if head.is_some_and(|head| next > head) {
            return Step::Live;
        }
        if next >= self.tail.end().seq {
            return match self.ending() {
                Some(ending) => Step::End { is_lost: matches!(ending, Ending::Lost) },
                None => Step::Wait,
            };
        }
        if next < self.tail.start().seq { self.disk_step(next) } else { self.memory_step(next, head, most) }
    }

    fn disk_step(&self, next: u64) -> Step {
        let start = self.index.start().place;
        if next < start.seq {
            return dropped(Place { seq: next, ..Place::START }, start);
        }
        let trimmed = self.trimmed();
        let blocks = self.index.blocks(next, BATCH_BYTES as u64);
        let here = blocks[0].place;
        if here.seq == next {
            // Where everything is output and gone there is nothing to read.
            let is_gone = |place: &Place| place.seq <= trimmed.seq && place.notes == here.notes;
            let behind =
                self.index.last_before(|checkpoint| is_gone(&checkpoint.place) || checkpoint.place.seq <= next);
            if is_gone(&behind.place) && behind.place.seq > next {
                return dropped(here, behind.place);
            }
        }
        Step::Replay { blocks, trimmed: trimmed.seq }
    }

    fn memory_step(&mut self, next: u64, head: Option<u64>, most: usize) -> Step {
        self.tail.freeze();
        let trimmed = self.trimmed().seq;
        let mut step = (Vec::new(), next);
        let mut bytes = 0;
        for entry in self.tail.from(next).take(EVENTS) {
            if bytes >= most || head.is_some_and(|head| entry.first() > head) {
                break;
            }
            bytes += entry.output_bytes();
            step.0.push(piece(entry, next, trimmed));
            step.1 = entry.seq + 1;
        }
        Step::Take { pieces: step.0, next: step.1 }
    }
}

/// All output between two places is gone.
fn dropped(from: Place, to: Place) -> Step {
    let mut ranges = [const { 0..0 }; 3];
    for (index, range) in ranges.iter_mut().enumerate() {
        *range = from.offsets[index]..to.offsets[index];
    }
    let missing = Missing {
        seq: to.seq - 1,
        time: None,
        events: Some((from.seq, to.seq - 1)),
        ranges,
        reason: GapReason::OutputLimit,
    };
    Step::Take { pieces: vec![Piece::Missing(missing)], next: to.seq }
}

fn piece(entry: &Entry, next: u64, trimmed: u64) -> Piece {
    let (seq, time) = (entry.seq, entry.time);
    match &entry.content {
        Content::Note(note) => Piece::Note { seq, time, note: (**note).clone() },
        Content::Lost { first, ranges } => Piece::Missing(Missing {
            seq,
            time: Some(time),
            events: Some(((*first).max(next), seq)),
            ranges: ranges.clone(),
            reason: GapReason::SpoolFailed,
        }),
        Content::Output { channel, offset, data } if seq < trimmed => {
            let mut ranges = [const { 0..0 }; 3];
            ranges[channel.index()] = *offset..offset + data.len() as u64;
            Piece::Missing(Missing {
                seq,
                time: Some(time),
                events: Some((seq, seq)),
                ranges,
                reason: GapReason::OutputLimit,
            })
        }
        Content::Output { channel, offset, data } => {
            Piece::Output { events: (seq, seq), time, channel: *channel, offset: *offset, data: data.bytes() }
        }
    }
}
