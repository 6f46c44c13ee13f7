//! Stopping the server: no new runs, time for what runs, cancel for the rest, everything recorded, exit code 0.

use cc_executor::proto::execution_event::Event;
use cc_executor::proto::{Cause, ExecutionState, GetRecordRequest, Timeouts, warning};
use futures_util::future::join_all;
use nix::sys::signal::Signal;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;

use crate::support::life::{Life, clocks, ending, fate, millis};
use crate::support::run::With;
use crate::support::{Server, on_every_rung, shell};

const STUBBORN: &str =
    "trap '' TERM; echo ready; setsid sh -c 'while :; do sleep 0.05; done' & while :; do sleep 0.05; done";

/// Waits for the warning that the server is stopping.
fn stopping(event: &Event) -> Option<()> {
    matches!(event, Event::Warning(warning) if warning.kind() == warning::Kind::ServerStopping).then_some(())
}

#[tokio::test]
async fn runs_that_end_in_time_end_by_themselves() {
    let mut server = Server::setup().arg("--drain").arg("600s").start().await;
    let go_on = server.path("go-on");
    let script = format!("echo ready; while ! [ -e {} ]; do sleep 0.01; done; exit 7", go_on.display());
    let life = Life::begin(&server, shell(script)).await;
    life.says("ready").await;
    let mut health = HealthClient::new(server.channel().await);
    let mut check = async || health.check(HealthCheckRequest::default()).await.unwrap().into_inner().status();
    assert_eq!(check().await, ServingStatus::Serving);
    let mut events = life.events().await;
    server.signal(Signal::SIGTERM);
    events.until(stopping).await;
    assert_eq!(check().await, ServingStatus::NotServing);
    let status = Life::try_begin(life.client.clone(), shell("true")).await.map(|life| life.id).unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let details = status.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "SHUTTING_DOWN");
    assert!(details.retry_info().unwrap().retry_delay.is_some());
    assert_eq!(life.get().await.state(), ExecutionState::Running);
    std::fs::write(go_on, "").unwrap();
    assert_eq!(fate(events.to_end().await.outcome()), ("7".to_owned(), Cause::Exited));
    drop((life, health));
    assert_eq!(server.exited().await.code(), Some(0));
}

#[tokio::test]
async fn what_does_not_end_in_time_is_cancelled_and_recorded() {
    on_every_rung(async |_, rung| {
        let server = rung.setup().arg("--drain").arg("200ms").arg("--max-concurrent").arg("2").start().await;
        let short = || clocks(Timeouts { grace: millis(200), ..Timeouts::default() });
        let polite = "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.01; done";
        let stubborn = Life::begin(&server, shell(STUBBORN).options(short())).await;
        let polite = Life::begin(&server, shell(polite)).await;
        for life in [&stubborn, &polite] {
            life.says("ready").await;
        }
        let queued = Life::begin(&server, shell("true")).await;
        let lives = [stubborn, polite, queued];
        let mut streams = Vec::new();
        for life in &lives {
            streams.push(life.events().await);
        }
        let ends = tokio::spawn(join_all(streams.into_iter().map(|events| events.to_end())));
        let (state, status) = server.stop().await;
        assert_eq!(status.code(), Some(0));
        let ends = ends.await.unwrap();
        let endings: Vec<String> = ends.iter().map(|seen| ending(seen.outcome())).collect();
        assert_eq!(endings, ["SIGKILL", "3", "not started: Queue"]);
        assert!(ends.iter().all(|seen| seen.outcome().cause() == Cause::ServerShutdown));
        assert!(lives.iter().all(|life| life.cookie.processes().is_empty()));
        let next = rung.setup().state(state).start().await;
        for (life, seen) in lives.iter().zip(&ends) {
            let request = GetRecordRequest { execution_id: life.id.clone() };
            let record = next.history().await.get_record(request).await.unwrap().into_inner().record.unwrap();
            assert_eq!(record.execution.unwrap().outcome.as_ref(), Some(seen.outcome()));
        }
    })
    .await;
}

#[tokio::test]
async fn a_second_signal_means_now() {
    let endless = || clocks(Timeouts { grace: millis(600_000), ..Timeouts::default() });
    for drain in ["600s", "1ms"] {
        let mut server = Server::setup().arg("--drain").arg(drain).start().await;
        let life = Life::begin(&server, shell(STUBBORN).options(endless())).await;
        life.says("ready").await;
        let mut events = life.events().await;
        server.signal(Signal::SIGTERM);
        events.until(stopping).await;
        if drain == "1ms" {
            let is_stopping = |event: &Event| {
                matches!(event, Event::StateChanged(change) if change.to() == ExecutionState::Stopping).then_some(())
            };
            events.until(is_stopping).await;
        }
        server.signal(Signal::SIGTERM);
        assert_eq!(fate(events.to_end().await.outcome()), ("SIGKILL".to_owned(), Cause::ServerShutdown));
        assert_eq!(server.exited().await.code(), Some(0));
        assert!(life.cookie.processes().is_empty());
    }
}
