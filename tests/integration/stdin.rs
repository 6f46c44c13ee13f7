//! Standard input: nothing, all at once, in pieces, in bulk; repeated, broken off, refused.

use cc_executor::proto::control_request::Action;
use cc_executor::proto::control_response::Result as Controlled;
use cc_executor::proto::execution_event::Event;
use cc_executor::proto::stdin::Mode;
use cc_executor::proto::{self, ExecuteRequest, ExecutionOptions, StdinChunk, StreamStdinRequest};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use crate::support::calls::{Client, attach, input};
use crate::support::run::{With, argv};
use crate::support::{Server, eventually, refusal, shell};

fn with_stdin(request: ExecuteRequest, mode: Mode, inline_data: Vec<u8>) -> ExecuteRequest {
    let stdin = Some(proto::Stdin { mode: mode.into(), inline_data: inline_data.into() });
    request.options(ExecutionOptions { stdin, ..ExecutionOptions::default() })
}

fn fed(request: ExecuteRequest) -> ExecuteRequest {
    with_stdin(request, Mode::Pipe, Vec::new())
}

fn noise(length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(3);
    std::iter::repeat_with(|| random.u8(..)).take(length).collect()
}

fn hex(data: &[u8]) -> String {
    Sha256::digest(data).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Sends chunks for `id`; the last answer.
async fn stream(client: &Client, id: &str, chunks: Vec<StdinChunk>) -> Result<proto::StreamStdinResponse, Status> {
    let requests: Vec<_> = chunks
        .into_iter()
        .enumerate()
        .map(|(index, chunk)| StreamStdinRequest {
            execution_id: if index == 0 { id.to_owned() } else { String::new() },
            chunk: Some(chunk),
        })
        .collect();
    client.executions.clone().stream_stdin(tokio_stream::iter(requests)).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn there_is_no_input_unless_asked_for() {
    let server = Server::start().await;
    let client = server.client().await;
    let seen = client.run(shell("cat; readlink /proc/self/fd/0").id("none")).await;
    assert_eq!(seen.stdout(), "/dev/null\n");
    assert_eq!(seen.accepted().0.stdin_offset, None);
    let mut running = client.execute(argv("sleep", &["1000"]).id("closed")).await;
    running.until(|event| matches!(event, Event::Started(_)).then_some(())).await;
    let refused = refusal(client.write("closed", input(None, "x", false)).await);
    assert_eq!(refused.kind(), (Code::FailedPrecondition, "STDIN_NOT_OPEN"));
    client.kill("closed").await;
}

#[tokio::test]
async fn inline_input_arrives_whole_up_to_what_a_request_may_hold() {
    let server = Server::start().await;
    let client = server.client().await;
    let data = noise((4 << 20) - 1024);
    let seen = client.run(with_stdin(argv("sha256sum", &[]), Mode::Inline, data.clone())).await;
    assert!(seen.stdout().starts_with(&hex(&data)), "{}", seen.stdout());
    let empty = client.run(with_stdin(argv("wc", &["-c"]), Mode::Inline, Vec::new())).await;
    assert_eq!(empty.stdout().trim(), "0");
    let larger = with_stdin(argv("cat", &[]), Mode::Inline, noise(4 << 20));
    let refused = refusal(client.executions.clone().execute(larger).await);
    assert_eq!(refused.kind(), (Code::ResourceExhausted, "REQUEST_TOO_LARGE"));
    for mode in [Mode::Null, Mode::Pipe, Mode::Unspecified] {
        let refused = refusal(client.executions.clone().execute(with_stdin(argv("cat", &[]), mode, noise(1))).await);
        assert_eq!(refused.fields, ["options.stdin.inline_data"], "{mode:?}");
    }
}

#[tokio::test]
async fn writes_at_an_offset_may_be_repeated_and_leave_no_hole() {
    let server = Server::start().await;
    let client = server.client().await;
    nix::unistd::mkfifo(&server.path("go"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let events = client.execute(fed(shell("cat; read line < go")).id("cat")).await;
    let progress = async |chunk| {
        let answer = client.write("cat", chunk).await.unwrap();
        (answer.next_offset, answer.accepted_bytes)
    };
    assert_eq!(progress(input(Some(0), "hello ", false)).await, (6, 6));
    assert_eq!(progress(input(Some(0), "hello ", false)).await, (6, 0), "a repeat");
    assert_eq!(progress(input(Some(3), "lo wor", false)).await, (9, 3), "an overlap");
    assert_eq!(progress(input(None, "ld", false)).await, (11, 2), "no offset: behind all so far");
    assert_eq!(client.get("cat").await.stdin_offset, Some(11));
    let hole = refusal(client.write("cat", input(Some(12), "x", false)).await);
    assert_eq!(hole.kind(), (Code::OutOfRange, "STDIN_HOLE"));
    assert_eq!(hole.metadata["next_offset"], "11");
    let other = refusal(client.write("cat", input(Some(4), "O", false)).await);
    assert_eq!(other.kind(), (Code::Aborted, "STDIN_MISMATCH"));
    assert_eq!(progress(input(Some(11), "", true)).await, (11, 0));
    assert_eq!(progress(input(Some(11), "", true)).await, (11, 0), "the end may be repeated");
    assert_eq!(progress(input(Some(9), "ld", true)).await, (11, 0));
    let behind = refusal(client.write("cat", input(None, "more", false)).await);
    assert_eq!(behind.kind(), (Code::FailedPrecondition, "STDIN_NOT_OPEN"));
    assert_eq!(client.get("cat").await.stdin_offset, None);
    tokio::fs::write(server.path("go"), "go\n").await.unwrap();
    assert_eq!(events.to_end().await.whole().stdout(), "hello world");
    let after = refusal(client.write("cat", input(Some(0), "hello ", false)).await);
    assert_eq!(after.kind(), (Code::FailedPrecondition, "STDIN_NOT_OPEN"));
}

#[tokio::test]
async fn the_end_of_input_may_be_repeated_after_the_process_has_taken_it() {
    let server = Server::start().await;
    let client = server.client().await;
    let mut events = client.execute(fed(shell("cat; echo eof; exec sleep 1000")).id("eof")).await;
    client.write("eof", input(Some(0), "x\n", true)).await.unwrap();
    let mut told = Vec::new();
    while told != b"x\neof\n" {
        let bytes =
            events.until(|event| if let Event::Output(it) = event { Some(it.data.clone()) } else { None }).await;
        told.extend_from_slice(&bytes);
    }
    let repeated = client.write("eof", input(Some(0), "x\n", true)).await.unwrap();
    assert_eq!((repeated.next_offset, repeated.accepted_bytes), (2, 0));
    client.kill("eof").await;
}

#[tokio::test]
async fn a_full_window_is_refused_with_the_offset_to_go_on_from() {
    let server = Server::setup().settings("[limits]\nstdin_window = \"64KiB\"").start().await;
    let client = server.client().await;
    nix::unistd::mkfifo(&server.path("go"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    client.create(fed(shell("read line < go; sha256sum")).id("slow")).await;
    let data = noise(1 << 20);
    let mut next = 0;
    let full = eventually("the window is full", async || {
        let chunk = input(Some(next as u64), data[next..(next + 50_000).min(data.len())].to_vec(), false);
        match client.write("slow", chunk).await {
            Ok(answer) => {
                next = answer.next_offset as usize;
                None
            }
            Err(status) => Some(crate::support::Refusal::of(&status)),
        }
    })
    .await;
    assert_eq!(full.kind(), (Code::ResourceExhausted, "STDIN_WINDOW_FULL"));
    assert_eq!(full.metadata["next_offset"].parse(), Ok(next));
    tokio::fs::write(server.path("go"), "go\n").await.unwrap();
    eventually("all is written", async || {
        let end = (next + 50_000).min(data.len());
        let chunk = input(Some(next as u64), data[next..end].to_vec(), end == data.len());
        if let Ok(answer) = client.write("slow", chunk).await {
            next = answer.next_offset as usize;
        }
        (next == data.len()).then_some(())
    })
    .await;
    let seen = client.attach(attach("slow")).await;
    assert!(seen.stdout().starts_with(&hex(&data)), "{}", seen.stdout());
}

#[tokio::test]
async fn bulk_input_waits_for_a_slow_reader() {
    let server = Server::start().await;
    let client = server.client().await;
    nix::unistd::mkfifo(&server.path("go"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    client.create(fed(shell("read line < go; sha256sum")).id("bulk")).await;
    let data = noise(16 << 20);
    let mut chunks: Vec<_> = data.chunks(1 << 20).map(|piece| input(None, piece.to_vec(), false)).collect();
    chunks.last_mut().unwrap().eof = true;
    let streaming = tokio::spawn({
        let client = client.clone();
        async move { stream(&client, "bulk", chunks).await }
    });
    // Nobody reads yet: the window fills, and nothing is refused.
    client.until("bulk", |run| run.stdin_offset.is_some_and(|offset| offset >= 1 << 20)).await;
    assert!(!streaming.is_finished());
    tokio::fs::write(server.path("go"), "go\n").await.unwrap();
    let answer = streaming.await.unwrap().unwrap();
    assert_eq!((answer.next_offset, answer.accepted_bytes), (16 << 20, 16 << 20));
    let seen = client.attach(attach("bulk")).await;
    assert!(seen.stdout().starts_with(&hex(&data)), "{}", seen.stdout());
}

#[tokio::test]
async fn bulk_input_that_broke_off_is_resumed_by_offset() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create(fed(argv("sha256sum", &[])).id("broken")).await;
    let data = noise(6 << 20);
    let (pieces, requests) = mpsc::channel(1);
    let calling = tokio::spawn({
        let mut executions = client.executions.clone();
        async move { executions.stream_stdin(ReceiverStream::new(requests)).await }
    });
    for (index, piece) in data.chunks(64 << 10).take(40).enumerate() {
        let chunk = Some(input(Some((index * (64 << 10)) as u64), piece.to_vec(), false));
        pieces.send(StreamStdinRequest { execution_id: "broken".to_owned(), chunk }).await.unwrap();
    }
    client.until("broken", |run| run.stdin_offset.is_some_and(|offset| offset > 64 << 10)).await;
    calling.abort();
    let _aborted = calling.await;
    let offset = client.get("broken").await.stdin_offset.unwrap() as usize;
    assert!(offset < data.len());
    // From before where it stands: what is known is skipped.
    let from = offset - 1000;
    let mut chunks: Vec<_> = data[from..]
        .chunks(300_000)
        .enumerate()
        .map(|(index, piece)| input(Some((from + index * 300_000) as u64), piece.to_vec(), false))
        .collect();
    chunks.last_mut().unwrap().eof = true;
    let answer = stream(&client, "broken", chunks).await.unwrap();
    assert_eq!(answer.next_offset, data.len() as u64);
    let seen = client.attach(attach("broken")).await;
    assert!(seen.stdout().starts_with(&hex(&data)), "{}", seen.stdout());
}

#[tokio::test]
async fn bulk_input_ends_when_nobody_reads_any_more() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create(fed(shell("head -c 10 > /dev/null")).id("sated")).await;
    let chunks = noise(8 << 20).chunks(1 << 20).map(|piece| input(None, piece.to_vec(), false)).collect();
    let refused = refusal(stream(&client, "sated", chunks).await);
    assert_eq!(refused.kind(), (Code::FailedPrecondition, "STDIN_NOT_OPEN"));
    assert!(client.ended("sated").await.outcome.unwrap().success, "that is not the run's fault");
}

#[tokio::test]
async fn bulk_input_must_say_for_which_run() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create(fed(argv("cat", &[])).id("one")).await;
    let mut executions = client.executions.clone();
    let none = executions.stream_stdin(tokio_stream::iter(Vec::new())).await;
    assert_eq!(refusal(none).fields, ["execution_id"]);
    let unnamed = StreamStdinRequest { execution_id: String::new(), chunk: Some(input(None, "x", false)) };
    assert_eq!(refusal(executions.stream_stdin(tokio_stream::iter([unnamed])).await).fields, ["execution_id"]);
    let named = |id: &str| StreamStdinRequest { execution_id: id.to_owned(), chunk: Some(input(None, "x", false)) };
    let two = executions.stream_stdin(tokio_stream::iter([named("one"), named("two")])).await;
    assert_eq!(refusal(two).fields, ["execution_id"]);
    let nothing = StreamStdinRequest { execution_id: "one".to_owned(), chunk: None };
    assert_eq!(refusal(executions.stream_stdin(tokio_stream::iter([nothing])).await).fields, ["chunk"]);
    client.kill("one").await;
}

#[tokio::test]
async fn control_writes_input_too_and_a_repeated_request_writes_once() {
    let server = Server::start().await;
    let client = server.client().await;
    let events = client.execute(fed(argv("cat", &[])).id("control")).await;
    let request = |request_id: &str, chunk| proto::ControlRequest {
        execution_id: "control".to_owned(),
        request_id: request_id.to_owned(),
        action: Some(Action::WriteStdin(chunk)),
        ..Default::default()
    };
    let mut executions = client.executions.clone();
    for _ in 0..3 {
        let answer = executions.control(request("r1", input(None, "once\n", false))).await.unwrap().into_inner();
        assert_eq!(answer.result(), Controlled::Applied);
    }
    let reused = refusal(executions.control(request("r1", input(None, "other\n", false))).await);
    assert_eq!(reused.fields, ["request_id"]);
    executions.control(request("", input(None, "", true))).await.unwrap();
    assert_eq!(events.to_end().await.stdout(), "once\n");
}

#[tokio::test]
async fn input_written_in_the_queue_is_there_at_the_start() {
    let server = Server::setup().arg("--max-concurrent").arg("1").start().await;
    let client = server.client().await;
    client.create(argv("sleep", &["1000"]).id("first")).await;
    let queued = client.create(fed(argv("cat", &[])).id("second")).await;
    assert_eq!((queued.queue_position, queued.stdin_offset), (Some(1), Some(0)));
    let answer = client.write("second", input(Some(0), "early\n", true)).await.unwrap();
    assert_eq!(answer.accepted_bytes, 6);
    client.kill("first").await;
    assert_eq!(client.attach(attach("second")).await.whole().stdout(), "early\n");
}
