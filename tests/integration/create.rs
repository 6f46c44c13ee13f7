//! Ids and what they promise; starting without following; the options as effective.

use std::collections::BTreeSet;

use cc_executor::proto::{self, Cause, CreateExecutionRequest, ExecutionOptions, ExecutionState};
use tonic::Code;

use crate::support::calls::attach;
use crate::support::run::{With, argv};
use crate::support::{Server, refusal, shell};

#[tokio::test]
async fn an_id_is_chosen_by_the_client_or_made_by_the_server() {
    let server = Server::start().await;
    let client = server.client().await;
    for id in ["a", "0", "A.b_c:d-e", &"x".repeat(128)] {
        assert_eq!(client.create(shell("true").id(id)).await.execution_id, id);
    }
    let made = client.create(shell("true")).await.execution_id;
    let uuid: uuid::Uuid = made.parse().unwrap();
    assert_eq!(uuid.get_version_num(), 7);
    for id in ["-a", ".a", "a b", "a/b", "ä", "a\n", &"x".repeat(129)] {
        let refused = refusal(client.executions.clone().execute(shell("true").id(id)).await);
        assert_eq!(refused.kind(), (Code::InvalidArgument, "INVALID_FIELD"), "{id:?}");
        assert_eq!(refused.fields, ["execution_id"], "{id:?}");
    }
}

#[tokio::test]
async fn the_same_id_and_spec_attach_and_another_spec_is_refused() {
    let server = Server::start().await;
    let client = server.client().await;
    let request = || shell("echo ran >> ran; read line < go; echo done").id("one");
    nix::unistd::mkfifo(&server.path("go"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let first = client.execute(request()).await;
    let again = client.execute(request()).await;
    let created = client.executions.clone().create_execution(request().create()).await.unwrap().into_inner();
    assert!(created.existed);
    assert_eq!(created.execution.unwrap().execution_id, "one");
    for other in [
        shell("echo other").id("one"),
        request().options(ExecutionOptions { priority: 1, ..Default::default() }),
        argv("echo", &[]).id("one"),
    ] {
        let refused = refusal(client.executions.clone().execute(other.clone()).await);
        assert_eq!(refused.kind(), (Code::AlreadyExists, "EXECUTION_ID_TAKEN"));
        let refused = refusal(client.executions.clone().create_execution(other.create()).await);
        assert_eq!(refused.kind(), (Code::AlreadyExists, "EXECUTION_ID_TAKEN"));
    }
    tokio::fs::write(server.path("go"), "go\n").await.unwrap();
    let (first, again) = (first.to_end().await.whole(), again.to_end().await.whole());
    assert_eq!((first.accepted().1, again.accepted().1), (false, true));
    assert_eq!(first.stdout(), again.stdout());
    let late = client.run(request()).await.whole();
    assert!(late.accepted().1, "the run has ended and is replayed");
    assert_eq!((late.stdout(), late.outcome()), (first.stdout(), first.outcome()));
    assert_eq!(std::fs::read_to_string(server.path("ran")).unwrap(), "ran\n");
}

#[tokio::test]
async fn an_id_stays_taken_after_a_restart() {
    let server = Server::start().await;
    let request = || shell("echo ran >> ran").id("kept");
    server.client().await.run(request()).await;
    let (state, status) = server.stop().await;
    assert!(status.success(), "{status}");
    let server = Server::setup().state(state).start().await;
    let client = server.client().await;
    let seen = client.run(request()).await.whole();
    assert!(seen.accepted().1);
    assert!(seen.outcome().success);
    let refused = refusal(client.executions.clone().execute(shell("true").id("kept")).await);
    assert_eq!(refused.kind(), (Code::AlreadyExists, "EXECUTION_ID_TAKEN"));
    assert_eq!(std::fs::read_to_string(server.path("ran")).unwrap(), "ran\n");
}

#[tokio::test]
async fn one_id_requested_by_many_at_once_runs_once() {
    let server = Server::start().await;
    let client = server.client().await;
    let mut calls = tokio::task::JoinSet::new();
    for index in 0..50 {
        let client = if index % 5 == 0 { server.client().await } else { client.clone() };
        calls.spawn(async move { client.run(shell("echo ran >> ran; echo out").id("once")).await });
    }
    let seen = calls.join_all().await;
    assert_eq!(seen.iter().filter(|seen| !seen.accepted().1).count(), 1, "one of them started it");
    for seen in seen {
        assert_eq!(seen.whole().stdout(), "out\n");
    }
    assert_eq!(std::fs::read_to_string(server.path("ran")).unwrap(), "ran\n");
}

#[tokio::test]
async fn ids_made_at_once_differ() {
    let server = Server::start().await;
    let client = server.client().await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let client = client.clone();
        calls.spawn(async move { client.create(argv("true", &[])).await.execution_id });
    }
    let ids: BTreeSet<String> = calls.join_all().await.into_iter().collect();
    assert_eq!(ids.len(), 50);
}

fn validated(request: CreateExecutionRequest) -> CreateExecutionRequest {
    CreateExecutionRequest { validate_only: true, ..request }
}

#[tokio::test]
async fn validation_starts_and_remembers_nothing() {
    let server = Server::start().await;
    let client = server.client().await;
    let mut calls = client.executions.clone();
    let request = validated(shell("echo ran >> ran").id("maybe").create());
    let answer = calls.create_execution(request).await.unwrap().into_inner();
    let would_be = answer.execution.unwrap();
    assert!(!answer.existed);
    assert_eq!(would_be.execution_id, "maybe");
    assert_eq!(would_be.options.unwrap().timeouts.unwrap().grace.unwrap().seconds, 10, "defaults are filled in");
    let get = proto::GetExecutionRequest { execution_id: "maybe".to_owned() };
    assert_eq!(refusal(calls.get_execution(get).await).code, Code::NotFound);
    assert!(!server.path("ran").exists());
    let wrong = validated(argv("", &[]).create());
    assert_eq!(refusal(calls.create_execution(wrong).await).fields, ["argv.program"]);
}

#[tokio::test]
async fn validation_says_when_the_id_is_taken() {
    let server = Server::start().await;
    let client = server.client().await;
    let mut calls = client.executions.clone();
    client.run(shell("true").id("taken")).await;
    let other = validated(shell("false").id("taken").create());
    let refused = refusal(calls.create_execution(other).await);
    assert_eq!(refused.kind(), (Code::AlreadyExists, "EXECUTION_ID_TAKEN"));
    let same = validated(shell("true").id("taken").create());
    let answer = calls.create_execution(same).await.unwrap().into_inner();
    assert!(answer.existed);
    assert_eq!(answer.execution.unwrap().state(), ExecutionState::Completed);
}

#[tokio::test]
async fn options_are_shown_as_effective() {
    let server = Server::start().await;
    let client = server.client().await;
    let day = Some(prost_types::Duration { seconds: 24 * 60 * 60, nanos: 0 });
    let labels: std::collections::BTreeMap<String, String> =
        [("team".to_owned(), "web".to_owned()), ("a/b".to_owned(), String::new())].into();
    let options = ExecutionOptions {
        labels: labels.clone(),
        priority: -100,
        retention: day,
        stop_signal: 2,
        merge_stderr: true,
        on_disconnect: proto::DisconnectPolicy::CancelAfterLease.into(),
        ..ExecutionOptions::default()
    };
    let shown = client.create(argv("true", &[]).id("shown").options(options)).await.options.unwrap();
    assert_eq!((shown.priority, shown.retention, shown.stop_signal, shown.merge_stderr), (-100, day, 2, true));
    assert_eq!(shown.labels, labels);
    assert_eq!(shown.disconnect_lease.unwrap().seconds, 30);
    let ended = client.ended("shown").await;
    assert_eq!(ended.options.unwrap(), shown, "they do not change");
    let record = client.record("shown").await.unwrap();
    let kept = record.expire_time.unwrap().seconds - ended.complete_time.unwrap().seconds;
    assert!((24 * 60 * 60 - 1..=24 * 60 * 60 + 1).contains(&kept), "{kept}");

    let usual = client.create(argv("true", &[])).await.options.unwrap();
    assert_eq!(usual.working_directory, server.state.path().to_str().unwrap());
    assert_eq!(usual.stdin.unwrap().mode(), proto::stdin::Mode::Null);
    assert_eq!(usual.environment.unwrap().inherit(), proto::environment::Inherit::AllowList);
    assert_eq!(proto::Capture::try_from(usual.capture), Ok(proto::Capture::Pipe));
    assert_eq!(proto::OutputPolicy::try_from(usual.on_output_limit), Ok(proto::OutputPolicy::DropOldest));
    assert_eq!(proto::LeakPolicy::try_from(usual.on_leak), Ok(proto::LeakPolicy::Kill));
    assert_eq!(proto::DisconnectPolicy::try_from(usual.on_disconnect), Ok(proto::DisconnectPolicy::KeepRunning));
    assert_eq!((usual.disconnect_lease, usual.stop_signal), (None, 15));
    assert_eq!(usual.retention.unwrap().seconds, 30 * 24 * 60 * 60);
}

#[tokio::test]
async fn a_run_that_is_created_runs_unwatched() {
    let server = Server::start().await;
    let client = server.client().await;
    let created = client.create(shell("echo unwatched").id("unwatched")).await;
    assert!(created.create_time.is_some() && created.outcome.is_none());
    assert_eq!(client.ended("unwatched").await.outcome.unwrap().cause(), Cause::Exited);
    let seen = client.attach(attach("unwatched")).await.whole();
    assert_eq!(seen.stdout(), "unwatched\n", "{:#?}", seen.0);
}

#[tokio::test]
async fn the_shell_is_the_servers_when_none_is_named() {
    let server = Server::setup().settings("shell = \"/bin/sh\"").start().await;
    let client = server.client().await;
    let mut request = shell("echo $0");
    if let Some(proto::execute_request::Command::Shell(shell)) = &mut request.command {
        shell.interpreter.clear();
    }
    let seen = client.run(request).await;
    assert_eq!(seen.stdout(), "/bin/sh\n");
    match &seen.accepted().0.command {
        Some(proto::execution::Command::Shell(shell)) => assert_eq!(shell.interpreter, "/bin/sh"),
        other => panic!("{other:?}"),
    }
}
