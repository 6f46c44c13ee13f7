//! What the log promises, tested through its public face.

mod crash;
mod faults;
mod limits;
mod reading;
mod watchers;
mod writing;

use std::path::PathBuf;

use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::execution::ExecutionId;
use crate::execution::event::{EventKind, Gap, GapReason, Note};
use crate::execution::outcome::ChannelSummary;

const OUT: Channel = Channel::Stdout;
const ERR: Channel = Channel::Stderr;

/// A spool of its own, gone with the test.
struct Bench {
    directory: TempDir,
    spool: Spool,
    id: ExecutionId,
}

impl Bench {
    fn new() -> Bench {
        let directory = tempfile::tempdir().unwrap();
        let spool = Spool::open(directory.path().join("spool")).unwrap();
        Bench { directory, spool, id: "run:1.a".parse().unwrap() }
    }

    fn create(&self, config: LogConfig) -> (Writer, Log) {
        self.spool.create(&self.id, config).unwrap()
    }

    fn load(&self) -> Log {
        self.spool.load(&self.id).unwrap()
    }

    /// The file with this extension.
    fn file(&self, extension: &str) -> PathBuf {
        let mut directories = std::fs::read_dir(self.directory.path().join("spool")).unwrap();
        let directory = directories.next().unwrap().unwrap().path();
        directory.join(format!("{}.{extension}", self.id))
    }
}

fn small(memory_bytes: usize) -> LogConfig {
    LogConfig { memory_bytes, ..LogConfig::default() }
}

/// Nothing joins the events there are: somebody has asked for the newest.
fn keep_apart(log: &Log) {
    let _newest = log.last();
}

fn note(position: u32) -> Note {
    Note::Queued { position }
}

/// Bytes that tell their channel and offset.
fn pattern(channel: Channel, offset: u64, length: usize) -> Bytes {
    (offset..offset + length as u64)
        .map(|at| (at.wrapping_mul(31) ^ (at >> 8) ^ (at >> 16)) as u8 ^ (channel.index() as u8 * 85))
        .collect()
}

/// A writer that knows what it has written.
struct Author {
    writer: Writer,
    totals: [u64; 3],
    notes: u32,
}

impl Author {
    fn new(writer: Writer) -> Author {
        Author { writer, totals: [0; 3], notes: 0 }
    }

    fn output(&mut self, channel: Channel, length: usize) -> Appended {
        let total = &mut self.totals[channel.index()];
        let data = pattern(channel, *total, length);
        *total += length as u64;
        self.writer.output(channel, data)
    }

    fn note(&mut self) -> Cursor {
        self.notes += 1;
        self.writer.note(note(self.notes))
    }
}

/// Follows a log and checks everything it is told.
struct Follower {
    reader: Reader,
    channels: [bool; 3],
    /// Where each channel has come to; `None` before it is known.
    offsets: [Option<u64>; 3],
    notes: Vec<u32>,
    seq: u64,
    cursor: Cursor,
    /// The newest event when reading began.
    head: Cursor,
    missing: Vec<(Channel, Range<u64>, GapReason)>,
    output_events: u64,
    bytes: u64,
    lives: u32,
    /// The end of the log is unknown.
    is_lost: bool,
    damaged_events: u64,
    is_ended: bool,
}

impl Follower {
    fn new(log: &Log, from: From, options: ReadOptions, offsets: [Option<u64>; 3]) -> Follower {
        let channels =
            Channel::ALL.map(|channel| options.channels.as_ref().is_none_or(|channels| channels.contains(&channel)));
        Follower {
            reader: log.read(from, options).unwrap(),
            channels,
            offsets,
            notes: Vec::new(),
            seq: 0,
            cursor: Cursor::at(0),
            head: log.last(),
            missing: Vec::new(),
            output_events: 0,
            bytes: 0,
            lives: 0,
            is_lost: false,
            damaged_events: 0,
            is_ended: false,
        }
    }

    fn from_start(log: &Log) -> Follower {
        Follower::new(log, From::Start, ReadOptions::default(), [Some(0); 3])
    }

    /// Takes an item; what it must not be ends the test.
    async fn step(&mut self) {
        let item = self.reader.next().await.unwrap();
        match item {
            Item::Event(event) | Item::Gap(event) => self.event(event),
            Item::Live => {
                self.lives += 1;
                self.cursor = self.cursor.max(self.head);
            }
            Item::End => self.is_ended = true,
        }
        assert!(self.lives <= 1, "live comes once");
    }

    fn event(&mut self, event: Event) {
        assert!(event.seq >= self.seq, "events are in order: {} after {}", event.seq, self.seq);
        self.seq = event.seq;
        self.cursor = Cursor::at(event.seq);
        match event.kind {
            EventKind::Output { channel, offset, data } => {
                assert!(self.channels[channel.index()], "only what is wanted");
                assert!(!data.is_empty());
                let at = self.offsets[channel.index()].unwrap_or(offset);
                assert_eq!(offset, at, "{channel:?} goes on where it was");
                assert_eq!(data, pattern(channel, offset, data.len()), "{channel:?} at {offset}");
                self.offsets[channel.index()] = Some(offset + data.len() as u64);
                self.output_events += 1;
                self.bytes += data.len() as u64;
            }
            EventKind::Note(Note::Gap(gap)) => self.gap(gap),
            EventKind::Note(Note::Queued { position }) => self.notes.push(position),
            EventKind::Note(other) => panic!("nobody wrote {other:?}"),
        }
    }

    fn gap(&mut self, gap: Gap) {
        self.is_lost |= gap.reason == GapReason::ServerLost;
        if gap.reason == GapReason::Corrupt {
            self.damaged_events += gap.events.map_or(0, |(first, last)| last - first + 1);
        }
        for (channel, range) in gap.ranges {
            if !self.channels[channel.index()] {
                continue;
            }
            let at = self.offsets[channel.index()].unwrap_or(range.start);
            assert_eq!(range.start, at, "the gap of {channel:?} begins where the output ended");
            assert!(!range.is_empty());
            self.offsets[channel.index()] = Some(range.end);
            self.missing.push((channel, range, gap.reason));
        }
    }

    async fn until_live(&mut self) {
        while self.lives == 0 {
            self.step().await;
        }
    }

    async fn until_end(&mut self) {
        while !self.is_ended {
            self.step().await;
        }
        assert_eq!(self.lives, 1, "live comes before the end");
    }

    /// The bytes of each channel that were said to be missing.
    fn missing_bytes(&self) -> u64 {
        self.missing.iter().map(|(_, range, _)| range.end - range.start).sum()
    }
}

/// Reads all of a log that has ended.
async fn read_all(log: &Log) -> Follower {
    let mut follower = Follower::from_start(log);
    follower.until_end().await;
    follower
}

fn summary_of(summaries: &[ChannelSummary], channel: Channel) -> ChannelSummary {
    summaries.iter().find(|summary| summary.channel == channel).unwrap().clone()
}

fn sha256(channel: Channel, length: u64) -> [u8; 32] {
    use sha2::{Digest, Sha256};
    Sha256::digest(pattern(channel, 0, length as usize)).into()
}
