//! Following a run to its end, through broken connections. Used by `run`, `attach` and `logs`.
//!
//! A stream that breaks before `completed` says nothing about the run, whatever its code: it is taken up again behind the
//! last event that was seen. Nothing is delivered twice, and an ending is never guessed.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use bytes::Buf;
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, StreamExt};
use tokio::time::{Instant, Sleep};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tracing::info;

use super::failure::{Failure, sentence};
use super::patience::Patience;
use crate::proto::execution_event::Event;
use crate::proto::execution_service_client::ExecutionServiceClient;
use crate::proto::{AttachRequest, Cursor, ExecuteRequest, ExecutionEvent, Output, StreamOptions, attach_request};

/// Silence on a stream after which it counts as broken: four of the usual keepalives.
const SILENCE: Duration = Duration::from_secs(60);
/// The most output an event may carry that we follow: the most there is, since we only copy it.
pub(super) const STREAM: StreamOptions = StreamOptions { keepalive_interval: None, max_output_bytes: 256 << 10 };

/// The events of one run, each once, in order.
pub(super) struct Follower {
    client: ExecutionServiceClient<Channel>,
    start: Start,
    link: Link,
    patience: Patience,
    /// After so long without a keepalive the stream counts as broken.
    silence: Duration,
    /// Behind the last event seen.
    cursor: Option<Cursor>,
    /// The next byte wanted of each channel.
    offsets: BTreeMap<i32, u64>,
}

/// How the first stream is opened.
enum Start {
    Execute(Box<ExecuteRequest>),
    Attach(Box<AttachRequest>),
}

type Events = BoxStream<'static, Result<ExecutionEvent, Status>>;

/// The stream in use. Everything that is waited for is kept here, which makes `next` cancel-safe.
enum Link {
    Opening(BoxFuture<'static, Result<Events, Status>>),
    Open { events: Events, heard: Instant },
    Waiting(Pin<Box<Sleep>>),
    Ended,
}

impl Follower {
    /// Starts a run and follows it. The request must name its id: only then is it safe to send it again.
    pub(super) fn execute(client: ExecutionServiceClient<Channel>, request: ExecuteRequest) -> Follower {
        Follower::new(client, Start::Execute(Box::new(request)))
    }

    /// Follows a run that exists.
    pub(super) fn attach(client: ExecutionServiceClient<Channel>, request: AttachRequest) -> Follower {
        Follower::new(client, Start::Attach(Box::new(request)))
    }

    fn new(client: ExecutionServiceClient<Channel>, start: Start) -> Follower {
        let asked = match &start {
            Start::Execute(request) => request.stream,
            Start::Attach(request) => request.stream,
        };
        let keepalive = asked.and_then(|stream| stream.keepalive_interval).and_then(|every| every.try_into().ok());
        let mut follower = Follower {
            client,
            start,
            link: Link::Ended,
            patience: Patience::default(),
            silence: keepalive.map_or(SILENCE, |every: Duration| SILENCE.max(every.saturating_mul(4))),
            cursor: None,
            offsets: BTreeMap::new(),
        };
        follower.link = follower.open();
        follower
    }

    /// Another patience than the usual.
    #[cfg(test)]
    fn patience(self, patience: Patience) -> Follower {
        Follower { patience, ..self }
    }

    /// The next event; `None` behind `completed`, or behind what there was when the run is not followed.
    /// Cancel-safe: no event is lost when it is dropped.
    pub(super) async fn next(&mut self) -> Result<Option<ExecutionEvent>, Failure> {
        loop {
            let lost = match &mut self.link {
                Link::Ended => return Ok(None),
                Link::Waiting(until) => {
                    until.await;
                    self.link = self.open();
                    continue;
                }
                Link::Opening(opening) => match opening.await {
                    Ok(events) => {
                        self.link = Link::Open { events, heard: Instant::now() };
                        continue;
                    }
                    Err(status) => status,
                },
                Link::Open { events, heard } => {
                    match tokio::time::timeout_at(*heard + self.silence, events.next()).await {
                        Ok(Some(Ok(event))) => {
                            *heard = Instant::now();
                            if let Some(event) = self.take(event) {
                                return Ok(Some(event));
                            }
                            continue;
                        }
                        Ok(Some(Err(status))) => status,
                        Ok(None) => Status::unavailable("the stream ended before the run did"),
                        Err(_) => Status::unavailable("the server fell silent"),
                    }
                }
            };
            self.lost(&lost)?;
        }
    }

    /// Opens a stream: as asked at first, behind the last event later.
    fn open(&self) -> Link {
        let mut client = self.client.clone();
        let from = self.cursor.map(attach_request::From::Cursor);
        let attach = match (&self.start, self.cursor) {
            (Start::Execute(request), None) => {
                let request = request.as_ref().clone();
                return Link::Opening(Box::pin(async move {
                    let events = client.execute(request).await?.into_inner();
                    Ok(events.map(|event| present(event?.event)).boxed())
                }));
            }
            (Start::Execute(request), Some(_)) => AttachRequest {
                execution_id: request.execution_id.clone(),
                from,
                follow: true,
                stream: request.stream,
                ..AttachRequest::default()
            },
            (Start::Attach(request), None) => request.as_ref().clone(),
            (Start::Attach(request), Some(_)) => AttachRequest { from, ..request.as_ref().clone() },
        };
        Link::Opening(Box::pin(async move {
            let events = client.attach(attach).await?.into_inner();
            Ok(events.map(|event| present(event?.event)).boxed())
        }))
    }

    /// Notes where we are, and cuts off output that was delivered before.
    fn take(&mut self, mut event: ExecutionEvent) -> Option<ExecutionEvent> {
        self.patience.renew();
        if let Some(cursor) = event.cursor {
            self.cursor = Some(cursor);
        }
        if let Some(Event::Output(output)) = &mut event.event
            && !self.is_new(output)
        {
            return None;
        }
        match &event.event {
            Some(Event::Completed(_)) => self.link = Link::Ended,
            Some(Event::Live(live)) => {
                self.cursor = live.cursor.or(self.cursor);
                if !self.follows() {
                    self.link = Link::Ended;
                }
            }
            Some(Event::Gap(gap)) => {
                for range in &gap.ranges {
                    self.offsets.insert(range.channel, range.end);
                }
            }
            _ => {}
        }
        Some(event)
    }

    /// Cuts what is known off the output; whether anything is left.
    fn is_new(&mut self, output: &mut Output) -> bool {
        let wanted = self.offsets.entry(output.channel).or_insert(output.offset);
        let known = usize::try_from(wanted.saturating_sub(output.offset)).unwrap_or(usize::MAX);
        if known >= output.data.len() {
            return false;
        }
        output.data.advance(known);
        output.offset += known as u64;
        *wanted = output.offset + output.data.len() as u64;
        true
    }

    /// Waits before the next try, or gives up.
    fn lost(&mut self, status: &Status) -> Result<(), Failure> {
        let Some(wait) = self.patience.after(status) else {
            self.link = Link::Ended;
            return Err(if self.cursor.is_none() {
                Failure::from(status.clone())
            } else {
                Failure::Lost { id: self.id().to_owned(), cause: sentence(status) }
            });
        };
        info!(id = self.id(), code = ?status.code(), message = status.message(), ?wait, "lost the stream, attaching again");
        self.link = Link::Waiting(Box::pin(tokio::time::sleep(wait)));
        Ok(())
    }

    /// Whether a stream is open, or there is nothing more to come.
    pub(super) fn is_connected(&self) -> bool {
        matches!(self.link, Link::Open { .. } | Link::Ended)
    }

    fn id(&self) -> &str {
        match &self.start {
            Start::Execute(request) => &request.execution_id,
            Start::Attach(request) => &request.execution_id,
        }
    }

    fn follows(&self) -> bool {
        match &self.start {
            Start::Execute(_) => true,
            Start::Attach(request) => request.follow,
        }
    }
}

/// A response always holds an event.
fn present(event: Option<ExecutionEvent>) -> Result<ExecutionEvent, Status> {
    event.ok_or_else(|| Status::new(Code::DataLoss, "the server sent a response without an event"))
}

#[cfg(test)]
mod tests;
