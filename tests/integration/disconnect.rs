//! What becomes of a run when its clients go away is what its request says.

use cc_executor::proto::{Cause, DisconnectPolicy, ExecuteRequest, ExecutionOptions, ExecutionState};
use futures_util::future::join_all;

use crate::support::life::{Life, RESUME, cancel, fate, marked, millis};
use crate::support::run::With;
use crate::support::{Cookie, Events, Server, shell};

const FOREVER: &str = "echo ready; while :; do sleep 0.02; done";

fn policy(on_disconnect: DisconnectPolicy, lease: Option<prost_types::Duration>) -> ExecutionOptions {
    ExecutionOptions { on_disconnect: on_disconnect.into(), disconnect_lease: lease, ..ExecutionOptions::default() }
}

/// Executes it, follows until it is ready, and hangs up.
async fn execute_and_go(server: &Server, request: ExecuteRequest) -> Life {
    let cookie = Cookie::new();
    let request = marked(request, &cookie);
    let life = Life { client: server.executions().await, id: request.execution_id.clone(), cookie };
    let stream = server.executions().await.execute(request).await.expect("it is accepted").into_inner();
    let mut events = Events::of(stream);
    events.until(|event| matches!(event, cc_executor::proto::execution_event::Event::Output(_)).then_some(())).await;
    life
}

#[tokio::test]
async fn a_run_goes_on_by_default() {
    let server = Server::start().await;
    let go_on = server.path("go-on");
    let script = format!("echo ready; while ! [ -e {} ]; do sleep 0.01; done; exit 4", go_on.display());
    let life = execute_and_go(&server, shell(script)).await;
    crate::support::eventually("the server has seen it go", async || (life.get().await.watchers == 0).then_some(()))
        .await;
    assert_eq!(life.get().await.state(), ExecutionState::Running);
    std::fs::write(go_on, "").unwrap();
    assert_eq!(fate(&life.outcome().await), ("4".to_owned(), Cause::Exited));
}

#[tokio::test]
async fn a_run_is_cancelled_at_once_when_it_says_so_but_not_while_somebody_follows() {
    let server = Server::start().await;
    let now = || policy(DisconnectPolicy::CancelNow, None);
    let gone = execute_and_go(&server, shell(FOREVER).options(now())).await;
    gone.reaches(ExecutionState::Completed).await;
    assert_eq!(fate(&gone.outcome().await), ("SIGTERM".to_owned(), Cause::ClientGone));
    gone.cookie.wait_for_none().await;
    // Created without a follower it runs; with two of them it outlives the first.
    let shared = Life::begin(&server, shell(FOREVER).options(now())).await;
    let mut first = shared.events().await;
    let mut second = shared.events().await;
    for events in [&mut first, &mut second] {
        events
            .until(|event| matches!(event, cc_executor::proto::execution_event::Event::Output(_)).then_some(()))
            .await;
    }
    drop(first);
    crate::support::eventually("one is left", async || (shared.get().await.watchers == 1).then_some(())).await;
    assert_eq!(shared.get().await.state(), ExecutionState::Running);
    drop(second);
    shared.reaches(ExecutionState::Completed).await;
    assert_eq!(shared.outcome().await.cause(), Cause::ClientGone);
}

/// However short the visit was.
#[tokio::test]
async fn a_client_that_leaves_while_the_run_starts_has_been_there() {
    let server = Server::start().await;
    let visit = async |number: u64| {
        let cookie = Cookie::new();
        let request = marked(shell(FOREVER).options(policy(DisconnectPolicy::CancelNow, None)), &cookie);
        let life = Life { client: server.executions().await, id: request.execution_id.clone(), cookie };
        let stream = server.executions().await.execute(request).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_micros(number * 200)).await;
        drop(stream);
        life.reaches(ExecutionState::Completed).await;
        assert_eq!(life.outcome().await.cause(), Cause::ClientGone);
    };
    join_all((0..30).map(visit)).await;
}

#[tokio::test]
async fn a_lease_ends_a_run_that_nobody_came_back_to() {
    let server = Server::start().await;
    let lease = || policy(DisconnectPolicy::CancelAfterLease, millis(400));
    let left = execute_and_go(&server, shell(FOREVER).options(lease())).await;
    left.reaches(ExecutionState::Completed).await;
    assert_eq!(left.outcome().await.cause(), Cause::ClientGone);
    let never = Life::begin(&server, shell(FOREVER).options(lease())).await;
    never.reaches(ExecutionState::Completed).await;
    assert_eq!(never.outcome().await.cause(), Cause::ClientGone);
}

#[tokio::test]
async fn who_comes_back_within_the_lease_keeps_the_run() {
    let server = Server::start().await;
    let lease = |millis_| policy(DisconnectPolicy::CancelAfterLease, millis(millis_));
    let back = execute_and_go(&server, shell(FOREVER).options(lease(1500))).await;
    let _following = back.events().await;
    // A lease of the same length that began later is over: so would this one be.
    let other = execute_and_go(&server, shell(FOREVER).options(lease(1500))).await;
    other.reaches(ExecutionState::Completed).await;
    assert_eq!(back.get().await.state(), ExecutionState::Running);
    back.bring(cancel(None)).await;
}

#[tokio::test]
async fn a_lease_may_pause_instead_also_when_it_ran_out_in_the_queue() {
    let server = Server::setup().arg("--max-concurrent").arg("2").start().await;
    let lease = || policy(DisconnectPolicy::PauseAfterLease, millis(300));
    let left = execute_and_go(&server, shell(FOREVER).options(lease())).await;
    left.reaches(ExecutionState::Paused).await;
    left.bring(RESUME).await;
    assert_eq!(left.get().await.state(), ExecutionState::Running);
    let blocker = Life::begin(&server, shell(FOREVER)).await;
    blocker.says("ready").await;
    let queued = Life::begin(&server, shell(FOREVER).options(lease())).await;
    let timed = ExecutionOptions {
        timeouts: Some(cc_executor::proto::Timeouts { queue: millis(400), ..Default::default() }),
        ..ExecutionOptions::default()
    };
    let later = Life::begin(&server, shell(FOREVER).options(timed)).await;
    assert_eq!(later.outcome().await.cause(), Cause::QueueTimeout);
    blocker.bring(cancel(None)).await;
    queued.reaches(ExecutionState::Paused).await;
}
