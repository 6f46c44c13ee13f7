//! Who runs now and who waits: slots, priorities, bounds.

use cc_executor::proto::{Cause, ExecutionOptions, ExecutionState, GetServerInfoRequest};
use futures_util::future::join_all;
use tonic::Code;
use tonic_types::StatusExt;

use crate::support::life::{Life, cancel, fate};
use crate::support::run::With;
use crate::support::{Server, eventually, shell};

fn urgent(priority: i32) -> ExecutionOptions {
    ExecutionOptions { priority, ..ExecutionOptions::default() }
}

#[tokio::test]
async fn the_most_urgent_is_next_then_who_came_first() {
    let server = Server::setup().arg("--max-concurrent").arg("2").start().await;
    let go_on = server.path("go-on");
    let order = server.path("order");
    let hold = || shell(format!("while ! [ -e {} ]; do sleep 0.01; done", go_on.display()));
    let holders = [Life::begin(&server, hold()).await, Life::begin(&server, hold()).await];
    for holder in &holders {
        holder.reaches(ExecutionState::Running).await;
    }
    let mut waiting = Vec::new();
    for (name, priority) in [("a", 0), ("b", 0), ("c", -5), ("d", 10)] {
        let script = format!("echo {name} >> {}", order.display());
        waiting.push(Life::begin(&server, shell(script).options(urgent(priority))).await);
    }
    let mut positions = Vec::new();
    for life in &waiting {
        let execution = life.get().await;
        assert_eq!(execution.state(), ExecutionState::Queued);
        positions.push(execution.queue_position);
    }
    assert_eq!(positions, [Some(2), Some(3), Some(4), Some(1)]);
    let info = server.server().await.get_server_info(GetServerInfoRequest {}).await.unwrap().into_inner();
    let load = info.load.unwrap();
    assert_eq!((load.running, load.queued), (2, 4));
    // One slot only, so that the order of starting is the order of writing.
    holders[0].bring(cancel(None)).await;
    for life in &waiting {
        assert_eq!(fate(&life.outcome().await), ("0".to_owned(), Cause::Exited));
    }
    assert_eq!(std::fs::read_to_string(&order).unwrap(), "d\na\nb\nc\n");
    std::fs::write(&go_on, "").unwrap();
    assert!(holders[1].outcome().await.success);
}

#[tokio::test]
async fn a_full_queue_refuses_with_advice_and_takes_again_when_there_is_room() {
    let server = Server::setup().arg("--max-concurrent").arg("1").settings("[limits]\nmax_queued = 1\n").start().await;
    let running = Life::begin(&server, shell("sleep 100")).await;
    running.reaches(ExecutionState::Running).await;
    let queued = Life::begin(&server, shell("true")).await;
    let client = server.executions().await;
    let status = Life::try_begin(client.clone(), shell("true")).await.map(|life| life.id).unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    let details = status.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "QUEUE_FULL");
    assert!(details.retry_info().unwrap().retry_delay.is_some());
    queued.bring(cancel(None)).await;
    let next = Life::try_begin(client, shell("exit 6")).await.expect("there is room again");
    running.bring(cancel(None)).await;
    assert_eq!(fate(&next.outcome().await), ("6".to_owned(), Cause::Exited));
}

#[tokio::test]
async fn three_hundred_at_once_all_end_with_their_own_output() {
    let server = Server::setup().arg("--max-concurrent").arg("20").start().await;
    let client = server.executions().await;
    let round = async |number: u32| {
        let script = format!("echo {number}; exit {}", number % 7);
        let life = Life::try_begin(client.clone(), shell(script)).await.unwrap();
        let seen = life.seen().await;
        assert_eq!(seen.stdout(), format!("{number}\n"));
        assert_eq!(fate(seen.outcome()), ((number % 7).to_string(), Cause::Exited));
    };
    join_all((0..300).map(round)).await;
    eventually("all slots are free", async || {
        let info = server.server().await.get_server_info(GetServerInfoRequest {}).await.unwrap().into_inner();
        let load = info.load.unwrap();
        (load.running == 0 && load.queued == 0).then_some(())
    })
    .await;
}

/// A call that is given up while its run is being accepted leaves either a run or nothing.
#[tokio::test]
async fn a_call_that_is_given_up_leaves_no_half_run_behind() {
    let server = Server::start().await;
    let client = server.executions().await;
    let round = async |number: u64| {
        let id = format!("given-up-{number}");
        let mut starting = client.clone();
        let begin = starting.create_execution(shell("exit 9").id(&id).create());
        let patience = std::time::Duration::from_micros(number * 100);
        let _given_up = tokio::time::timeout(patience, begin).await;
        let again = client.clone().create_execution(shell("exit 9").id(&id).create()).await;
        again.unwrap_or_else(|status| panic!("after {patience:?}: {status:?}"));
        let request = cc_executor::proto::WaitExecutionRequest { execution_id: id, wait_timeout: None };
        let waited = client.clone().wait_execution(request).await.unwrap().into_inner().execution.unwrap();
        assert_eq!(fate(waited.outcome.as_ref().expect("it has ended")), ("9".to_owned(), Cause::Exited));
    };
    for batch in 0..10 {
        join_all((0..20).map(|number| round(batch * 20 + number))).await;
    }
}
