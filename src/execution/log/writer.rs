//! The writing side of a log, for the driver of a run. It refuses to know who reads.

use std::fs::File;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;

use super::Appended;
use super::core::Core;
use super::files::{Part, read_some};
use super::tail::BUFFER_BYTES;
use crate::execution::event::{Channel, Cursor, Note};
use crate::execution::outcome::ChannelSummary;

/// So much undigested output is digested on the spot, bytes.
const DIGEST_AT_ONCE_BYTES: usize = 64 << 10;

/// The only one that appends to a log. Dropped without [`Writer::seal`] the log ends as one whose writer was lost.
///
/// Its methods need a tokio runtime: what is appended is written behind, by a job that ends when nothing waits.
#[derive(Debug)]
pub struct Writer {
    core: Arc<Core>,
    /// To read what the child has written itself.
    adopted: [Option<Arc<File>>; 3],
}

impl Writer {
    pub(super) fn new(core: Arc<Core>) -> Writer {
        Writer { core, adopted: [None, None, None] }
    }

    /// Appends output; never waits. Small pieces that nobody has seen yet become one event. Call [`Writer::ready`] before
    /// reading more from the child, or memory is not bounded.
    pub fn output(&mut self, channel: Channel, data: Bytes) -> Appended {
        let appended = self.core.state().output(channel, data, Timestamp::now());
        self.core.has_grown();
        appended
    }

    /// Appends a note; never waits. Before `Note::Completed` a stored gap announces what the policy dropped.
    pub fn note(&mut self, note: Note) -> Cursor {
        let seq = self.core.state().note(note, Timestamp::now());
        self.core.has_grown();
        Cursor::at(seq)
    }

    /// This channel exists, even if no byte ever comes.
    pub fn declare(&mut self, channel: Channel) {
        self.core.state().channel(channel).exists = true;
    }

    /// Makes the file of a channel, for the child to append to; [`Writer::adopt`] then brings in what it writes. Blocks
    /// for as long as it takes to create a file.
    ///
    /// # Errors
    /// When it cannot be created, or exists.
    pub fn file(&mut self, channel: Channel) -> io::Result<File> {
        let part = Part::Channel(channel);
        let child = self.core.files.create(part, true)?;
        self.adopted[channel.index()] = Some(Arc::new(self.core.files.open(part)?));
        let mut state = self.core.state();
        let channel = state.channel(channel);
        (channel.exists, channel.is_adopted) = (true, true);
        Ok(child)
    }

    /// Appends what the child has written to the channel's file since, at most 64 KiB. Returns how many bytes that were; 0
    /// when there is nothing new, or [`Writer::file`] was never called. Waits while too much is not yet digested.
    ///
    /// Cancel-safe: nothing is skipped.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn adopt(&mut self, channel: Channel) -> io::Result<(usize, Appended)> {
        let Some(file) = self.adopted[channel.index()].clone() else { return Ok((0, Appended::Stored)) };
        self.ready().await;
        let position = self.core.state().totals()[channel.index()];
        let read = move || {
            let mut buffer = vec![0; BUFFER_BYTES];
            let length = read_some(&file, &mut buffer, position)?;
            buffer.truncate(length);
            Ok::<_, io::Error>(Bytes::from(buffer))
        };
        let data = tokio::task::spawn_blocking(read).await.map_err(io::Error::other)??;
        let length = data.len();
        Ok((length, self.output(channel, data)))
    }

    /// Output has been forgotten, or was not kept, because the room for it is used up.
    #[must_use]
    pub fn has_dropped(&self) -> bool {
        self.core.state().has_dropped()
    }

    /// Waits until more output may be appended: until the disk and the digest have caught up, under
    /// `OutputPolicy::Block` also until there is room and the disk works. Cancel-safe.
    pub async fn ready(&self) {
        self.core.until(|state| state.is_ready()).await;
    }

    /// Whether [`Writer::ready`] would not wait.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.core.state().is_ready()
    }

    /// Waits until the room for output is used up under `OutputPolicy::Block`: from then on nothing is read. Cancel-safe.
    pub async fn full(&self) {
        self.core.until(|state| state.is_full()).await;
    }

    /// Waits until the disk's last error is another one than `known`, or gone, and returns it. Cancel-safe.
    pub async fn failure_changed(&self, known: Option<&str>) -> Option<String> {
        self.core.until(|state| state.failure() != known).await;
        self.failure()
    }

    /// The disk's last error; `None` when all is well.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.core.state().failure().map(str::to_owned)
    }

    /// The channels that exist; without digests.
    #[must_use]
    pub fn summaries(&self) -> Vec<ChannelSummary> {
        self.core.state().summaries(false)
    }

    /// The channels that exist, with the SHA-256 over all their bytes so far. Waits for the digest, not for the disk.
    /// Cancel-safe.
    pub async fn digests(&mut self) -> Vec<ChannelSummary> {
        if self.core.state().digest_at_once(DIGEST_AT_ONCE_BYTES) {
            return self.core.state().summaries(true);
        }
        self.core.hurry();
        self.core.until(|state| state.is_digested()).await;
        self.core.state().summaries(true)
    }

    /// Waits until everything appended so far is on disk, or the disk has failed. Cancel-safe.
    pub async fn flush(&mut self) {
        let (newest, failures) = {
            let state = self.core.state();
            (state.tail.end().seq - 1, state.failures())
        };
        self.core.hurry();
        self.core.until(|state| state.spooled() >= newest || state.failures() > failures || state.is_finished).await;
    }

    /// Ends the log: readers end after the last event at once. Waits until it is written, memory is released and files are
    /// closed; a failing disk is given a few seconds. Dropping the future changes nothing but that nobody waits.
    pub async fn seal(self) {
        self.core.state().end(true, Timestamp::now());
        self.core.has_grown();
        self.core.hurry();
        self.core.until(|state| state.is_finished).await;
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.core.state().end(false, Timestamp::now());
        if tokio::runtime::Handle::try_current().is_ok() {
            self.core.has_grown(); // else nobody is left to write or to read
        }
    }
}
