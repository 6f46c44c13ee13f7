//! One client with all services, and the calls tests make all the time, in a line each.

use cc_executor::proto::attach_request::From;
use cc_executor::proto::control_request::Action;
use cc_executor::proto::execution_service_client::ExecutionServiceClient;
use cc_executor::proto::history_service_client::HistoryServiceClient;
use cc_executor::proto::server_service_client::ServerServiceClient;
use cc_executor::proto::{
    self, AttachRequest, AttachResponse, ExecuteRequest, ExecuteResponse, Execution, ExecutionState,
};
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::run::{Seen, With};
use super::{Events, Server, eventually};

/// All services over one connection.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) executions: ExecutionServiceClient<Channel>,
    pub(crate) history: HistoryServiceClient<Channel>,
    pub(crate) server: ServerServiceClient<Channel>,
}

impl Server {
    /// A connection of its own.
    pub(crate) async fn client(&self) -> Client {
        let channel = self.channel().await;
        Client {
            executions: ExecutionServiceClient::new(channel.clone()),
            history: HistoryServiceClient::new(channel.clone()).max_decoding_message_size(64 << 20),
            server: ServerServiceClient::new(channel),
        }
    }
}

/// Everything from the beginning to the end.
pub(crate) fn attach(id: &str) -> AttachRequest {
    AttachRequest { execution_id: id.to_owned(), follow: true, ..AttachRequest::default() }
}

/// Everything from there to the end.
pub(crate) fn attach_from(id: &str, from: From) -> AttachRequest {
    AttachRequest { from: Some(from), ..attach(id) }
}

/// Behind this event.
pub(crate) fn behind(seq: u64) -> From {
    From::Cursor(proto::Cursor { epoch: u64::from(seq > 0), seq })
}

impl Client {
    /// Starts a run and follows it.
    pub(crate) async fn execute(&self, request: ExecuteRequest) -> Events<Streaming<ExecuteResponse>> {
        Events::of(self.executions.clone().execute(request).await.expect("it is accepted").into_inner())
    }

    /// Runs to the end.
    pub(crate) async fn run(&self, request: ExecuteRequest) -> Seen {
        self.execute(request).await.to_end().await
    }

    /// Starts a run without following it.
    pub(crate) async fn create(&self, request: ExecuteRequest) -> Execution {
        let created = self.executions.clone().create_execution(request.create()).await.expect("it is accepted");
        created.into_inner().execution.expect("an execution")
    }

    pub(crate) async fn follow(&self, request: AttachRequest) -> Events<Streaming<AttachResponse>> {
        Events::of(self.executions.clone().attach(request).await.expect("it is accepted").into_inner())
    }

    /// Reads a run to the end.
    pub(crate) async fn attach(&self, request: AttachRequest) -> Seen {
        self.follow(request).await.to_end().await
    }

    pub(crate) async fn get(&self, id: &str) -> Execution {
        let request = proto::GetExecutionRequest { execution_id: id.to_owned() };
        self.executions.clone().get_execution(request).await.expect("it is there").into_inner().execution.expect("it")
    }

    /// Waits for the end of a run.
    pub(crate) async fn ended(&self, id: &str) -> Execution {
        let wait_timeout = Some(prost_types::Duration { seconds: 60, nanos: 0 });
        let request = proto::WaitExecutionRequest { execution_id: id.to_owned(), wait_timeout };
        let answer = self.executions.clone().wait_execution(request).await.expect("it is there").into_inner();
        let execution = answer.execution.expect("it");
        assert_eq!(execution.state(), ExecutionState::Completed);
        execution
    }

    /// Waits until the run is as `is_so` says.
    pub(crate) async fn until(&self, id: &str, is_so: impl Fn(&Execution) -> bool) -> Execution {
        eventually("the run gets there", async || Some(self.get(id).await).filter(|execution| is_so(execution))).await
    }

    pub(crate) async fn control(&self, id: &str, action: Action) -> Result<proto::ControlResponse, Status> {
        let request = proto::ControlRequest { execution_id: id.to_owned(), action: Some(action), ..Default::default() };
        self.executions.clone().control(request).await.map(tonic::Response::into_inner)
    }

    /// Ends a run that would go on.
    pub(crate) async fn kill(&self, id: &str) {
        self.control(id, Action::Kill(proto::Kill {})).await.expect("it is killed");
    }

    pub(crate) async fn write(&self, id: &str, chunk: proto::StdinChunk) -> Result<proto::WriteStdinResponse, Status> {
        let request = proto::WriteStdinRequest { execution_id: id.to_owned(), chunk: Some(chunk) };
        self.executions.clone().write_stdin(request).await.map(tonic::Response::into_inner)
    }

    pub(crate) async fn record(&self, id: &str) -> Result<proto::Record, Status> {
        let request = proto::GetRecordRequest { execution_id: id.to_owned() };
        let answer = self.history.clone().get_record(request).await?.into_inner();
        Ok(answer.record.expect("a record"))
    }

    /// All bytes that ReadOutput gives, one piece behind the other.
    pub(crate) async fn output(&self, request: proto::ReadOutputRequest) -> Result<Vec<u8>, Status> {
        let mut next = request.offset;
        let mut pieces = self.history.clone().read_output(request).await?.into_inner();
        let mut bytes = Vec::new();
        while let Some(piece) = pieces.message().await? {
            assert!(piece.offset == next && (1..=64 << 10).contains(&piece.data.len()));
            next += piece.data.len() as u64;
            bytes.extend_from_slice(&piece.data);
        }
        Ok(bytes)
    }
}

/// Bytes for standard input.
pub(crate) fn input(offset: Option<u64>, data: impl Into<bytes::Bytes>, eof: bool) -> proto::StdinChunk {
    proto::StdinChunk { offset, data: data.into(), eof }
}
