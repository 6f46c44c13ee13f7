//! Reads the raw bytes of one channel, for history. It refuses to skip anything.

use bytes::Bytes;

use super::{From, Item, Log, LogError, ReadOptions, Reader};
use crate::execution::event::{Channel, EventKind};

/// The bytes of one channel, up to what was there when it was made.
#[derive(Debug)]
pub struct ChannelReader {
    reader: Reader,
    left: u64,
}

impl ChannelReader {
    pub(super) fn new(log: &Log, channel: Channel, offset: u64, limit: Option<u64>) -> Result<ChannelReader, LogError> {
        {
            let state = log.core.state();
            let (valid, total) = (state.valid(), state.totals()[channel.index()]);
            if offset >= valid.offsets[channel.index()].end && offset < total {
                return Err(LogError::OutOfRange { valid }); // it was written, and not kept
            }
        }
        let mut offsets = [0; 3];
        offsets[channel.index()] = offset;
        let options = ReadOptions { channels: Some(vec![channel]), strict: true, ..ReadOptions::default() };
        Ok(ChannelReader { reader: log.read(From::Offsets(offsets), options)?, left: limit.unwrap_or(u64::MAX) })
    }

    /// The next bytes, at most 64 KiB, and the offset of the first; `None` at the end. Cancel-safe.
    ///
    /// # Errors
    /// [`LogError::OutOfRange`] where bytes have been forgotten, [`LogError::Corrupt`] where they are damaged,
    /// [`LogError::Io`].
    pub async fn next(&mut self) -> Result<Option<(u64, Bytes)>, LogError> {
        while self.left > 0 {
            match self.reader.next().await? {
                Item::Event(event) => {
                    if let EventKind::Output { offset, mut data, .. } = event.kind {
                        data.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
                        self.left -= data.len() as u64;
                        return Ok(Some((offset, data)));
                    }
                }
                Item::Live | Item::End => self.left = 0,
                Item::Gap(_) => return Err(LogError::Corrupt),
            }
        }
        Ok(None)
    }
}
