//! Writes what waits for the disk: the bytes of the channels first, then the frames that vouch for them. It decides nothing
//! about what is kept and refuses to know readers. Everything here blocks.

use std::fs::File;
use std::io::{self, IoSlice};
use std::mem;

use bytes::Bytes;
use jiff::Timestamp;

use super::files::{Files, Part, punch_hole, truncate};
use super::frame::{Body, Frame, HEADER, Remark};
use super::index::{Checkpoint, Place};
use super::state::Work;
use super::tail::{Content, Entry};
use crate::execution::event::Channel;
use crate::execution::outcome::ChannelSummary;

/// The writing end of a log's files.
#[derive(Debug)]
pub(super) struct Scribe {
    log: Output,
    channels: [Output; 3],
    /// Behind the last frame.
    position: u64,
    /// Bytes of a failed write may lie behind the last frame.
    is_torn: bool,
    trimmed: Place,
    /// Where the log file begins.
    start: Checkpoint,
    /// Up to where each channel's file has been given back.
    punched: [u64; 3],
}

/// A file to write to.
#[derive(Debug)]
enum Output {
    /// It does not exist.
    Absent,
    /// It exists, and is opened when needed.
    Closed,
    Open(File),
}

impl Output {
    fn open(&mut self, files: &Files, part: Part) -> io::Result<&File> {
        *self = match mem::replace(self, Output::Closed) {
            Output::Absent => match files.create(part, false) {
                Ok(file) => Output::Open(file),
                Err(error) => {
                    *self = Output::Absent;
                    return Err(error);
                }
            },
            Output::Closed => Output::Open(files.reopen(part)?),
            Output::Open(file) => Output::Open(file),
        };
        match self {
            Output::Open(file) => Ok(file),
            Output::Absent | Output::Closed => unreachable!("opened above"),
        }
    }

    fn close(&mut self) {
        if let Output::Open(_) = self {
            *self = Output::Closed;
        }
    }
}

impl Scribe {
    /// Of a log that does not exist yet.
    pub(super) fn new() -> Scribe {
        Scribe {
            log: Output::Absent,
            channels: [Output::Absent, Output::Absent, Output::Absent],
            position: 0,
            is_torn: false,
            trimmed: Place::START,
            start: Checkpoint::START,
            punched: [0; 3],
        }
    }

    /// Of a log that begins at `start` and ends at `position`; behind it lies nothing of worth.
    pub(super) fn resume(start: Checkpoint, position: u64, has_log: bool, has_file: [bool; 3]) -> Scribe {
        let output = |exists| if exists { Output::Closed } else { Output::Absent };
        Scribe { log: output(has_log), channels: has_file.map(output), position, is_torn: true, start, ..Scribe::new() }
    }

    /// Writes a portion. Returns the places behind its events; after an error none of it counts as written.
    pub(super) fn write(&mut self, files: &Files, work: &Work, adopted: [bool; 3]) -> io::Result<Vec<Checkpoint>> {
        for channel in Channel::ALL {
            if adopted[channel.index()] {
                self.adopt(channel);
            } else {
                self.write_channel(files, channel, &work.entries)?;
            }
        }
        let mut place = work.start;
        let mut places = Vec::with_capacity(work.entries.len());
        let mut frames = self.beginning();
        for entry in &work.entries {
            frame_of(entry).encode(&mut frames);
            entry.pass(&mut place);
            places.push(Checkpoint { place, position: self.position + frames.len() as u64 });
        }
        let output = if work.trimmed.seq > place.seq { place } else { work.trimmed };
        let is_trimmed = output.seq > self.trimmed.seq;
        if is_trimmed || work.forgotten.is_some() {
            self.start = work.forgotten.unwrap_or(self.start);
            remark(place, Remark::Trimmed { output, log: self.start }).encode(&mut frames);
            if let Some(last) = places.last_mut() {
                last.position = self.position + frames.len() as u64;
            }
        }
        self.write_log(files, &frames)?;
        if is_trimmed {
            self.trimmed = output;
        }
        // All is written: what cannot be given back now is no failure, the next time takes it along.
        if let Err(error) = self.give_back(files, work.forgotten) {
            tracing::debug!(%error, "could not give back trimmed output");
        }
        Ok(places)
    }

    /// Writes that nothing follows.
    pub(super) fn seal(&mut self, files: &Files, end: Place, summaries: Vec<ChannelSummary>) -> io::Result<()> {
        let mut frames = self.beginning();
        remark(end, Remark::Sealed { end, summaries }).encode(&mut frames);
        self.write_log(files, &frames)
    }

    /// Holds no descriptor until the next portion.
    pub(super) fn close(&mut self) {
        self.log.close();
        self.channels.iter_mut().for_each(Output::close);
    }

    /// Somebody else makes and writes the file of this channel.
    fn adopt(&mut self, channel: Channel) {
        let output = &mut self.channels[channel.index()];
        if let Output::Absent = output {
            *output = Output::Closed;
        }
    }

    fn write_channel(&mut self, files: &Files, channel: Channel, entries: &[Entry]) -> io::Result<()> {
        let pieces: Vec<(u64, Bytes)> = entries
            .iter()
            .filter_map(|entry| match &entry.content {
                Content::Output { channel: of, offset, data } if *of == channel => Some((*offset, data.bytes())),
                _ => None,
            })
            .collect();
        // A portion holds no lost output before other output, so the pieces lie one behind the other.
        let Some((start, _)) = pieces.first() else { return Ok(()) };
        let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|(_, data)| IoSlice::new(data)).collect();
        let file = self.channels[channel.index()].open(files, Part::Channel(channel))?;
        files.write_at(file, &mut slices, *start)
    }

    /// What has to come before the next frame.
    fn beginning(&self) -> Vec<u8> {
        if self.position == 0 { HEADER.to_vec() } else { Vec::new() }
    }

    fn write_log(&mut self, files: &Files, frames: &[u8]) -> io::Result<()> {
        let file = self.log.open(files, Part::Log)?;
        if self.is_torn {
            truncate(file, self.position)?;
        }
        self.is_torn = true;
        files.write_at(file, &mut [IoSlice::new(frames)], self.position)?;
        self.is_torn = false;
        self.position += frames.len() as u64;
        Ok(())
    }

    /// Gives the disk back what was trimmed, and the log before `start`.
    fn give_back(&mut self, files: &Files, start: Option<Checkpoint>) -> io::Result<()> {
        if let Some(start) = start {
            punch_hole(self.log.open(files, Part::Log)?, Checkpoint::START.position..start.position)?;
        }
        for channel in Channel::ALL {
            let (start, end) = (self.punched[channel.index()], self.trimmed.offsets[channel.index()]);
            if end > start {
                punch_hole(self.channels[channel.index()].open(files, Part::Channel(channel))?, start..end)?;
                self.punched[channel.index()] = end;
            }
        }
        Ok(())
    }
}

fn frame_of(entry: &Entry) -> Frame {
    let body = match &entry.content {
        Content::Output { channel, offset, data } => {
            let data = data.bytes();
            let length = u32::try_from(data.len()).expect("an event holds at most a buffer");
            Body::Output { channel: *channel, offset: *offset, length, crc: crc32fast::hash(&data) }
        }
        Content::Note(note) => Body::Note(note.clone()),
        Content::Lost { first, ranges } => {
            Body::Remark(Box::new(Remark::Lost { first: *first, ranges: ranges.clone() }))
        }
    };
    Frame { seq: entry.seq, time: entry.time, body }
}

fn remark(place: Place, remark: Remark) -> Frame {
    Frame { seq: place.seq - 1, time: Timestamp::now(), body: Body::Remark(Box::new(remark)) }
}
