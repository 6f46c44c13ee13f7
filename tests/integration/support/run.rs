//! Requests, and what comes of them.

use cc_executor::proto::execution_event::Event;
use cc_executor::proto::{self, Channel, ExecuteRequest, ExecutionEvent, ExecutionOptions, Outcome, execute_request};
use tokio_stream::{Stream, StreamExt};
use tonic::Status;

use super::protocol::{self, Part};

/// A request to run `script` by sh.
pub(crate) fn shell(script: impl Into<String>) -> ExecuteRequest {
    let shell = proto::Shell { script: script.into(), interpreter: "sh".to_owned() };
    ExecuteRequest { command: Some(execute_request::Command::Shell(shell)), ..ExecuteRequest::default() }
}

/// A request to run a program.
pub(crate) fn argv(program: &str, args: &[&str]) -> ExecuteRequest {
    let args = args.iter().map(|arg| (*arg).to_owned()).collect();
    let argv = proto::Argv { program: program.to_owned(), args };
    ExecuteRequest { command: Some(execute_request::Command::Argv(argv)), ..ExecuteRequest::default() }
}

/// Requests put together in one line.
pub(crate) trait With: Sized {
    fn id(self, id: &str) -> Self;
    fn options(self, options: ExecutionOptions) -> Self;
    fn create(self) -> proto::CreateExecutionRequest;
}

impl With for ExecuteRequest {
    fn id(mut self, id: &str) -> ExecuteRequest {
        self.execution_id = id.to_owned();
        self
    }

    fn options(mut self, options: ExecutionOptions) -> ExecuteRequest {
        self.options = Some(options);
        self
    }

    /// The same run without following it.
    fn create(self) -> proto::CreateExecutionRequest {
        use proto::create_execution_request::Command;
        proto::CreateExecutionRequest {
            execution_id: self.execution_id,
            command: self.command.map(|command| match command {
                execute_request::Command::Argv(argv) => Command::Argv(argv),
                execute_request::Command::Shell(shell) => Command::Shell(shell),
            }),
            options: self.options,
            validate_only: false,
        }
    }
}

/// Both streams of events, as events.
pub(crate) trait HasEvent {
    fn event(self) -> ExecutionEvent;
}

impl HasEvent for proto::ExecuteResponse {
    fn event(self) -> ExecutionEvent {
        self.event.expect("every response has an event")
    }
}

impl HasEvent for proto::AttachResponse {
    fn event(self) -> ExecutionEvent {
        self.event.expect("every response has an event")
    }
}

/// A stream of events, collected or looked through.
pub(crate) struct Events<S> {
    stream: S,
    pub(crate) seen: Vec<ExecutionEvent>,
}

impl<S, R> Events<S>
where
    S: Stream<Item = Result<R, Status>> + Unpin,
    R: HasEvent,
{
    pub(crate) fn of(stream: S) -> Events<S> {
        Events { stream, seen: Vec::new() }
    }

    /// The next event; `None` when the stream ended with OK.
    pub(crate) async fn next(&mut self) -> Result<Option<ExecutionEvent>, Status> {
        let next = tokio::time::timeout(super::PATIENCE, self.stream.next()).await.expect("something happens in time");
        let event = next.transpose()?.map(HasEvent::event);
        self.seen.extend(event.clone());
        Ok(event)
    }

    /// The first event from here on of which `pick` makes something.
    pub(crate) async fn until<T>(&mut self, mut pick: impl FnMut(&Event) -> Option<T>) -> T {
        // Keepalives must not keep the wait alive.
        let give_up = tokio::time::Instant::now() + super::PATIENCE;
        loop {
            assert!(tokio::time::Instant::now() < give_up, "it never came; seen: {:?}", self.seen);
            let event = self.next().await.expect("the stream works").expect("the stream goes on");
            if let Some(found) = event.event.as_ref().and_then(&mut pick) {
                return found;
            }
        }
    }

    /// Reads to the end, which must be OK, and checks the protocol.
    #[expect(clippy::wrong_self_convention, reason = "it reads on to the end; nothing is converted")]
    pub(crate) async fn to_end(mut self) -> Seen {
        while self.next().await.expect("the stream ends with OK").is_some() {}
        protocol::check(&self.seen, Part::Some);
        Seen(self.seen)
    }
}

/// All events of a stream.
pub(crate) struct Seen(pub(crate) Vec<ExecutionEvent>);

impl Seen {
    pub(crate) fn kinds(&self) -> impl Iterator<Item = &Event> {
        self.0.iter().filter_map(|event| event.event.as_ref())
    }

    /// Holds the stream to the stricter rules of one that began at the start and left nothing out.
    pub(crate) fn whole(self) -> Seen {
        protocol::check(&self.0, Part::Whole);
        self
    }

    /// The numbers of all events that have one.
    pub(crate) fn seqs(&self) -> Vec<u64> {
        self.0.iter().filter_map(|event| event.cursor.map(|cursor| cursor.seq)).collect()
    }

    /// The run as it was when the stream began, and whether it existed before.
    pub(crate) fn accepted(&self) -> (&proto::Execution, bool) {
        match self.kinds().next() {
            Some(Event::Accepted(accepted)) => (accepted.execution.as_ref().expect("an execution"), accepted.attached),
            other => panic!("the first event is {other:?}"),
        }
    }

    /// Where output begins, in one channel.
    pub(crate) fn first_offset(&self, channel: Channel) -> Option<u64> {
        self.kinds().find_map(|event| match event {
            Event::Output(output) if output.channel() == channel => Some(output.offset),
            _ => None,
        })
    }

    /// What gaps say is missing of one channel, bytes.
    pub(crate) fn missing(&self, channel: Channel) -> u64 {
        self.kinds()
            .filter_map(|event| if let Event::Gap(gap) = event { Some(gap) } else { None })
            .flat_map(|gap| &gap.ranges)
            .filter(|range| range.channel == channel as i32)
            .map(|range| range.end - range.start)
            .sum()
    }

    /// What the outcome says of a channel.
    pub(crate) fn summary(&self, channel: Channel) -> &proto::ChannelSummary {
        let mut channels = self.outcome().channels.iter();
        channels.find(|summary| summary.channel() == channel).expect("the channel exists")
    }

    /// The bytes of one channel. That offsets go on without holes but announced gaps has been checked.
    pub(crate) fn bytes(&self, channel: Channel) -> Vec<u8> {
        let mut bytes = Vec::new();
        for event in self.kinds() {
            if let Event::Output(output) = event
                && output.channel() == channel
            {
                bytes.extend_from_slice(&output.data);
            }
        }
        bytes
    }

    pub(crate) fn stdout(&self) -> String {
        String::from_utf8(self.bytes(Channel::Stdout)).expect("UTF-8")
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8(self.bytes(Channel::Stderr)).expect("UTF-8")
    }

    /// The outcome, which must be the very last event.
    pub(crate) fn outcome(&self) -> &Outcome {
        // An ended run's last event is part of the replay, so only `live` may come behind it.
        let last = self.0.iter().rev().find(|event| !matches!(event.event, Some(Event::Live(_))));
        match last.and_then(|event| event.event.as_ref()) {
            Some(Event::Completed(completed)) => completed.outcome.as_ref().expect("an outcome"),
            other => panic!("the last event is {other:?}"),
        }
    }

    /// The exit code.
    pub(crate) fn exit_code(&self) -> i32 {
        match &self.outcome().ending {
            Some(proto::outcome::Ending::ExitCode(code)) => *code,
            other => panic!("it ended with {other:?}"),
        }
    }
}
