//! Standard input as an offset-idempotent stream: repeats are harmless, holes are refused, the window is bounded. Pure.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// How much already delivered input is remembered to compare repeats with.
const MEMORY: usize = 64 << 10;

/// Input between the callers who write it and the process that reads it.
#[derive(Debug)]
pub struct Input {
    window: usize,
    /// Accepted, not yet taken by the process.
    pending: VecDeque<Bytes>,
    pending_bytes: usize,
    /// The last bytes accepted, at most [`MEMORY`]; they end at `accepted`.
    recent: BytesMut,
    accepted: u64,
    eof: bool,
    closed: bool,
}

/// A write, as one caller sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The offset of the first byte; `None` is behind all input so far.
    pub offset: Option<u64>,
    /// The bytes.
    pub data: Bytes,
    /// Whether input ends behind them.
    pub eof: bool,
}

/// How far input has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The offset wanted next.
    pub next_offset: u64,
    /// Bytes that were new.
    pub accepted_bytes: u64,
}

/// Why a write was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// It would leave a hole.
    #[error("input at offset {offset} would leave a hole: the next offset is {next_offset}")]
    Hole {
        /// Where it was to go.
        offset: u64,
        /// Where input stands.
        next_offset: u64,
    },
    /// It repeats an offset with other bytes.
    #[error("the bytes at offset {offset} differ from those written before")]
    Mismatch {
        /// The first differing byte.
        offset: u64,
    },
    /// The process has not taken enough yet.
    #[error("the input window of {window} bytes is full")]
    WindowFull {
        /// Its size.
        window: usize,
        /// Where input stands.
        next_offset: u64,
    },
    /// Input has ended, or never was open.
    #[error("standard input is not open")]
    NotOpen,
}

impl Input {
    /// Open input that holds at most `window` bytes for the process.
    #[must_use]
    pub fn open(window: usize) -> Input {
        Input {
            window,
            pending: VecDeque::new(),
            pending_bytes: 0,
            recent: BytesMut::new(),
            accepted: 0,
            eof: false,
            closed: false,
        }
    }

    /// Input that never was open.
    #[must_use]
    pub fn none() -> Input {
        Input { closed: true, ..Input::open(0) }
    }

    /// Takes what fits of a write.
    pub fn accept(&mut self, chunk: &Chunk) -> Result<Progress, InputError> {
        let offset = chunk.offset.unwrap_or(self.accepted);
        if self.closed {
            return Err(InputError::NotOpen);
        }
        if offset > self.accepted {
            return Err(InputError::Hole { offset, next_offset: self.accepted });
        }
        let known = (self.accepted - offset).min(chunk.data.len() as u64) as usize;
        self.compare(offset, &chunk.data[..known])?;
        let new = chunk.data.slice(known..);
        if self.eof {
            return if new.is_empty() { Ok(self.progress(0)) } else { Err(InputError::NotOpen) };
        }
        let taken = new.slice(..new.len().min(self.window - self.pending_bytes));
        if taken.is_empty() && !new.is_empty() {
            return Err(self.window_full());
        }
        self.eof = chunk.eof && taken.len() == new.len();
        self.take(taken.clone());
        Ok(self.progress(taken.len() as u64))
    }

    /// What a writer is told for whom there is no room now.
    #[must_use]
    pub fn window_full(&self) -> InputError {
        InputError::WindowFull { window: self.window, next_offset: self.accepted }
    }

    fn take(&mut self, data: Bytes) {
        if data.is_empty() {
            return;
        }
        self.accepted += data.len() as u64;
        self.recent.extend_from_slice(&data[data.len().saturating_sub(MEMORY)..]);
        if self.recent.len() > MEMORY {
            let excess = self.recent.len() - MEMORY;
            self.recent = BytesMut::from(&self.recent[excess..]);
        }
        self.pending_bytes += data.len();
        self.pending.push_back(data);
    }

    /// Compares repeated bytes with those remembered; older ones are taken on trust.
    fn compare(&self, offset: u64, repeated: &[u8]) -> Result<(), InputError> {
        let remembered_from = self.accepted - self.recent.len() as u64;
        let skip = remembered_from.saturating_sub(offset).min(repeated.len() as u64) as usize;
        let start = (offset + skip as u64).saturating_sub(remembered_from) as usize;
        let difference =
            repeated[skip..].iter().zip(&self.recent[start.min(self.recent.len())..]).position(|(new, old)| new != old);
        match difference {
            Some(at) => Err(InputError::Mismatch { offset: offset + (skip + at) as u64 }),
            None => Ok(()),
        }
    }

    fn progress(&self, accepted_bytes: u64) -> Progress {
        Progress { next_offset: self.accepted, accepted_bytes }
    }

    /// The next bytes for the process.
    #[must_use]
    pub fn front(&self) -> Option<&Bytes> {
        self.pending.front()
    }

    /// The process took `count` bytes of [`Input::front`].
    pub fn consume(&mut self, count: usize) {
        if let Some(front) = self.pending.front_mut() {
            let count = count.min(front.len());
            self.pending_bytes -= count;
            bytes::Buf::advance(front, count);
            if front.is_empty() {
                self.pending.pop_front();
            }
        }
    }

    /// All input was taken and there will be no more.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.closed || (self.eof && self.pending.is_empty())
    }

    /// The process will read no more: what waits is dropped, what comes is refused.
    pub fn close(&mut self) {
        self.closed = true;
        self.pending.clear();
        self.pending_bytes = 0;
    }

    /// The offset wanted next, while input is open.
    #[must_use]
    pub fn next_offset(&self) -> Option<u64> {
        (!self.closed && !self.eof).then_some(self.accepted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chunk(offset: Option<u64>, data: &[u8], eof: bool) -> Chunk {
        Chunk { offset, data: Bytes::copy_from_slice(data), eof }
    }

    #[test]
    fn repeats_are_ignored_and_must_be_the_same() {
        let mut input = Input::open(100);
        input.accept(&chunk(Some(0), b"hello", false)).unwrap();
        let repeat = input.accept(&chunk(Some(2), b"llo!", false)).unwrap();
        assert_eq!(repeat, Progress { next_offset: 6, accepted_bytes: 1 });
        assert_eq!(input.accept(&chunk(Some(0), b"hexlo", false)), Err(InputError::Mismatch { offset: 2 }));
    }

    #[test]
    fn holes_and_a_full_window_are_refused() {
        let mut input = Input::open(4);
        assert_eq!(input.accept(&chunk(Some(1), b"x", false)), Err(InputError::Hole { offset: 1, next_offset: 0 }));
        assert_eq!(input.accept(&chunk(None, b"abcdef", true)).unwrap().accepted_bytes, 4);
        assert!(matches!(input.accept(&chunk(Some(4), b"ef", true)), Err(InputError::WindowFull { .. })));
        input.consume(4);
        assert!(!input.is_finished(), "eof must not overtake bytes that did not fit");
        input.accept(&chunk(Some(4), b"ef", true)).unwrap();
        input.consume(2);
        assert!(input.is_finished());
        assert_eq!(
            input.accept(&chunk(Some(4), b"ef", true)).unwrap().accepted_bytes,
            0,
            "the last write may be repeated"
        );
        assert_eq!(input.accept(&chunk(None, b"more", false)), Err(InputError::NotOpen));
    }

    proptest! {
        /// A caller that sends any prefix again at any time, in any pieces, delivers exactly its bytes.
        #[test]
        fn the_process_gets_exactly_the_bytes(data in prop::collection::vec(any::<u8>(), 0..300),
                                              steps in prop::collection::vec((0usize..300, 0usize..80, 0usize..50), 0..60)) {
            let mut input = Input::open(40);
            let mut got = Vec::new();
            let drain = |input: &mut Input, got: &mut Vec<u8>, most: usize| {
                if let Some(front) = input.front().cloned() {
                    let count = most.min(front.len());
                    got.extend_from_slice(&front[..count]);
                    input.consume(count);
                }
            };
            for (back, length, read) in steps {
                let next = input.next_offset().unwrap() as usize;
                let start = next.saturating_sub(back).min(data.len());
                let end = (start + length).min(data.len());
                let _full = input.accept(&chunk(Some(start as u64), &data[start..end], false));
                drain(&mut input, &mut got, read);
            }
            while !input.is_finished() {
                let next = input.next_offset().map_or(data.len(), |next| next as usize);
                let _full = input.accept(&chunk(Some(next as u64), &data[next..], true));
                drain(&mut input, &mut got, 1000);
            }
            prop_assert_eq!(got, data);
        }
    }
}
