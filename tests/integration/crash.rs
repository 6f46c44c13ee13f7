//! The server is killed: nothing of its runs lives on, nobody was told a success that was none, and the next one serves
//! all that had ended, and tells of the rest that it was lost.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cc_executor::proto::execution_event::Event;
use cc_executor::proto::{
    AttachRequest, Capture, Cause, Channel, ExecuteRequest, ExecutionOptions, ExecutionState, GetExecutionRequest,
    Outcome, attach_request,
};
use nix::sys::signal::Signal;
use sha2::{Digest, Sha256};
use tonic::Code;
use tonic_types::StatusExt;

use crate::support::life::{KILL, Life, PAUSE, fate};
use crate::support::run::{Seen, With, argv};
use crate::support::rung::rungs;
use crate::support::ticks::Ticks;
use crate::support::{Events, Server, eventually, shell};

/// Rounds, each with another kind of containment than the one before.
const ROUNDS: usize = 10;

/// What clients were told of each run.
type Told = Arc<Mutex<HashMap<String, Outcome>>>;

fn file() -> ExecutionOptions {
    ExecutionOptions { capture: Capture::File.into(), ..ExecutionOptions::default() }
}

/// Some of every kind. All of them print `seq` from 1 on, as far as they come.
fn load(number: usize) -> ExecuteRequest {
    match number % 5 {
        0 => argv("seq", &["1", "10"]),
        1 => shell("seq 1 200; sleep 0.1; seq 201 300"),
        2 => argv("seq", &["1", "100000000"]),
        3 => shell("seq 1 1000; setsid sleep 1000 & sleep 1000"),
        _ => shell("seq 1 50000; sleep 1000").options(file()),
    }
}

/// Whether it is the beginning of what `seq` prints.
fn is_counting(bytes: &[u8]) -> bool {
    let mut expected = (1_u32..).flat_map(|number| format!("{number}\n").into_bytes());
    bytes.iter().all(|byte| expected.next() == Some(*byte))
}

/// Starts runs until the server is gone; each is followed by a client that remembers what it was told.
async fn begin_many(server: &Server, told: &Told) -> Vec<Life> {
    let client = server.executions().await;
    let mut lives = Vec::new();
    for number in 0..20 {
        let Ok(life) = Life::try_begin(client.clone(), load(number)).await else { break };
        let (follower, told) = (life.clone(), Arc::clone(told));
        tokio::spawn(async move {
            let request = AttachRequest { execution_id: follower.id.clone(), follow: true, ..AttachRequest::default() };
            let Ok(stream) = follower.client.clone().attach(request).await else { return };
            let mut events = Events::of(stream.into_inner());
            while let Ok(Some(event)) = events.next().await {
                if let Some(Event::Completed(completed)) = event.event {
                    let outcome = completed.outcome.expect("it has one");
                    told.lock().expect("nobody panics with it").insert(follower.id.clone(), outcome);
                }
            }
        });
        if number % 5 == 3 && number % 2 == 1 {
            let _may_be_gone = life.ask_as(PAUSE, |_| ()).await;
        }
        lives.push(life);
    }
    lives
}

/// The same run at the next server.
async fn at(server: &Server, life: &Life) -> Life {
    Life { client: server.executions().await, ..life.clone() }
}

fn check(seen: &Seen, told: Option<&Outcome>) {
    let outcome = seen.outcome();
    let stdout = seen.bytes(Channel::Stdout);
    assert!(is_counting(&stdout), "the output is another one");
    if outcome.cause() == Cause::ServerLost {
        assert!(!outcome.success && outcome.output_incomplete, "{outcome:?}");
    } else {
        let summary =
            outcome.channels.iter().find(|summary| summary.channel() == Channel::Stdout).expect("it has stdout");
        assert_eq!(summary.sha256, Sha256::digest(&stdout).as_slice());
        assert_eq!(summary.bytes_total, stdout.len() as u64);
        assert!(outcome.success, "only what ended by itself ended: {outcome:?}");
    }
    if let Some(told) = told {
        assert_eq!(told, outcome, "a client was told something else");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_leaves_no_process_and_loses_no_finished_run() {
    let own: Vec<_> = rungs().await.iter().filter(|rung| rung.user.is_none()).collect();
    let told = Told::default();
    let mut lives: Vec<Life> = Vec::new();
    let mut server = own[0].setup().start().await;
    for round in 0..ROUNDS {
        let rung = own[round % own.len()];
        let begun = {
            let moment = Duration::from_millis(fastrand::u64(20..600));
            let killed = async {
                tokio::time::sleep(moment).await;
                server.signal(Signal::SIGKILL);
            };
            tokio::join!(begin_many(&server, &told), killed).0
        };
        let state = server.crash().await;
        let held_everything = own[(round + own.len() - 1) % own.len()].holds_everything() || round == 0;
        if held_everything {
            for life in &begun {
                life.cookie.wait_for_none().await;
            }
        }
        server = rung.setup().state(state).start().await;
        for life in &begun {
            life.cookie.wait_for_none().await;
        }
        lives.extend(begun);
        let few = lives.len().saturating_sub(40);
        for life in &lives[few..] {
            let seen = at(&server, life).await.seen().await;
            let told = told.lock().unwrap().get(&life.id).cloned();
            check(&seen, told.as_ref());
        }
    }
    let lost = async |life: &Life| at(&server, life).await.outcome().await.cause() == Cause::ServerLost;
    let mut numbers = (0, 0);
    for life in &lives {
        if lost(life).await { numbers.0 += 1 } else { numbers.1 += 1 }
    }
    assert!(numbers.0 > 0 && numbers.1 > 0, "both kinds were there: {numbers:?}");
}

#[tokio::test]
async fn a_cursor_from_before_the_crash_gets_the_end_all_the_same() {
    let server = Server::start().await;
    let life = Life::begin(&server, shell("echo one; sleep 1000")).await;
    life.says("one").await;
    // What is told live is written behind; only then does it outlive the server.
    eventually("it is on the disk", async || {
        server.spooled().iter().any(|file| std::fs::read(file).is_ok_and(|bytes| bytes == b"one\n")).then_some(())
    })
    .await;
    let cursor = life.get().await.last_cursor.unwrap();
    let server = Server::setup().state(server.crash().await).start().await;
    for ahead in [0, 1, 1000] {
        let cursor = cc_executor::proto::Cursor { seq: cursor.seq + ahead, ..cursor };
        let request = AttachRequest {
            execution_id: life.id.clone(),
            from: Some(attach_request::From::Cursor(cursor)),
            follow: true,
            ..AttachRequest::default()
        };
        let stream = server.executions().await.attach(request).await.unwrap().into_inner();
        let seen = Events::of(stream).to_end().await;
        assert_eq!(fate(seen.outcome()), ("unknown".to_owned(), Cause::ServerLost));
    }
    let whole = at(&server, &life).await.seen().await;
    assert_eq!(whole.stdout(), "one\n");
}

#[tokio::test]
async fn servers_that_share_a_state_directory_leave_each_others_runs_alone() {
    let one = Server::start().await;
    let ticks = Ticks::new(&one, "ticks");
    let life = Life::begin(&one, shell(ticks.forever())).await;
    ticks.grows_by(1).await;
    let two = Server::setup().beside(&one).start().await;
    let beside = Life::begin(&two, shell("echo ready; sleep 1000")).await;
    beside.says("ready").await;
    ticks.grows_by(5).await;
    assert_eq!(life.get().await.state(), ExecutionState::Running);
    let request = GetExecutionRequest { execution_id: life.id.clone() };
    let status = two.executions().await.get_execution(request).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(status.get_error_details().error_info().unwrap().reason, "OWNED_ELSEWHERE");
    let state = one.crash().await;
    life.cookie.wait_for_none().await;
    let three = Server::setup().state(state).start().await;
    assert_eq!(at(&three, &life).await.outcome().await.cause(), Cause::ServerLost);
    assert_eq!(beside.get().await.state(), ExecutionState::Running);
    beside.bring(KILL).await;
    assert_eq!(fate(&at(&three, &beside).await.outcome().await), ("SIGKILL".to_owned(), Cause::Cancelled));
}

#[tokio::test]
async fn servers_that_start_at_once_settle_a_crash_once() {
    let server = Server::start().await;
    let mut lives = Vec::new();
    for _ in 0..10 {
        lives.push(Life::begin(&server, shell("seq 1 20000; sleep 1000")).await);
    }
    lives[9].says("20000").await;
    let state = server.crash().await;
    let place = Server::setup().state(state);
    let (one, others) = place.start_with(3).await;
    for server in others.iter().chain([&one]) {
        for life in &lives {
            let seen = at(server, life).await.seen().await;
            assert_eq!(fate(seen.outcome()), ("unknown".to_owned(), Cause::ServerLost));
            assert!(is_counting(&seen.bytes(Channel::Stdout)));
            let completed = seen.kinds().filter(|event| matches!(event, Event::Completed(_))).count();
            assert_eq!(completed, 1);
        }
    }
    let instances = std::fs::read_dir(one.path("instances")).unwrap().flatten();
    let seen = instances.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.')).count();
    assert_eq!(seen, 4, "the dead one is forgotten");
}
