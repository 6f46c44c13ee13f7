//! One run under test: what is asked of it, what it is seen to do.

use std::time::Duration;

use cc_executor::proto::control_request::{Action, WaitFor};
use cc_executor::proto::execution_service_client::ExecutionServiceClient;
use cc_executor::proto::{
    self, Cause, ControlRequest, ControlResponse, ExecuteRequest, Execution, ExecutionOptions, ExecutionState, Outcome,
    Timeouts, outcome,
};
use tonic::Status;
use tonic::transport::Channel;

use super::Cookie;
use super::run::{Events, Seen, With};
use super::{Server, eventually};

/// A run that was started; its processes carry a cookie in their environment.
#[derive(Clone)]
pub(crate) struct Life {
    pub(crate) client: ExecutionServiceClient<Channel>,
    pub(crate) id: String,
    pub(crate) cookie: Cookie,
}

/// A span as it goes over the wire.
pub(crate) fn span(duration: Duration) -> Option<prost_types::Duration> {
    Some(prost_types::Duration::try_from(duration).expect("a short span"))
}

pub(crate) fn millis(millis: u64) -> Option<prost_types::Duration> {
    span(Duration::from_millis(millis))
}

/// A span that came over the wire.
pub(crate) fn duration(span: Option<prost_types::Duration>) -> Duration {
    Duration::try_from(span.expect("it is set")).expect("it is not negative")
}

/// Options that only set clocks.
pub(crate) fn clocks(timeouts: Timeouts) -> ExecutionOptions {
    ExecutionOptions { timeouts: Some(timeouts), ..ExecutionOptions::default() }
}

pub(crate) fn cancel(grace: Option<prost_types::Duration>) -> Action {
    Action::Cancel(proto::Cancel { grace_period: grace, signal: 0 })
}

pub(crate) const PAUSE: Action = Action::Pause(proto::Pause {});
pub(crate) const RESUME: Action = Action::Resume(proto::Resume {});
pub(crate) const KILL: Action = Action::Kill(proto::Kill {});

/// The same request with a cookie for its processes and an id.
pub(crate) fn marked(mut request: ExecuteRequest, cookie: &Cookie) -> ExecuteRequest {
    let environment = request.options.get_or_insert_default().environment.get_or_insert_default();
    environment.set.insert("COOKIE".to_owned(), cookie.0.clone());
    if request.execution_id.is_empty() {
        request.execution_id = uuid::Uuid::new_v4().to_string();
    }
    request
}

impl Life {
    /// Starts it without following it.
    pub(crate) async fn begin(server: &Server, request: ExecuteRequest) -> Life {
        Life::try_begin(server.executions().await, request).await.expect("it is accepted")
    }

    pub(crate) async fn try_begin(
        mut client: ExecutionServiceClient<Channel>,
        request: ExecuteRequest,
    ) -> Result<Life, Status> {
        let cookie = Cookie::new();
        let request = marked(request, &cookie).create();
        let id = request.execution_id.clone();
        client.create_execution(request).await?;
        Ok(Life { client, id, cookie })
    }

    pub(crate) async fn get(&self) -> Execution {
        let request = proto::GetExecutionRequest { execution_id: self.id.clone() };
        let found = self.client.clone().get_execution(request).await.expect("it is known");
        found.into_inner().execution.expect("it is there")
    }

    /// Waits for a state, and fails when the run ends without it.
    pub(crate) async fn reaches(&self, state: ExecutionState) -> Execution {
        eventually(&format!("{} is {state:?}", self.id), async || {
            let execution = self.get().await;
            let ended = execution.state() == ExecutionState::Completed && state != ExecutionState::Completed;
            assert!(!ended, "it ended before it was {state:?}: {:?}", execution.outcome);
            (execution.state() == state).then_some(execution)
        })
        .await
    }

    /// Waits until its output holds `text`.
    pub(crate) async fn says(&self, text: &str) {
        let mut events = self.events().await;
        let mut heard = String::new();
        events
            .until(|event| {
                if let proto::execution_event::Event::Output(output) = event {
                    heard.push_str(&String::from_utf8_lossy(&output.data));
                }
                assert!(
                    !matches!(event, proto::execution_event::Event::Completed(_)) || heard.contains(text),
                    "it ended without saying {text:?}: {heard:?}: {event:?}"
                );
                heard.contains(text).then_some(())
            })
            .await;
    }

    /// All its events, from the first to the end.
    pub(crate) async fn events(&self) -> Events<tonic::Streaming<proto::AttachResponse>> {
        let request =
            proto::AttachRequest { execution_id: self.id.clone(), follow: true, ..proto::AttachRequest::default() };
        Events::of(self.client.clone().attach(request).await.expect("it can be followed").into_inner())
    }

    /// Everything it did, once it has ended.
    pub(crate) async fn seen(&self) -> Seen {
        self.events().await.to_end().await
    }

    pub(crate) async fn outcome(&self) -> Outcome {
        self.seen().await.outcome().clone()
    }

    /// Asks; the request can be looked at and changed before it goes.
    pub(crate) async fn ask_as(
        &self,
        action: Action,
        change: impl FnOnce(&mut ControlRequest),
    ) -> Result<ControlResponse, Status> {
        let mut request =
            ControlRequest { execution_id: self.id.clone(), action: Some(action), ..ControlRequest::default() };
        change(&mut request);
        Ok(self.client.clone().control(request).await?.into_inner())
    }

    pub(crate) async fn ask(&self, action: Action) -> ControlResponse {
        self.ask_as(action, |_| ()).await.expect("it is carried out")
    }

    /// Asks and waits for the effect.
    pub(crate) async fn bring(&self, action: Action) -> ControlResponse {
        let effect = |request: &mut ControlRequest| request.set_wait_for(WaitFor::Effect);
        self.ask_as(action, effect).await.expect("it takes effect")
    }
}

/// How an outcome ended, in one word or number.
pub(crate) fn ending(outcome: &Outcome) -> String {
    match outcome.ending.as_ref().expect("every outcome has an ending") {
        outcome::Ending::ExitCode(code) => code.to_string(),
        outcome::Ending::Signal(signal) => signal.name.clone(),
        outcome::Ending::NotStarted(not_started) => format!("not started: {:?}", not_started.step()),
        outcome::Ending::Unknown(_) => "unknown".to_owned(),
    }
}

/// Ending and cause together, for one assertion.
pub(crate) fn fate(outcome: &Outcome) -> (String, Cause) {
    (ending(outcome), outcome.cause())
}

/// The names of the signals that were sent to end it, in order.
pub(crate) fn escalation(outcome: &Outcome) -> Vec<&str> {
    outcome.escalation.iter().map(|sent| sent.name.as_str()).collect()
}
