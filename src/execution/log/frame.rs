//! The frames of a log file: bytes to values and back, for the writer and for everyone who reads what it left. Pure.
//! It knows nothing of files, nor of what the output itself says: that lies in files of its own.
//!
//! ```text
//! file   = HEADER frame*
//! frame  = length u32 · crc32 u32 · kind u8 · seq u64 · time i64 (ns) · body     little endian; the crc covers what follows it
//! output = channel u8 · offset u64 · length u32 · crc32 u32                      of bytes in the channel's file
//! note   = JSON of a `Note`
//! remark = JSON of a `Remark`
//! ```
//!
//! JSON holds no zero byte and every length has one, so no body can pose as a frame when a reader looks for the next one
//! behind a damaged place.

use std::ops::Range;

use bytes::{Buf, BufMut};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::index::{Checkpoint, Place};
use crate::execution::event::{Channel, Note};
use crate::execution::outcome::ChannelSummary;

/// How every log file begins; the last byte is the version of the format.
pub const HEADER: [u8; 8] = *b"ccxlog\0\x01";

/// Bytes of a frame that stores output.
pub(super) const OUTPUT_FRAME_BYTES: u64 = (PREFIX + FIXED + OUTPUT) as u64;

/// The longest frame that is believed, bytes behind the length: nobody's memory depends on a damaged length.
const MAX_LENGTH: usize = (16 << 20) - 1;
const PREFIX: usize = 8;
const FIXED: usize = 17;
const OUTPUT: usize = 17;

/// One entry of a log file.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// The event's number; of a remark, that of the newest event before it.
    pub seq: u64,
    /// When it was written.
    pub time: Timestamp,
    /// What it says.
    pub body: Body,
}

/// What a frame says.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// An event: these bytes of the channel's file.
    Output {
        /// The channel.
        channel: Channel,
        /// The first byte.
        offset: u64,
        /// How many, bytes.
        length: u32,
        /// Of the bytes.
        crc: u32,
    },
    /// An event without output.
    Note(Box<Note>),
    /// No event, but something readers must know.
    Remark(Box<Remark>),
}

/// Something about the log that is no event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Remark {
    /// These events, all of them output, could not be stored.
    Lost {
        /// The first; the last is the frame's number.
        first: u64,
        /// Their bytes in each channel, in the order of [`Channel::ALL`].
        ranges: [Range<u64>; 3],
    },
    /// The beginning was forgotten.
    Trimmed {
        /// Output before this place.
        output: Place,
        /// Everything before this one.
        log: Checkpoint,
    },
    /// Nothing follows.
    Sealed {
        /// Behind the last event.
        end: Place,
        /// The channels, for good.
        summaries: Vec<ChannelSummary>,
    },
}

/// Why bytes are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    /// They may be the beginning of one.
    #[error("frame is cut off")]
    Cut,
    /// They cannot become one.
    #[error("frame is damaged")]
    Damaged,
}

impl Frame {
    /// Appends the frame to `buffer`.
    pub fn encode(&self, buffer: &mut Vec<u8>) {
        let start = buffer.len();
        buffer.put_u64_le(0);
        buffer.put_u8(match self.body {
            Body::Output { .. } => 1,
            Body::Note(_) => 2,
            Body::Remark(_) => 3,
        });
        buffer.put_u64_le(self.seq);
        buffer.put_i64_le(i64::try_from(self.time.as_nanosecond()).unwrap_or(i64::MAX));
        match &self.body {
            Body::Output { channel, offset, length, crc } => {
                buffer.put_u8(channel.index() as u8);
                buffer.put_u64_le(*offset);
                buffer.put_u32_le(*length);
                buffer.put_u32_le(*crc);
            }
            Body::Note(note) => serde_json::to_writer(&mut *buffer, note).expect("notes are plain data"),
            Body::Remark(remark) => serde_json::to_writer(&mut *buffer, remark).expect("remarks are plain data"),
        }
        let content = start + PREFIX;
        let length = u32::try_from(buffer.len() - content).expect("notes are far below 4 GiB");
        let crc = crc32fast::hash(&buffer[content..]);
        (&mut buffer[start..]).put_u32_le(length);
        (&mut buffer[start + 4..]).put_u32_le(crc);
    }

    /// The number of the event it is, if it is one.
    #[must_use]
    pub fn event(&self) -> Option<u64> {
        (!matches!(self.body, Body::Remark(_))).then_some(self.seq)
    }
}

/// The frame at the beginning of `bytes`, and its length in bytes. Never panics, never allocates more than the bytes given.
///
/// # Errors
/// [`Undecodable`] when there is none.
pub fn decode(bytes: &[u8]) -> Result<(Frame, usize), Undecodable> {
    let mut rest = bytes;
    let length = rest.try_get_u32_le().map_err(|_| Undecodable::Cut)? as usize;
    if !(FIXED..=MAX_LENGTH).contains(&length) {
        return Err(Undecodable::Damaged);
    }
    let crc = rest.try_get_u32_le().map_err(|_| Undecodable::Cut)?;
    let content = rest.get(..length).ok_or(Undecodable::Cut)?;
    if !(1..=3).contains(&content[0]) || crc32fast::hash(content) != crc {
        return Err(Undecodable::Damaged);
    }
    let frame = decode_content(content).ok_or(Undecodable::Damaged)?;
    Ok((frame, PREFIX + length))
}

fn decode_content(mut content: &[u8]) -> Option<Frame> {
    let kind = content.try_get_u8().ok()?;
    let seq = content.try_get_u64_le().ok()?;
    let time = Timestamp::from_nanosecond(content.try_get_i64_le().ok()?.into()).ok()?;
    let body = match kind {
        1 if content.len() == OUTPUT => {
            let channel = *Channel::ALL.get(usize::from(content.get_u8()))?;
            let (offset, length, crc) = (content.get_u64_le(), content.get_u32_le(), content.get_u32_le());
            offset.checked_add(length.into())?;
            Body::Output { channel, offset, length, crc }
        }
        2 => Body::Note(serde_json::from_slice(content).ok()?),
        3 => Body::Remark(serde_json::from_slice(content).ok()?),
        _ => return None,
    };
    Some(Frame { seq, time, body })
}

/// The good frames of a piece of a log file, each with its position in it, whatever lies between them.
pub(super) struct Frames<'a> {
    bytes: &'a [u8],
    position: usize,
    newest: u64,
}

impl<'a> Frames<'a> {
    /// Frames whose events come behind event `newest`.
    pub(super) fn behind(newest: u64, bytes: &'a [u8]) -> Frames<'a> {
        Frames { bytes, position: 0, newest }
    }

    fn is_in_order(&self, frame: &Frame) -> bool {
        match frame.event() {
            Some(seq) => seq > self.newest,
            None => frame.seq >= self.newest,
        }
    }
}

impl Iterator for Frames<'_> {
    type Item = (Range<usize>, Frame);

    fn next(&mut self) -> Option<(Range<usize>, Frame)> {
        for start in self.position..self.bytes.len() {
            let Ok((frame, length)) = decode(&self.bytes[start..]) else { continue };
            if self.is_in_order(&frame) {
                self.position = start + length;
                self.newest = frame.seq;
                return Some((start..self.position, frame));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::execution::event::{Gap, GapReason};

    fn any_frame() -> impl Strategy<Value = Frame> {
        let body = prop_oneof![
            (0..3usize, any::<u32>(), any::<u32>(), any::<u32>()).prop_map(|(channel, offset, length, crc)| {
                Body::Output { channel: Channel::ALL[channel], offset: offset.into(), length, crc }
            }),
            any::<(u64, u64)>().prop_map(|events| {
                let gap = Gap { events: Some(events), ranges: Vec::new(), reason: GapReason::ServerLost };
                Body::Note(Box::new(Note::Gap(gap)))
            }),
            any::<u64>().prop_map(|first| {
                Body::Remark(Box::new(Remark::Lost { first, ranges: [0..1, 5..u64::MAX, 2..2] }))
            }),
        ];
        (1..u64::MAX, any::<i64>(), body).prop_map(|(seq, time, body)| Frame {
            seq,
            time: Timestamp::from_nanosecond(time.into()).expect("64 bits of ns are in range"),
            body,
        })
    }

    fn encoded(frame: &Frame) -> Vec<u8> {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        bytes
    }

    proptest! {
        #[test]
        fn a_frame_survives_encoding(frame in any_frame()) {
            let bytes = encoded(&frame);
            prop_assert_eq!(decode(&bytes), Ok((frame, bytes.len())));
        }

        #[test]
        fn a_cut_frame_is_cut(frame in any_frame(), cut in any::<prop::sample::Index>()) {
            let bytes = encoded(&frame);
            prop_assert_eq!(decode(&bytes[..cut.index(bytes.len())]), Err(Undecodable::Cut));
        }

        #[test]
        fn a_flipped_bit_is_noticed(frame in any_frame(), at in any::<prop::sample::Index>(), bit in 0..8u8) {
            let mut bytes = encoded(&frame);
            let at = at.index(bytes.len());
            bytes[at] ^= 1u8 << bit;
            prop_assert!(decode(&bytes).is_err());
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), length in 0..120u32) {
            let _ = decode(&bytes);
            // The same behind a prefix that makes them plausible.
            let mut framed = length.to_le_bytes().to_vec();
            framed.extend(crc32fast::hash(bytes.get(..length as usize).unwrap_or_default()).to_le_bytes());
            framed.extend(&bytes);
            let _ = decode(&framed);
            let _ = Frames::behind(0, &framed).count();
        }

        #[test]
        fn frames_behind_garbage_are_found(frames in prop::collection::vec(any_frame(), 2..6), garbage in prop::collection::vec(any::<u8>(), 1..60)) {
            let mut bytes = Vec::new();
            let mut expected = frames;
            for (index, frame) in expected.iter_mut().enumerate() {
                frame.seq = index as u64 + 1;
                frame.encode(&mut bytes);
                bytes.extend(&garbage);
            }
            let found: Vec<Frame> = Frames::behind(0, &bytes).map(|(_, frame)| frame).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
