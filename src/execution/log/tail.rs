//! The newest events of a log, in memory: what live readers take, and what the disk has not got yet. Pure.
//! It refuses to know what may be let go; its owner decides that.

use std::collections::VecDeque;
use std::mem;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;

use super::index::Place;
use crate::execution::event::{Channel, Note};

/// Output of this many bytes or more is kept in the buffer it came in, less is copied: a small piece must not hold a large
/// buffer.
const KEEP_BUFFER_BYTES: usize = 32 << 10;
/// The buffers that output comes in are taken to be of this size, bytes. Also the most that one event may hold.
pub(super) const BUFFER_BYTES: usize = 64 << 10;

/// One event, or a run of lost ones.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// The event's number; the last one of lost events.
    pub(super) seq: u64,
    pub(super) time: Timestamp,
    pub(super) content: Content,
    /// Memory it holds, bytes.
    allocated: usize,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    Output {
        channel: Channel,
        offset: u64,
        data: Data,
    },
    Note(Box<Note>),
    /// Output events from `first` on that neither the disk took nor memory had room for.
    Lost {
        first: u64,
        ranges: [Range<u64>; 3],
    },
}

/// The bytes of an output event.
#[derive(Clone, Debug)]
pub(super) enum Data {
    /// Nobody has seen the event, so what comes next may join it.
    Growing(BytesMut),
    Whole(Bytes),
}

/// The events from some place on to the newest one.
#[derive(Debug)]
pub(super) struct Tail {
    entries: VecDeque<Entry>,
    start: Place,
    end: Place,
    allocated: usize,
}

impl Entry {
    /// The first event in it.
    pub(super) fn first(&self) -> u64 {
        match self.content {
            Content::Lost { first, .. } => first,
            Content::Output { .. } | Content::Note(_) => self.seq,
        }
    }

    /// Bytes of output in it.
    pub(super) fn output_bytes(&self) -> usize {
        match &self.content {
            Content::Output { data, .. } => data.len(),
            Content::Note(_) | Content::Lost { .. } => 0,
        }
    }

    /// Takes `place`, which is before the entry, behind it.
    pub(super) fn pass(&self, place: &mut Place) {
        match &self.content {
            Content::Output { channel, offset, data } => place.pass_output(*channel, offset + data.len() as u64),
            Content::Note(_) => place.pass_note(),
            Content::Lost { ranges, .. } => place.pass_lost(self.seq, ranges),
        }
    }
}

impl Content {
    /// Memory it holds with its entry, bytes.
    fn allocated(&self) -> usize {
        mem::size_of::<Entry>()
            + match self {
                Content::Output { data: Data::Growing(data), .. } => data.capacity(),
                Content::Output { data: Data::Whole(data), .. } => data.len().next_multiple_of(BUFFER_BYTES),
                Content::Note(_) => mem::size_of::<Note>(),
                Content::Lost { .. } => 0,
            }
    }
}

impl Data {
    fn new(data: Bytes) -> Data {
        if data.len() >= KEEP_BUFFER_BYTES { Data::Whole(data) } else { Data::Growing(BytesMut::from(&data[..])) }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Data::Growing(data) => data.len(),
            Data::Whole(data) => data.len(),
        }
    }

    /// The bytes do not change from now on.
    fn freeze(&mut self) {
        if let Data::Growing(data) = self {
            *self = Data::Whole(mem::take(data).freeze());
        }
    }

    /// The bytes so far; of frozen data without a copy.
    pub(super) fn bytes(&self) -> Bytes {
        match self {
            Data::Growing(data) => Bytes::copy_from_slice(data),
            Data::Whole(data) => data.clone(),
        }
    }
}

impl Tail {
    /// An empty one behind `place`.
    pub(super) fn at(place: Place) -> Tail {
        Tail { entries: VecDeque::new(), start: place, end: place, allocated: 0 }
    }

    /// Before the oldest event in it.
    pub(super) fn start(&self) -> Place {
        self.start
    }

    /// Behind the newest event.
    pub(super) fn end(&self) -> Place {
        self.end
    }

    /// The memory it holds, bytes, counted by allocation.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.allocated
    }

    /// Appends output: to the newest event while nobody has seen it, it is of the same channel and stays within `most` bytes.
    pub(super) fn push_output(&mut self, channel: Channel, data: Bytes, time: Timestamp, most: usize) {
        let offset = self.end.offsets[channel.index()];
        let end = offset + data.len() as u64;
        if let Some(Entry {
            content: Content::Output { channel: last, data: Data::Growing(whole), .. }, allocated, ..
        }) = self.entries.back_mut()
            && *last == channel
            && whole.len() + data.len() <= most
        {
            let before = whole.capacity();
            whole.extend_from_slice(&data);
            *allocated += whole.capacity() - before;
            self.allocated += whole.capacity() - before;
            self.end.offsets[channel.index()] = end;
            return;
        }
        self.push(time, Content::Output { channel, offset, data: Data::new(data) });
    }

    /// Appends a note.
    pub(super) fn push_note(&mut self, note: Note, time: Timestamp) {
        self.push(time, Content::Note(Box::new(note)));
    }

    fn push(&mut self, time: Timestamp, content: Content) {
        self.freeze(); // only the newest event may grow
        let entry = Entry { seq: self.end.seq, time, allocated: content.allocated(), content };
        self.allocated += entry.allocated;
        entry.pass(&mut self.end);
        self.entries.push_back(entry);
    }

    /// The newest event does not change from now on.
    pub(super) fn freeze(&mut self) {
        if let Some(Entry { content: Content::Output { data, .. }, .. }) = self.entries.back_mut() {
            data.freeze();
        }
    }

    /// The entries from event `seq` on.
    pub(super) fn from(&self, seq: u64) -> impl Iterator<Item = &Entry> {
        self.entries.range(self.entries.partition_point(|entry| entry.seq < seq)..)
    }

    /// The first place for which `is_far_enough` holds.
    pub(super) fn find(&self, is_far_enough: impl Fn(&Place) -> bool) -> Option<Place> {
        let mut place = self.start;
        let mut entries = self.entries.iter();
        while !is_far_enough(&place) {
            entries.next()?.pass(&mut place);
        }
        Some(place)
    }

    /// Lets go of the oldest entries until no more than `budget` bytes are held or the oldest is `last` or newer.
    pub(super) fn evict(&mut self, budget: usize, last: u64) {
        while self.allocated > budget
            && let Some(entry) = self.entries.pop_front_if(|entry| entry.seq <= last)
        {
            self.allocated -= entry.allocated;
            entry.pass(&mut self.start);
        }
        if self.entries.is_empty() {
            self.entries = VecDeque::new();
        }
    }

    /// Gives up the output of events `from` to `through`, oldest first, until `bytes` have been given up. Returns what was.
    pub(super) fn lose(&mut self, from: u64, through: u64, bytes: usize) -> Vec<(Channel, Range<u64>)> {
        let first = self.entries.partition_point(|entry| entry.seq < from);
        let mut lost = Vec::new();
        let mut left = bytes;
        for mut entry in self.entries.split_off(first) {
            self.allocated -= entry.allocated;
            if let Content::Output { channel, offset, data } = &entry.content
                && left > 0
                && entry.seq <= through
            {
                left = left.saturating_sub(data.len());
                let range = *offset..offset + data.len() as u64;
                lost.push((*channel, range.clone()));
                let mut ranges = [const { 0..0 }; 3];
                ranges[channel.index()] = range;
                entry.content = Content::Lost { first: entry.seq, ranges };
                entry.allocated = entry.content.allocated();
            }
            if !self.join_lost(&entry, from) {
                self.allocated += entry.allocated;
                self.entries.push_back(entry);
            }
        }
        lost
    }

    /// Makes two runs of lost events one.
    fn join_lost(&mut self, next: &Entry, from: u64) -> bool {
        let Content::Lost { ranges: more, .. } = &next.content else { return false };
        let Some(Entry { seq, content: Content::Lost { ranges, .. }, .. }) = self.entries.back_mut() else {
            return false;
        };
        if *seq < from {
            return false; // that one is on disk already
        }
        *seq = next.seq;
        for (range, more) in ranges.iter_mut().zip(more).filter(|(_, more)| !more.is_empty()) {
            *range = if range.is_empty() { more.clone() } else { range.start..more.end };
        }
        true
    }
}
