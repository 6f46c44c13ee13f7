//! Listing runs, live and ended.

use cc_executor::proto::{Execution, ExecutionOptions, ExecutionState, ListExecutionsRequest};

use crate::support::calls::Client;
use crate::support::run::{With, argv};
use crate::support::{Server, eventually};

async fn list(client: &Client, filter: &str, page_size: i32) -> Vec<Execution> {
    let mut executions = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListExecutionsRequest { filter: filter.to_owned(), page_size, page_token };
        let page = client.executions.clone().list_executions(request).await.expect("it is listed").into_inner();
        executions.extend(page.executions);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return executions;
        }
    }
}

fn ids(executions: &[Execution]) -> Vec<&str> {
    executions.iter().map(|execution| execution.execution_id.as_str()).collect()
}

#[tokio::test]
async fn the_live_are_listed_and_with_a_filter_the_ended_too() {
    let server = Server::setup().arg("--max-concurrent").arg("2").start().await;
    let client = server.client().await;
    client.run(argv("true", &[]).id("ended")).await;
    for id in ["first", "second", "third", "fourth"] {
        client.create(argv("sleep", &["1000"]).id(id)).await;
    }
    for id in ["first", "second"] {
        client.until(id, |run| run.state() == ExecutionState::Running).await;
    }
    for page_size in [1, 3, 50] {
        assert_eq!(ids(&list(&client, "", page_size).await), ["fourth", "third", "second", "first"]);
        let all = list(&client, "state = COMPLETED OR state != COMPLETED", page_size).await;
        assert_eq!(ids(&all), ["fourth", "third", "second", "first", "ended"], "newest first");
    }
    assert_eq!(ids(&list(&client, "state = QUEUED", 50).await), ["fourth", "third"]);
    assert_eq!(ids(&list(&client, "state = RUNNING", 50).await), ["second", "first"]);
    assert_eq!(ids(&list(&client, "state = COMPLETED", 50).await), ["ended"]);
    let queued = list(&client, "state = QUEUED", 50).await;
    let positions: Vec<Option<u32>> = queued.iter().map(|run| run.queue_position).collect();
    assert_eq!(positions, [Some(2), Some(1)]);
    for id in ["fourth", "third", "second", "first"] {
        client.kill(id).await;
    }
    eventually("none is live", async || list(&client, "", 50).await.is_empty().then_some(())).await;
}

#[tokio::test]
async fn higher_priority_starts_first() {
    let server = Server::setup().arg("--max-concurrent").arg("1").start().await;
    let client = server.client().await;
    client.create(argv("sleep", &["1000"]).id("runs")).await;
    for (id, priority) in [("low", -1), ("usual", 0), ("high", 5), ("usual-too", 0)] {
        let options = ExecutionOptions { priority, ..ExecutionOptions::default() };
        client.create(argv("sleep", &["1000"]).id(id).options(options)).await;
    }
    let position = async |id: &str| client.get(id).await.queue_position;
    assert_eq!(position("high").await, Some(1));
    assert_eq!(position("usual").await, Some(2));
    assert_eq!(position("usual-too").await, Some(3));
    assert_eq!(position("low").await, Some(4));
    for (ends, starts) in [("runs", "high"), ("high", "usual"), ("usual", "usual-too"), ("usual-too", "low")] {
        client.kill(ends).await;
        client.until(starts, |run| run.state() == ExecutionState::Running).await;
    }
    assert_eq!(position("low").await, None);
    client.kill("low").await;
}

#[tokio::test]
async fn no_run_is_listed_twice_or_left_out_while_it_ends() {
    let server = Server::start().await;
    let client = server.client().await;
    let mut runs = tokio::task::JoinSet::new();
    for number in 0..40 {
        let client = client.clone();
        runs.spawn(async move { client.run(argv("true", &[]).id(&format!("run-{number}"))).await });
    }
    let mut known = 0;
    while !runs.is_empty() {
        let all = list(&client, "state = COMPLETED OR state != COMPLETED", 1000).await;
        let mut names = ids(&all);
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all.len(), "none is there twice");
        assert!(names.len() >= known, "none is left out");
        known = names.len();
        while runs.try_join_next().is_some() {}
    }
    assert_eq!(list(&client, "state = COMPLETED OR state != COMPLETED", 1000).await.len(), 40);
}
