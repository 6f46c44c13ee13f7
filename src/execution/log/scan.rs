//! Learns from the files of a log, once, what its writer knew. It believes frames whose checksum is right and nothing else,
//! and blocks.

use std::io;
use std::ops::Range;

use bytes::Bytes;
use jiff::Timestamp;

use super::digest::Digests;
use super::files::{Files, Part, absent_is_none, first_data, read_range};
use super::frame::{Body, Frame, Frames, HEADER, Remark};
use super::index::{Checkpoint, Index, Place};
use super::scribe::Scribe;
use super::state::State;
use super::tail::BUFFER_BYTES;
use super::{LogConfig, LogError};
use crate::execution::event::Channel;
use crate::execution::outcome::ChannelSummary;

/// What a log holds.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) index: Index,
    /// Output before this place is gone.
    trimmed: Place,
    /// The channels, for good, when the log was sealed.
    pub(super) sealed: Option<Vec<ChannelSummary>>,
    /// Output that was never stored.
    lost: [Vec<Range<u64>>; 3],
    /// Channels that have a file.
    has_file: [bool; 3],
    /// Behind the last good frame; 0 when not even the header is there.
    position: u64,
}

/// Reads the log; `None` when there is no file of it.
///
/// # Errors
/// [`LogError::Corrupt`] when it does not begin like a log, [`LogError::Io`].
pub(super) fn scan(files: &Files, config: &LogConfig) -> Result<Option<Scan>, LogError> {
    let mut scan = Scan {
        index: Index::new(config.step()),
        trimmed: Place::START,
        sealed: None,
        lost: Default::default(),
        has_file: [false; 3],
        position: 0,
    };
    for channel in Channel::ALL {
        scan.has_file[channel.index()] = files.exists(Part::Channel(channel))?;
    }
    let Some(file) = absent_is_none(files.open(Part::Log))? else {
        return Ok(scan.has_file.contains(&true).then_some(scan));
    };
    let header = read_range(&file, 0..HEADER.len() as u64)?;
    if header != HEADER {
        return if HEADER.starts_with(&header) { Ok(Some(scan)) } else { Err(LogError::Corrupt) };
    }
    let start = first_data(&file, HEADER.len() as u64)?;
    let bytes = read_range(&file, start..file.metadata()?.len())?;
    let mut start_of_log = Checkpoint::START;
    scan.position = HEADER.len() as u64;
    for (range, frame) in Frames::behind(0, &bytes) {
        scan.position = start + range.end as u64;
        if let Some(checkpoint) = scan.take(frame) {
            start_of_log = checkpoint;
        }
    }
    if start_of_log.place.seq > 1 && start_of_log.place.seq <= scan.index.end().place.seq {
        scan.index.forget_before(start_of_log);
    }
    Ok(Some(scan))
}

impl Scan {
    /// Takes the next frame. Returns where the log begins, if the frame says so.
    fn take(&mut self, frame: Frame) -> Option<Checkpoint> {
        let mut start = None;
        let mut place = self.index.end().place;
        let is_event = frame.event().is_some();
        if is_event && frame.seq > place.seq {
            // Nobody knows what the damaged events were: they count as a note, so that nobody takes all of them for output.
            place.notes += 1;
            place.seq = frame.seq;
        }
        if is_event {
            self.sealed = None;
        }
        match frame.body {
            Body::Output { channel, offset, length, .. } => place.pass_output(channel, offset + u64::from(length)),
            Body::Note(_) => place.pass_note(),
            Body::Remark(remark) => match *remark {
                Remark::Lost { ranges, .. } => {
                    place.pass_lost(frame.seq, &ranges);
                    for (lost, range) in self.lost.iter_mut().zip(ranges) {
                        lost.extend((!range.is_empty()).then_some(range));
                    }
                }
                Remark::Trimmed { output, log } => {
                    self.trimmed = output;
                    start = Some(log);
                }
                Remark::Sealed { end, summaries } => {
                    if end.seq >= place.seq {
                        place = Place { notes: place.notes + u64::from(end.seq > place.seq), ..end };
                    }
                    self.sealed = Some(summaries);
                }
            },
        }
        self.index.advance(Checkpoint { place, position: self.position });
        start
    }

    /// The state of a log that ends here.
    pub(super) fn into_state(self, config: LogConfig) -> State {
        let end = self.index.end().place;
        let trimmed = if self.trimmed.seq > end.seq { end } else { self.trimmed };
        let mut state = State::new(config, self.index, Digests::never(), trimmed);
        for (channel, lost) in Channel::ALL.into_iter().zip(self.lost) {
            let exists = self.has_file[channel.index()] || end.offsets[channel.index()] > 0;
            let channel = state.channel(channel);
            (channel.exists, channel.lost) = (exists, lost);
        }
        state
    }

    /// The log as it continues: bytes that came to the disk without their frame get one.
    ///
    /// # Errors
    /// When the disk cannot be read or written.
    pub(super) fn into_continued(self, files: &Files, config: LogConfig) -> io::Result<(State, Scribe)> {
        let mut scribe = Scribe::resume(self.index.start(), self.position, files.exists(Part::Log)?, self.has_file);
        let mut state = self.into_state(config);
        for channel in Channel::ALL {
            let part = Part::Channel(channel);
            let Some(file) = absent_is_none(files.open(part))? else { continue };
            let metadata = file.metadata()?;
            let time = Timestamp::try_from(metadata.modified()?).unwrap_or(Timestamp::UNIX_EPOCH);
            let mut offset = state.tail.end().offsets[channel.index()];
            while offset < metadata.len() {
                let end = metadata.len().min(offset + BUFFER_BYTES as u64);
                state.output(channel, Bytes::from(read_range(&file, offset..end)?), time);
                write_frames(files, &mut scribe, &mut state)?;
                offset = end;
            }
        }
        Ok((state, scribe))
    }
}

/// Writes the frames of bytes that are in their file already.
fn write_frames(files: &Files, scribe: &mut Scribe, state: &mut State) -> io::Result<()> {
    while let Some(work) = state.work() {
        let places = scribe.write(files, &work, [true; 3])?;
        state.spooled_to(&places, &work);
    }
    Ok(())
}
