//! Many watchers of one run, and some that misbehave.

use cc_executor::proto::Channel;
use cc_executor::proto::execution_event::Event;
use sha2::{Digest, Sha256};
use tokio_stream::StreamExt;
use tonic::Code;

use crate::support::calls::{attach, attach_from, behind};
use crate::support::run::{HasEvent, With};
use crate::support::{Refusal, Server, shell};

#[tokio::test]
async fn twenty_watchers_see_the_same_whenever_they_come() {
    let server = Server::start().await;
    let client = server.client().await;
    nix::unistd::mkfifo(&server.path("go"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let script = "seq 1 20000; read line < go; seq 1 20000 >&2; seq 20001 40000";
    client.create(shell(script).id("many")).await;
    let mut watchers = tokio::task::JoinSet::new();
    for index in 0..20 {
        let client = if index % 4 == 0 { server.client().await } else { client.clone() };
        watchers.spawn(async move { client.attach(attach("many")).await.whole() });
    }
    client.until("many", |run| run.watchers == 20).await;
    tokio::fs::write(server.path("go"), "go\n").await.unwrap();
    let first: String = (1..=40000).map(|number| format!("{number}\n")).collect();
    let second: String = (1..=20000).map(|number| format!("{number}\n")).collect();
    for seen in watchers.join_all().await {
        assert!(seen.stdout() == first && seen.stderr() == second);
        assert!(seen.outcome().success);
    }
    assert_eq!(client.ended("many").await.watchers, 0);
}

#[tokio::test]
async fn a_watcher_that_never_reads_slows_nobody_and_is_cut_with_a_cursor_to_resume_from() {
    let server = Server::setup().settings("watcher_stall = \"500ms\"").start().await;
    let client = server.client().await;
    nix::unistd::mkfifo(&server.path("go"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let script = "read line < go; seq 1 3000000; read line < go";
    let mut request = shell(script).id("busy");
    request.stream = None;
    client.create(request).await;
    let mut idle = server.client().await.executions.attach(attach("busy")).await.unwrap().into_inner();
    let busy = tokio::spawn({
        let client = client.clone();
        async move { client.attach(attach("busy")).await.whole() }
    });
    client.until("busy", |run| run.watchers == 2).await;
    tokio::fs::write(server.path("go"), "go\n").await.unwrap();
    // The idle one is cut while the run and the other go on.
    client.until("busy", |run| run.watchers == 1).await;
    tokio::fs::write(server.path("go"), "go\n").await.unwrap();
    let whole = busy.await.unwrap().bytes(Channel::Stdout);

    let mut had = Vec::new();
    let mut last = 0;
    let cut = loop {
        match idle.next().await.expect("it is told why it ends") {
            Ok(event) => {
                let event = event.event();
                last = event.cursor.map_or(last, |cursor| cursor.seq);
                if let Some(Event::Output(output)) = event.event {
                    had.extend_from_slice(&output.data);
                }
            }
            Err(status) => break Refusal::of(&status),
        }
    };
    assert_eq!(cut.kind(), (Code::Aborted, "WATCHER_TOO_SLOW"));
    assert_eq!(cut.metadata["cursor_seq"].parse(), Ok(last), "what was sent before has arrived");
    assert_eq!(cut.metadata["cursor_epoch"], "1");
    let rest = client.attach(attach_from("busy", behind(last))).await;
    had.extend(rest.bytes(Channel::Stdout));
    assert!(had == whole, "{} of {} bytes", had.len(), whole.len());
}

#[tokio::test]
async fn any_byte_arrives_as_it_was_written() {
    let server = Server::start().await;
    let client = server.client().await;
    let all: Vec<u8> = (0..=255).collect();
    std::fs::write(server.path("all"), &all).unwrap();
    let seen = client.run(shell("cat all; cat all >&2")).await.whole();
    assert_eq!((seen.bytes(Channel::Stdout), seen.bytes(Channel::Stderr)), (all.clone(), all));
    // The two halves of one character, in two writes and two events.
    nix::unistd::mkfifo(&server.path("go"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut events = client.execute(shell("printf '\\303'; read line < go; printf '\\244'")).await;
    let half = events.until(|event| if let Event::Output(it) = event { Some(it.data.clone()) } else { None }).await;
    assert_eq!(half, b"\xc3".as_slice());
    tokio::fs::write(server.path("go"), "go\n").await.unwrap();
    assert_eq!(events.to_end().await.whole().stdout(), "ä");
}

#[tokio::test]
async fn a_line_without_end_is_only_bytes() {
    let server = Server::start().await;
    let seen = server.client().await.run(shell("head -c 20000000 /dev/zero | tr '\\0' x")).await.whole();
    let bytes = seen.bytes(Channel::Stdout);
    assert!(bytes.len() == 20_000_000 && bytes.iter().all(|byte| *byte == b'x'));
}

#[tokio::test]
async fn a_million_tiny_writes_are_far_fewer_events() {
    let server = Server::start().await;
    let client = server.client().await;
    let script = "dd if=/dev/zero of=/dev/stdout bs=1 count=1000000 status=none";
    // Nobody follows: what a reader takes at once is an event of its own, however small.
    client.create(shell(script).id("tiny")).await;
    let events = client.ended("tiny").await.last_cursor.unwrap().seq;
    assert!(events < 100_000, "{events} events");
    assert_eq!(client.attach(attach("tiny")).await.whole().bytes(Channel::Stdout).len(), 1_000_000);
}

#[tokio::test]
async fn a_quarter_of_a_gibibyte_arrives_whole() {
    let server = Server::start().await;
    let client = server.client().await;
    // A counter's digits: nothing repeats, so nothing can be exchanged unnoticed.
    let script = "seq 1 100000000 | head -c 268435456";
    let mut stream = client.executions.clone().execute(shell(script).id("huge")).await.unwrap().into_inner();
    let (mut digest, mut length, mut outcome) = (Sha256::new(), 0, None);
    while let Some(event) = stream.next().await {
        match event.unwrap().event().event {
            Some(Event::Output(output)) => {
                assert_eq!(output.offset, length);
                length += output.data.len() as u64;
                digest.update(&output.data);
            }
            Some(Event::Gap(gap)) => panic!("{gap:?}"),
            Some(Event::Completed(completed)) => outcome = completed.outcome,
            _ => {}
        }
    }
    let outcome = outcome.expect("it is told at the end");
    let stdout = outcome.channels.iter().find(|channel| channel.channel() == Channel::Stdout).unwrap();
    assert_eq!((length, stdout.bytes_total, stdout.bytes_kept), (256 << 20, 256 << 20, 256 << 20));
    assert_eq!(stdout.sha256, digest.finalize().to_vec());
}
