//! A run's log as a stream of wire events: replay, then live, with signs of life in between.
//!
//! One task for each watcher pulls from the log and pushes into a channel of two events. A watcher that takes nothing
//! costs its task and those two; after a while it is cut, with the cursor to resume from as the last thing it gets.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::Status;

use super::convert::{fault, span, timestamp};
use super::status;
use crate::execution::event::{Channel, Cursor, Event, EventKind, Note};
use crate::execution::handle::Follower;
use crate::execution::log::{From, Item, Log, ReadOptions, Reader};
use crate::execution::outcome::Outcome;
use crate::execution::{ExecutionId, Snapshot};
use crate::proto::{self, execution_event};
use crate::supervisor::{Fault, Run};

/// How a stream behaves.
#[derive(Clone, Debug)]
pub(super) struct Manner {
    pub(super) keepalive: Duration,
    pub(super) max_output_bytes: usize,
}

impl Manner {
    pub(super) fn parse(wire: Option<proto::StreamOptions>) -> Result<Manner, Fault> {
        let wire = wire.unwrap_or_default();
        let keepalive = super::convert::duration(wire.keepalive_interval, "stream.keepalive_interval")?
            .unwrap_or(Duration::from_secs(15));
        if !(Duration::from_secs(5)..=Duration::from_secs(60)).contains(&keepalive) {
            return Err(fault("stream.keepalive_interval", "must be 5 s to 60 s"));
        }
        let max_output_bytes = if wire.max_output_bytes == 0 { 64 << 10 } else { wire.max_output_bytes };
        if !(4 << 10..=256 << 10).contains(&max_output_bytes) {
            return Err(fault("stream.max_output_bytes", "must be 4,096 to 262,144"));
        }
        let max_output_bytes = usize::try_from(max_output_bytes).expect("at most 262,144");
        Ok(Manner { keepalive, max_output_bytes })
    }
}

/// What a watcher wants to see.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) from: From,
    pub(super) follow: bool,
    pub(super) channels: Option<Vec<Channel>>,
    pub(super) strict: bool,
    pub(super) manner: Manner,
}

impl Wanted {
    /// Everything, from the start to the end.
    pub(super) fn all(manner: Manner) -> Wanted {
        Wanted { from: From::Start, follow: true, channels: None, strict: false, manner }
    }
}

/// A stream of events; each response type wraps it.
pub(super) struct Events {
    events: mpsc::Receiver<proto::ExecutionEvent>,
    last_word: Arc<OnceLock<Status>>,
    ended: bool,
}

impl Stream for Events {
    type Item = Result<proto::ExecutionEvent, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        match self.events.poll_recv(context) {
            Poll::Ready(Some(event)) => Poll::Ready(Some(Ok(event))),
            Poll::Ready(None) => {
                self.ended = true;
                Poll::Ready(self.last_word.get().cloned().map(Err))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

/// A watcher at work.
struct Watcher {
    run: Run,
    id: ExecutionId,
    reader: Reader,
    follow: bool,
    manner: Manner,
    stall: Duration,
    events: mpsc::Sender<proto::ExecutionEvent>,
    last_word: Arc<OnceLock<Status>>,
    /// The newest event handed over.
    cursor: Option<Cursor>,
    told_live: bool,
    saw_completed: bool,
    _following: Option<Follower>,
}

/// The watcher is gone, or was told why it is cut.
struct Gone;

/// Follows a run. Fails when the log does not have what is wanted; everything later arrives in the stream.
pub(super) fn follow(
    tasks: &tokio_util::task::TaskTracker,
    run: Run,
    log: &Log,
    snapshot: Snapshot,
    attached: bool,
    wanted: Wanted,
    stall: Duration,
) -> Result<Events, Status> {
    let options = ReadOptions {
        channels: wanted.channels,
        max_output_bytes: wanted.manner.max_output_bytes,
        strict: wanted.strict,
    };
    let reader = log.read(within(wanted.from, &run, log), options)?;
    let following = match &run {
        Run::Live(execution) if wanted.follow => Some(execution.follow()),
        Run::Live(_) | Run::Ended(_) => None,
    };
    let (events, receiver) = mpsc::channel(2);
    let last_word = Arc::new(OnceLock::new());
    let watcher = Watcher {
        run,
        id: snapshot.id.clone(),
        reader,
        follow: wanted.follow,
        manner: wanted.manner,
        stall,
        events,
        last_word: Arc::clone(&last_word),
        cursor: None,
        told_live: false,
        saw_completed: false,
        _following: following,
    };
    let accepted = proto::Accepted { execution: Some(snapshot.into()), attached };
    tasks.spawn(watcher.watch(accepted));
    Ok(Events { events: receiver, last_word, ended: false })
}

/// Where to begin in the log of a run that has ended: never behind its last event, so that every stream ends with
/// `completed`. A cursor from before a crash may be ahead of what the crash left.
fn within(from: From, run: &Run, log: &Log) -> From {
    let last = log.last().seq;
    match (from, run) {
        (From::Now, Run::Ended(_)) => From::Cursor(Cursor::at(last.saturating_sub(1))),
        (From::Cursor(cursor), Run::Ended(_)) if cursor.seq >= last => From::Cursor(Cursor::at(last.saturating_sub(1))),
        _ => from,
    }
}

impl Watcher {
    async fn watch(mut self, accepted: proto::Accepted) {
        // Being gone has been dealt with where it was found.
        let _gone = self.tell_everything(accepted).await;
    }

    async fn tell_everything(&mut self, accepted: proto::Accepted) -> Result<(), Gone> {
        self.remark(execution_event::Event::Accepted(accepted)).await?;
        loop {
            let next = tokio::select! {
                next = tokio::time::timeout(self.manner.keepalive, self.reader.next()) => next,
                () = self.events.closed() => return Err(Gone),
            };
            match next {
                Err(_silence) => self.keepalive().await?,
                Ok(Ok(Item::Event(event) | Item::Gap(event))) => {
                    if self.follow && matches!(event.kind, EventKind::Note(Note::Completed(_))) {
                        self.live().await?; // nothing comes behind the end
                    }
                    self.event(event).await?;
                }
                Ok(Ok(Item::Live)) => {
                    self.live().await?;
                    if !self.follow {
                        return Ok(());
                    }
                }
                Ok(Ok(Item::End)) => return self.end().await,
                Ok(Err(error)) => {
                    let _only_word = self.last_word.set(error.into());
                    return Err(Gone);
                }
            }
        }
    }

    async fn event(&mut self, event: Event) -> Result<(), Gone> {
        let cursor = Cursor::at(event.seq);
        self.saw_completed |= matches!(event.kind, EventKind::Note(Note::Completed(_)));
        self.send(event.kind.into(), Some(cursor), event.time).await
    }

    /// Says once that the replay has ended.
    async fn live(&mut self) -> Result<(), Gone> {
        if std::mem::replace(&mut self.told_live, true) {
            return Ok(());
        }
        let cursor = self.cursor.map(Into::into);
        self.remark(execution_event::Event::Live(proto::Live { cursor })).await
    }

    /// The log has ended. When a crash cut it before its last entry, the record has the outcome.
    async fn end(&mut self) -> Result<(), Gone> {
        if self.saw_completed || !self.follow {
            return Ok(());
        }
        let outcome: Option<Outcome> = match &self.run {
            Run::Live(execution) => execution.snapshot().outcome,
            Run::Ended(record) => record.snapshot.outcome.clone(),
        };
        let Some(outcome) = outcome else {
            let _only_word = self.last_word.set(status::internal("a log ended without an outcome"));
            return Err(Gone);
        };
        self.remark(execution_event::Event::Completed(proto::Completed { outcome: Some(outcome.into()) })).await
    }

    async fn keepalive(&mut self) -> Result<(), Gone> {
        let keepalive = match &self.run {
            Run::Live(execution) => {
                let signs = execution.vital_signs();
                proto::Keepalive {
                    state: proto::ExecutionState::from(signs.state).into(),
                    last_cursor: Some(execution.log().last().into()),
                    idle: Some(span(signs.idle)),
                    elapsed: Some(span(signs.elapsed)),
                    remaining: signs.remaining.map(span),
                }
            }
            Run::Ended(record) => proto::Keepalive {
                state: proto::ExecutionState::Completed.into(),
                last_cursor: Some(record.snapshot.last_cursor.into()),
                ..proto::Keepalive::default()
            },
        };
        self.remark(execution_event::Event::Keepalive(keepalive)).await
    }

    /// Sends something that is not in the log.
    async fn remark(&mut self, event: execution_event::Event) -> Result<(), Gone> {
        self.send(event, None, Timestamp::now()).await
    }

    async fn send(
        &mut self,
        event: execution_event::Event,
        cursor: Option<Cursor>,
        time: Timestamp,
    ) -> Result<(), Gone> {
        let event = proto::ExecutionEvent {
            execution_id: self.id.to_string(),
            cursor: cursor.map(Into::into),
            time: Some(timestamp(time)),
            event: Some(event),
        };
        match tokio::time::timeout(self.stall, self.events.reserve()).await {
            Ok(Ok(place)) => {
                place.send(event);
                self.cursor = cursor.or(self.cursor);
                Ok(())
            }
            Ok(Err(_closed)) => Err(Gone),
            Err(_stalled) => {
                let _only_word = self.last_word.set(status::too_slow(self.cursor));
                Err(Gone)
            }
        }
    }
}
