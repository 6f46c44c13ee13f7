//! Signals, more time, and the promises about repeated and conditional requests.

use cc_executor::proto::control_response::Result as Became;
use cc_executor::proto::send_signal::Scope;
use cc_executor::proto::{
    Cause, ControlRequest, ExecutionState, Extend, SendSignal, Timeouts, control_request::Action,
};
use tonic::Code;

use crate::support::life::{KILL, Life, PAUSE, cancel, clocks, escalation, fate, millis};
use crate::support::run::With;
use crate::support::{Server, eventually, on_every_rung, shell};

fn signal(number: i32, scope: Scope) -> Action {
    Action::Signal(SendSignal { number, scope: scope.into() })
}

/// Says its name when it is ready, and again for each USR1.
fn speaker(name: &str) -> String {
    format!("trap \"echo {name} heard\" USR1; echo {name} ready; while :; do sleep 0.01; done")
}

#[tokio::test]
async fn a_signal_goes_to_the_leader_its_group_or_the_whole_tree() {
    on_every_rung(async |server, _| {
        for (scope, group, session) in
            [(Scope::Leader, false, false), (Scope::Group, true, false), (Scope::Tree, true, true)]
        {
            let script =
                format!("setsid sh -c '{}' & ({}) & {}", speaker("session"), speaker("group"), speaker("leader"));
            let life = Life::begin(server, shell(script)).await;
            for name in ["session", "group", "leader"] {
                life.says(&format!("{name} ready")).await;
            }
            let answer = life.ask(signal(10, scope)).await;
            assert_eq!(answer.result(), Became::Applied);
            life.says("leader heard").await;
            if group {
                life.says("group heard").await;
            }
            if session {
                life.says("session heard").await;
            }
            life.bring(KILL).await;
            let stdout = life.seen().await.stdout();
            assert_eq!(stdout.contains("group heard"), group, "{scope:?}: {stdout}");
            assert_eq!(stdout.contains("session heard"), session, "{scope:?}: {stdout}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_run_ended_by_a_callers_signal_was_cancelled() {
    on_every_rung(async |server, _| {
        let life = Life::begin(server, shell("echo ready; exec sleep 100")).await;
        life.says("ready").await;
        life.ask(signal(15, Scope::Leader)).await;
        let outcome = life.outcome().await;
        assert_eq!(fate(&outcome), ("SIGTERM".to_owned(), Cause::Cancelled));
        assert!(!outcome.success);
    })
    .await;
}

#[tokio::test]
async fn a_repeated_request_is_carried_out_once() {
    let server = Server::start().await;
    let life = Life::begin(&server, shell(speaker("leader"))).await;
    life.says("ready").await;
    let named = |request: &mut ControlRequest| request.request_id = "one".to_owned();
    let first = life.ask_as(signal(10, Scope::Leader), named).await.unwrap();
    life.says("heard").await;
    let again = life.ask_as(signal(10, Scope::Leader), named).await.unwrap();
    assert_eq!((first.result(), first.processes), (again.result(), again.processes));
    let other = life.ask_as(signal(12, Scope::Leader), named).await.unwrap_err();
    assert_eq!(other.code(), Code::InvalidArgument, "{other:?}");
    // A signal that comes later is heard later: nothing of the repeat is still on its way behind it.
    life.ask(signal(10, Scope::Leader)).await;
    eventually("it hears the second one", async || {
        (life.get().await.channels[0].bytes_total == "leader ready\nleader heard\nleader heard\n".len() as u64)
            .then_some(())
    })
    .await;
    life.bring(KILL).await;
    assert_eq!(life.seen().await.stdout().matches("heard").count(), 2);
}

#[tokio::test]
async fn a_request_whose_caller_went_away_is_not_carried_out_again() {
    let server = Server::start().await;
    let script = "trap 'echo heard' USR1; echo ready; while :; do sleep 0.01; done";
    let life = Life::begin(&server, shell(script)).await;
    life.says("ready").await;
    let request = |request: &mut ControlRequest| {
        request.request_id = "one".to_owned();
        request.set_wait_for(cc_executor::proto::control_request::WaitFor::Effect);
    };
    let action = || Action::Cancel(cc_executor::proto::Cancel { grace_period: millis(2000), signal: 10 });
    {
        let asking = std::pin::pin!(life.ask_as(action(), request));
        let heard = std::pin::pin!(life.says("heard"));
        futures_util::future::select(asking, heard).await;
        // The caller hangs up here, long before the effect.
    }
    let answer = life.ask_as(action(), request).await.unwrap();
    assert_eq!(answer.result(), Became::Applied);
    let outcome = life.outcome().await;
    assert_eq!(escalation(&outcome), ["SIGUSR1", "SIGKILL"]);
}

#[tokio::test]
async fn a_request_for_another_state_is_aborted() {
    let server = Server::start().await;
    let life = Life::begin(&server, shell("sleep 100")).await;
    life.reaches(ExecutionState::Running).await;
    let only = |state: ExecutionState| move |request: &mut ControlRequest| request.expected_states = vec![state.into()];
    let status = life.ask_as(PAUSE, only(ExecutionState::Paused)).await.unwrap_err();
    assert_eq!(status.code(), Code::Aborted);
    let answer = life.ask_as(PAUSE, only(ExecutionState::Running)).await.unwrap();
    assert_eq!(answer.result(), Became::Applied);
    let status = life.ask_as(KILL, only(ExecutionState::Running)).await.unwrap_err();
    assert_eq!(status.code(), Code::Aborted);
    assert_eq!(life.get().await.state(), ExecutionState::Paused);
    life.bring(cancel(None)).await;
}

#[tokio::test]
async fn more_time_is_given_only_to_clocks_that_run() {
    let server = Server::start().await;
    let extend = |run_by, wall_by| Action::Extend(Extend { run_by, wall_by });
    let short = clocks(Timeouts { run: millis(1500), ..Timeouts::default() });
    let go_on = server.path("go-on");
    let script = format!("echo ready; while ! [ -e {} ]; do sleep 0.01; done; exit 4", go_on.display());
    let life = Life::begin(&server, shell(script).options(short.clone())).await;
    life.says("ready").await;
    let status = life.ask_as(extend(None, millis(1000)), |_| ()).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(life.ask(extend(millis(600_000), None)).await.result(), Became::Applied);
    let other = Life::begin(&server, shell("sleep 100").options(short)).await;
    assert_eq!(other.outcome().await.cause(), Cause::RunTimeout);
    std::fs::write(&go_on, "").unwrap();
    assert_eq!(fate(&life.outcome().await), ("4".to_owned(), Cause::Exited));
    assert_eq!(life.ask(extend(millis(1), None)).await.result(), Became::AlreadyTerminal);
}
