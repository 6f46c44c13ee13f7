//! Reads a log from any place on and follows it. A reader pulls: it holds no buffer while it waits, and nobody waits for it.

use std::sync::Arc;

use tokio::task::JoinHandle;

use super::assemble::{Assembler, Floor};
use super::core::Core;
use super::disk::Share;
use super::index::Place;
use super::replay::{Batch, Replay};
use super::state::State;
use super::step::Step;
use super::{From, Item, LogError, ReadOptions, Valid};
use crate::execution::event::{Channel, Cursor, EPOCH, Event, EventKind, Gap, GapReason, Note};

/// A place in a log that moves on.
#[derive(Debug)]
pub struct Reader {
    core: Arc<Core>,
    is_strict: bool,
    /// The event to be read next.
    next: u64,
    /// The newest event when reading began, until it has been read.
    head: Option<u64>,
    assembler: Assembler,
    /// What is being read from the disk.
    replay: Option<JoinHandle<Option<Result<Batch, LogError>>>>,
    /// While output that was read from the disk is held.
    share: Option<Share>,
    /// [`Item::End`] is all that is left.
    is_at_end: bool,
}

impl Reader {
    pub(super) fn new(core: Arc<Core>, from: From, options: ReadOptions) -> Result<Reader, LogError> {
        let wanted =
            Channel::ALL.map(|channel| options.channels.as_ref().is_none_or(|channels| channels.contains(&channel)));
        let (start, floor, head) = {
            let mut state = core.state();
            state.tail.freeze(); // events that are not read must not grow any more
            let (start, floor) = state.start(from, wanted)?;
            if options.strict && state.is_forgotten(from, wanted) {
                return Err(LogError::OutOfRange { valid: state.valid() });
            }
            (start, floor, state.tail.end().seq - 1)
        };
        Ok(Reader {
            core,
            is_strict: options.strict,
            next: start.seq,
            head: Some(head),
            assembler: Assembler::new(wanted, options.max_output_bytes, floor, start.offsets),
            replay: None,
            share: None,
            is_at_end: false,
        })
    }

    /// The next item; waits until there is one.
    ///
    /// Cancel-safe: nothing is skipped.
    ///
    /// # Errors
    /// [`LogError::Io`], [`LogError::NotFound`] when the log has been removed, and what `strict` asks for.
    pub async fn next(&mut self) -> Result<Item, LogError> {
        let core = Arc::clone(&self.core);
        loop {
            if let Some(item) = self.assembler.pop() {
                return self.checked(item);
            }
            if let Some(replay) = &mut self.replay {
                let batch = replay.await;
                self.replay = None;
                let batch = batch.ok().flatten().ok_or_else(|| std::io::Error::other("reading was broken off"))??;
                batch.pieces.into_iter().for_each(|piece| self.assembler.push(piece));
                self.assembler.flush();
                self.next = batch.next;
                continue;
            }
            self.share = None;
            let step = core.state().step(self.next, self.head, self.assembler.most());
            match step {
                Step::Take { pieces, next } => {
                    pieces.into_iter().for_each(|piece| self.assembler.push(piece));
                    self.assembler.flush();
                    self.next = next;
                }
                Step::Replay { blocks, trimmed } => {
                    let share = core.disk.share();
                    let replay = Replay {
                        files: core.files.clone(),
                        blocks,
                        next: self.next,
                        trimmed,
                        wanted: self.assembler.wanted(),
                        most: self.assembler.most(),
                        enough: share.bytes(),
                    };
                    self.share = Some(share);
                    let disk = Arc::clone(&core.disk);
                    self.replay = Some(tokio::spawn(async move { disk.read(|| replay.read()).await }));
                }
                Step::Live => {
                    self.head = None;
                    self.assembler.push_item(Item::Live);
                }
                Step::End { is_lost } => {
                    if is_lost && !self.is_at_end {
                        self.assembler.push_item(lost(self.next - 1));
                    }
                    self.is_at_end = true;
                    self.assembler.push_item(Item::End);
                }
                Step::Wait => {
                    self.assembler.settle();
                    if self.assembler.is_empty() {
                        core.has_event(self.next).await;
                    }
                }
            }
        }
    }

    /// Where there must be no gap, a gap is an error.
    fn checked(&self, item: Item) -> Result<Item, LogError> {
        match &item {
            Item::Gap(Event { kind: EventKind::Note(Note::Gap(gap)), .. }) if self.is_strict => Err(match gap.reason {
                GapReason::Corrupt | GapReason::ServerLost => LogError::Corrupt,
                GapReason::OutputLimit | GapReason::SpoolFailed => {
                    LogError::OutOfRange { valid: self.core.state().valid() }
                }
            }),
            _ => Ok(item),
        }
    }
}

/// The writer was lost, and with it what it had not written.
fn lost(seq: u64) -> Item {
    let gap = Gap { events: None, ranges: Vec::new(), reason: GapReason::ServerLost };
    Item::Gap(Event { seq, time: jiff::Timestamp::now(), kind: EventKind::Note(Note::Gap(gap)) })
}

impl State {
    /// What the log holds.
    pub(super) fn valid(&self) -> Valid {
        let (trimmed, end) = (self.trimmed(), self.tail.end());
        let offsets = Channel::ALL.map(|channel| trimmed.offsets[channel.index()]..end.offsets[channel.index()]);
        Valid { events: (trimmed.seq, end.seq - 1), offsets }
    }

    /// A place at or before the one asked for, and what lies between them.
    fn start(&self, from: From, wanted: [bool; 3]) -> Result<(Place, Floor), LogError> {
        let end = self.tail.end();
        let future = || LogError::OutOfRange { valid: self.valid() };
        let floor = match from {
            From::Start => return Ok((Place::START, Floor::None)),
            From::Now => return Ok((end, Floor::None)),
            From::Cursor(cursor) if cursor > (Cursor { epoch: EPOCH, seq: end.seq - 1 }) => return Err(future()),
            From::Cursor(cursor) if cursor.epoch < EPOCH => return Ok((Place::START, Floor::None)),
            From::Cursor(cursor) => return Ok((Place { seq: cursor.seq + 1, ..Place::START }, Floor::None)),
            From::Offsets(offsets) => {
                let totals = self.totals();
                let mut floors = [None; 3];
                for channel in Channel::ALL.map(Channel::index).into_iter().filter(|channel| wanted[*channel]) {
                    if offsets[channel] > totals[channel] {
                        return Err(future());
                    }
                    // Of what was never written nothing has been read; what was not kept cannot be waited for.
                    floors[channel] = (end.offsets[channel] > 0).then(|| offsets[channel].min(end.offsets[channel]));
                }
                if floors == [None; 3] {
                    return Ok((Place::START, Floor::None));
                }
                Floor::Offsets(floors)
            }
            From::TailBytes(bytes) => Floor::Total(end.output_bytes().saturating_sub(bytes)),
        };
        let is_below = |place: &Place| floor.is_above(place.offsets);
        let place = if is_below(&self.tail.start()) {
            self.tail.start()
        } else if is_below(&self.index.start().place) {
            self.index.last_before(|checkpoint| is_below(&checkpoint.place)).place
        } else {
            Place::START
        };
        Ok((place, floor))
    }

    /// Whether output that is asked for is known to be gone.
    fn is_forgotten(&self, from: From, wanted: [bool; 3]) -> bool {
        let trimmed = self.trimmed();
        let begins_before =
            |offsets: [u64; 3]| (0..3).any(|channel| wanted[channel] && offsets[channel] < trimmed.offsets[channel]);
        match from {
            From::Start => begins_before([0; 3]),
            From::Offsets(offsets) => begins_before(offsets),
            From::Now | From::Cursor(_) | From::TailBytes(_) => false,
        }
    }
}
