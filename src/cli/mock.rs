//! A server that answers as it is told, faults included, and remembers what it was asked. For tests of what clients do then.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

use crate::proto::execution_service_client::ExecutionServiceClient;
use crate::proto::execution_service_server::{ExecutionService, ExecutionServiceServer};
use crate::proto::*;

/// How one call is answered.
pub(super) enum Answer {
    /// These events, then this end.
    Events(Vec<ExecutionEvent>, Result<(), Status>),
    /// The input is taken up to this offset.
    Taken(u64),
    /// At once.
    Refused(Status),
}

/// What was asked.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Asked {
    Execute(Box<ExecuteRequest>),
    Attach(AttachRequest),
    Stdin { offset: Option<u64>, data: Vec<u8>, eof: bool },
}

/// The server; it ends when this is dropped.
pub(super) struct Mock {
    pub(super) client: ExecutionServiceClient<Channel>,
    asked: Arc<Mutex<Vec<Asked>>>,
    _serving: AbortOnDropHandle<()>,
}

#[derive(Clone)]
struct Script {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Mock {
    /// Answers one call after another like this; further ones are NOT_FOUND.
    pub(super) async fn answering(answers: impl IntoIterator<Item = Answer>) -> Mock {
        let asked = Arc::default();
        let script = Script { answers: Arc::new(Mutex::new(answers.into_iter().collect())), asked: Arc::clone(&asked) };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            let server = Server::builder().add_service(ExecutionServiceServer::new(script));
            server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
        let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy();
        Mock { client: ExecutionServiceClient::new(channel), asked, _serving: AbortOnDropHandle::new(serving) }
    }

    /// What it was asked so far.
    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

impl Script {
    fn answer(&self, asked: Asked) -> Result<Answer, Status> {
        self.asked.lock().unwrap().push(asked);
        match self.answers.lock().unwrap().pop_front() {
            Some(Answer::Refused(status)) => Err(status),
            Some(answer) => Ok(answer),
            None => Err(Status::not_found("the script has ended")),
        }
    }

    fn events<T: Send + 'static>(
        &self,
        asked: Asked,
        wrap: fn(ExecutionEvent) -> T,
    ) -> Result<Response<BoxStream<'static, Result<T, Status>>>, Status> {
        let Answer::Events(events, end) = self.answer(asked)? else { panic!("the script does not fit the calls") };
        let end = end.err().map(Err);
        Ok(Response::new(stream::iter(events.into_iter().map(move |event| Ok(wrap(event))).chain(end)).boxed()))
    }
}

#[tonic::async_trait]
impl ExecutionService for Script {
    type ExecuteStream = BoxStream<'static, Result<ExecuteResponse, Status>>;
    type AttachStream = BoxStream<'static, Result<AttachResponse, Status>>;

    async fn execute(&self, request: Request<ExecuteRequest>) -> Result<Response<Self::ExecuteStream>, Status> {
        self.events(Asked::Execute(Box::new(request.into_inner())), |event| ExecuteResponse { event: Some(event) })
    }

    async fn attach(&self, request: Request<AttachRequest>) -> Result<Response<Self::AttachStream>, Status> {
        self.events(Asked::Attach(request.into_inner()), |event| AttachResponse { event: Some(event) })
    }

    async fn stream_stdin(
        &self,
        request: Request<Streaming<StreamStdinRequest>>,
    ) -> Result<Response<StreamStdinResponse>, Status> {
        let mut pieces = request.into_inner();
        let chunk = pieces.message().await?.and_then(|piece| piece.chunk).unwrap_or_default();
        let asked = Asked::Stdin { offset: chunk.offset, data: chunk.data.to_vec(), eof: chunk.eof };
        let Answer::Taken(next_offset) = self.answer(asked)? else { panic!("the script does not fit the calls") };
        Ok(Response::new(StreamStdinResponse { next_offset, accepted_bytes: 0 }))
    }

    async fn create_execution(
        &self,
        _: Request<CreateExecutionRequest>,
    ) -> Result<Response<CreateExecutionResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn control(&self, _: Request<ControlRequest>) -> Result<Response<ControlResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn write_stdin(&self, _: Request<WriteStdinRequest>) -> Result<Response<WriteStdinResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn wait_execution(
        &self,
        _: Request<WaitExecutionRequest>,
    ) -> Result<Response<WaitExecutionResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_execution(&self, _: Request<GetExecutionRequest>) -> Result<Response<GetExecutionResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_executions(
        &self,
        _: Request<ListExecutionsRequest>,
    ) -> Result<Response<ListExecutionsResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}
