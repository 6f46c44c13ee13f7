//! What a log holds and what it does next: every decision about limits, memory and loss. Pure; the caller holds the lock,
//! gives the time and does what is decided. It refuses to know files and who reads.

mod behind;
mod room;

use std::ops::Range;

use bytes::Bytes;
use jiff::Timestamp;

use super::digest::Digests;
use super::index::{Index, Place};
use super::tail::{BUFFER_BYTES, Tail};
use super::{Appended, LogConfig};
use crate::execution::event::{Channel, Note};
use crate::execution::outcome::ChannelSummary;

pub(super) use behind::Work;

/// Everything about one log but its files.
#[derive(Debug)]
pub(super) struct State {
    config: LogConfig,
    pub(super) tail: Tail,
    pub(super) index: Index,
    pub(super) digests: Digests,
    /// Output before this place has been dropped.
    trimmed: Place,
    channels: [ChannelState; 3],
    /// Output that is to be digested and not stored, in order.
    discarded: Vec<(Channel, Bytes)>,
    /// Output that waits for the disk, bytes.
    pending: usize,
    failure: Option<String>,
    /// How often the disk has failed.
    failures: u64,
    ending: Option<Ending>,
    /// How often it has failed since then.
    last_failures: u32,
    /// Nothing more will be written.
    pub(super) is_finished: bool,
    /// A job writes what waits.
    is_written_behind: bool,
}

/// What is known of a channel beside the events.
#[derive(Clone, Debug, Default)]
pub(super) struct ChannelState {
    /// It has had a byte, or was declared.
    pub(super) exists: bool,
    /// Its bytes are in its file before they are in the log.
    pub(super) is_adopted: bool,
    /// Bytes behind the stored ones that were not kept.
    dropped: u64,
    /// How many of those a stored gap has announced.
    announced: u64,
    /// Stored ranges that the disk did not take, or that are damaged.
    pub(super) lost: Vec<Range<u64>>,
}

/// How a log came to its end.
#[derive(Clone, Debug)]
pub(super) enum Ending {
    /// Its writer closed it; the channels, for good.
    Sealed(Vec<ChannelSummary>),
    /// Its writer went away.
    Lost,
}

impl State {
    /// A log that continues behind `index`.
    pub(super) fn new(config: LogConfig, index: Index, digests: Digests, trimmed: Place) -> State {
        let place = index.end().place;
        State {
            config,
            tail: Tail::at(place),
            index,
            digests,
            trimmed,
            channels: Default::default(),
            discarded: Vec::new(),
            pending: 0,
            failure: None,
            failures: 0,
            ending: None,
            last_failures: 0,
            is_written_behind: false,
            is_finished: false,
        }
    }

    /// The newest event on disk.
    pub(super) fn spooled(&self) -> u64 {
        self.index.end().place.seq - 1
    }

    pub(super) fn trimmed(&self) -> Place {
        self.trimmed
    }

    pub(super) fn ending(&self) -> Option<&Ending> {
        self.ending.as_ref()
    }

    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    pub(super) fn failures(&self) -> u64 {
        self.failures
    }

    pub(super) fn channel(&mut self, channel: Channel) -> &mut ChannelState {
        &mut self.channels[channel.index()]
    }

    /// Appends output as the policy says.
    pub(super) fn output(&mut self, channel: Channel, mut data: Bytes, now: Timestamp) -> Appended {
        if data.is_empty() {
            return Appended::Stored;
        }
        self.channel(channel).exists = true;
        let room = usize::try_from(self.room()).unwrap_or(usize::MAX);
        let excess = data.split_off(room.min(data.len()));
        self.pending += data.len();
        let piece = usize::try_from(self.config.step()).unwrap_or(BUFFER_BYTES).min(BUFFER_BYTES);
        while !data.is_empty() {
            let part = data.split_to(piece.min(data.len()));
            self.tail.push_output(channel, part, now, piece);
        }
        if excess.is_empty() { self.trim() } else { self.discard(channel, excess) }
    }

    /// Appends a note; before the last one of a run what was dropped is announced.
    pub(super) fn note(&mut self, note: Note, now: Timestamp) -> u64 {
        if matches!(note, Note::Completed(_)) {
            self.announce_dropped(now);
        }
        self.tail.push_note(note, now);
        self.tail.end().seq - 1
    }

    /// No event follows. What was dropped and not yet announced is.
    pub(super) fn end(&mut self, is_sealed: bool, now: Timestamp) {
        if self.ending.is_some() {
            return;
        }
        self.announce_dropped(now);
        self.ending = Some(if is_sealed { Ending::Sealed(Vec::new()) } else { Ending::Lost });
    }

    /// The log ended like this, before now.
    pub(super) fn ended(&mut self, ending: Ending) {
        if let Ending::Sealed(summaries) = &ending {
            for summary in summaries {
                let stored = self.tail.end().offsets[summary.channel.index()];
                let dropped = summary.bytes_total.saturating_sub(stored);
                let channel = self.channel(summary.channel);
                (channel.exists, channel.dropped, channel.announced) = (true, dropped, dropped);
            }
        }
        self.ending = Some(ending);
        self.is_finished = true;
    }

    /// What each channel has had, kept or not, bytes.
    pub(super) fn totals(&self) -> [u64; 3] {
        let end = self.tail.end();
        Channel::ALL.map(|channel| end.offsets[channel.index()] + self.channels[channel.index()].dropped)
    }

    /// The channels whose files are written by others.
    pub(super) fn adopted(&self) -> [bool; 3] {
        Channel::ALL.map(|channel| self.channels[channel.index()].is_adopted)
    }

    /// The channels that exist; with digests where all their bytes have been digested.
    pub(super) fn summaries(&self, with_digests: bool) -> Vec<ChannelSummary> {
        if let (Some(Ending::Sealed(summaries)), true) = (&self.ending, self.is_finished) {
            return summaries.clone();
        }
        let is_digested = self.is_digested();
        let exists = |channel: &Channel| self.channels[channel.index()].exists;
        Channel::ALL
            .into_iter()
            .filter(exists)
            .map(|channel| {
                let state = &self.channels[channel.index()];
                let stored = self.tail.end().offsets[channel.index()];
                let first_kept_offset = self.trimmed.offsets[channel.index()];
                let lost: u64 =
                    state.lost.iter().map(|range| range.end.saturating_sub(range.start.max(first_kept_offset))).sum();
                ChannelSummary {
                    channel,
                    bytes_total: stored + state.dropped,
                    bytes_kept: stored.saturating_sub(first_kept_offset).saturating_sub(lost),
                    first_kept_offset,
                    sha256: (with_digests && is_digested).then(|| self.digests.of(channel)).flatten(),
                }
            })
            .collect()
    }
}
