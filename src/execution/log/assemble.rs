//! Makes what readers get out of the pieces that lie in memory or on disk: skips what is not wanted, joins and splits output,
//! gathers what is missing into gaps. Pure; it refuses to know where pieces come from.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;

use super::Item;
use super::index::Place;
use crate::execution::event::{Channel, Event, EventKind, Gap, GapReason, Note};

/// One or more events, as they lie there, or do not.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Piece {
    /// Output of consecutive events.
    Output {
        events: (u64, u64),
        time: Timestamp,
        channel: Channel,
        offset: u64,
        data: Bytes,
    },
    Note {
        seq: u64,
        time: Timestamp,
        note: Note,
    },
    Missing(Missing),
}

/// Events or bytes that are not there.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Missing {
    /// The event at or before which they are missing.
    pub(super) seq: u64,
    /// When; `None` is when what follows happened.
    pub(super) time: Option<Timestamp>,
    /// The first and the last event; `None` where only bytes are known to be missing.
    pub(super) events: Option<(u64, u64)>,
    /// In each channel.
    pub(super) ranges: [Range<u64>; 3],
    pub(super) reason: GapReason,
}

/// Where reading begins within the pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Floor {
    /// With the first one.
    None,
    /// At these offsets; a channel without one is not asked about.
    Offsets([Option<u64>; 3]),
    /// Behind so much output over all channels.
    Total(u64),
}

/// Pieces in, items out.
#[derive(Debug)]
pub(super) struct Assembler {
    wanted: [bool; 3],
    most: usize,
    floor: Floor,
    /// Nothing above the floor has come yet.
    is_seeking: bool,
    /// Where the pieces have come to.
    offsets: [u64; 3],
    /// When the last piece happened.
    time: Timestamp,
    joined: Option<Joined>,
    gap: Option<Missing>,
    ready: VecDeque<Item>,
}

/// Output that may still be joined by more.
#[derive(Debug)]
struct Joined {
    events: (u64, u64),
    time: Timestamp,
    channel: Channel,
    offset: u64,
    length: usize,
    parts: Vec<Bytes>,
}

impl Floor {
    /// Whether everything at `offsets` and before lies below.
    pub(super) fn is_above(&self, offsets: [u64; 3]) -> bool {
        match self {
            Floor::None => false,
            Floor::Offsets(floors) => {
                floors.iter().zip(offsets).all(|(floor, offset)| floor.is_none_or(|floor| offset < floor))
            }
            Floor::Total(total) => Place { offsets, ..Place::START }.output_bytes() < *total,
        }
    }
}

impl Missing {
    fn is_without_bytes(&self) -> bool {
        self.ranges.iter().all(Range::is_empty)
    }

    /// Takes in what is missing right behind.
    fn extend(&mut self, more: Missing) {
        self.seq = more.seq;
        self.events = match (self.events, more.events) {
            (Some((first, _)), Some((_, last))) => Some((first, last)),
            (before, after) => before.or(after),
        };
        for (range, more) in self.ranges.iter_mut().zip(more.ranges).filter(|(_, more)| !more.is_empty()) {
            *range = if range.is_empty() { more } else { range.start..more.end };
        }
    }

    fn into_item(self, time: Timestamp) -> Item {
        let ranges = Channel::ALL.into_iter().zip(self.ranges).filter(|(_, range)| !range.is_empty()).collect();
        let gap = Gap { events: self.events, ranges, reason: self.reason };
        let time = self.time.unwrap_or(time);
        Item::Gap(Event { seq: self.seq, time, kind: EventKind::Note(Note::Gap(gap)) })
    }
}

impl Joined {
    /// As events of at most `most` bytes.
    fn into_items(self, most: usize) -> impl Iterator<Item = Item> {
        let mut data = match <[Bytes; 1]>::try_from(self.parts) {
            Ok([whole]) => whole,
            Err(parts) => {
                let mut whole = BytesMut::with_capacity(self.length);
                parts.iter().for_each(|part| whole.extend_from_slice(part));
                whole.freeze()
            }
        };
        let (mut offset, (first, last)) = (self.offset, self.events);
        std::iter::from_fn(move || {
            if data.is_empty() {
                return None;
            }
            let part = data.split_to(most.min(data.len()));
            // Who resumes behind any part but the last must get the whole again.
            let seq = if data.is_empty() { last } else { first - 1 };
            let kind = EventKind::Output { channel: self.channel, offset, data: part.clone() };
            offset += part.len() as u64;
            Some(Item::Event(Event { seq, time: self.time, kind }))
        })
    }
}

impl Assembler {
    /// For pieces from a place with these `offsets` on. Output is at most `most` bytes, at least 1.
    pub(super) fn new(wanted: [bool; 3], most: usize, floor: Floor, offsets: [u64; 3]) -> Assembler {
        Assembler {
            wanted,
            most: most.max(1),
            is_seeking: floor.is_above(offsets),
            floor,
            offsets,
            time: Timestamp::UNIX_EPOCH,
            joined: None,
            gap: None,
            ready: VecDeque::new(),
        }
    }

    /// Which channels are wanted.
    pub(super) fn wanted(&self) -> [bool; 3] {
        self.wanted
    }

    /// The most output of one event, bytes.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// The next item, if there is one.
    pub(super) fn pop(&mut self) -> Option<Item> {
        let item = self.ready.pop_front();
        if self.ready.is_empty() {
            self.ready = VecDeque::new(); // who waits holds no buffer
        }
        item
    }

    /// Whether no item is there.
    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    /// Takes a piece, the one behind the last.
    pub(super) fn push(&mut self, piece: Piece) {
        match piece {
            Piece::Output { events, time, channel, offset, data } => {
                self.time = time;
                self.output(events, channel, offset, data);
            }
            Piece::Note { seq, time, note } if !self.is_seeking => {
                self.time = time;
                self.settle();
                self.ready.push_back(Item::Event(Event { seq, time, kind: EventKind::Note(note) }));
            }
            Piece::Note { .. } => {}
            Piece::Missing(missing) => self.missing(missing),
        }
    }

    fn output(&mut self, events: (u64, u64), channel: Channel, offset: u64, mut data: Bytes) {
        let end = offset + data.len() as u64;
        let start = self.floor(channel, offset..end);
        self.offsets[channel.index()] = end;
        self.is_seeking &= start == end && self.floor.is_above(self.offsets);
        let data = data.split_off((start - offset) as usize);
        if data.is_empty() || !self.wanted[channel.index()] {
            return;
        }
        self.emit_gap();
        if let Some(joined) = &mut self.joined
            && joined.channel == channel
            && joined.offset + joined.length as u64 == start
            && joined.length + data.len() <= self.most
        {
            joined.events.1 = events.1;
            joined.length += data.len();
            joined.parts.push(data);
            return;
        }
        self.flush();
        let length = data.len();
        self.joined = Some(Joined { events, time: self.time, channel, offset: start, length, parts: vec![data] });
    }

    fn missing(&mut self, mut missing: Missing) {
        self.time = missing.time.unwrap_or(self.time);
        let is_below = missing.is_without_bytes();
        for channel in Channel::ALL {
            let mut range = missing.ranges[channel.index()].clone();
            if !range.is_empty() {
                // Of a run of lost events the first may have been read before they were lost.
                range.start = self.offsets[channel.index()].clamp(range.start, range.end);
                let start = self.floor(channel, range.clone());
                self.is_seeking &= start == range.end;
                self.offsets[channel.index()] = range.end;
                missing.ranges[channel.index()] = start..range.end;
            }
            if !self.wanted[channel.index()] {
                missing.ranges[channel.index()] = 0..0;
            }
        }
        self.is_seeking &= self.floor.is_above(self.offsets);
        // Only of damaged events it is not known that they are output, so only they matter without bytes.
        let is_unknown = missing.reason == GapReason::Corrupt && is_below && !self.is_seeking;
        if missing.is_without_bytes() && !is_unknown {
            return;
        }
        self.flush();
        match &mut self.gap {
            Some(gap) if gap.reason == missing.reason => gap.extend(missing),
            _ => {
                self.emit_gap();
                self.gap = Some(missing);
            }
        }
    }

    /// The first byte of `range` that is not below the floor, or its end.
    fn floor(&self, channel: Channel, range: Range<u64>) -> u64 {
        let floor = match self.floor {
            Floor::None => 0,
            Floor::Offsets(floors) => floors[channel.index()].unwrap_or(0),
            Floor::Total(total) => {
                let others =
                    Place { offsets: self.offsets, ..Place::START }.output_bytes() - self.offsets[channel.index()];
                total.saturating_sub(others)
            }
        };
        floor.clamp(range.start, range.end)
    }

    /// Nothing more comes that output could be joined by.
    pub(super) fn flush(&mut self) {
        if let Some(joined) = self.joined.take() {
            self.ready.extend(joined.into_items(self.most));
        }
    }

    /// Nothing more is there: all that is held becomes items.
    pub(super) fn settle(&mut self) {
        self.is_seeking = false;
        self.flush();
        self.emit_gap();
    }

    fn emit_gap(&mut self) {
        self.ready.extend(self.gap.take().map(|gap| gap.into_item(self.time)));
    }

    /// Takes an item that follows everything so far.
    pub(super) fn push_item(&mut self, item: Item) {
        self.settle();
        self.ready.push_back(item);
    }
}
