//! ExecutionService.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use super::super::convert::{self, fault};
use super::super::follow::{Events, Manner, Wanted, follow};
use super::super::status;
use super::{Parts, after, filter, page_size};
use crate::execution::ExecutionId;
use crate::execution::handle::{Answer, Applied, Control, ControlError, Request as Order, terminal_answer};
use crate::execution::input::{Chunk, Progress};
use crate::execution::log::From as Origin;
use crate::history::page::PageToken;
use crate::proto;
use crate::proto::execution_service_server::ExecutionService;
use crate::supervisor::{Run, Started};

/// The longest WaitExecution waits.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// What ListExecutions shows when no filter is given.
const LIVE: &str = "state != COMPLETED";

/// The service.
pub(super) struct Service(pub(super) Parts);

/// The streams of Execute and Attach differ only in their message.
pub(super) struct Responses<R> {
    events: Events,
    wrap: fn(proto::ExecutionEvent) -> R,
}

impl<R> Stream for Responses<R> {
    type Item = Result<R, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let wrap = self.wrap;
        Pin::new(&mut self.events).poll_next(context).map(|next| next.map(|event| event.map(wrap)))
    }
}

#[tonic::async_trait]
impl ExecutionService for Service {
    type ExecuteStream = Responses<proto::ExecuteResponse>;
    type AttachStream = Responses<proto::AttachResponse>;

    async fn execute(&self, request: Request<proto::ExecuteRequest>) -> Result<Response<Self::ExecuteStream>, Status> {
        let request = request.into_inner();
        let id = convert::optional_execution_id(request.execution_id)?;
        let manner = Manner::parse(request.stream)?;
        let (command, digest) = convert::command(request.command, request.options)?;
        let (Started { run, existed }, _until_it_is_followed) =
            self.0.supervisor.start_followed(id, command, digest).await?;
        let events = self.follow(run, existed, Wanted::all(manner)).await?;
        Ok(Response::new(Responses { events, wrap: |event| proto::ExecuteResponse { event: Some(event) } }))
    }

    async fn create_execution(
        &self,
        request: Request<proto::CreateExecutionRequest>,
    ) -> Result<Response<proto::CreateExecutionResponse>, Status> {
        let request = request.into_inner();
        let id = convert::optional_execution_id(request.execution_id)?;
        let (command, digest) = convert::command(request.command.map(Into::into), request.options)?;
        let (snapshot, existed) = if request.validate_only {
            self.0.supervisor.validate(id, command, digest).await?
        } else {
            let Started { run, existed } = self.0.supervisor.start(id, command, digest).await?;
            (self.0.supervisor.snapshot(&run), existed)
        };
        Ok(Response::new(proto::CreateExecutionResponse { execution: Some(snapshot.into()), existed }))
    }

    async fn attach(&self, request: Request<proto::AttachRequest>) -> Result<Response<Self::AttachStream>, Status> {
        let request = request.into_inner();
        let run = self.find(request.execution_id).await?;
        let channels = request.channels.iter().map(|channel| convert::channel(*channel, "channels"));
        let channels: Vec<_> = channels.collect::<Result<_, _>>()?;
        let wanted = Wanted {
            from: origin(request.from)?,
            follow: request.follow,
            channels: Some(channels).filter(|channels| !channels.is_empty()),
            strict: request.strict_replay,
            manner: Manner::parse(request.stream)?,
        };
        let events = self.follow(run, true, wanted).await?;
        Ok(Response::new(Responses { events, wrap: |event| proto::AttachResponse { event: Some(event) } }))
    }

    async fn control(
        &self,
        request: Request<proto::ControlRequest>,
    ) -> Result<Response<proto::ControlResponse>, Status> {
        use proto::control_request::WaitFor;
        let request = request.into_inner();
        let id = convert::execution_id(request.execution_id)?;
        let wait_for =
            WaitFor::try_from(request.wait_for).map_err(|_| fault("wait_for", "is not a value of this enum"))?;
        if request.reason.len() > 1024 {
            return Err(fault("reason", "must be at most 1,024 bytes").into());
        }
        if request.request_id.len() > 128 {
            return Err(fault("request_id", "must be at most 128 bytes").into());
        }
        let order = Order {
            control: convert::control(request.action)?,
            expected: convert::states(&request.expected_states)?,
            reason: request.reason,
            wait_for_effect: wait_for == WaitFor::Effect,
        };
        let request_id = Some(request.request_id).filter(|id| !id.is_empty());
        let run = self.0.supervisor.find(&id).await?;
        let answer = ask(&run, order, request_id).await?;
        Ok(Response::new(self.controlled(&run, &answer)))
    }

    async fn write_stdin(
        &self,
        request: Request<proto::WriteStdinRequest>,
    ) -> Result<Response<proto::WriteStdinResponse>, Status> {
        let request = request.into_inner();
        let run = self.find(request.execution_id).await?;
        let chunk = request.chunk.ok_or_else(|| fault("chunk", "is required"))?;
        let progress = write(&run, convert::chunk(chunk), false).await?;
        Ok(Response::new(proto::WriteStdinResponse {
            next_offset: progress.next_offset,
            accepted_bytes: progress.accepted_bytes,
        }))
    }

    async fn stream_stdin(
        &self,
        request: Request<Streaming<proto::StreamStdinRequest>>,
    ) -> Result<Response<proto::StreamStdinResponse>, Status> {
        let mut pieces = request.into_inner();
        let mut target: Option<(ExecutionId, Run)> = None;
        let mut total = proto::StreamStdinResponse::default();
        while let Some(piece) = pieces.next().await {
            let proto::StreamStdinRequest { execution_id, chunk } = piece.map_err(broken_request)?;
            let (_, run) = match &target {
                Some((id, _)) if !execution_id.is_empty() && execution_id != id.as_str() => {
                    return Err(fault("execution_id", "must be the same in every message").into());
                }
                Some(target) => target,
                None => {
                    let id = convert::execution_id(execution_id)?;
                    let run = self.0.supervisor.find(&id).await?;
                    target.insert((id, run))
                }
            };
            let chunk = chunk.ok_or_else(|| fault("chunk", "is required"))?;
            let progress = write(run, convert::chunk(chunk), true).await?;
            total.next_offset = progress.next_offset;
            total.accepted_bytes += progress.accepted_bytes;
        }
        if target.is_none() {
            return Err(fault("execution_id", "is required in the first message").into());
        }
        Ok(Response::new(total))
    }

    async fn wait_execution(
        &self,
        request: Request<proto::WaitExecutionRequest>,
    ) -> Result<Response<proto::WaitExecutionResponse>, Status> {
        let request = request.into_inner();
        let patience = convert::duration(request.wait_timeout, "wait_timeout")?.unwrap_or(Duration::from_secs(60));
        if patience > LONGEST_WAIT {
            return Err(fault("wait_timeout", "must be at most 600 s; call again to wait longer").into());
        }
        let run = self.find(request.execution_id).await?;
        if let Run::Live(execution) = &run {
            let _in_time = tokio::time::timeout(patience, execution.completed()).await;
        }
        let execution = Some(self.0.supervisor.snapshot(&run).into());
        Ok(Response::new(proto::WaitExecutionResponse { execution }))
    }

    async fn get_execution(
        &self,
        request: Request<proto::GetExecutionRequest>,
    ) -> Result<Response<proto::GetExecutionResponse>, Status> {
        let run = self.find(request.into_inner().execution_id).await?;
        let execution = Some(self.0.supervisor.snapshot(&run).into());
        Ok(Response::new(proto::GetExecutionResponse { execution }))
    }

    async fn list_executions(
        &self,
        request: Request<proto::ListExecutionsRequest>,
    ) -> Result<Response<proto::ListExecutionsResponse>, Status> {
        let request = request.into_inner();
        let page_size = page_size(request.page_size)?;
        let filter = filter(if request.filter.trim().is_empty() { LIVE } else { &request.filter })?;
        let after = after("page_token", &request.page_token, &filter)?;
        let listing = self.0.supervisor.list(&filter, page_size, after).await?;
        Ok(Response::new(proto::ListExecutionsResponse {
            executions: listing.snapshots.into_iter().map(Into::into).collect(),
            next_page_token: listing.next.map(|key| PageToken::encode(&key, &filter)).unwrap_or_default(),
        }))
    }
}

impl Service {
    async fn find(&self, execution_id: String) -> Result<Run, Status> {
        let id = convert::execution_id(execution_id)?;
        Ok(self.0.supervisor.find(&id).await?)
    }

    async fn follow(&self, run: Run, attached: bool, wanted: Wanted) -> Result<Events, Status> {
        let log = self.0.supervisor.log(&run).await?;
        let snapshot = self.0.supervisor.snapshot(&run);
        follow(&self.0.watchers, run, &log, snapshot, attached, wanted, self.0.stall)
    }

    fn controlled(&self, run: &Run, answer: &Answer) -> proto::ControlResponse {
        use proto::control_response::Result as Wire;
        let result = match answer.result {
            Applied::Applied => Wire::Applied,
            Applied::AlreadyInState => Wire::AlreadyInState,
            Applied::Pending => Wire::Pending,
            Applied::AlreadyTerminal => Wire::AlreadyTerminal,
        };
        let snapshot = self.0.supervisor.snapshot(run);
        let method = match snapshot.containment {
            Some(_) => self.0.supervisor.host().containment().to_string(),
            None => "queue".to_owned(),
        };
        proto::ControlResponse {
            result: result.into(),
            execution: Some(snapshot.into()),
            method,
            processes: answer.processes,
        }
    }
}

/// Asks something of a run that may have ended.
async fn ask(run: &Run, order: Order, request_id: Option<String>) -> Result<Answer, ControlError> {
    match run {
        Run::Live(execution) => execution.control(order, request_id).await,
        Run::Ended(_) => terminal_answer(order.control.verb(), &order.expected),
    }
}

async fn write(run: &Run, chunk: Chunk, patient: bool) -> Result<Progress, Status> {
    let order = Order {
        control: Control::WriteStdin { chunk, patient },
        expected: Vec::new(),
        reason: String::new(),
        wait_for_effect: false,
    };
    let answer = ask(run, order, None).await?;
    Ok(answer.progress.expect("a write that was taken made progress"))
}

/// Where a replay begins.
fn origin(from: Option<proto::attach_request::From>) -> Result<Origin, Status> {
    use proto::attach_request::From;
    Ok(match from {
        None | Some(From::Start(_)) => Origin::Start,
        Some(From::Now(_)) => Origin::Now,
        Some(From::Cursor(cursor)) => Origin::Cursor(convert::cursor(cursor)?),
        Some(From::Offsets(offsets)) => Origin::Offsets([offsets.stdout, offsets.stderr, offsets.terminal]),
        Some(From::TailBytes(bytes)) => Origin::TailBytes(bytes),
    })
}

/// A request stream that broke: what the transport says of it, in our words.
fn broken_request(error: Status) -> Status {
    match error.code() {
        tonic::Code::OutOfRange => status::too_large(super::MAX_REQUEST_BYTES),
        tonic::Code::Internal => status::malformed(),
        tonic::Code::Unknown => Status::cancelled("the request stream broke off"),
        _ => error,
    }
}
