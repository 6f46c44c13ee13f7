//! What a log holds and what it does next: every decision about limits, memory and loss. Pure; the caller holds the lock,
//! gives the time and does what is decided. It refuses to know files and who reads.

use std::ops::Range;

use bytes::Bytes;
use jiff::Timestamp;

use super::digest::Digests;
use super::frame::OUTPUT_FRAME_BYTES;
use super::index::{Checkpoint, Index, Place};
use super::tail::{BUFFER_BYTES, Content, Entry, Tail};
use super::{Appended, LogConfig};
use crate::execution::command::OutputPolicy;
use crate::execution::event::{Channel, Gap, GapReason, Note};
use crate::execution::outcome::ChannelSummary;

/// With so much output waiting for the disk, bytes, the writer is asked to wait.
pub(super) const PENDING_BYTES: usize = 1 << 20;
/// With so much output waiting, bytes, the disk is used at once.
pub(super) const URGENT_BYTES: usize = 256 << 10;
/// Work is handed to the disk in portions of about so much output, bytes.
const PORTION_BYTES: usize = 4 << 20;
/// The log file may be as large as this part of the room for output, and at least [`LEAST_LOG_BYTES`].
const LOG_SHARE: u64 = 16;
const LEAST_LOG_BYTES: u64 = 1 << 20;
/// So often a disk that fails is tried for a log that has ended; once more without the output, and that is all.
const LAST_ATTEMPTS: u32 = 3;

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

/// A portion of what waits for the disk.
#[derive(Debug)]
pub(super) struct Work {
    /// In order; their data is frozen.
    pub(super) entries: Vec<Entry>,
    /// Before the first of them.
    pub(super) start: Place,
    /// Output before this place is to be dropped.
    pub(super) trimmed: Place,
    /// The log file is to be forgotten up to here.
    pub(super) forgotten: Option<Checkpoint>,
}

/// Output on its way into the digests.
#[derive(Debug)]
pub(super) struct Undigested {
    digests: Digests,
    output: Vec<(Channel, Bytes)>,
    through: u64,
}

impl Undigested {
    /// Takes a while.
    pub(super) fn digest(mut self) -> Digests {
        self.digests.update(&self.output, self.through);
        self.digests
    }
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

    /// Whether all output has been digested.
    pub(super) fn is_digested(&self) -> bool {
        self.digests.digested().is_some_and(|digested| digested >= self.tail.end().seq - 1) && self.discarded.is_empty()
    }

    /// Digests what has not been, if it is at most `most` bytes. Returns whether everything is digested.
    pub(super) fn digest_at_once(&mut self, most: usize) -> bool {
        let Some(digested) = self.digests.digested() else { return false };
        let stored: usize = self.tail.from(digested.saturating_add(1)).map(Entry::output_bytes).sum();
        let discarded: usize = self.discarded.iter().map(|(_, data)| data.len()).sum();
        if stored + discarded <= most
            && let Some(undigested) = self.take_undigested()
        {
            self.digests = undigested.digest();
        }
        self.is_digested()
    }

    /// How many more bytes may be stored.
    fn room(&self) -> u64 {
        match self.config.policy {
            OutputPolicy::DropOldest | OutputPolicy::Block => u64::MAX,
            OutputPolicy::DropNewest | OutputPolicy::Cancel => self.left(),
        }
    }

    fn left(&self) -> u64 {
        let end = self.tail.end();
        let is_full = self.is_discarding() || !self.fits(&Place::START, u64::MAX, self.log_bytes());
        if is_full { 0 } else { self.config.output_bytes.saturating_sub(end.output_bytes()) }
    }

    /// Whether output has been forgotten or not kept for want of room.
    pub(super) fn has_dropped(&self) -> bool {
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
    fn trim(&mut self) -> Appended {
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
    fn discard(&mut self, channel: Channel, data: Bytes) -> Appended {
        let first = !self.is_discarding();
        self.channel(channel).dropped += data.len() as u64;
        self.pending += data.len();
        self.discarded.push((channel, data));
        match self.config.policy {
            OutputPolicy::Cancel => Appended::LimitReached,
            _ => Appended::Dropping { first },
        }
    }

    fn announce_dropped(&mut self, now: Timestamp) {
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

    /// Whether the writer may go on appending output.
    pub(super) fn is_ready(&self) -> bool {
        let is_held_back = self.config.policy == OutputPolicy::Block
            && (self.left() == 0 || (self.failure.is_some() && self.pending > 0));
        !is_held_back && self.pending < PENDING_BYTES
    }

    /// Whether something waits for the disk or the digest.
    pub(super) fn is_pending(&self) -> bool {
        !self.is_finished
            && (self.spooled() + 1 < self.tail.end().seq || !self.discarded.is_empty() || self.ending.is_some())
    }

    /// Whether that should not wait any longer.
    pub(super) fn is_urgent(&self) -> bool {
        self.pending >= URGENT_BYTES
    }

    /// The next portion for the disk, if there is one: of events that have been digested, or memory could let go of them before.
    ///
    /// Output behind lost output is left for the next portion: its bytes may come to the disk only after the log says what
    /// is missing before them, or a crash in between would show the hole in the file as output.
    pub(super) fn work(&mut self) -> Option<Work> {
        let digested = self.digests.digested()?;
        self.tail.freeze();
        let start = self.index.end().place;
        let mut entries: Vec<Entry> = Vec::new();
        let mut bytes = 0;
        let mut is_behind_lost = false;
        for entry in self.tail.from(start.seq) {
            if bytes >= PORTION_BYTES
                || entry.seq > digested
                || (is_behind_lost && matches!(entry.content, Content::Output { .. }))
            {
                break;
            }
            is_behind_lost |= matches!(entry.content, Content::Lost { .. });
            bytes += entry.output_bytes();
            entries.push(entry.clone());
        }
        if entries.is_empty() {
            return None;
        }
        Some(Work { entries, start, trimmed: self.trimmed, forgotten: self.forgotten() })
    }

    /// What of a log file that has grown too large can be given up: only what is before the trimmed place.
    fn forgotten(&self) -> Option<Checkpoint> {
        let (start, end) = (self.index.start(), self.index.end());
        let goal = end.position.saturating_sub(self.log_bytes() / 4 * 3);
        let is_large = end.position - start.position > self.log_bytes();
        let place = self
            .index
            .last_before(|checkpoint| checkpoint.position <= goal && checkpoint.place.seq <= self.trimmed.seq);
        (is_large && place.position > start.position).then_some(place)
    }

    /// Output that has not been digested, without what others are digesting, and the digests to add it to.
    pub(super) fn take_undigested(&mut self) -> Option<Undigested> {
        let digested = self.digests.digested()?;
        let digests = self.digests.take()?;
        self.tail.freeze();
        let mut output = Vec::new();
        for entry in self.tail.from(digested.saturating_add(1)) {
            if let Content::Output { channel, data, .. } = &entry.content {
                output.push((*channel, data.bytes()));
            }
        }
        let discarded = std::mem::take(&mut self.discarded);
        self.pending -= discarded.iter().map(|(_, data)| data.len()).sum::<usize>();
        output.extend(discarded);
        Some(Undigested { digests, output, through: self.tail.end().seq - 1 })
    }

    /// The disk has taken work; these are the places behind each of its events, with the first one it now begins with.
    pub(super) fn spooled_to(&mut self, places: &[Checkpoint], work: &Work) {
        for place in places {
            self.index.advance(*place);
        }
        if let Some(start) = work.forgotten {
            self.index.forget_before(start);
        }
        self.pending -= work.entries.iter().map(Entry::output_bytes).sum::<usize>();
        self.failure = None;
        self.tail.evict(self.config.memory_bytes, self.spooled());
    }

    /// The disk has failed. Output that memory has no room for is lost, unless the policy is to wait. Returns whether to try
    /// again at once.
    pub(super) fn spool_failed(&mut self, error: String) -> bool {
        self.failure = Some(error);
        self.failures += 1;
        if self.ending.is_some() {
            self.last_failures += 1;
            if self.last_failures == LAST_ATTEMPTS {
                self.lose(self.pending);
            }
            return self.last_failures == LAST_ATTEMPTS;
        }
        if self.config.policy != OutputPolicy::Block {
            let most = self.config.memory_bytes.min(URGENT_BYTES / 2);
            self.lose(self.pending.saturating_sub(most));
        }
        false
    }

    /// Gives up `bytes` of the output that waits, oldest first.
    fn lose(&mut self, bytes: usize) {
        let Some(digested) = self.digests.digested() else { return };
        for (channel, range) in self.tail.lose(self.spooled() + 1, digested, bytes) {
            self.pending -= (range.end - range.start) as usize;
            let lost = &mut self.channel(channel).lost;
            match lost.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => lost.push(range),
            }
        }
    }

    /// Whether a log that has ended can be closed.
    pub(super) fn is_closable(&self) -> bool {
        let is_written = self.spooled() + 1 == self.tail.end().seq && self.discarded.is_empty();
        !self.is_finished && self.ending.is_some() && (is_written || self.last_failures > LAST_ATTEMPTS)
    }

    /// Whether a job must be started; it has been from now on.
    pub(super) fn start_job(&mut self) -> bool {
        let starts = !self.is_written_behind && self.is_pending();
        self.is_written_behind |= starts;
        starts
    }

    /// Whether the job can end; it has from now on.
    pub(super) fn end_job(&mut self) -> bool {
        self.is_written_behind = self.is_pending();
        !self.is_written_behind
    }

    /// The channels whose files are written by others.
    pub(super) fn adopted(&self) -> [bool; 3] {
        Channel::ALL.map(|channel| self.channels[channel.index()].is_adopted)
    }

    /// Everything has been written, or cannot be: memory is released and the channels are as they will stay.
    pub(super) fn finish(&mut self) {
        let summaries = self.summaries(true);
        if let Some(Ending::Sealed(sealed)) = &mut self.ending {
            *sealed = summaries;
        }
        self.is_finished = true;
        self.tail.evict(0, self.spooled());
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
