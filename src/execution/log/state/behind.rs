//! What waits for the disk and for the digest: how much of it there may be, in which portions it goes, and what becomes of it
//! when the disk fails. Pure; the job that does it asks here.

use bytes::Bytes;

use super::{Ending, State};
use crate::execution::command::OutputPolicy;
use crate::execution::event::Channel;
use crate::execution::log::digest::Digests;
use crate::execution::log::index::{Checkpoint, Place};
use crate::execution::log::tail::{Content, Entry};

/// With so much output waiting for the disk, bytes, the writer is asked to wait.
const PENDING_BYTES: usize = 1 << 20;
/// With so much output waiting, bytes, the disk is used at once.
const URGENT_BYTES: usize = 256 << 10;
/// Work is handed to the disk in portions of about so much output, bytes.
const PORTION_BYTES: usize = 4 << 20;
/// So often a disk that fails is tried for a log that has ended; once more without the output, and that is all.
const LAST_ATTEMPTS: u32 = 3;

/// A portion of what waits for the disk.
#[derive(Debug)]
pub(in crate::execution::log) struct Work {
    /// In order; their data is frozen.
    pub(in crate::execution::log) entries: Vec<Entry>,
    /// Before the first of them.
    pub(in crate::execution::log) start: Place,
    /// Output before this place is to be dropped.
    pub(in crate::execution::log) trimmed: Place,
    /// The log file is to be forgotten up to here.
    pub(in crate::execution::log) forgotten: Option<Checkpoint>,
}

/// Output on its way into the digests.
#[derive(Debug)]
pub(in crate::execution::log) struct Undigested {
    digests: Digests,
    output: Vec<(Channel, Bytes)>,
    through: u64,
}

impl Undigested {
    /// Takes a while.
    pub(in crate::execution::log) fn digest(mut self) -> Digests {
        self.digests.update(&self.output, self.through);
        self.digests
    }
}

impl State {
    /// Whether the writer may go on appending output.
    pub(in crate::execution::log) fn is_ready(&self) -> bool {
        let is_held_back = self.config.policy == OutputPolicy::Block
            && (self.left() == 0 || (self.failure.is_some() && self.pending > 0));
        !is_held_back && self.pending < PENDING_BYTES
    }

    /// Whether something waits for the disk or the digest.
    pub(in crate::execution::log) fn is_pending(&self) -> bool {
        !self.is_finished
            && (self.spooled() + 1 < self.tail.end().seq || !self.discarded.is_empty() || self.ending.is_some())
    }

    /// Whether that should not wait any longer.
    pub(in crate::execution::log) fn is_urgent(&self) -> bool {
        self.pending >= URGENT_BYTES
    }

    /// The next portion for the disk, if there is one: of events that have been digested, or memory could let go of them before.
    ///
    /// Output behind lost output is left for the next portion: its bytes may come to the disk only after the log says what
    /// is missing before them, or a crash in between would show the hole in the file as output.
    pub(in crate::execution::log) fn work(&mut self) -> Option<Work> {
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

    /// Output that has not been digested, without what others are digesting, and the digests to add it to.
    pub(in crate::execution::log) fn take_undigested(&mut self) -> Option<Undigested> {
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
    pub(in crate::execution::log) fn spooled_to(&mut self, places: &[Checkpoint], work: &Work) {
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
    pub(in crate::execution::log) fn spool_failed(&mut self, error: String) -> bool {
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
    pub(in crate::execution::log) fn is_closable(&self) -> bool {
        let is_written = self.spooled() + 1 == self.tail.end().seq && self.discarded.is_empty();
        !self.is_finished && self.ending.is_some() && (is_written || self.is_given_up())
    }

    /// Whether the disk has failed too often for a log that has ended.
    pub(in crate::execution::log) fn is_given_up(&self) -> bool {
        self.last_failures > LAST_ATTEMPTS
    }

    /// Whether a job must be started; it has been from now on.
    pub(in crate::execution::log) fn start_job(&mut self) -> bool {
        let starts = !self.is_written_behind && self.is_pending();
        self.is_written_behind |= starts;
        starts
    }

    /// Whether the job can end; it has from now on.
    pub(in crate::execution::log) fn end_job(&mut self) -> bool {
        self.is_written_behind = self.is_pending();
        !self.is_written_behind
    }

    /// Whether all output has been digested.
    pub(in crate::execution::log) fn is_digested(&self) -> bool {
        self.digests.digested().is_some_and(|digested| digested >= self.tail.end().seq - 1) && self.discarded.is_empty()
    }

    /// Digests what has not been, if it is at most `most` bytes. Returns whether everything is digested.
    pub(in crate::execution::log) fn digest_at_once(&mut self, most: usize) -> bool {
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

    /// Everything has been written, or cannot be: memory is released and the channels are as they will stay.
    pub(in crate::execution::log) fn finish(&mut self) {
        let summaries = self.summaries(true);
        if let Some(Ending::Sealed(sealed)) = &mut self.ending {
            *sealed = summaries;
        }
        self.is_finished = true;
        self.tail.evict(0, self.spooled());
    }
}
