//! Feeding standard input of a run: as fast as it reads, every byte once, also over a connection that breaks.

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;
use tokio_stream::once;
use tonic::Status;
use tonic::transport::Channel;

use super::failure::Failure;
use super::patience::Patience;
use crate::proto::execution_service_client::ExecutionServiceClient;
use crate::proto::{StdinChunk, StreamStdinRequest};

/// The most that is read at once.
const PIECE: usize = 64 << 10;
/// The most that is sent at once, and kept until the server has it.
const CHUNK: usize = 1 << 20;

/// A run whose standard input is fed.
pub(super) struct Feed {
    client: ExecutionServiceClient<Channel>,
    id: String,
    /// Bytes the server has.
    offset: u64,
}

impl Feed {
    /// Goes on at this offset of the run's input.
    pub(super) fn new(client: ExecutionServiceClient<Channel>, id: String, offset: u64) -> Feed {
        Feed { client, id, offset }
    }

    /// Feeds all of it and, with `close`, the end of file. Says how many bytes the run's input has now.
    ///
    /// Each chunk is sent with its offset and kept until the server has answered, so that sending it again is harmless. The
    /// server answers when there was room for it: that is the back-pressure. What can be read meanwhile is the next chunk.
    pub(super) async fn run(mut self, input: impl AsyncRead + Unpin, close: bool) -> Result<u64, Failure> {
        let (sender, pieces) = mpsc::channel(CHUNK / PIECE);
        let sent = async {
            // Gone with this block: nobody then reads for nothing.
            let mut pieces = pieces;
            while let Some(chunk) = waiting(&mut pieces).await {
                self.send(chunk, false).await?;
            }
            Ok(())
        };
        let (read, sent): (_, Result<(), Failure>) = tokio::join!(read_all(input, sender), sent);
        sent?;
        read?;
        if close {
            self.send(Bytes::new(), true).await?;
        }
        Ok(self.offset)
    }

    /// Sends one piece until the server has all of it.
    async fn send(&mut self, mut data: Bytes, eof: bool) -> Result<(), Failure> {
        let mut patience = Patience::default();
        loop {
            let chunk = StdinChunk { offset: Some(self.offset), data: data.clone(), eof };
            let request = StreamStdinRequest { execution_id: self.id.clone(), chunk: Some(chunk) };
            match self.client.stream_stdin(once(request)).await {
                Ok(response) => {
                    let next = response.into_inner().next_offset;
                    let taken = next.checked_sub(self.offset).and_then(|taken| usize::try_from(taken).ok());
                    let Some(taken) = taken.filter(|taken| *taken <= data.len()) else {
                        let hint = "somebody else writes to the input of this run";
                        return Err(Status::aborted(format!("the server has input up to byte {next}; {hint}")).into());
                    };
                    data = data.split_off(taken);
                    self.offset = next;
                    if data.is_empty() {
                        return Ok(());
                    }
                    if taken > 0 {
                        patience.renew();
                    } else {
                        patience.wait(Status::unavailable("the server takes no input")).await?;
                    }
                }
                Err(status) => patience.wait(status).await?,
            }
        }
    }
}

/// Reads to the end, or until nobody wants it any more.
async fn read_all(mut input: impl AsyncRead + Unpin, to: mpsc::Sender<BytesMut>) -> Result<(), Failure> {
    loop {
        let mut piece = BytesMut::with_capacity(PIECE);
        let read = tokio::select! {
            read = input.read_buf(&mut piece) => read,
            () = to.closed() => return Ok(()),
        };
        let read = read.map_err(|source| Failure::Io { what: "cannot read the input".to_owned(), source })?;
        if read == 0 || to.send(piece).await.is_err() {
            return Ok(());
        }
    }
}

/// All that was read since the last time; waits for something. `None` at the end.
async fn waiting(pieces: &mut mpsc::Receiver<BytesMut>) -> Option<Bytes> {
    let mut chunk = pieces.recv().await?;
    while chunk.len() + PIECE <= CHUNK {
        let Ok(piece) = pieces.try_recv() else { break };
        chunk.extend_from_slice(&piece);
    }
    Some(chunk.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::mock::{Answer, Asked, Mock};

    fn stdin(offset: u64, data: &str, eof: bool) -> Asked {
        Asked::Stdin { offset: Some(offset), data: data.as_bytes().to_vec(), eof }
    }

    async fn fed(answers: Vec<Answer>, close: bool) -> (Result<u64, Failure>, Vec<Asked>) {
        let mock = Mock::answering(answers).await;
        let end = Feed::new(mock.client.clone(), "a".to_owned(), 10).run(&b"hello"[..], close).await;
        (end, mock.asked())
    }

    #[tokio::test]
    async fn input_is_sent_until_the_server_has_it_then_closed() {
        let broken = Answer::Refused(Status::unavailable("reset"));
        let (end, asked) = fed(vec![broken, Answer::Taken(12), Answer::Taken(15), Answer::Taken(15)], true).await;
        assert_eq!(end.unwrap(), 15);
        let expected =
            [stdin(10, "hello", false), stdin(10, "hello", false), stdin(12, "llo", false), stdin(15, "", true)];
        assert_eq!(asked, expected);
    }

    #[tokio::test]
    async fn input_may_stay_open() {
        let (end, asked) = fed(vec![Answer::Taken(15)], false).await;
        assert_eq!(end.unwrap(), 15);
        assert_eq!(asked, [stdin(10, "hello", false)]);
    }

    #[tokio::test]
    async fn closed_input_ends_the_feed() {
        let (end, asked) = fed(vec![Answer::Refused(Status::failed_precondition("stdin is closed"))], true).await;
        assert_eq!(end.unwrap_err().to_string(), "stdin is closed");
        assert_eq!(asked.len(), 1);
    }

    #[tokio::test]
    async fn nothing_more_is_read_when_nobody_wants_it() {
        let mock = Mock::answering([Answer::Refused(Status::failed_precondition("stdin is closed"))]).await;
        // The other side stays open and silent: a read of it never ends.
        let (input, mut other) = tokio::io::duplex(64);
        tokio::io::AsyncWriteExt::write_all(&mut other, b"hello").await.unwrap();
        let end = Feed::new(mock.client.clone(), "a".to_owned(), 0).run(input, true).await;
        assert_eq!(end.unwrap_err().to_string(), "stdin is closed");
    }

    #[tokio::test]
    async fn another_writer_is_noticed() {
        let (end, _) = fed(vec![Answer::Taken(99)], true).await;
        assert!(end.unwrap_err().to_string().contains("somebody else writes"));
    }
}
