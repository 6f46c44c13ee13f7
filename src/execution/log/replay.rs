//! Reads events back from the disk and believes nothing that its checksum does not confirm. Everything here blocks.

use std::fs::File;
use std::io;
use std::ops::Range;

use bytes::Bytes;
use jiff::Timestamp;

use super::LogError;
use super::assemble::{Missing, Piece};
use super::files::{Files, Part, absent_is_none, read_range};
use super::frame::{Body, Frames, Remark};
use super::index::{Checkpoint, Place};
use crate::execution::event::{Channel, GapReason, Note};

/// What to read.
#[derive(Debug)]
pub(super) struct Replay {
    pub(super) files: Files,
    /// The boundaries of the blocks.
    pub(super) blocks: Vec<Checkpoint>,
    /// The first event.
    pub(super) next: u64,
    /// Output before this event is gone.
    pub(super) trimmed: u64,
    /// Channels whose output is wanted.
    pub(super) wanted: [bool; 3],
    /// Output is joined up to so many bytes.
    pub(super) most: usize,
    /// About so much output is enough, bytes.
    pub(super) enough: usize,
}

/// What was read.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) pieces: Vec<Piece>,
    /// The event to go on with.
    pub(super) next: u64,
}

/// What the frames say, or do not say.
#[derive(Clone, Debug, PartialEq)]
enum Found {
    Output(Stored),
    Note { seq: u64, time: Timestamp, note: Box<Note> },
    Missing(Missing),
}

/// An output event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stored {
    seq: u64,
    time: Timestamp,
    channel: Channel,
    offset: u64,
    length: u32,
    crc: u32,
}

impl Stored {
    fn range(&self) -> Range<u64> {
        self.offset..self.offset + u64::from(self.length)
    }

    fn missing(&self, reason: GapReason) -> Piece {
        let mut ranges = [const { 0..0 }; 3];
        ranges[self.channel.index()] = self.range();
        Piece::Missing(Missing {
            seq: self.seq,
            time: Some(self.time),
            events: Some((self.seq, self.seq)),
            ranges,
            reason,
        })
    }
}

impl Found {
    fn seq(&self) -> u64 {
        match self {
            Found::Output(stored) => stored.seq,
            Found::Note { seq, .. } => *seq,
            Found::Missing(missing) => missing.seq,
        }
    }
}

impl Replay {
    /// Reads until there is enough, or the blocks end.
    ///
    /// # Errors
    /// [`LogError::NotFound`] when the log has been removed, [`LogError::Io`].
    pub(super) fn read(self) -> Result<Batch, LogError> {
        let (first, last) = (self.blocks[0], self.blocks[self.blocks.len() - 1]);
        let log = absent_is_none(self.files.open(Part::Log))?.ok_or(LogError::NotFound)?;
        let frames = read_range(&log, first.position..last.position)?;
        let mut found = walk(&frames, first.place, last.place).into_iter().peekable();

        let mut reading = Reading { replay: &self, channels: [None, None, None], pieces: Vec::new(), bytes: 0 };
        while let Some(next) = found.next_if(|_| reading.bytes < self.enough) {
            match next {
                passed if passed.seq() < self.next => {}
                Found::Note { seq, time, note } => reading.pieces.push(Piece::Note { seq, time, note: *note }),
                Found::Missing(mut missing) => {
                    missing.events = missing.events.map(|(first, last)| (first.max(self.next), last));
                    reading.pieces.push(Piece::Missing(missing));
                }
                Found::Output(stored) if stored.seq < self.trimmed => {
                    reading.pieces.push(stored.missing(GapReason::OutputLimit));
                }
                Found::Output(stored) if !self.wanted[stored.channel.index()] => {}
                Found::Output(stored) => {
                    let mut run = vec![stored];
                    let mut end = stored.range().end;
                    let fits = |next: &Found, end| match next {
                        Found::Output(next) => {
                            next.channel == stored.channel
                                && next.offset == end
                                && next.range().end - stored.offset <= self.most.min(self.enough) as u64
                        }
                        Found::Note { .. } | Found::Missing(_) => false,
                    };
                    while let Some(Found::Output(next)) = found.next_if(|next| fits(next, end)) {
                        end = next.range().end;
                        run.push(next);
                    }
                    reading.run(&run)?;
                }
            }
        }
        let next = found.peek().map_or(last.place.seq, Found::seq);
        Ok(Batch { pieces: reading.pieces, next: next.max(self.next) })
    }
}

/// A replay under way.
struct Reading<'a> {
    replay: &'a Replay,
    channels: [Option<File>; 3],
    pieces: Vec<Piece>,
    bytes: usize,
}

impl Reading<'_> {
    /// Reads output that lies together.
    fn run(&mut self, run: &[Stored]) -> Result<(), LogError> {
        let (first, last) = (run[0], run[run.len() - 1]);
        let data = self.data(first.channel, first.offset..last.range().end)?;
        self.bytes += data.len();
        let of = |stored: &Stored| {
            let start = (stored.offset - first.offset) as usize;
            let whole = data.get(start..start + stored.length as usize)?;
            (crc32fast::hash(whole) == stored.crc).then(|| data.slice_ref(whole))
        };
        let output = |events, stored: &Stored, data| Piece::Output {
            events,
            time: stored.time,
            channel: stored.channel,
            offset: stored.offset,
            data,
        };
        if run.iter().all(|stored| of(stored).is_some()) {
            self.pieces.push(output((first.seq, last.seq), &first, data.clone()));
            return Ok(());
        }
        self.pieces.extend(run.iter().map(|stored| match of(stored) {
            Some(data) => output((stored.seq, stored.seq), stored, data),
            None => stored.missing(GapReason::Corrupt),
        }));
        Ok(())
    }

    /// The bytes of `range`, fewer where the file ends.
    fn data(&mut self, channel: Channel, range: Range<u64>) -> io::Result<Bytes> {
        let file = &mut self.channels[channel.index()];
        if file.is_none() {
            *file = absent_is_none(self.replay.files.open(Part::Channel(channel)))?;
        }
        file.as_ref().map_or(Ok(Bytes::new()), |file| Ok(read_range(file, range)?.into()))
    }
}

/// What `frames` tell about the events between two places. What they do not tell is missing.
fn walk(frames: &[u8], from: Place, to: Place) -> Vec<Found> {
    let mut found = Vec::new();
    let mut place = from;
    let mut time = None;
    for (_, frame) in Frames::behind(from.seq - 1, frames) {
        let first = match &frame.body {
            Body::Remark(remark) => match **remark {
                Remark::Lost { first, .. } => first,
                Remark::Trimmed { .. } | Remark::Sealed { .. } => continue,
            },
            Body::Output { .. } | Body::Note(_) => frame.seq,
        };
        let mut before = Place { seq: first, ..place };
        if let Body::Output { channel, offset, .. } = frame.body {
            before.offsets[channel.index()] = offset;
        }
        time = Some(frame.time);
        found.extend(damage(&place, &before, time));
        place = before;
        match frame.body {
            Body::Output { channel, offset, length, crc } => {
                let stored = Stored { seq: frame.seq, time: frame.time, channel, offset, length, crc };
                place.pass_output(channel, stored.range().end);
                found.push(Found::Output(stored));
            }
            Body::Note(note) => {
                place.pass_note();
                found.push(Found::Note { seq: frame.seq, time: frame.time, note });
            }
            Body::Remark(remark) => {
                if let Remark::Lost { first, ranges } = *remark {
                    place.pass_lost(frame.seq, &ranges);
                    let (seq, events) = (frame.seq, Some((first, frame.seq)));
                    found.push(Found::Missing(Missing { seq, time, events, ranges, reason: GapReason::SpoolFailed }));
                }
            }
        }
    }
    found.extend(damage(&place, &to, time));
    found
}

/// What is missing between two places that should be one.
fn damage(from: &Place, to: &Place, time: Option<Timestamp>) -> Option<Found> {
    let mut ranges = [const { 0..0 }; 3];
    for (range, (start, end)) in ranges.iter_mut().zip(from.offsets.into_iter().zip(to.offsets)) {
        *range = start..end.max(start);
    }
    let events = (to.seq > from.seq).then(|| (from.seq, to.seq - 1));
    let is_whole = events.is_none() && ranges.iter().all(Range::is_empty);
    let missing = Missing { seq: to.seq.saturating_sub(1), time, events, ranges, reason: GapReason::Corrupt };
    (!is_whole).then_some(Found::Missing(missing))
}
